//! Who may call: client keys, looked up by their hash in an index that requests read without a lock.
//!
//! Keys come from the configuration, from `clients.keys_file`, and from the one that a first start
//! beyond loopback issues. Only hashes are kept.

mod hash;
mod issued;
mod present;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use hash::ByHash;
pub use hash::{KeyHash, new_key};
pub use issued::Issued;
pub use present::{
    client_keys, is_credential_header, is_key_protocol, protocols, without_key_parameter,
};

use wildmatch::WildMatch;

use crate::config::{self, Open};

/// The tier of keys that name none.
const DEFAULT_TIER: &str = "default";

/// Who a key belongs to, and what it may do.
#[derive(Debug)]
pub struct Client {
    pub name: Arc<str>,
    pub may: Grant,
    /// Its replies carry `X-Poolgate-Account`.
    pub expose_account: bool,
    /// Hash of the key, for `hash_on: api_key`; none where no key was asked.
    pub place: Option<u64>,
}

/// What a tier lets its keys do.
#[derive(Debug, Default)]
pub struct Grant {
    /// The first is the one used; empty = every pool.
    pub pools: Vec<String>,
    /// Patterns; empty = every model.
    models: Vec<WildMatch>,
    /// In the queue; lower goes first.
    pub priority: i32,
}

impl Grant {
    fn of(tier: &config::Tier) -> Self {
        let every = tier.models.iter().any(|pattern| pattern == "*");
        let models = tier
            .models
            .iter()
            .filter(|_| !every)
            .map(|pattern| WildMatch::new(pattern));
        Grant {
            pools: tier.pools.clone(),
            models: models.collect(),
            priority: tier.priority,
        }
    }

    /// A request that names no model, or hides it, could ask for any.
    pub fn allows_model(&self, model: Option<&str>) -> bool {
        let matches = |model| self.models.iter().any(|pattern| pattern.matches(model));
        self.models.is_empty() || model.is_some_and(matches)
    }
}

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
    /// A key has existed since the start: whatever becomes of the key file, the gate stays shut.
    had_keys: AtomicBool,
}

#[derive(Default)]
struct Index {
    by_hash: ByHash<Arc<Client>>,
    /// Who comes without a key, where none is asked for.
    anybody: Option<Arc<Client>>,
}

impl Keys {
    pub fn new(config: &config::Config, issued: &Issued) -> Self {
        let keys = Keys {
            index: ArcSwap::default(),
            had_keys: AtomicBool::new(false),
        };
        keys.reload(config, issued);
        keys
    }

    /// Reads all keys anew. A source that cannot be read gives no keys, says so in the log, and
    /// shuts the gate: it was meant to.
    pub fn reload(&self, config: &config::Config, issued: &Issued) {
        let mut by_hash = ByHash::default();
        let mut add = |hash: KeyHash, name: &str, tier: &str, expose_account: bool| {
            let client = Client {
                name: name.into(),
                may: grant(config, tier),
                expose_account,
                place: Some(hash.place()),
            };
            by_hash.entry(hash).or_insert_with(|| Arc::new(client));
        };
        for fixed in &config.clients.keys {
            let (name, expose_account) = (&fixed.name, fixed.expose_account);
            match config::read_secret(&fixed.key) {
                Ok(key) => add(KeyHash::of(key.expose()), name, &fixed.tier, expose_account),
                Err(error) => tracing::error!(key = name, "the client key cannot be read: {error}"),
            }
        }
        let in_file = config.clients.keys_file.as_deref();
        let in_file = in_file.map_or(Ok(Vec::new()), config::read_keys_file);
        if let Err(error) = &in_file {
            tracing::error!("the client keys cannot be read: {error}");
        }
        let is_readable = in_file.is_ok();
        for (number, key) in in_file.unwrap_or_default().iter().enumerate() {
            let name = format!("keys_file:{}", number + 1);
            add(KeyHash::of(key.expose()), &name, DEFAULT_TIER, false);
        }
        for (name, hash) in issued.keys() {
            add(hash, &name, DEFAULT_TIER, false);
        }
        let asks_for_keys = !by_hash.is_empty() || !config.clients.keys.is_empty() || !is_readable;
        self.had_keys.fetch_or(asks_for_keys, Ordering::SeqCst);
        let is_open = match config.clients.open {
            Open::Always => true,
            Open::Never => false,
            Open::Auto => {
                let mut addresses = config.listen.iter().map(|listen| listen.address.ip());
                !self.had_keys.load(Ordering::SeqCst) && addresses.all(|ip| ip.is_loopback())
            }
        };
        let anybody = is_open.then(|| Client {
            name: "-".into(),
            may: grant(config, DEFAULT_TIER),
            expose_account: false,
            place: None,
        });
        let anybody = anybody.map(Arc::new);
        self.index.store(Arc::new(Index { by_hash, anybody }));
    }

    /// Is no key asked of anybody?
    pub fn are_open(&self) -> bool {
        self.index.load().anybody.is_some()
    }

    pub fn count(&self) -> usize {
        self.index.load().by_hash.len()
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

/// What the tier of that name allows; the configuration holds every tier that a key may name.
fn grant(config: &config::Config, tier: &str) -> Grant {
    config.tiers.get(tier).map(Grant::of).unwrap_or_default()
}
