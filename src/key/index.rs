//! The index of all keys, which requests read without a lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::client::{Client, Grant};
use super::hash::{ByHash, KeyHash};
use super::slots::Seat;
use super::source::{self, ANYBODY, Known, Stated};
use super::unclaimed::Unclaimed;
use crate::clock::{self, Instant, Moment, SystemTime};
use crate::config::{Assignment, Config, Open, Tier};
use crate::limit::{Limits, Permits, Prices, Spent};
use crate::store::{KeyRecord, SpentRecord, millis};

/// Why a caller is turned away. Callers learn only that the key is missing or not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    Missing,
    Unknown,
    /// The records were not read yet: it may well be a key.
    Unsure,
    Disabled,
    Revoked,
    Expired,
}

impl Refused {
    /// Label of `poolgate_key_rejections_total{reason}`.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Missing => "missing",
            Refused::Unknown => "unknown",
            Refused::Unsure => "unsure",
            Refused::Disabled => "disabled",
            Refused::Revoked => "revoked",
            Refused::Expired => "expired",
        }
    }
}

/// The index of all keys.
pub struct Keys {
    index: ArcSwap<Index>,
    /// What outlives each index.
    kept: Mutex<Kept>,
    /// A key has existed since the start: whatever becomes of the key file, the gate stays shut.
    had_keys: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// By the key's id.
    live: HashMap<Arc<str>, Live>,
    /// The issued keys; none before they were read.
    records: Option<Vec<KeyRecord>>,
    unclaimed: Unclaimed,
}

/// What is counted of a key, and where it sits.
#[derive(Clone, Default)]
struct Live {
    permits: Arc<Permits>,
    limits: Arc<Limits>,
    seat: Arc<Seat>,
}

impl Live {
    fn is_counting(&self, now: Instant) -> bool {
        self.permits.under_way() > 0 || self.limits.is_counting(now)
    }
}

#[derive(Default)]
struct Index {
    by_hash: ByHash<Entry>,
    by_id: HashMap<Arc<str>, Arc<Client>>,
    /// Who comes without a key, where none is asked for.
    anybody: Option<Arc<Client>>,
    /// The ids of revoked keys.
    revoked: HashSet<String>,
    /// A key that is not here may be in the records all the same.
    is_partial: bool,
    /// Of all limits.
    longest_window: Option<Duration>,
}

/// What a hash leads to.
enum Entry {
    Good(Arc<Client>),
    /// The key before its rotation, good until then.
    Former(Arc<Client>, SystemTime),
    Not(Refused),
}

impl Entry {
    /// # Errors
    /// Why it is not valid now.
    fn client(&self, now: SystemTime) -> Result<&Arc<Client>, Refused> {
        let is_over = |until: SystemTime| until <= now;
        match self {
            Entry::Not(refused) => Err(*refused),
            Entry::Good(client) | Entry::Former(client, _)
                if client.expires_at.is_some_and(is_over) =>
            {
                Err(Refused::Expired)
            }
            Entry::Former(_, until) if is_over(*until) => Err(Refused::Expired),
            Entry::Good(client) | Entry::Former(client, _) => Ok(client),
        }
    }
}

impl Keys {
    /// The keys of this configuration and of the records; none: there may be some, which cannot be read
    /// now.
    pub fn new(config: &Config, records: Option<Vec<KeyRecord>>) -> Self {
        let keys = Keys {
            index: ArcSwap::default(),
            kept: Mutex::new(Kept {
                records,
                ..Kept::default()
            }),
            had_keys: AtomicBool::new(false),
        };
        keys.reload(config);
        keys
    }

    /// The records say so now.
    pub fn set_records(&self, config: &Config, records: Vec<KeyRecord>) {
        let mut kept = self.kept.lock();
        kept.records = Some(records);
        self.build(config, &mut kept);
    }

    /// Reads the keys of the configuration and its files anew. A source that cannot be read gives no
    /// keys, says so in the log, and shuts the gate: it was meant to.
    pub fn reload(&self, config: &Config) {
        self.build(config, &mut self.kept.lock());
    }

    fn build(&self, config: &Config, kept: &mut Kept) {
        let Kept {
            live,
            records,
            unclaimed,
        } = kept;
        let (known, shuts) = source::all(config, records.as_deref());
        self.had_keys.fetch_or(shuts, Ordering::SeqCst);
        let revoked = records.iter().flatten();
        let revoked = revoked.filter(|record| record.revoked_at.is_some());
        let mut index = Index {
            revoked: revoked.map(|record| record.id.clone()).collect(),
            is_partial: records.is_none(),
            longest_window: longest_window(config, records.as_deref()),
            ..Index::default()
        };
        let prices = Arc::new(Prices::of(&config.prices));
        let mut client = |stated: Stated| {
            let client = Arc::new(client(config, live, &prices, stated));
            index.by_id.insert(client.id.clone(), client.clone());
            client
        };
        for known in known {
            match known {
                Known::Good(hash, stated, former) => {
                    if index.by_hash.contains_key(&hash) {
                        // The configuration goes before the records.
                        continue;
                    }
                    let client = client(*stated);
                    if let Some((hash, until)) = former {
                        let former = || Entry::Former(client.clone(), until);
                        index.by_hash.entry(hash).or_insert_with(former);
                    }
                    index.by_hash.insert(hash, Entry::Good(client));
                }
                Known::Not(hash, refused) => {
                    index.by_hash.entry(hash).or_insert(Entry::Not(refused));
                }
            }
        }
        // Before the records were read there may be keys in them.
        index.anybody = (self.is_open(config) && !index.is_partial)
            .then(|| client(Stated::plain(ANYBODY.into(), ANYBODY.into(), None)));
        if !unclaimed.is_empty() {
            let at = clock::moment();
            for client in index.by_id.values() {
                let used = unclaimed.take(&client.id);
                used.iter().for_each(|spent| remember(client, spent, at));
            }
        }
        // What counts goes on counting, should the key be there again with the next change: it may be
        // disabled for a while, or its file not be readable.
        let now = clock::now();
        live.retain(|id, live| index.by_id.contains_key(id) || live.is_counting(now));
        self.index.store(Arc::new(index));
    }

    fn is_open(&self, config: &Config) -> bool {
        let had_keys = self.had_keys.load(Ordering::SeqCst);
        match config.clients.open {
            Open::Always => true,
            Open::Never => false,
            Open::UntilKeys => !had_keys,
            Open::Auto => {
                let mut addresses = config.listen.iter().map(|listen| listen.address.ip());
                !had_keys && addresses.all(|ip| ip.is_loopback())
            }
        }
    }

    /// Is no key asked of anybody?
    pub fn are_open(&self) -> bool {
        self.index.load().anybody.is_some()
    }

    /// The records were not read yet.
    pub fn is_partial(&self) -> bool {
        self.index.load().is_partial
    }

    /// Do the records say that the key of this id is no more?
    pub fn is_revoked(&self, id: &str) -> bool {
        self.index.load().revoked.contains(id)
    }

    /// How many keys there are, valid or not.
    pub fn count(&self) -> usize {
        self.index.load().by_hash.len()
    }

    /// The client of this id, if it has a key.
    pub fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.index.load().by_id.get(id).cloned()
    }

    /// All clients, in no order; those too whose key has expired.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.index.load().by_id.values().cloned().collect()
    }

    /// How many keys of each tier are valid now.
    pub fn active(&self, now: SystemTime) -> BTreeMap<Arc<str>, usize> {
        let mut tiers = BTreeMap::new();
        for client in self.index.load().by_id.values() {
            let is_valid = client.expires_at.is_none_or(|at| at > now);
            if is_valid && *client.id != *ANYBODY {
                *tiers.entry(client.tier.clone()).or_default() += 1;
            }
        }
        tiers
    }

    /// The longest window of a limit that a key has, or may have again; none without limits.
    pub fn longest_window(&self) -> Option<Duration> {
        self.index.load().longest_window
    }

    /// Takes what was used before this process into its key's limits; `at`: now.
    pub fn remember(&self, spent: &SpentRecord, at: Moment) {
        if let Some(client) = self.client(&spent.key) {
            return remember(&client, spent, at);
        }
        let mut kept = self.kept.lock();
        // It may have come meanwhile.
        match self.client(&spent.key) {
            Some(client) => remember(&client, spent, at),
            None if self.is_revoked(&spent.key) => {}
            None => kept.unclaimed.keep(spent),
        }
    }

    /// The client of the first valid key among those that the request carries.
    ///
    /// # Errors
    /// A key is asked for, and there is none or none that is valid.
    pub fn authenticate<'a>(
        &self,
        presented: impl Iterator<Item = &'a str>,
        now: SystemTime,
    ) -> Result<Arc<Client>, Refused> {
        let index = self.index.load();
        let mut refused = Refused::Missing;
        for key in presented {
            let why = match index.by_hash.get(&KeyHash::of(key)) {
                Some(entry) => match entry.client(now) {
                    Ok(client) => return Ok(client.clone()),
                    Err(why) => why,
                },
                None if index.is_partial => Refused::Unsure,
                None => Refused::Unknown,
            };
            refused = refused.max(why);
        }
        index.anybody.clone().ok_or(refused)
    }
}

fn remember(client: &Client, spent: &SpentRecord, at: Moment) {
    let used = Spent {
        tokens: spent.tokens,
        cost: spent.cost,
    };
    // What a clock that was set back calls the future is now.
    let ago = millis(at.wall).saturating_sub(spent.at).max(0) as u64;
    if let Some(then) = at.now.checked_sub(Duration::from_millis(ago)) {
        let model = spent.model.as_deref();
        client.limits.remember(model, spent.requests, &used, then);
    }
}

/// Of the limits of all tiers and of all keys that are not revoked: one that is refused now, as it is
/// disabled or its file cannot be read, may be good again, and then it counts what it used before.
fn longest_window(config: &Config, records: Option<&[KeyRecord]>) -> Option<Duration> {
    let of_tiers = config.tiers.values().flat_map(|tier| &tier.limits);
    let records = records.unwrap_or_default().iter();
    let records = records.filter(|record| record.revoked_at.is_none());
    let of_keys = records.flat_map(|record| &record.limits);
    of_tiers.chain(of_keys).map(|limit| limit.window).max()
}

fn client(
    config: &Config,
    live: &mut HashMap<Arc<str>, Live>,
    prices: &Arc<Prices>,
    stated: Stated,
) -> Client {
    let is_bound = |tier: &Tier| tier.assignment == Assignment::Bound;
    // The configuration holds every tier that its keys may name, and `source` looks at the others.
    let tier = config.tiers.get(&*stated.tier);
    if tier.is_some_and(is_bound) && stated.account.is_none() {
        tracing::warn!(
            key = &*stated.name,
            tier = &*stated.tier,
            "the key serves nobody: its tier binds it to an account, and it names none"
        );
    }
    let live = live.entry(stated.id.clone()).or_default();
    let limits = tier.into_iter().flat_map(|tier| &tier.limits);
    let limits = limits.chain(&stated.limits);
    live.limits = Arc::new(Limits::of(&stated.id, limits, Some(&live.limits)));
    let may = tier.map(Grant::of_tier).unwrap_or_default();
    Client {
        id: stated.id,
        name: stated.name,
        tier: stated.tier,
        assignment: tier.map_or(Assignment::Any, |tier| tier.assignment),
        account: stated.account,
        expires_at: stated.expires_at,
        may: may
            .narrowed(&stated.models, stated.addresses)
            .at_most(stated.max_concurrent)
            .at_most(config.clients.max_concurrent_per_key),
        permits: live.permits.clone(),
        seat: live.seat.clone(),
        limits: live.limits.clone(),
        prices: prices.clone(),
        expose_account: stated.expose_account,
        place: stated.hash.map(|hash| hash.place()),
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
