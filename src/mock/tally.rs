//! What the vendor saw: counters, the last request, who is inside right now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::settings::RateLimit;
use crate::clock::Instant;
use crate::secret::Secret;

/// Names beyond so many are counted as one.
const MAX_NAMES: usize = 10_000;
/// Where names beyond the bound are counted.
const OTHERS: &str = "(others)";

/// A request as it arrived, whole.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub parts: Arc<Parts>,
    pub body: Bytes,
}

/// Counters since the start or the last reset.
#[derive(Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight_seen: AtomicU64,
    violations: AtomicU64,
    aborted: AtomicU64,
    health_checks: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    tokens: HashMap<u64, TokenCount>,
    models: HashMap<String, u64>,
    paths: HashMap<String, u64>,
    last: Option<Arrived>,
}

struct TokenCount {
    masked: String,
    requests: u64,
    window: Option<(Instant, u32)>,
}

/// A snapshot of the counters, also what `GET /mock/stats` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    pub name: String,
    /// All but those for `/mock/…` and `/health`.
    pub requests: u64,
    /// Calls being answered now; lists of models take no place.
    pub in_flight: u64,
    pub max_in_flight_seen: u64,
    /// Calls beyond `max_concurrent`.
    pub violations: u64,
    /// Calls whose client left before the last byte.
    pub aborted: u64,
    pub health_checks: u64,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// Accepted so far.
    pub connections: u64,
    pub open_connections: u64,
    /// Requests per token; only the end of a token is shown.
    pub by_token: BTreeMap<String, u64>,
    pub by_model: BTreeMap<String, u64>,
    pub by_path: BTreeMap<String, u64>,
}

/// How a token stands with its rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// The end of the window.
    pub(super) resets: Instant,
    pub(super) allowed: bool,
}

impl Tally {
    /// Counts a request; its number.
    pub(super) fn arrive(&self, arrived: &Arrived) -> u64 {
        let number = self.requests.fetch_add(1, Relaxed) + 1;
        let mut ledger = self.ledger.lock();
        count(&mut ledger.paths, arrived.parts.uri.path());
        let before = ledger.last.replace(arrived.clone());
        drop(ledger);
        drop(before);
        number
    }

    /// Counts the token and takes one request from its window.
    pub(super) fn spend(
        &self,
        token: &str,
        limit: Option<RateLimit>,
        now: Instant,
    ) -> Option<Allowance> {
        let mut ledger = self.ledger.lock();
        let mut key = xxh3_64(token.as_bytes());
        if ledger.tokens.len() >= MAX_NAMES && !ledger.tokens.contains_key(&key) {
            key = xxh3_64(OTHERS.as_bytes());
        }
        let entry = ledger.tokens.entry(key).or_insert_with(|| TokenCount {
            masked: if token.is_empty() {
                "(none)".to_owned()
            } else {
                Secret::new(token).masked()
            },
            requests: 0,
            window: None,
        });
        entry.requests += 1;
        let limit = limit?;
        let current = entry.window.filter(|(from, _)| now < *from + limit.window);
        let (from, used) = current.unwrap_or((now, 0));
        let allowed = used < limit.requests;
        let used = used + u32::from(allowed);
        entry.window = Some((from, used));
        Some(Allowance {
            limit: limit.requests,
            remaining: limit.requests - used,
            resets: from + limit.window,
            allowed,
        })
    }

    pub(super) fn requests_of(&self, token: &str) -> u64 {
        let key = xxh3_64(token.as_bytes());
        self.ledger
            .lock()
            .tokens
            .get(&key)
            .map_or(0, |t| t.requests)
    }

    pub(super) fn ask_for_model(&self, model: &str) {
        count(&mut self.ledger.lock().models, model);
    }

    pub(super) fn check_health(&self) {
        self.health_checks.fetch_add(1, Relaxed);
    }

    /// Takes a place; how many are taken now, this one included.
    pub(super) fn enter(self: &Arc<Self>) -> (Place, u64) {
        let inside = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight_seen.fetch_max(inside, Relaxed);
        let place = Place {
            tally: Arc::clone(self),
            served: false,
        };
        (place, inside)
    }

    pub(super) fn violate(&self) {
        self.violations.fetch_add(1, Relaxed);
    }

    pub(super) fn connect(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Relaxed);
        self.open_connections.fetch_add(1, Relaxed);
        Connected(Arc::clone(self))
    }

    pub(super) fn last(&self) -> Option<Arrived> {
        self.ledger.lock().last.clone()
    }

    /// Forgets everything but who is here now.
    pub(super) fn reset(&self) {
        for counter in [
            &self.requests,
            &self.violations,
            &self.aborted,
            &self.health_checks,
        ] {
            counter.store(0, Relaxed);
        }
        self.connections
            .store(self.open_connections.load(Relaxed), Relaxed);
        self.max_in_flight_seen
            .store(self.in_flight.load(Relaxed), Relaxed);
        *self.ledger.lock() = Ledger::default();
    }

    pub(super) fn snapshot(&self, name: &str) -> Stats {
        let ledger = self.ledger.lock();
        let mut by_token = BTreeMap::new();
        for token in ledger.tokens.values() {
            *by_token.entry(token.masked.clone()).or_default() += token.requests;
        }
        let sorted =
            |map: &HashMap<String, u64>| map.iter().map(|(k, v)| (k.clone(), *v)).collect();
        Stats {
            name: name.to_owned(),
            requests: self.requests.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight_seen: self.max_in_flight_seen.load(Relaxed),
            violations: self.violations.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            health_checks: self.health_checks.load(Relaxed),
            token_requests: 0,
            connections: self.connections.load(Relaxed),
            open_connections: self.open_connections.load(Relaxed),
            by_token,
            by_model: sorted(&ledger.models),
            by_path: sorted(&ledger.paths),
        }
    }
}

/// Counts `name`, without a copy of it when it is known.
fn count(names: &mut HashMap<String, u64>, name: &str) {
    let name = if names.len() >= MAX_NAMES && !names.contains_key(name) {
        OTHERS
    } else {
        name
    };
    match names.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            names.insert(name.to_owned(), 1);
        }
    }
}

/// A place in the vendor; dropped = left. Dropped without [`Place::leave`]: the client went away.
pub(super) struct Place {
    tally: Arc<Tally>,
    served: bool,
}

impl Place {
    /// Leaves a place, if any: the answer is complete, or was broken on purpose.
    pub(super) fn leave(place: Option<Place>) {
        if let Some(mut place) = place {
            place.served = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tally.in_flight.fetch_sub(1, Relaxed);
        if !self.served {
            self.tally.aborted.fetch_add(1, Relaxed);
        }
    }
}

/// An open connection; dropped = closed.
pub(super) struct Connected(Arc<Tally>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, RateLimit, Tally};
    use crate::clock;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn each_token_has_its_own_window() {
        let tally = Tally::default();
        let now = clock::now();
        let limit = Some(RateLimit {
            requests: 2,
            window: Duration::from_secs(60),
        });
        let spend = |token, at| tally.spend(token, limit, at).unwrap();
        assert_eq!(spend("a", now).remaining, 1);
        assert!(spend("a", now).allowed);
        assert!(!spend("a", now + Duration::from_secs(59)).allowed);
        assert!(spend("b", now).allowed);
        assert!(spend("a", now + Duration::from_secs(60)).allowed);
    }

    #[test]
    fn a_place_left_early_counts_as_aborted() {
        let tally = Arc::new(Tally::default());
        let (first, inside) = tally.enter();
        let (second, both) = tally.enter();
        assert_eq!((inside, both), (1, 2));
        Place::leave(Some(first));
        drop(second);
        let stats = tally.snapshot("v");
        assert_eq!(
            (stats.in_flight, stats.max_in_flight_seen, stats.aborted),
            (0, 2, 1)
        );
    }
}
