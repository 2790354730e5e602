//! Requests that wait: in their order, with a deadline, never more than may wait, none forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{MINUTE, Rig, SECOND, accounts, anything, config, for_model, limited};
use crate::clock;
use crate::pool::{Cause, Demand, Lease, Outcome, Pool, Refusal};

pub(super) type Asked = JoinHandle<Result<Lease, Refusal>>;

/// A request that would wait for half a minute; it has joined the queue, or has its answer, when
/// this returns.
pub(super) async fn ask(pool: &Arc<Pool>, demand: Demand) -> Asked {
    ask_within(pool, demand, 30 * SECOND).await
}

async fn ask_within(pool: &Arc<Pool>, demand: Demand, patience: Duration) -> Asked {
    let pool = pool.clone();
    let deadline = clock::now() + patience;
    let asked = tokio::spawn(async move { pool.lease(&demand, clock::now(), deadline).await });
    settle().await;
    asked
}

/// Lets every task run until it waits; time stands still meanwhile.
pub(super) async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

pub(super) async fn served(asked: Asked) -> Lease {
    settle().await;
    assert!(asked.is_finished(), "it still waits");
    asked
        .await
        .unwrap()
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

pub(super) async fn refused(asked: Asked) -> Refusal {
    match asked.await.unwrap() {
        Ok(lease) => panic!("{} served it", lease.account().id),
        Err(refusal) => refusal,
    }
}

#[tokio::test(start_paused = true)]
async fn who_came_first_is_served_first() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let first = ask(&rig.pool, anything()).await;
    let second = ask(&rig.pool, anything()).await;
    assert_eq!(rig.pool.summary().waiting, 2);
    drop(held);
    let held = served(first).await;
    settle().await;
    assert!(!second.is_finished());
    drop(held);
    drop(served(second).await);
    assert_eq!(rig.pool.summary().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_number_overtakes() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let later = ask(
        &rig.pool,
        Demand {
            priority: 5,
            ..anything()
        },
    )
    .await;
    let sooner = ask(
        &rig.pool,
        Demand {
            priority: 1,
            ..anything()
        },
    )
    .await;
    drop(held);
    let held = served(sooner).await;
    assert!(!later.is_finished());
    drop(held);
    drop(served(later).await);
}

/// It has had its turn, and its account did not serve it: at the end of the line its deadline would come first.
#[tokio::test(start_paused = true)]
async fn a_request_that_tries_again_goes_before_those_that_only_wait() {
    let keys = "queue: {max_waiting: 2},";
    let rig = Rig::new(keys, &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let waits = ask(&rig.pool, anything()).await;
    let displaced = ask(&rig.pool, anything()).await;
    let again = Demand {
        again: true,
        ..anything()
    };
    let again = ask(&rig.pool, again).await;
    assert_eq!(refused(displaced).await.cause, Cause::QueueFull);
    // Of a better priority is whoever has one.
    let first = Demand {
        priority: -1,
        ..anything()
    };
    drop(waits);
    let first = ask(&rig.pool, first).await;
    drop(held);
    let held = served(first).await;
    drop(held);
    drop(served(again).await);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_at_the_deadline_not_before_and_not_after() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let _held = rig.take().unwrap();
    let began = clock::now();
    let refusal = refused(ask_within(&rig.pool, anything(), 7 * SECOND).await).await;
    assert_eq!(refusal.cause, Cause::QueueTimeout);
    assert!(refusal.retry_after >= SECOND);
    let waited = clock::now() - began;
    assert!(waited >= 7 * SECOND && waited < 8 * SECOND, "{waited:?}");
    assert_eq!(rig.pool.summary().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_gives_its_place_to_the_next() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let leaver = ask(&rig.pool, anything()).await;
    let stayer = ask(&rig.pool, anything()).await;
    leaver.abort();
    settle().await;
    assert_eq!(rig.pool.summary().waiting, 1);
    drop(held);
    drop(served(stayer).await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_handed_to_somebody_who_left_is_free_again() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let leaver = ask(&rig.pool, anything()).await;
    // Handed over, but the task never runs again.
    drop(held);
    leaver.abort();
    settle().await;
    assert_eq!(rig.view("a").in_flight, 0);
    drop(served(ask(&rig.pool, anything()).await).await);
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let keys = "queue: {max_waiting: 2},";
    let rig = Rig::new(keys, &["id: a, max_concurrent: 1"]);
    let _held = rig.take().unwrap();
    let _waiting = [
        ask(&rig.pool, anything()).await,
        ask(&rig.pool, anything()).await,
    ];
    let began = clock::now();
    let refusal = refused(ask(&rig.pool, anything()).await).await;
    assert_eq!((refusal.cause, clock::now()), (Cause::QueueFull, began));
}

#[tokio::test(start_paused = true)]
async fn a_freed_account_goes_to_the_first_whom_it_fits() {
    let rig = Rig::new(
        "",
        &[
            "id: a, models: [x], max_concurrent: 1",
            "id: b, models: [y], max_concurrent: 1",
        ],
    );
    let a = rig.take_for(&for_model("x")).unwrap();
    let b = rig.take_for(&for_model("y")).unwrap();
    let for_x = ask(&rig.pool, for_model("x")).await;
    let for_y = ask(&rig.pool, for_model("y")).await;
    drop(b);
    assert_eq!(&*served(for_y).await.account().id, "b");
    assert!(!for_x.is_finished());
    // Who waits for another account stands in nobody's way.
    assert_eq!(
        &*served(ask(&rig.pool, for_model("y")).await)
            .await
            .account()
            .id,
        "b"
    );
    drop(a);
    assert_eq!(&*served(for_x).await.account().id, "a");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_those_who_wait() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let waiter = ask(&rig.pool, anything()).await;
    drop(held);
    // The place is the waiter's although it has not run yet.
    let newcomer = ask(&rig.pool, anything()).await;
    assert!(!newcomer.is_finished());
    drop(served(waiter).await);
    drop(served(newcomer).await);
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_makes_requests_wait_too() {
    let rig = Rig::new("max_concurrent: 1,", &accounts(2, ""));
    let held = rig.take().unwrap();
    let waiter = ask(&rig.pool, anything()).await;
    assert!(!waiter.is_finished());
    drop(held);
    drop(served(waiter).await);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_limited_a_request_waits_for_the_earliest() {
    let rig = Rig::new("", &accounts(2, ""));
    let began = clock::now();
    for wait in [20 * SECOND, 8 * SECOND] {
        rig.one(&limited(wait));
    }
    let lease = ask(&rig.pool, anything()).await.await.unwrap().unwrap();
    assert_eq!(&*lease.account().id, "b");
    let waited = clock::now() - began;
    assert!(waited >= 8 * SECOND && waited < 9 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_recovery_that_comes_too_late_or_must_not_be_waited_for() {
    for (keys, wait) in [
        ("", 2 * MINUTE),
        ("queue: {wait_for_recovery: false},", SECOND),
    ] {
        let rig = Rig::new(keys, &["id: a"]);
        let began = clock::now();
        rig.one(&limited(wait));
        let refusal = refused(ask(&rig.pool, anything()).await).await;
        assert_eq!((refusal.cause, clock::now()), (Cause::RateLimited, began));
        let until = refusal
            .recovers_at
            .unwrap()
            .saturating_duration_since(began);
        assert!(until <= wait && until > wait - SECOND / 100, "{until:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_would_have_to_change() {
    let rig = Rig::new("", &["id: a, models: [x]", "id: b, models: [x]"]);
    let why = async |demand: &Demand| refused(ask(&rig.pool, demand.clone()).await).await.cause;
    assert_eq!(why(&for_model("y")).await, Cause::NoneServes);
    let mut x = for_model("x");
    x.tried = [0, 1].into_iter().collect();
    assert_eq!(why(&x).await, Cause::AllTried);
    x.tried.clear();
    for id in ["a", "b"] {
        rig.pool.set_enabled(id, false);
    }
    assert_eq!(why(&x).await, Cause::NoneUsable);
}

#[tokio::test(start_paused = true)]
async fn whatever_makes_an_account_ready_serves_those_who_wait() {
    let keys = "breaker: {open_for: 5s},";
    type Change = fn(&Rig);
    let changes: [(&str, Change); 3] = [
        ("a second account is enabled", |rig| {
            rig.pool.set_enabled("b", true);
        }),
        ("a reload adds one", |rig| {
            rig.pool.reconfigure(&config(
                "",
                &["id: a, max_concurrent: 1", "id: b, enabled: false", "id: c"],
            ));
        }),
        ("a reload lifts the ceiling", |rig| {
            rig.pool
                .reconfigure(&config("", &["id: a", "id: b, enabled: false"]));
        }),
    ];
    for (what, change) in changes {
        let rig = Rig::new(keys, &["id: a, max_concurrent: 1", "id: b, enabled: false"]);
        let _held = rig.take().unwrap();
        let waiter = ask(&rig.pool, anything()).await;
        assert!(!waiter.is_finished());
        change(&rig);
        settle().await;
        assert!(waiter.is_finished(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_probe_of_a_half_open_account_when_its_turn_comes() {
    let rig = Rig::new("", &["id: a"]);
    rig.one(&limited(10 * SECOND));
    let first = ask(&rig.pool, anything()).await;
    let second = ask(&rig.pool, anything()).await;
    tokio::time::sleep(11 * SECOND).await;
    let mut probe = served(first).await;
    assert!(!second.is_finished(), "one request goes first");
    probe.answered(None, None, clock::now());
    drop(probe);
    drop(served(second).await);
    let lease = served(ask(&rig.pool, anything()).await).await;
    drop(rig.end(lease, &Outcome::Success));
}

/// Looks after the pool as the program does, this long from now.
async fn is_looked_after(rig: &Rig, after: Duration) {
    tokio::time::sleep(after).await;
    rig.pool.tick(clock::now());
}

/// Of accounts that others say nothing about, only a look tells that they serve nobody any more.
#[tokio::test(start_paused = true)]
async fn who_waits_does_not_look_again_where_somebody_has_just_looked() {
    let millis = Duration::from_millis;
    // The one who waits would look after 100 ms, and then each 100 ms.
    for (looked_after, told_after) in [(80, 200), (20, 100)] {
        let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
        let _held = rig.take().unwrap();
        let began = clock::now();
        let waiter = ask(&rig.pool, anything()).await;
        is_looked_after(&rig, millis(looked_after)).await;
        rig.pool.set_enabled("a", false);
        assert_eq!(refused(waiter).await.cause, Cause::NoneUsable);
        let told = (clock::now() - began).as_millis();
        let expected = told_after..told_after + 10;
        assert!(expected.contains(&told), "{told} ms, not {told_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_looked_at_although_somebody_has_just_looked() {
    let millis = Duration::from_millis;
    let rig = Rig::new("", &["id: a"]);
    let began = clock::now();
    rig.one(&limited(millis(90)));
    let waiter = ask(&rig.pool, anything()).await;
    is_looked_after(&rig, millis(80)).await;
    drop(waiter.await.unwrap().unwrap());
    let waited = (clock::now() - began).as_millis();
    assert!((90..100).contains(&waited), "{waited} ms");
}
