//! Whoever frees an account while somebody waits serves the queue, and whoever is served and has gone
//! hands on what it got: whatever meets, no account is free in the end while somebody waits for it.
//!
//! The futures are polled by hand, and no clock runs for them. So nobody is saved by the one who looks after
//! the queue ten times a second, and a wake-up that is lost leaves a request waiting for good.

use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use fastrand::Rng;

use super::{MINUTE, Rig, anything};
use crate::clock;
use crate::pool::{Demand, Lease, Pool, Refusal};

const ROUNDS: usize = 4_000;

/// Accounts with one place, for which there are two ways to become free.
pub(super) const ACCOUNTS: [&str; 2] = [
    "id: a, max_concurrent: 1",
    "id: a, rate_limits: [{requests: 1, window: 30s}]",
];

pub(super) type Asked = Pin<Box<dyn Future<Output = Result<Lease, Refusal>> + Send>>;

pub(super) fn ask(pool: &Arc<Pool>, demand: Demand) -> Asked {
    let (pool, now) = (pool.clone(), clock::now());
    Box::pin(async move { pool.lease(&demand, now, now + MINUTE).await })
}

/// Looks once whether it has its lease.
pub(super) fn look(asked: &mut Asked) -> Option<Lease> {
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(lease)) => Some(lease),
        Poll::Ready(Err(refusal)) => panic!("{refusal:?}"),
        Poll::Pending => None,
    }
}

/// Does both at the same time, now one a little earlier and now the other.
fn at_once<R: Send>(round: usize, one: impl FnOnce() + Send, other: impl FnOnce() -> R) -> R {
    let both = Barrier::new(2);
    let (early, late) = (round % 64, round / 64 % 64);
    let spin = |times: usize| (0..times).for_each(|_| std::hint::spin_loop());
    thread::scope(|scope| {
        scope.spawn(|| {
            both.wait();
            spin(early);
            one();
        });
        both.wait();
        spin(late);
        other()
    })
}

/// Timers that are asked for and never run.
pub(super) fn no_clock() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap()
}

/// Of each account: whoever asks while its place is held, and freed at some time, has it in the end. `asks`
/// frees what is held, and says what the one who asks has got.
#[track_caller]
fn the_place_is_got(asks: impl Fn(usize, &Arc<Pool>, Lease) -> Option<Lease>) {
    let runtime = no_clock();
    let _inside = runtime.enter();
    for account in ACCOUNTS {
        let pool = Rig::new("", &[account]).pool;
        for round in 0..ROUNDS {
            let held = pool.try_lease(&anything(), clock::now()).unwrap();
            let lease = asks(round, &pool, held);
            assert!(
                lease.is_some(),
                "{account}: round {round}: it waits for good"
            );
        }
    }
}

#[test]
fn who_begins_to_wait_as_the_place_comes_free_gets_it() {
    the_place_is_got(|round, pool, held| {
        let mut asked = ask(pool, anything());
        let lease = at_once(round, || drop(held), || look(&mut asked));
        lease.or_else(|| look(&mut asked))
    });
}

#[test]
fn who_leaves_as_it_is_served_hands_on_what_it_got() {
    the_place_is_got(|round, pool, held| {
        let mut leaves = ask(pool, anything());
        let mut stays = ask(pool, anything());
        assert!(look(&mut leaves).is_none() && look(&mut stays).is_none());
        at_once(round, || drop(held), || drop(leaves));
        look(&mut stays)
    });
}

/// A request of one of several keys, some of which go before others.
fn of_key(rng: &mut Rng) -> Demand {
    Demand {
        key: rng.u64(0..3),
        priority: rng.i32(0..2),
        ..anything()
    }
}

/// What one of several does at the same time as the others.
enum Act {
    Free(Lease),
    Leave(Asked),
    Come(Asked),
}

#[test]
fn no_account_is_free_while_somebody_waits_whoever_comes_and_goes() {
    let runtime = no_clock();
    let pool = Rig::new(
        "",
        &["id: a, max_concurrent: 2", "id: b, max_concurrent: 1"],
    )
    .pool;
    let mut rng = Rng::with_seed(7);
    let _inside = runtime.enter();
    let (mut leases, mut waiting): (Vec<Lease>, Vec<Asked>) = Default::default();
    for round in 0..ROUNDS {
        let mut acts = vec![Act::Come(ask(&pool, of_key(&mut rng)))];
        for _ in 0..3 {
            acts.push(match rng.u8(0..3) {
                0 if !leases.is_empty() => {
                    Act::Free(leases.swap_remove(rng.usize(0..leases.len())))
                }
                1 if !waiting.is_empty() => {
                    Act::Leave(waiting.swap_remove(rng.usize(0..waiting.len())))
                }
                _ => Act::Come(ask(&pool, of_key(&mut rng))),
            });
        }
        let all = Barrier::new(acts.len());
        let handle = runtime.handle();
        let act = |act: Act| {
            let _inside = handle.enter();
            all.wait();
            match act {
                Act::Free(lease) => drop(lease),
                Act::Leave(asked) => drop(asked),
                Act::Come(mut asked) => {
                    let lease = look(&mut asked);
                    return Some((asked, lease));
                }
            }
            None
        };
        let came: Vec<_> = thread::scope(|scope| {
            let acts: Vec<_> = acts.into_iter().map(|it| scope.spawn(|| act(it))).collect();
            acts.into_iter()
                .filter_map(|it| it.join().unwrap())
                .collect()
        });
        for (asked, lease) in came {
            match lease {
                Some(lease) => leases.push(lease),
                None => waiting.push(asked),
            }
        }
        waiting.retain_mut(|asked| look(asked).map(|lease| leases.push(lease)).is_none());
        let summary = pool.summary();
        assert_eq!(
            (summary.waiting, summary.in_flight),
            (waiting.len(), leases.len() as u32)
        );
        let in_flight = |id: &str| pool.account_named(id).unwrap().live.in_flight();
        let is_free = in_flight("a") < 2 || in_flight("b") < 1;
        assert!(!is_free || waiting.is_empty(), "round {round}");
    }
}
