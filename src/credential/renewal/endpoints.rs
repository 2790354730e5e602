//! How many renewals ask one token endpoint at a time. After an outage all its accounts are due at
//! once; and a vendor that hangs must not hold up the renewals at another.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of one host.
const AT_ONCE: usize = 32;

/// Places at each host that is being asked.
#[derive(Default)]
pub struct Endpoints(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Endpoints {
    /// Waits for a place at this address' host. `None` never comes: the places are not closed.
    pub(super) async fn enter(&self, url: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.at(url);
        places.acquire_owned().await.ok()
    }

    fn at(&self, url: &str) -> Arc<Semaphore> {
        let uri = url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::authority);
        let host = host.map_or("", |authority| authority.as_str()).to_owned();
        let mut hosts = self.0.lock();
        // Of a host that nobody asks now there is nothing to remember.
        hosts.retain(|_, places| Arc::strong_count(places) > 1);
        let places = hosts.entry(host);
        places
            .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_host_is_asked_by_so_many_at_a_time_and_another_one_is_not_held_up() {
        let endpoints = Endpoints::default();
        let enter = |url| endpoints.enter(url).now_or_never().flatten();
        let mut inside: Vec<_> = (0..AT_ONCE)
            .map(|n| {
                enter(if n % 2 == 0 {
                    "https://a/token"
                } else {
                    "https://a/other"
                })
            })
            .collect();
        assert!(inside.iter().all(Option::is_some));
        assert!(enter("https://a/token").is_none());
        assert!(enter("https://b/token").is_some());
        inside.pop();
        assert!(enter("https://a/token").is_some());
    }
}
