//! The index of all keys, which requests read without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::client::{Client, Grant};
use super::hash::{ByHash, KeyHash};
use super::issued::Issued;
use super::slots::Seat;
use crate::config::{self, Assignment, Config, Open};
use crate::limit::Permits;

/// The tier of keys that name none.
const DEFAULT_TIER: &str = "default";

/// Who comes without a key where none is asked.
const ANYBODY: &str = "-";

/// Why a caller is turned away. Callers learn only that the key is missing or not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Missing,
    Unknown,
}

impl Refused {
    /// Label of `poolgate_key_rejections_total{reason}`.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Missing => "missing",
            Refused::Unknown => "unknown",
        }
    }
}

/// The index of all keys.
pub struct Keys {
    index: ArcSwap<Index>,
    /// What outlives each index, by the key's id.
    live: Mutex<HashMap<Arc<str>, Live>>,
    /// A key has existed since the start: whatever becomes of the key file, the gate stays shut.
    had_keys: AtomicBool,
}

/// What is counted of a key, and where it sits.
#[derive(Clone, Default)]
struct Live {
    permits: Arc<Permits>,
    seat: Arc<Seat>,
}

impl Live {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.permits) > 1 || Arc::strong_count(&self.seat) > 1
    }
}

#[derive(Default)]
struct Index {
    by_hash: ByHash<Arc<Client>>,
    by_id: HashMap<Arc<str>, Arc<Client>>,
    /// Who comes without a key, where none is asked for.
    anybody: Option<Arc<Client>>,
}

impl Keys {
    pub fn new(config: &Config, issued: &Issued) -> Self {
        let keys = Keys {
            index: ArcSwap::default(),
            live: Mutex::default(),
            had_keys: AtomicBool::new(false),
        };
        keys.reload(config, issued);
        keys
    }

    /// Reads all keys anew. A source that cannot be read gives no keys, says so in the log, and
    /// shuts the gate: it was meant to.
    pub fn reload(&self, config: &Config, issued: &Issued) {
        let mut live = self.live.lock();
        let mut by_hash = ByHash::default();
        let mut add = |hash: KeyHash, new: New<'_>| {
            let client = client(config, &mut live, Some(hash), new);
            by_hash.entry(hash).or_insert_with(|| Arc::new(client));
        };
        for fixed in &config.clients.keys {
            let new = New {
                id: format!("cfg:{}", fixed.name).into(),
                name: &fixed.name,
                tier: &fixed.tier,
                account: fixed.account.as_deref().map(Arc::from),
                expose_account: fixed.expose_account,
            };
            match config::read_secret(&fixed.key) {
                Ok(key) => add(KeyHash::of(key.expose()), new),
                Err(error) => {
                    tracing::error!(key = fixed.name, "the client key cannot be read: {error}");
                }
            }
        }
        let in_file = config.clients.keys_file.as_deref();
        let in_file = in_file.map_or(Ok(Vec::new()), config::read_keys_file);
        if let Err(error) = &in_file {
            tracing::error!("the client keys cannot be read: {error}");
        }
        let is_readable = in_file.is_ok();
        for (number, key) in in_file.unwrap_or_default().iter().enumerate() {
            let hash = KeyHash::of(key.expose());
            let name = format!("keys_file:{}", number + 1);
            let id = format!("file:{}", &hash.to_hex()[..12]).into();
            add(hash, New::plain(id, &name));
        }
        for (name, hash) in issued.keys() {
            let id = format!("issued:{}", &hash.to_hex()[..12]).into();
            add(hash, New::plain(id, &name));
        }
        let asks_for_keys = !by_hash.is_empty() || !config.clients.keys.is_empty() || !is_readable;
        self.had_keys.fetch_or(asks_for_keys, Ordering::SeqCst);
        let anybody = self.is_open(config).then(|| {
            let new = New::plain(ANYBODY.into(), ANYBODY);
            Arc::new(client(config, &mut live, None, new))
        });
        live.retain(|_, live| live.is_in_use());
        let clients = by_hash.values().chain(&anybody).cloned();
        let by_id = clients.map(|client| (client.id.clone(), client)).collect();
        let index = Index {
            by_hash,
            by_id,
            anybody,
        };
        self.index.store(Arc::new(index));
    }

    fn is_open(&self, config: &Config) -> bool {
        match config.clients.open {
            Open::Always => true,
            Open::Never => false,
            Open::Auto => {
                let mut addresses = config.listen.iter().map(|listen| listen.address.ip());
                !self.had_keys.load(Ordering::SeqCst) && addresses.all(|ip| ip.is_loopback())
            }
        }
    }

    /// Is no key asked of anybody?
    pub fn are_open(&self) -> bool {
        self.index.load().anybody.is_some()
    }

    pub fn count(&self) -> usize {
        self.index.load().by_hash.len()
    }

    /// The client of this id, if it has a key.
    pub fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.index.load().by_id.get(id).cloned()
    }

    /// All clients, in no order.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.index.load().by_id.values().cloned().collect()
    }

    /// The client of the first valid key among those that the request carries.
    ///
    /// # Errors
    /// A key is asked for, and there is none or none that is valid.
    pub fn authenticate<'a>(
        &self,
        presented: impl Iterator<Item = &'a str>,
    ) -> Result<Arc<Client>, Refused> {
        let index = self.index.load();
        let mut refused = Refused::Missing;
        for key in presented {
            if let Some(client) = index.by_hash.get(&KeyHash::of(key)) {
                return Ok(client.clone());
            }
            refused = Refused::Unknown;
        }
        index.anybody.clone().ok_or(refused)
    }
}

/// A key as its source states it.
struct New<'a> {
    id: Arc<str>,
    name: &'a str,
    tier: &'a str,
    account: Option<Arc<str>>,
    expose_account: bool,
}

impl<'a> New<'a> {
    fn plain(id: Arc<str>, name: &'a str) -> Self {
        New {
            id,
            name,
            tier: DEFAULT_TIER,
            account: None,
            expose_account: false,
        }
    }
}

fn client(
    config: &Config,
    live: &mut HashMap<Arc<str>, Live>,
    hash: Option<KeyHash>,
    new: New<'_>,
) -> Client {
    // The configuration holds every tier that its keys may name.
    let tier = config.tiers.get(new.tier);
    let live = live.entry(new.id.clone()).or_default().clone();
    let assignment = tier.map_or(Assignment::Any, |tier| tier.assignment);
    if assignment == Assignment::Bound && new.account.is_none() {
        let (key, tier) = (new.name, new.tier);
        tracing::warn!(
            key,
            tier,
            "the key is refused: its tier binds it to an account, and it names none"
        );
    }
    Client {
        name: new.name.into(),
        tier: new.tier.into(),
        assignment,
        account: new.account,
        expires_at: None,
        may: tier.map(Grant::of_tier).unwrap_or_default(),
        permits: live.permits,
        seat: live.seat,
        id: new.id,
        expose_account: new.expose_account,
        place: hash.map(|hash| hash.place()),
    }
}
