//! Active health checks: a request to each account's health path, in the background, spread over
//! time, a limited number at once, never in the way of requests.

mod catalogue;
mod probe;
mod way;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, watch};

use crate::clock::{self, Instant};
use crate::net::{Resolver, Tunnels};
use crate::pool::{Account, Pool};
pub use catalogue::Catalogue;
use probe::Probe;
use way::Net;

/// Checks that may run at the same time.
const AT_ONCE: usize = 64;

/// How often it is looked which accounts are due.
const TICK: Duration = Duration::from_millis(250);

/// Spread of an interval, so that accounts are not all checked in the same moment.
const JITTER: f64 = 0.1;

/// Checks the accounts of all pools.
pub struct Health {
    net: Net,
    places: Semaphore,
}

impl Health {
    pub fn new(resolver: Arc<Resolver>, tunnels: Arc<Tunnels>) -> Self {
        Health {
            net: Net::new(resolver, tunnels),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Checks accounts as they fall due, until `stop` says so.
    pub async fn run(&self, pools: impl Fn() -> Vec<Arc<Pool>>, mut stop: watch::Receiver<bool>) {
        let mut due: HashMap<String, Instant> = HashMap::new();
        let mut running = FuturesUnordered::new();
        // A check that waits for its place is not asked for again.
        let mut under_way: HashSet<String> = HashSet::new();
        loop {
            let now = clock::now();
            let pools = pools();
            let mut next = HashMap::new();
            for (pool, account) in checked(&pools) {
                let id = account.config.id.clone();
                let interval = account
                    .config
                    .health_check
                    .as_ref()
                    .map_or(TICK, |check| check.interval);
                // The first check is at once; the others are spread over the interval.
                let at = due.get(&id).copied().unwrap_or(now);
                if at <= now {
                    if under_way.insert(id.clone()) {
                        running.push(self.check_named(pool.clone(), account));
                    }
                    next.insert(id, now + jittered(interval));
                } else {
                    next.insert(id, at);
                }
            }
            due = next;
            let tick = tokio::time::sleep(TICK);
            tokio::pin!(tick);
            loop {
                tokio::select! {
                    () = &mut tick => break,
                    Some(id) = running.next() => drop(under_way.remove(&id)),
                    _ = stop.changed() => return,
                }
            }
        }
    }

    /// Checks one account, or all of them, now, and returns when their answers have been judged.
    /// False: no such account is checked.
    pub async fn check_now(&self, pools: &[Arc<Pool>], id: Option<&str>) -> bool {
        let chosen =
            checked(pools).filter(|(_, account)| id.is_none_or(|id| account.config.id == id));
        let checks: Vec<_> = chosen
            .map(|(pool, account)| self.check(pool.clone(), account))
            .collect();
        let found = !checks.is_empty();
        futures::future::join_all(checks).await;
        found
    }

    async fn check_named(&self, pool: Arc<Pool>, account: Arc<Account>) -> String {
        let id = account.config.id.clone();
        self.check(pool, account).await;
        id
    }

    async fn check(&self, pool: Arc<Pool>, account: Arc<Account>) {
        let Some(check) = account.config.health_check.clone() else {
            return;
        };
        let Ok(_place) = self.places.acquire().await else {
            return;
        };
        let probe = Probe::new(&account, &check, &self.net);
        let result = match tokio::time::timeout(check.timeout, probe.run()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", check.timeout)),
        };
        account.metrics.probe(result.is_ok());
        pool.probed(&account, &check, result, clock::now());
    }
}

impl Health {
    /// Asks the account's health path, and changes nothing by it. Without a health check it is
    /// enough that its upstream takes connections.
    ///
    /// # Errors
    /// In words, why the account is not ready.
    pub async fn ask(&self, account: &Account) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let _place = self.places.acquire().await.map_err(|e| e.to_string())?;
        let check = account.config.health_check.as_ref();
        let patience = check.map_or(PATIENCE, |check| check.timeout);
        let asked = async {
            match check {
                Some(check) => Probe::new(account, check, &self.net).run().await,
                None => probe::connect(account, &self.net.resolver).await,
            }
        };
        let answer = tokio::time::timeout(patience, asked).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }
}

fn checked(pools: &[Arc<Pool>]) -> impl Iterator<Item = (&Arc<Pool>, Arc<Account>)> {
    let accounts = pools.iter().flat_map(|pool| {
        pool.accounts()
            .into_iter()
            .map(move |account| (pool, account))
    });
    accounts.filter(|(_, account)| {
        // Who starts a program asks it himself whether it is ready.
        let config = &account.config;
        config.health_check.is_some() && config.enabled && !account.awaits_program()
    })
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + JITTER * (fastrand::f64() - 0.5))
}

#[cfg(test)]
mod tests {
    use super::{TICK, jittered};
    use std::time::Duration;

    /// Row 2-50 of the checklist: 30 s are 28 to 32 s.
    #[test]
    fn checks_are_at_most_a_twentieth_early_or_late() {
        let second = Duration::from_secs(1);
        for _ in 0..10_000 {
            let wait = jittered(30 * second);
            assert!(
                (28 * second..=32 * second - TICK).contains(&wait),
                "{wait:?}"
            );
        }
    }
}
