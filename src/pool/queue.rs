//! Requests that wait for an account: bounded, first come first served, each with a deadline.
//!
//! Whoever frees an account serves the queue ([`super::Pool::serve_queue`]): the first waiter whom
//! a ready account fits gets its lease handed over. A waiter that leaves takes its entry along.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::lease::Lease;
use super::{Demand, Pool};

/// Different demands that are looked at in one go, so that clients which invent model names do
/// not make serving the queue costly.
const UNLIKE: usize = 16;

/// The order of service: lower priority first, then who came first.
type Place = (i32, u64);

#[derive(Default)]
pub(super) struct Queue {
    waiting: AtomicUsize,
    arrivals: AtomicU64,
    line: Mutex<BTreeMap<Place, Waiter>>,
}

struct Waiter {
    demand: Demand,
    lease: oneshot::Sender<Lease>,
}

/// A place in the queue; dropping it leaves the queue.
pub(super) struct Waiting {
    pool: Arc<Pool>,
    place: Place,
    pub(super) lease: oneshot::Receiver<Lease>,
}

impl Queue {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins the queue, or is told that it is full.
    pub(super) fn join(pool: &Arc<Pool>, demand: Demand, most: usize) -> Option<Waiting> {
        let queue = &pool.queue;
        let (sender, lease) = oneshot::channel();
        let place = (
            demand.priority,
            queue.arrivals.fetch_add(1, Ordering::Relaxed),
        );
        let mut line = queue.line.lock();
        if line.len() >= most {
            return None;
        }
        line.insert(
            place,
            Waiter {
                demand,
                lease: sender,
            },
        );
        queue.waiting.store(line.len(), Ordering::SeqCst);
        drop(line);
        Some(Waiting {
            pool: pool.clone(),
            place,
            lease,
        })
    }

    /// Offers accounts to the waiters in their order, until `lease` has none for anybody.
    pub(super) fn serve(&self, lease: impl Fn(&Demand) -> Option<Lease>) {
        // Leases are handed over after the lock is gone: a receiver that has left drops its lease,
        // which serves the queue again.
        let mut handed = Vec::new();
        let mut line = self.line.lock();
        let mut unserved: Vec<&Demand> = Vec::with_capacity(UNLIKE);
        // Of these there are no more than accounts, and each is asked for by those who may have no other.
        let mut spent: HashSet<(&str, Option<&str>)> = HashSet::new();
        let places: Vec<Place> = line
            .iter()
            .filter_map(|(place, waiter)| {
                let demand = &waiter.demand;
                let only = demand.only.as_deref();
                let only = only.map(|account| (account, demand.model.as_deref()));
                let known = match only {
                    Some(only) => spent.contains(&only),
                    None => {
                        unserved.len() == UNLIKE
                            || unserved.iter().any(|other| other.is_served_like(demand))
                    }
                };
                if known {
                    return None;
                }
                let lease = lease(demand);
                match (lease, only) {
                    (Some(lease), _) => {
                        handed.push(lease);
                        return Some(*place);
                    }
                    // Another request may be served where this one asked already.
                    (None, Some(only)) if demand.tried.is_empty() => drop(spent.insert(only)),
                    (None, Some(_)) => {}
                    (None, None) => unserved.push(demand),
                }
                None
            })
            .collect();
        let waiters: Vec<Waiter> = places
            .iter()
            .filter_map(|place| line.remove(place))
            .collect();
        self.waiting.store(line.len(), Ordering::SeqCst);
        drop(line);
        for (waiter, lease) in waiters.into_iter().zip(handed) {
            drop(waiter.lease.send(lease));
        }
    }
}

impl Demand {
    /// Do the same accounts serve both? Then, where one gets none, neither does the other.
    fn is_served_like(&self, other: &Demand) -> bool {
        self.lane() == other.lane() && self.model == other.model && self.tried == other.tried
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.pool.queue.line.lock();
        if line.remove(&self.place).is_some() {
            self.pool.queue.waiting.store(line.len(), Ordering::SeqCst);
        }
    }
}
