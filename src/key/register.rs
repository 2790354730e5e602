//! Issues keys, changes, rotates and revokes them: what the command line and the management API do to
//! the records. A key itself is known only to whoever asked for it.

use std::time::Duration;

use super::hash::{KeyHash, new_key};
use super::source::DEFAULT_TIER;
use super::written::{Attributes, Wrong, wrong};
use crate::clock::SystemTime;
use crate::config::{Assignment, Config, Tier};
use crate::secret::Secret;
use crate::store::{KeyRecord, Store, StoreError, millis};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// In words that say what would be right.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("there is no key {0:?}")]
    NoSuchKey(String),
    #[error("the key {0:?} is revoked")]
    Revoked(String),
    #[error("{0} revoked keys were named {1:?}: say which by its id")]
    Several(usize, String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the records do not answer in time")]
    Late,
    #[error("no key can be made: {0}")]
    Random(#[from] std::io::Error),
}

/// An account and the pool that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub account: String,
    pub pool: String,
}

/// Who changes keys, by which configuration.
pub struct Register<'a> {
    pub store: &'a Store,
    pub config: &'a Config,
    /// All accounts there are, those made from files among them.
    pub accounts: &'a [Place],
}

/// So many names an error lists.
const LISTED: usize = 20;

/// A grace beyond a hundred years is as good as none that ends.
const LONGEST_GRACE: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Register<'_> {
    /// Issues a key.
    ///
    /// # Errors
    /// What is asked for cannot be, or the records cannot be written: there is no such key then.
    pub async fn create(
        &self,
        asked: &Attributes,
        now: SystemTime,
    ) -> Result<(KeyRecord, Secret), KeyError> {
        let key = new_key(&self.config.clients.key_prefix)?;
        let mut record = blank(now)?;
        put_key(&mut record, &key);
        asked.put_on(&mut record, now)?;
        let tier = self.check(&record)?;
        if asked.days.is_none() && asked.expires_at.is_none() && tier.key_days > 0 {
            const DAY: u64 = 86_400;
            let lasts = Duration::from_secs(u64::from(tier.key_days) * DAY);
            record.expires_at = Some(millis(now + lasts));
        }
        self.store.put_key(&record).await?;
        Ok((record, key))
    }

    /// Changes what is asked for.
    ///
    /// # Errors
    /// As for [`Register::create`]; the key is as it was.
    pub async fn change(
        &self,
        id: &str,
        asked: &Attributes,
        now: SystemTime,
    ) -> Result<KeyRecord, KeyError> {
        self.alter(id, |record| {
            asked.put_on(record, now)?;
            self.check(record)?;
            Ok(())
        })
        .await
    }

    /// Gives the key another secret; the one of before is good for `grace` longer.
    ///
    /// # Errors
    /// As for [`Register::create`]; the key is as it was.
    pub async fn rotate(
        &self,
        id: &str,
        grace: Duration,
        now: SystemTime,
    ) -> Result<(KeyRecord, Secret), KeyError> {
        let key = new_key(&self.config.clients.key_prefix)?;
        let record = self.alter(id, |record| {
            let until = millis(now + grace.min(LONGEST_GRACE));
            record.previous = (!grace.is_zero()).then(|| (record.hash.clone(), until));
            put_key(record, &key);
            Ok(())
        });
        Ok((record.await?, key))
    }

    /// Ends the key. Its record stays, so that its name is known to what was used with it.
    ///
    /// # Errors
    /// There is no such key, or the records cannot be written: it is as it was.
    pub async fn revoke(&self, id: &str, now: SystemTime) -> Result<KeyRecord, KeyError> {
        self.alter(id, |record| {
            record.revoked_at = Some(millis(now));
            Ok(())
        })
        .await
    }

    /// The key of this id or name, or this key itself. A revoked key's name may be another one's by now.
    ///
    /// # Errors
    /// There is none, or the records cannot be read.
    pub async fn find(&self, text: &str) -> Result<KeyRecord, KeyError> {
        if let Some(record) = self.store.key(text).await? {
            return Ok(record);
        }
        let hash = KeyHash::of(text).to_hex();
        let mut records = self.store.keys().await?;
        let has_hash = |record: &KeyRecord| {
            let former = record.previous.as_ref();
            record.hash == hash || former.is_some_and(|(former, _)| *former == hash)
        };
        let is_named = |record: &KeyRecord| record.name == text;
        let is_it = |record: &KeyRecord| {
            has_hash(record) || (is_named(record) && record.revoked_at.is_none())
        };
        if let Some(found) = records.iter().position(is_it) {
            return Ok(records.swap_remove(found));
        }
        records.retain(is_named);
        match records.len() {
            0 => Err(KeyError::NoSuchKey(shortened(text))),
            1 => Ok(records.swap_remove(0)),
            several => Err(KeyError::Several(several, shortened(text))),
        }
    }

    /// Changes a key that is not revoked, or leaves it as it is.
    async fn alter(
        &self,
        id: &str,
        change: impl FnOnce(&mut KeyRecord) -> Result<(), Wrong> + Send,
    ) -> Result<KeyRecord, KeyError> {
        let mut done = Ok(());
        let changed = self.store.change_key(id, |record| {
            let mut new = record.clone();
            done = match record.revoked_at {
                Some(_) => Err(KeyError::Revoked(record.name.clone())),
                None => change(&mut new).map_err(KeyError::from),
            };
            if done.is_ok() {
                *record = new;
            }
        });
        let changed = changed.await?;
        done?;
        changed.ok_or_else(|| KeyError::NoSuchKey(shortened(id)))
    }

    /// Can there be such a key under this configuration?
    pub(super) fn check(&self, key: &KeyRecord) -> Result<&Tier, Wrong> {
        let tiers = &self.config.tiers;
        let Some(tier) = tiers.get(&key.tier) else {
            let known = tiers.keys().map(String::as_str);
            let message = format!(
                "there is no tier {:?}; there are {}",
                key.tier,
                listed(known)
            );
            return wrong("tier", message);
        };
        let in_tier = |place: &&Place| tier.pools.is_empty() || tier.pools.contains(&place.pool);
        let usable = self.accounts.iter().filter(in_tier);
        let names = || listed(usable.clone().map(|place| &*place.account));
        let Some(account) = &key.account else {
            return match tier.assignment {
                Assignment::Bound => {
                    let (tier, names) = (&key.tier, names());
                    let message = format!("keys of tier {tier:?} are bound to one: {names}");
                    wrong("account", message)
                }
                Assignment::Any | Assignment::Slots => Ok(tier),
            };
        };
        if usable.clone().any(|place| place.account == *account) {
            return Ok(tier);
        }
        let is_known = self.accounts.iter().any(|place| place.account == *account);
        let (name, names) = (&key.tier, names());
        let message = match is_known {
            true => format!("{account:?} is of no pool of tier {name:?}, whose are {names}"),
            false => format!("there is no account {account:?}; there are {names}"),
        };
        wrong("account", message)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(LISTED);
    let shown = names
        .iter()
        .take(LISTED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match (names.len(), more) {
        (0, _) => "none".to_owned(),
        (_, 0) => shown,
        (_, more) => format!("{shown} and {more} more"),
    }
}

/// It may be a key, of which nobody is to see more than this.
fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=40 => text.to_owned(),
        _ => Secret::new(text).masked(),
    }
}

/// A record of a key that is still to be made.
pub(super) fn blank(now: SystemTime) -> std::io::Result<KeyRecord> {
    // Random like a key, and long enough to be the only one.
    let random = KeyHash::of(new_key("")?.expose()).to_hex();
    let id = format!("key_{}", &random[..16]);
    Ok(KeyRecord {
        name: format!("key-{}", &random[..6]),
        id,
        hash: String::new(),
        hint: String::new(),
        tier: DEFAULT_TIER.to_owned(),
        account: None,
        created_at: millis(now),
        expires_at: None,
        models: Vec::new(),
        limits: Vec::new(),
        max_concurrent: 0,
        allowed_ips: Vec::new(),
        labels: Default::default(),
        notes: String::new(),
        enabled: true,
        revoked_at: None,
        previous: None,
        expose_account: false,
    })
}

pub(super) fn put_key(record: &mut KeyRecord, key: &Secret) {
    record.hash = KeyHash::of(key.expose()).to_hex();
    record.hint = match key.masked().strip_prefix("****") {
        Some(hint) => hint.to_owned(),
        None => String::new(),
    };
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
