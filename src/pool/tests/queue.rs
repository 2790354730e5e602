//! Requests that wait: in their order, fair between keys, with a deadline, never more than may wait,
//! none forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{MINUTE, Rig, SECOND, accounts, anything, config, for_model, limited};
use crate::clock;
use crate::pool::{Cause, Demand, Lease, Outcome, Pool, Refusal};

type Asked = JoinHandle<Result<Lease, Refusal>>;

/// A request that would wait for half a minute; it has joined the queue, or has its answer, when
/// this returns.
async fn ask(pool: &Arc<Pool>, demand: Demand) -> Asked {
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
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn served(asked: Asked) -> Lease {
    settle().await;
    assert!(asked.is_finished(), "it still waits");
    asked
        .await
        .unwrap()
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

async fn refused(asked: Asked) -> Refusal {
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

fn of_key(key: u64) -> Demand {
    Demand { key, ..anything() }
}

/// Frees the one account and waits for who gets it, as long as somebody does.
async fn served_in_turn(rig: &Rig, held: Lease, asked: Vec<(u64, Asked)>) -> Vec<u64> {
    let (mut held, mut asked, mut order) = (Some(held), asked, vec![]);
    while !asked.is_empty() {
        drop(held.take());
        settle().await;
        let next = asked.iter().position(|(_, asked)| asked.is_finished());
        let (key, next) = asked.remove(next.expect("somebody is served"));
        held = next.await.unwrap().ok();
        order.push(key);
    }
    assert_eq!(rig.pool.summary().waiting, 0);
    order
}

#[tokio::test(start_paused = true)]
async fn one_key_with_many_requests_does_not_keep_another_from_its_first() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let mut asked = vec![];
    for key in [1, 1, 1, 1, 1, 2, 2, 3] {
        asked.push((key, ask(&rig.pool, of_key(key)).await));
    }
    let order = served_in_turn(&rig, held, asked).await;
    assert_eq!(order, [1, 2, 3, 1, 2, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_better_priority_goes_before_every_turn() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let mut asked = vec![];
    for (key, priority) in [(1, 5), (2, 5), (3, 0), (3, 0), (3, 0)] {
        let demand = Demand {
            priority,
            ..of_key(key)
        };
        asked.push((key, ask(&rig.pool, demand).await));
    }
    let order = served_in_turn(&rig, held, asked).await;
    assert_eq!(order, [3, 3, 3, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fills_the_queue_makes_room_for_one_that_has_less_there() {
    let rig = Rig::new("queue: {max_waiting: 4},", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let mut greedy = vec![];
    for _ in 0..4 {
        greedy.push(ask(&rig.pool, of_key(1)).await);
    }
    // Its own next one finds the queue full.
    let refusal = refused(ask(&rig.pool, of_key(1)).await).await;
    assert_eq!(refusal.cause, Cause::QueueFull);
    let modest = [
        ask(&rig.pool, of_key(2)).await,
        ask(&rig.pool, of_key(2)).await,
    ];
    for _ in 0..2 {
        let last = greedy.pop().unwrap();
        assert_eq!(refused(last).await.cause, Cause::QueueFull);
    }
    // Both have two now, and neither gets more.
    for key in [1, 2] {
        let refusal = refused(ask(&rig.pool, of_key(key)).await).await;
        assert_eq!(refusal.cause, Cause::QueueFull);
    }
    let both = greedy.into_iter().map(|asked| (1, asked));
    let both = both.chain(modest.into_iter().map(|asked| (2, asked)));
    let order = served_in_turn(&rig, held, both.collect()).await;
    assert_eq!(order, [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn of_three_that_cool_down_the_earliest_serves_who_waits() {
    let rig = Rig::new("", &accounts(3, ""));
    let began = clock::now();
    for wait in [8 * SECOND, 5 * SECOND, 120 * MINUTE] {
        rig.one(&limited(wait));
    }
    let lease = ask(&rig.pool, anything()).await.await.unwrap().unwrap();
    let waited = clock::now() - began;
    assert_eq!(&*lease.account().id, "b");
    assert!(waited >= 5 * SECOND && waited < 6 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_full_account_that_gets_limited_is_served_when_it_recovers() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let waiter = ask(&rig.pool, anything()).await;
    let began = clock::now();
    rig.end(held, &limited(4 * SECOND));
    drop(waiter.await.unwrap().unwrap());
    let waited = clock::now() - began;
    assert!(waited >= 4 * SECOND && waited < 5 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_within_a_second() {
    type Change = fn(&Rig, Lease) -> Option<Lease>;
    let changes: [(&str, Cause, Change); 3] = [
        ("disabled", Cause::NoneUsable, |rig, held| {
            rig.pool.set_enabled("a", false);
            Some(held)
        }),
        ("limited for long", Cause::RateLimited, |rig, held| {
            rig.end(held, &limited(10 * MINUTE));
            None
        }),
        ("removed", Cause::NoneUsable, |rig, held| {
            rig.pool
                .reconfigure(&config("", &["id: z, enabled: false"]));
            Some(held)
        }),
    ];
    for (what, cause, change) in changes {
        for only in [None, Some(Arc::from("a"))] {
            let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
            let held = rig.take().unwrap();
            let demand = Demand { only, ..anything() };
            let waiter = ask(&rig.pool, demand).await;
            let began = clock::now();
            let _held = change(&rig, held);
            assert_eq!(refused(waiter).await.cause, cause, "{what}");
            assert!(clock::now() - began < SECOND, "{what}");
            assert_eq!(rig.pool.summary().waiting, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_come_again_is_the_measured_one() {
    let rig = Rig::new("queue: {max_waiting: 9},", &["id: a, max_concurrent: 1"]);
    let mut held = rig.take();
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..9 {
        waiting.push_back(ask(&rig.pool, anything()).await);
    }
    // One is served each two seconds, and another one comes.
    for _ in 0..40 {
        tokio::time::sleep(2 * SECOND).await;
        drop(held.take());
        held = Some(served(waiting.pop_front().unwrap()).await);
        waiting.push_back(ask(&rig.pool, anything()).await);
    }
    let refusal = refused(ask(&rig.pool, anything()).await).await;
    assert_eq!(refusal.cause, Cause::QueueFull);
    let wait = refusal.retry_after.as_secs_f64();
    assert!((wait - 20.0).abs() < 0.5, "{wait}");
}

#[tokio::test(start_paused = true)]
async fn fifty_on_three_places_are_served_in_the_order_of_arrival() {
    let rig = Rig::new("", &accounts(3, "max_concurrent: 1"));
    let began = clock::now();
    let order: Arc<parking_lot::Mutex<Vec<usize>>> = Arc::default();
    let mut all = vec![];
    for nth in 0..50 {
        let (pool, order) = (rig.pool.clone(), order.clone());
        all.push(tokio::spawn(async move {
            let demand = anything();
            let asked = pool.lease(&demand, clock::now(), clock::now() + 30 * SECOND);
            let _lease = asked.await.expect("it is served");
            order.lock().push(nth);
            tokio::time::sleep(SECOND).await;
        }));
        settle().await;
    }
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
    let took = clock::now() - began;
    assert!(took < 18 * SECOND, "{took:?}");
}

/// More with `POOLGATE_SOAK=1`.
fn count(usual: usize, full: usize) -> usize {
    match std::env::var("POOLGATE_SOAK").as_deref() {
        Ok("1") => full,
        _ => usual,
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_crowd_that_leaves_at_random_nothing_is_left() {
    let crowd = count(1_000, 10_000);
    let keys = format!("queue: {{max_waiting: {crowd}, timeout: 1h}},");
    let rig = Rig::new(&keys, &accounts(3, "max_concurrent: 2"));
    let model: Arc<str> = "counted".into();
    let mut rng = fastrand::Rng::with_seed(11);
    let held: Vec<Lease> = std::iter::from_fn(|| rig.take()).collect();
    let mut tasks = vec![];
    for nth in 0..crowd as u64 {
        let (pool, patience) = (rig.pool.clone(), Duration::from_millis(rng.u64(0..60_000)));
        let demand = Demand {
            model: Some(model.clone()),
            ..of_key(nth % 40)
        };
        tasks.push(tokio::spawn(async move {
            let asked = pool.lease(&demand, clock::now(), clock::now() + 60 * MINUTE);
            let lease = tokio::time::timeout(patience, asked).await;
            let lease = lease.ok().map(|lease| lease.expect("it is not refused"));
            if lease.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            lease.is_some()
        }));
    }
    while rig.pool.summary().waiting < crowd {
        settle().await;
    }
    drop(held);
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await.unwrap());
    }
    // Six places with 100 ms each for a minute, or whoever was still there.
    assert!(served > crowd / 10, "{served} of {crowd}");
    let summary = rig.pool.summary();
    assert_eq!((summary.waiting, summary.in_flight), (0, 0));
    assert_eq!(Arc::strong_count(&model), 1, "a request is still kept");
}
