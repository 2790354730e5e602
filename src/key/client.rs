//! Who a key belongs to and what it may do, as a request sees it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use wildmatch::WildMatch;
use xxhash_rust::xxh3::xxh3_64;

use super::slots::Seat;
use crate::clock::SystemTime;
use crate::config::{self, Assignment};
use crate::limit::{Limits, Permits, Prices};

/// One key, whatever its source.
#[derive(Debug)]
pub struct Client {
    /// Stays the same for the life of the key: of an issued key its record's, of a fixed one
    /// `cfg:NAME`, of a line of `clients.keys_file` `file:` and the first 12 digits of its hash, and
    /// `-` where no key is asked.
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub tier: Arc<str>,
    pub assignment: Assignment,
    /// The account it is bound to; in any tier, and without a slot.
    pub account: Option<Arc<str>>,
    /// From then on it is refused.
    pub expires_at: Option<SystemTime>,
    pub may: Grant,
    /// Its requests under way.
    pub permits: Arc<Permits>,
    /// Its slot, where its tier has such.
    pub seat: Arc<Seat>,
    /// Of its tier and its own.
    pub limits: Arc<Limits>,
    /// The same for all.
    pub prices: Arc<Prices>,
    /// Its replies carry `X-Poolgate-Account`.
    pub expose_account: bool,
    /// Hash of the key, for `hash_on: api_key`; none where no key was asked.
    pub place: Option<u64>,
}

impl Client {
    /// What tells its requests from those of others where they wait: a key has its turn as often as
    /// any other.
    pub fn turn(&self) -> u64 {
        xxh3_64(self.id.as_bytes())
    }

    /// Does one account alone serve it, for ever?
    pub fn is_bound(&self) -> bool {
        self.account.is_some() || self.assignment == Assignment::Bound
    }

    /// Does it take a slot, of one account at a time?
    pub fn takes_slot(&self) -> bool {
        self.assignment == Assignment::Slots && self.account.is_none()
    }

    /// Is this the tier in which it takes a slot?
    pub fn takes_slot_in(&self, tier: &str) -> bool {
        self.takes_slot() && *self.tier == *tier
    }
}

/// What a tier lets its keys do, and what of that one key may.
#[derive(Debug, Default)]
pub struct Grant {
    /// The first is the one used; empty = every pool.
    pub pools: Vec<String>,
    /// Of the tier, then of the key: each must allow a model.
    models: [Models; 2],
    /// Where its requests may come from; empty = anywhere.
    addresses: Vec<IpNet>,
    /// In the queue; lower goes first.
    pub priority: i32,
    /// Requests at a time; 0 = no limit.
    pub max_concurrent: u32,
}

/// Patterns of models; none = every model.
#[derive(Debug, Default)]
struct Models(Vec<WildMatch>);

impl Models {
    fn of(patterns: &[String]) -> Self {
        let every = patterns.iter().any(|pattern| pattern == "*");
        let patterns = patterns.iter().filter(|_| !every);
        Models(patterns.map(|pattern| WildMatch::new(pattern)).collect())
    }

    fn allow(&self, model: Option<&str>) -> bool {
        let matches = |model| self.0.iter().any(|pattern| pattern.matches(model));
        self.0.is_empty() || model.is_some_and(matches)
    }
}

impl Grant {
    /// What the tier grants to each of its keys.
    pub(super) fn of_tier(tier: &config::Tier) -> Self {
        Grant {
            pools: tier.pools.clone(),
            models: [Models::of(&tier.models), Models::default()],
            addresses: Vec::new(),
            priority: tier.priority,
            max_concurrent: tier.max_concurrent,
        }
    }

    /// The same, narrowed to these models and addresses; empty lists narrow nothing.
    pub(super) fn narrowed(mut self, models: &[String], addresses: Vec<IpNet>) -> Self {
        self.models[1] = Models::of(models);
        self.addresses = addresses;
        self
    }

    /// The same, with at most so many requests at a time; 0 = no further limit.
    pub(super) fn at_most(mut self, most: u32) -> Self {
        self.max_concurrent = match (self.max_concurrent, most) {
            (0, most) | (most, 0) => most,
            (one, other) => one.min(other),
        };
        self
    }

    /// A request that names no model, or hides it, could ask for any.
    pub fn allows_model(&self, model: Option<&str>) -> bool {
        self.models.iter().all(|models| models.allow(model))
    }

    /// Is there a model that it does not allow?
    pub fn narrows_models(&self) -> bool {
        self.models.iter().any(|models| !models.0.is_empty())
    }

    pub fn allows_pool(&self, name: &str) -> bool {
        self.pools.is_empty() || self.pools.iter().any(|pool| pool == name)
    }

    /// An address that is not known is none of a list.
    pub fn allows_address(&self, address: Option<IpAddr>) -> bool {
        let listed = |ip| self.addresses.iter().any(|net| net.contains(&ip));
        self.addresses.is_empty() || address.is_some_and(listed)
    }
}
