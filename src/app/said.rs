//! What the API said of one account: how it is sealed, what it makes of the file's accounts, and which secrets
//! have to be said anew with it.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::{AccountError, Keys};
use crate::config::{self, outside_account, overlaid};
use crate::credential::seal::Key;
use crate::secret::Secret;
use crate::store::AccountRecord;

/// Keys that are to be said anew with another upstream: else somebody could have them sent to an
/// address of their own.
const SECRETS: [&str; 2] = ["credential", "headers"];

/// What is said of one account.
pub(super) struct Entry {
    pub(super) id: String,
    /// JSON, with secrets in it.
    text: Secret,
}

/// The same, as it is written.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// Of an account that is not in the file.
    #[serde(default)]
    pub(super) pool: Option<String>,
    pub(super) keys: Keys,
}

impl Entry {
    pub(super) fn said(&self) -> Said {
        serde_json::from_str(self.text.expose()).unwrap_or_default()
    }

    pub(super) fn open(key: &Key, record: &AccountRecord) -> Result<Self, AccountError> {
        let sealed = STANDARD.decode(&record.sealed);
        let sealed = sealed.map_err(|error| AccountError::Sealed(error.to_string()))?;
        let plain = key.unseal(&name(&record.id), &sealed);
        let plain = plain.map_err(|error| AccountError::Sealed(error.to_string()))?;
        let text = String::from_utf8_lossy(&plain).into_owned();
        Ok(Entry {
            id: record.id.clone(),
            text: Secret::new(text),
        })
    }
}

impl Said {
    pub(super) fn sealed(&self, key: &Key, id: &str) -> Result<String, AccountError> {
        let told = |error: String| AccountError::Sealed(error);
        let text = serde_json::to_string(self).map_err(|error| told(error.to_string()))?;
        let text = Secret::new(text);
        let sealed = key.seal(&name(id), text.expose().as_bytes());
        Ok(STANDARD.encode(sealed.map_err(|error| told(error.to_string()))?))
    }

    /// Changes these keys; `null` takes one back.
    pub(super) fn change(&mut self, keys: Keys) -> Result<(), AccountError> {
        let wrong =
            |key: &str, message: &str| AccountError::Wrong(key.to_owned(), message.to_owned());
        if let Some(key) = ["id", "pool"]
            .into_iter()
            .find(|key| keys.contains_key(*key))
        {
            return Err(wrong(key, "cannot be changed; add another account"));
        }
        if keys.contains_key("upstream") {
            if !keys.contains_key("credential") {
                return Err(wrong("credential", "is needed anew for another upstream"));
            }
            if self.keys.contains_key("headers") && !keys.contains_key("headers") {
                return Err(wrong("headers", "are needed anew for another upstream"));
            }
        }
        for (key, value) in keys {
            match value {
                Value::Null => drop(self.keys.remove(&key)),
                value => drop(self.keys.insert(key, value)),
            }
        }
        Ok(())
    }
}

/// What an entry is sealed under: nobody can put one in the place of another.
fn name(id: &str) -> String {
    format!("account/{id}")
}

impl Entry {
    pub(super) fn write_into(
        &self,
        pools: &mut [config::Pool],
        known: &mut HashSet<String>,
    ) -> Result<(), String> {
        let Said { pool, keys } = self.said();
        let wrong = |(key, message): config::Wrong| format!("{key}: {message}");
        let Some(pool) = pool else {
            for pool in pools {
                let at = pool
                    .accounts
                    .iter()
                    .position(|account| account.id == self.id);
                if let Some(at) = at {
                    let base = &pool.accounts[at];
                    // The file may have got headers since: they are not for another upstream.
                    check_secrets(&keys, !base.headers.is_empty())
                        .map_err(|error| error.to_string())?;
                    let changed = overlaid(base, &keys, pool).map_err(wrong)?;
                    pool.accounts[at] = changed;
                    return Ok(());
                }
            }
            return Err("the account is not in the file any more".to_owned());
        };
        if !known.insert(self.id.clone()) {
            return Err("the file has an account of this name".to_owned());
        }
        let pool = pools.iter_mut().find(|it| it.name == pool);
        let pool = pool.ok_or("its pool is not in the file any more")?;
        let account = outside_account(&self.id, &keys, pool).map_err(wrong)?;
        pool.accounts.push(account);
        Ok(())
    }
}

/// An override of the upstream holds what goes there; one of them cannot be taken back alone.
pub(super) fn check_secrets(keys: &Keys, has_headers: bool) -> Result<(), AccountError> {
    let lacks = |key: &&str| !keys.contains_key(*key) && (*key == "credential" || has_headers);
    let lacking = SECRETS.into_iter().find(lacks);
    match lacking.filter(|_| keys.contains_key("upstream")) {
        Some(key) => {
            let message = "cannot be the file's while `upstream` is not; take that back, too";
            Err(AccountError::Wrong(key.to_owned(), message.to_owned()))
        }
        None => Ok(()),
    }
}
