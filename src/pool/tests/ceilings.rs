//! `max_concurrent` is a hard ceiling, of an account and of a pool, whoever asks at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Rig, accounts, anything, config};
use crate::clock;
use crate::pool::Outcome;

#[test]
fn no_more_than_max_concurrent_requests_get_an_account() {
    let rig = Rig::new(
        "",
        &["id: a, max_concurrent: 2", "id: b, max_concurrent: 1"],
    );
    let mut held: Vec<_> = (0..3).map(|_| rig.take().unwrap()).collect();
    assert!(rig.take().is_none());
    assert_eq!([rig.view("a").in_flight, rig.view("b").in_flight], [2, 1]);
    held.pop();
    assert!(rig.take().is_some());
}

#[test]
fn the_pool_has_a_ceiling_of_its_own() {
    let rig = Rig::new("max_concurrent: 3,", &accounts(2, ""));
    let held: Vec<_> = (0..3).map(|_| rig.take().unwrap()).collect();
    assert!(rig.take().is_none());
    drop(held);
    assert!(rig.take().is_some());
    assert_eq!(rig.pool.summary().in_flight, 0);
}

#[test]
fn a_ceiling_that_a_reload_lowers_holds_and_later_frees() {
    let rig = Rig::new("", &["id: a, max_concurrent: 5"]);
    let mut held: Vec<_> = (0..5).map(|_| rig.take().unwrap()).collect();
    rig.pool
        .reconfigure(&config("", &["id: a, max_concurrent: 2"]));
    for left in [4, 3, 2] {
        held.pop();
        assert!(rig.take().is_none(), "{left} of 2 are in flight");
    }
    held.pop();
    held.push(rig.take().expect("one place is free"));
    assert!(rig.take().is_none());
    drop(held);
    assert!(rig.take().is_some());
}

#[test]
fn a_ceiling_that_a_reload_lifts_lets_more_in_at_once() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let _held = rig.take().unwrap();
    rig.pool.reconfigure(&config("", &["id: a"]));
    let more: Vec<_> = (0..10).map_while(|_| rig.take()).collect();
    assert_eq!(more.len(), 10);
}

/// What the test itself counts, for each account and for the pool.
struct Counted {
    accounts: Vec<AtomicUsize>,
    pool: AtomicUsize,
}

impl Counted {
    fn enter(&self, slot: usize, most: usize, most_of_pool: usize) {
        assert!(self.accounts[slot].fetch_add(1, Ordering::SeqCst) < most);
        assert!(self.pool.fetch_add(1, Ordering::SeqCst) < most_of_pool);
    }

    fn leave(&self, slot: usize) {
        self.pool.fetch_sub(1, Ordering::SeqCst);
        self.accounts[slot].fetch_sub(1, Ordering::SeqCst);
    }
}

fn counted(accounts: usize) -> Counted {
    Counted {
        accounts: (0..accounts).map(|_| AtomicUsize::new(0)).collect(),
        pool: AtomicUsize::new(0),
    }
}

#[test]
fn eight_threads_never_get_past_a_ceiling_and_lose_no_account() {
    for strategy in [
        "round_robin",
        "weighted",
        "least_connections",
        "least_used",
        "response_time",
        "hash",
        "random",
    ] {
        let keys = format!("strategy: {strategy}, max_concurrent: 5,");
        let rig = Rig::new(&keys, &accounts(3, "max_concurrent: 2"));
        let counted = counted(3);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (rig, counted) = (&rig, &counted);
                scope.spawn(move || {
                    for round in 0..4_000 {
                        let demand = super::by_caller(thread << 32 | round);
                        let Some(lease) = rig.take_for(&demand) else {
                            continue;
                        };
                        let slot = lease.slot() as usize;
                        counted.enter(slot, 2, 5);
                        if round % 7 == 0 {
                            std::thread::yield_now();
                        }
                        counted.leave(slot);
                        match round % 3 {
                            0 => drop(lease),
                            _ => drop(rig.end(lease, &Outcome::Success)),
                        }
                    }
                });
            }
        });
        assert_eq!(rig.pool.summary().in_flight, 0, "{strategy}");
        assert!(["a", "b", "c"].iter().all(|id| rig.view(id).in_flight == 0));
        let all: Vec<_> = (0..5).map_while(|_| rig.take()).collect();
        assert_eq!(all.len(), 5, "{strategy}: a place was lost");
    }
}

/// Breakers open, probes go, an operator and a reload interfere, while eight threads ask.
#[test]
fn whatever_happens_at_the_same_time_no_place_is_lost() {
    let keys =
        "breaker: {consecutive_failures: 2, open_for: 1ms, open_for_max: 2ms, slow_start: 1ms},";
    let few = accounts(4, "max_concurrent: 3");
    let rig = Rig::new(keys, &few);
    let ends = [
        Outcome::Success,
        Outcome::Transient,
        Outcome::Transient,
        super::limited(Duration::from_millis(1)),
        Outcome::ClientGone,
    ];
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (pool, ends, began) = (&rig.pool, &ends, rig.now);
            scope.spawn(move || {
                for round in 0..3_000usize {
                    let now = clock::now();
                    let Some(lease) = pool.try_lease(&anything(), now) else {
                        continue;
                    };
                    let rig = Rig {
                        pool: pool.clone(),
                        now: now.max(began),
                    };
                    rig.end(lease, &ends[(thread + round) % ends.len()]);
                }
            });
        }
        for round in 0..200 {
            let id = ["a", "b", "c", "d"][round % 4];
            rig.pool.set_enabled(id, round % 3 == 0);
            rig.pool.reset(id);
            rig.pool.reconfigure(&config(keys, &few[..3 + round % 2]));
        }
    });
    rig.pool.reconfigure(&config(keys, &few));
    for id in ["a", "b", "c", "d"] {
        rig.pool.set_enabled(id, true);
        rig.pool.reset(id);
        assert_eq!(rig.view(id).in_flight, 0, "{id}");
    }
    let later = Rig {
        pool: rig.pool.clone(),
        now: clock::now() + Duration::from_secs(3600),
    };
    assert_eq!(later.pool.summary().in_flight, 0);
    let all: Vec<_> = (0..12).map_while(|_| later.take()).collect();
    assert_eq!(all.len(), 12, "4 accounts of 3 places each");
}

/// Tasks on several threads queue for two places: each must be woken when one is free.
#[test]
fn nobody_who_waits_is_forgotten() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let rig = Rig::new("", &accounts(2, "max_concurrent: 1"));
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::new(counted(2));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (pool, served) = (rig.pool.clone(), served.clone());
                let counted = counted.clone();
                tokio::spawn(async move {
                    for _ in 0..200 {
                        let deadline = clock::now() + Duration::from_secs(30);
                        let lease = pool.lease(&anything(), clock::now(), deadline).await;
                        let lease = lease.unwrap_or_else(|refusal| panic!("{refusal:?}"));
                        counted.enter(lease.slot() as usize, 1, 2);
                        tokio::task::yield_now().await;
                        counted.leave(lease.slot() as usize);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(served.load(Ordering::SeqCst), 64 * 200);
    let summary = rig.pool.summary();
    assert_eq!((summary.in_flight, summary.waiting), (0, 0));
}
