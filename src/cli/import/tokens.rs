//! The renewed tokens that the Amazon Q pool kept, taken over into the cache of tokens.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::app;
use crate::cli::out;
use crate::clock;
use crate::config::{Account, Config};
use crate::credential::Credential;
use crate::credential::cache::{Older, TokenCache};

/// Such a file is a few kilobytes.
const LONGEST: u64 = 1 << 20;

/// Takes over what the folders hold for the accounts of the configuration. False: something could not be.
pub(super) fn take(config: &Config, folders: &[PathBuf]) -> anyhow::Result<bool> {
    let cache = app::token_cache(&config.state)?;
    let accounts = config.pools.iter().flat_map(|pool| &pool.accounts);
    let mut all_well = true;
    for account in accounts {
        for folder in folders {
            match take_over(account, folder, &cache) {
                Ok(None) => {}
                Ok(Some(word)) => out::print(&format!("{}: {word}\n", account.id))?,
                Err(error) => {
                    all_well = false;
                    out::complain(&error.context(format!("account {}", account.id)));
                }
            }
        }
    }
    Ok(all_well)
}

/// What became of the account's file; `None`: it has none.
fn take_over(
    account: &Account,
    folder: &Path,
    cache: &TokenCache,
) -> anyhow::Result<Option<&'static str>> {
    let path = folder.join(format!("{}.json", account.id));
    let shown = path.display();
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| shown.to_string()),
        Ok(about) if !about.is_file() || about.len() > LONGEST => {
            bail!("{shown}: is no file of the older pool");
        }
        Ok(_) => {}
    }
    let older = Older::read(&fs::read(&path)?).with_context(|| shown.to_string())?;
    let configured = Credential::refresh_token(&account.credential)?;
    let Some(configured) = configured else {
        bail!("its credential has no refresh token that {shown} could go on from");
    };
    let adopted = cache.adopt(&account.id, older, &configured, clock::wall());
    Ok(Some(match adopted? {
        true => "its tokens are taken over",
        false => "something is kept of it already, and stays",
    }))
}
