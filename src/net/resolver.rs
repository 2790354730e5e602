//! Host names to addresses, without blocking a worker and without asking each time.
//!
//! `HttpPeer::new` with a name would ask the system's resolver on the worker thread, and panic where
//! the name does not resolve; so names are resolved here. The system's resolver does the work (and
//! so `/etc/hosts` and the operator's DNS set-up count) on tokio's blocking threads; it states no
//! lifetimes, so answers are kept for [`FRESH`] and, while nothing better is to be had, for ever.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use std::collections::HashMap;

use crate::clock::{self, Instant};

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(30);

/// So long an address that could not be reached is not the first to be tried again.
const SHUNNED: Duration = Duration::from_secs(600);

/// How long a first look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("the name {0} does not resolve")]
    Unknown(String),
    #[error("resolving {0} takes too long")]
    TooSlow(String),
}

/// Addresses of the host names that were asked for.
#[derive(Default)]
pub struct Resolver {
    known: ArcSwap<HashMap<(String, u16), Arc<Known>>>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    resolved: Instant,
    /// Somebody is asking again.
    renewing: AtomicBool,
    /// Which of the addresses is used.
    place: usize,
    /// When the one before it could not be reached.
    left: Option<Instant>,
}

impl Resolver {
    /// An address of this host: the first of several, in the system's order of preference
    /// (RFC 6724), until it [failed](Self::failed). An old answer is used while a new one is
    /// fetched behind the request's back.
    ///
    /// # Errors
    /// The name has never resolved, and does not now.
    pub async fn resolve(
        self: &Arc<Self>,
        host: &str,
        port: u16,
    ) -> Result<SocketAddr, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        let key = (host.to_owned(), port);
        let known = self.known.load().get(&key).cloned();
        let Some(known) = known else {
            return self.ask(key).await.map(|known| known.current());
        };
        let old = clock::now().saturating_duration_since(known.resolved) >= FRESH;
        if old && !known.renewing.swap(true, Ordering::AcqRel) {
            let (resolver, known) = (self.clone(), known.clone());
            tokio::spawn(async move {
                if resolver.ask(key).await.is_err() {
                    known.renewing.store(false, Ordering::Release);
                }
            });
        }
        Ok(known.current())
    }

    /// This address cannot be reached; the next one is tried. False: there is no other one.
    pub fn failed(&self, host: &str, port: u16, address: SocketAddr) -> bool {
        let key = (host.to_owned(), port);
        let Some(known) = self.known.load().get(&key).cloned() else {
            return false;
        };
        if known.addresses.len() > 1 && known.current() == address {
            self.put(key, known.past_current(clock::now()));
        }
        known.addresses.len() > 1
    }

    /// Only names of the configuration are asked for, so that the map stays small.
    fn put(&self, key: (String, u16), known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        self.known.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.insert(key.clone(), known.clone());
            map
        });
        known
    }

    async fn ask(&self, key: (String, u16)) -> Result<Arc<Known>, ResolveError> {
        let lookup =
            tokio::time::timeout(PATIENCE, tokio::net::lookup_host((key.0.as_str(), key.1)));
        let found = lookup.await.map(|found| found.map(Iterator::collect));
        let mut addresses: Vec<SocketAddr> = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(_)) => return Err(ResolveError::Unknown(key.0)),
            Err(_) => return Err(ResolveError::TooSlow(key.0)),
        };
        addresses.dedup();
        if addresses.is_empty() {
            return Err(ResolveError::Unknown(key.0));
        }
        let before = self.known.load().get(&key).cloned();
        let known = Known::new(addresses, before.as_deref(), clock::now());
        Ok(self.put(key, known))
    }
}

impl Known {
    /// An address that was left for another one is not gone back to while that serves, until some time has passed.
    fn new(addresses: Vec<SocketAddr>, before: Option<&Known>, now: Instant) -> Known {
        let kept = before.and_then(|before| {
            let left = before.left?;
            let is_recent = now.saturating_duration_since(left) < SHUNNED;
            let place = addresses.iter().position(|it| *it == before.current())?;
            is_recent.then_some((place, left))
        });
        Known {
            addresses,
            resolved: now,
            renewing: AtomicBool::new(false),
            place: kept.map_or(0, |(place, _)| place),
            left: kept.map(|(_, left)| left),
        }
    }

    fn current(&self) -> SocketAddr {
        self.addresses[self.place % self.addresses.len()]
    }

    /// The same with the next address.
    fn past_current(&self, now: Instant) -> Known {
        Known {
            addresses: self.addresses.clone(),
            resolved: self.resolved,
            renewing: AtomicBool::new(false),
            place: (self.place + 1) % self.addresses.len(),
            left: Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_look_up_and_names_are_asked_once() {
        let resolver = Arc::new(Resolver::default());
        let literal = resolver.resolve("::1", 80).await.unwrap();
        assert_eq!(literal.to_string(), "[::1]:80");
        assert!(
            resolver
                .resolve("localhost", 80)
                .await
                .unwrap()
                .ip()
                .is_loopback()
        );
        assert_eq!(resolver.known.load().len(), 1);
    }

    #[tokio::test]
    async fn an_unknown_name_is_an_error_that_names_it() {
        let resolver = Arc::new(Resolver::default());
        let error = resolver
            .resolve("no-such-host.invalid", 80)
            .await
            .unwrap_err();
        assert_eq!(error, ResolveError::Unknown("no-such-host.invalid".into()));
    }

    #[test]
    fn an_address_that_could_not_be_reached_is_left_alone_for_a_while() {
        let [one, two, three] =
            ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"].map(|it| it.parse::<SocketAddr>().unwrap());
        let begun = clock::now();
        let first = Known::new(vec![one, two], None, begun);
        assert_eq!(first.current(), one);
        let moved = first.past_current(begun);
        assert_eq!(moved.current(), two);
        // Look-ups after that one, in whatever order their answers are.
        let renewed = |known: &Known, addresses: &[SocketAddr], after| {
            Known::new(addresses.to_vec(), Some(known), begun + after)
        };
        let soon = renewed(&moved, &[one, two], FRESH);
        assert_eq!(soon.current(), two);
        let soon = renewed(&soon, &[three, one, two], FRESH * 2);
        assert_eq!(soon.current(), two);
        assert_eq!(renewed(&soon, &[one, three], FRESH * 3).current(), one);
        assert_eq!(renewed(&soon, &[one, two], SHUNNED).current(), one);
        assert_eq!(soon.past_current(begun).current(), three);
    }
}
