//! Leases, the queue and an operator on several threads at once: no ceiling is broken, no waiter is
//! forgotten, and in the end every place is free.
//!
//! The order of the atomic operations cannot be explored with loom: it does not model sequentially
//! consistent loads and stores, on which the queue's handshake rests ([`crate::pool::queue`]). So
//! many short leases are made to meet on a few places; [`super::wakes`] looks at single meetings.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Rig, SECOND, anything, by_caller, config};
use crate::clock;
use crate::pool::marks::Model;
use crate::pool::{Demand, Lease, Outcome, Pool, Report};

const TASKS: u64 = 48;
const THREADS: usize = 4;

/// A place is held for microseconds, so whoever waits so long was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

const STRATEGIES: [&str; 4] = ["least_connections", "weighted", "hash", "round_robin"];

/// Each account's places.
const PLACES: [u32; 3] = [1, 2, 3];

fn accounts() -> Vec<String> {
    let ids = ["a", "b", "c"].iter().zip(PLACES);
    ids.map(|(id, places)| format!("id: {id}, max_concurrent: {places}"))
        .collect()
}

fn on_threads(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_time()
        .build();
    runtime.unwrap().block_on(work);
}

fn report(mut lease: Lease, outcome: &Outcome) {
    let about = Report {
        model: None,
        detail: "a test",
        counts: true,
    };
    lease.report(outcome, &about, clock::now());
}

/// Nobody is under way, nobody waits, and each account gives all of its places and no more.
fn assert_all_is_free(pool: &Arc<Pool>) {
    let now = clock::now();
    let summary = pool.summary();
    assert_eq!((summary.in_flight, summary.waiting), (0, 0));
    let all: Vec<Lease> = std::iter::from_fn(|| pool.try_lease(&anything(), now)).collect();
    assert_eq!(all.len() as u32, PLACES.iter().sum::<u32>());
    for account in pool.accounts() {
        let held = all.iter().filter(|lease| lease.account().id == account.id);
        assert_eq!(held.count() as u32, account.live.in_flight());
    }
}

/// Requests of eight keys, of which some may have one account alone and some name their model.
fn demand(caller: u64) -> Demand {
    let only = ["a", "b", "c"].get(caller as usize % 9);
    let model = (caller % 5 < 2).then(|| format!("model_{}", caller % 5));
    Demand {
        key: caller % 8,
        only: only.map(|id| Arc::from(*id)),
        model: model.map(Arc::from),
        ..by_caller(caller)
    }
}

#[test]
fn everybody_is_served_and_no_ceiling_broken_whoever_meets() {
    const ROUNDS: u64 = 500;
    for strategy in STRATEGIES {
        let keys = format!("strategy: {strategy}, queue: {{timeout: 60s}},");
        let pool = Rig::new(&keys, &accounts()).pool;
        let held: Arc<[AtomicU32; 3]> = Arc::default();
        on_threads(async {
            let mut tasks = JoinSet::new();
            for caller in 0..TASKS {
                let (pool, held) = (pool.clone(), held.clone());
                tasks.spawn(async move {
                    for _ in 0..ROUNDS {
                        let demand = demand(caller);
                        let asked = pool.lease(&demand, clock::now(), clock::now() + 3 * FORGOTTEN);
                        let lease = timeout(FORGOTTEN, asked).await;
                        let lease = lease.expect("it was forgotten").expect("it was refused");
                        let slot = lease.slot() as usize;
                        let before = held[slot].fetch_add(1, Ordering::SeqCst);
                        assert!(before < PLACES[slot], "one too many on {slot}");
                        tokio::task::yield_now().await;
                        held[slot].fetch_sub(1, Ordering::SeqCst);
                        match caller % 2 {
                            0 => report(lease, &Outcome::Success),
                            _ => drop(lease),
                        }
                    }
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        assert_all_is_free(&pool);
    }
}

/// How an attempt of a busy day ends; `None`: its request just goes.
fn end(rng: &mut Rng) -> Option<Outcome> {
    let wait = Duration::from_millis(2);
    match rng.u8(0..8) {
        0 => Some(Outcome::Transient),
        1 => Some(super::limited(wait)),
        2 => Some(Outcome::AuthDead),
        3 => Some(Outcome::BrokenStream),
        4 | 5 => None,
        _ => Some(Outcome::Success),
    }
}

/// A request that waits as long as it likes, is served or not, and ends somehow.
async fn comes_and_goes(pool: &Arc<Pool>, rng: &mut Rng) {
    let patience = Duration::from_micros(rng.u64(0..3_000));
    let demand = demand(rng.u64(0..45));
    let asked = pool.lease(&demand, clock::now(), clock::now() + SECOND);
    let Ok(Ok(lease)) = timeout(patience, asked).await else {
        return;
    };
    if rng.bool() {
        tokio::task::yield_now().await;
    }
    match end(rng) {
        Some(outcome) => report(lease, &outcome),
        None => drop(lease),
    }
}

/// Switches accounts off and on, resets them, and reloads, with other ceilings or the strategy of
/// another day.
fn operate(pool: &Arc<Pool>, rng: &mut Rng) {
    let id = ["a", "b", "c"][rng.usize(0..3)];
    match rng.u8(0..4) {
        0 => drop(pool.set_enabled(id, rng.bool())),
        1 => drop(pool.reset(id)),
        2 => pool.tick(clock::now()),
        _ => {
            let keys = format!("strategy: {},", rng.choice(STRATEGIES).unwrap());
            let mut accounts = accounts();
            if rng.bool() {
                accounts.truncate(rng.usize(1..3));
                accounts[0] = "id: a, max_concurrent: 2".to_owned();
            }
            pool.reconfigure(&config(&keys, &accounts));
        }
    }
}

#[test]
fn nothing_is_lost_when_accounts_fail_and_change_under_those_who_come_and_go() {
    const ROUNDS: usize = 400;
    let seed = fastrand::u64(..);
    let keys = "breaker: {consecutive_failures: 2, open_for: 1ms, open_for_max: 2ms},";
    let pool = Rig::new(keys, &accounts()).pool;
    let running = Arc::new(AtomicUsize::new(TASKS as usize));
    on_threads(async {
        let mut tasks = JoinSet::new();
        for n in 0..TASKS {
            let (pool, running) = (pool.clone(), running.clone());
            let mut rng = Rng::with_seed(seed.wrapping_add(n));
            tasks.spawn(async move {
                for _ in 0..ROUNDS {
                    comes_and_goes(&pool, &mut rng).await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let mut rng = Rng::with_seed(seed);
        while running.load(Ordering::SeqCst) > 0 {
            operate(&pool, &mut rng);
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    pool.reconfigure(&config("", &accounts()));
    for id in ["a", "b", "c"] {
        pool.set_enabled(id, true);
        pool.reset(id);
    }
    assert_all_is_free(&pool);
}

/// A request that has looked at the marks meets one that was made since: it must look again, as it would ask the only
/// account for ever.
#[test]
fn a_request_that_meets_a_mark_just_made_is_answered() {
    let rig = Rig::new("strategy: hash,", &["id: a"]);
    let until = u64::MAX / 2;
    for round in 0..3_000 {
        // More would be too many for one pool.
        if round % 500 == 0 {
            rig.pool.marks.clear(0);
        }
        let name: Arc<str> = format!("model {round}").into();
        let demand = Demand {
            model: Some(name.clone()),
            ..anything()
        };
        let meet = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                meet.wait();
                rig.pool.marks.mark(0, &Model::of(&name), true, until, 0)
            });
            meet.wait();
            drop(rig.pool.try_lease(&demand, rig.now));
        });
    }
}
