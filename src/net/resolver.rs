//! Host names to addresses, without blocking a worker and without asking each time.
//!
//! `HttpPeer::new` with a name would ask the system's resolver on the worker thread, and panic where
//! the name does not resolve; so names are resolved here. The system's resolver does the work (and
//! so `/etc/hosts` and the operator's DNS set-up count) on tokio's blocking threads; it states no
//! lifetimes, so answers are kept for [`FRESH`] and, while nothing better is to be had, for ever.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use std::collections::HashMap;

use crate::clock::{self, Instant};

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(30);

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
    next: AtomicU32,
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
        let Some(known) = self.known.load().get(&(host.to_owned(), port)).cloned() else {
            return false;
        };
        if known.current() == address {
            known.next.fetch_add(1, Ordering::Relaxed);
        }
        known.addresses.len() > 1
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
        let known = Arc::new(Known {
            addresses,
            resolved: clock::now(),
            renewing: AtomicBool::new(false),
            next: AtomicU32::new(0),
        });
        // Only names of the configuration are asked for, so that the map stays small.
        self.known.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.insert(key.clone(), known.clone());
            map
        });
        Ok(known)
    }
}

impl Known {
    fn current(&self) -> SocketAddr {
        let next = self.next.load(Ordering::Relaxed) as usize;
        self.addresses[next % self.addresses.len()]
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
}
