//! `poolgate import`: takes over what an older system kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::out;
use super::source::Source;
use crate::app;
use crate::clock;
use crate::config::Account;
use crate::credential::Credential;
use crate::credential::cache::{Older, TokenCache};

/// Take over what an older system kept: its renewed tokens
///
/// The folder holds a file ID.json for each account; those of the configuration are taken over, once:
/// what poolgate keeps already stays.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate import amazonq-env ~/.amazonq_token_cache")]
pub(super) struct Import {
    system: System,
    /// A folder of tokens
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// The Amazon Q pool
    AmazonqEnv,
}

/// Such a file is a few kilobytes.
const LONGEST: u64 = 1 << 20;

impl Import {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let System::AmazonqEnv = self.system;
        let config = source.load()?.config;
        for path in &self.paths {
            if !path.is_dir() {
                bail!(
                    "{}: is no folder of tokens; nothing else is imported yet",
                    path.display()
                );
            }
        }
        let cache = app::token_cache(&config.state)?;
        let accounts = config.pools.iter().flat_map(|pool| &pool.accounts);
        let mut all_well = true;
        for account in accounts {
            for folder in &self.paths {
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
        Ok(match all_well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
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
