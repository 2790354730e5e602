//! Where keys come from: the configuration, `clients.keys_file`, and the records of issued keys.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::hash::KeyHash;
use super::index::Refused;
use crate::clock::SystemTime;
use crate::config::{self, Config, Limit};
use crate::store::KeyRecord;

/// The tier of keys that name none.
pub(super) const DEFAULT_TIER: &str = "default";

/// Who comes without a key where none is asked.
pub(super) const ANYBODY: &str = "-";

/// A key as its source states it.
pub(super) struct Stated {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) hash: Option<KeyHash>,
    pub(super) tier: Arc<str>,
    pub(super) account: Option<Arc<str>>,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) models: Vec<String>,
    pub(super) limits: Vec<Limit>,
    pub(super) max_concurrent: u32,
    pub(super) addresses: Vec<IpNet>,
    pub(super) expose_account: bool,
}

impl Stated {
    /// One of which no more is known than its name.
    pub(super) fn plain(id: Arc<str>, name: Arc<str>, hash: Option<KeyHash>) -> Self {
        Stated {
            id,
            name,
            hash,
            tier: DEFAULT_TIER.into(),
            account: None,
            expires_at: None,
            models: Vec::new(),
            limits: Vec::new(),
            max_concurrent: 0,
            addresses: Vec::new(),
            expose_account: false,
        }
    }
}

/// What is known of a hash.
pub(super) enum Known {
    /// Also the hash of the key before its rotation, and until when that one is good.
    Good(KeyHash, Box<Stated>, Option<(KeyHash, SystemTime)>),
    Not(KeyHash, Refused),
}

/// All keys; of two with one hash the first counts. True: there are keys, or were meant to be, so
/// that nobody is let in without one.
pub(super) fn all(config: &Config, records: Option<&[KeyRecord]>) -> (Vec<Known>, bool) {
    let mut known = fixed(config);
    let in_file = config.clients.keys_file.as_deref();
    let in_file = in_file.map_or(Ok(Vec::new()), config::read_keys_file);
    if let Err(error) = &in_file {
        tracing::error!("the client keys cannot be read: {error}");
    }
    let is_readable = in_file.is_ok();
    for (number, key) in in_file.unwrap_or_default().iter().enumerate() {
        let hash = KeyHash::of(key.expose());
        let name = format!("keys_file:{}", number + 1);
        let id = format!("file:{}", &hash.to_hex()[..12]);
        let stated = Stated::plain(id.into(), name.into(), Some(hash));
        known.push(Known::Good(hash, Box::new(stated), None));
    }
    for record in records.unwrap_or_default() {
        known.extend(issued(config, record));
    }
    let shuts = !known.is_empty() || !config.clients.keys.is_empty() || !is_readable;
    (known, shuts)
}

fn fixed(config: &Config) -> Vec<Known> {
    let mut known = Vec::new();
    for fixed in &config.clients.keys {
        let name = &*fixed.name;
        match config::read_secret(&fixed.key) {
            Ok(key) => {
                let hash = KeyHash::of(key.expose());
                let id = format!("cfg:{name}");
                let stated = Stated {
                    tier: (*fixed.tier).into(),
                    account: fixed.account.as_deref().map(Arc::from),
                    expose_account: fixed.expose_account,
                    ..Stated::plain(id.into(), name.into(), Some(hash))
                };
                known.push(Known::Good(hash, Box::new(stated), None));
            }
            Err(error) => tracing::error!(key = name, "the client key cannot be read: {error}"),
        }
    }
    known
}

/// What a record says of its key, and of the one before its rotation.
fn issued(config: &Config, record: &KeyRecord) -> Vec<Known> {
    let name = &*record.name;
    let Some(hash) = KeyHash::from_hex(&record.hash) else {
        tracing::error!(
            key = name,
            "the record of this key has no hash: it is refused"
        );
        return Vec::new();
    };
    let former = record.previous.as_ref();
    let former = former.and_then(|(hash, until)| Some((KeyHash::from_hex(hash)?, at(*until))));
    if let Some(why) = refusal(config, record) {
        let former = former.map(|(hash, _)| Known::Not(hash, why));
        return std::iter::once(Known::Not(hash, why))
            .chain(former)
            .collect();
    }
    let addresses = record.allowed_ips.iter();
    let addresses = addresses
        .filter_map(|text| super::written::address(text))
        .collect();
    let stated = Stated {
        id: (*record.id).into(),
        name: name.into(),
        hash: Some(hash),
        tier: (*record.tier).into(),
        account: record.account.as_deref().map(Arc::from),
        expires_at: record.expires_at.map(at),
        models: record.models.clone(),
        limits: record.limits.clone(),
        max_concurrent: record.max_concurrent,
        addresses,
        expose_account: record.expose_account,
    };
    vec![Known::Good(hash, Box::new(stated), former)]
}

fn refusal(config: &Config, record: &KeyRecord) -> Option<Refused> {
    if record.revoked_at.is_some() {
        return Some(Refused::Revoked);
    }
    if !record.enabled {
        return Some(Refused::Disabled);
    }
    if !config.tiers.contains_key(&record.tier) {
        let (key, tier) = (&*record.name, &*record.tier);
        tracing::warn!(
            key,
            tier,
            "there is no such tier any more: its keys are refused"
        );
        return Some(Refused::Disabled);
    }
    let is_address = |text: &String| super::written::address(text).is_some();
    if !record.allowed_ips.iter().all(is_address) {
        let key = &*record.name;
        tracing::error!(
            key,
            "an address in the record of this key cannot be read: it is refused"
        );
        return Some(Refused::Disabled);
    }
    None
}

/// Milliseconds since 1970 as a time.
pub(super) fn at(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
