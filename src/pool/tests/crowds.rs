//! Where many wait: keys have their turns, nobody waits in vain, and of a crowd nothing is left.

use std::sync::Arc;
use std::time::Duration;

use super::queue::{Asked, ask, refused, served, settle};
use super::{MINUTE, Rig, SECOND, accounts, anything, config, for_model, limited};
use crate::clock;
use crate::pool::{Cause, Demand, Lease};

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
async fn who_has_no_hope_takes_nobodys_place() {
    let keys = "queue: {max_waiting: 3},";
    let rig = Rig::new(keys, &["id: a, max_concurrent: 1", "id: b, enabled: false"]);
    let held = rig.take().unwrap();
    let mut waiting = vec![];
    for _ in 0..3 {
        waiting.push((1, ask(&rig.pool, of_key(1)).await));
    }
    for key in 2..5 {
        let hopeless = Demand {
            only: Some("b".into()),
            ..of_key(key)
        };
        let refusal = refused(ask(&rig.pool, hopeless).await).await;
        assert_eq!(refusal.cause, Cause::NoneUsable, "its own reason");
    }
    assert_eq!(served_in_turn(&rig, held, waiting).await, [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn requests_for_invented_models_stand_in_one_line_as_long_as_nothing_is_said_of_them() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1"]);
    let held = rig.take().unwrap();
    let mut waiting = vec![];
    for nth in 0..50 {
        waiting.push(ask(&rig.pool, for_model(&format!("invented-{nth}"))).await);
    }
    assert_eq!(rig.pool.queue.lines(), 1);
    // The account turns out to be limited for the first of them: the others do not wait for it.
    let mut held = held;
    held.answered(Some(20 * SECOND), Some("invented-0"), clock::now());
    drop(held);
    let mut rest = waiting.split_off(1);
    let second = served(rest.remove(0)).await;
    assert!(!waiting[0].is_finished());
    assert_eq!(rig.pool.queue.lines(), 2);
    drop(second);
    for one in rest {
        drop(served(one).await);
    }
    let began = clock::now();
    drop(waiting.remove(0).await.unwrap().unwrap());
    assert!(clock::now() - began > 19 * SECOND);
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
#[allow(
    clippy::disallowed_methods,
    reason = "how much is tried is said to the test, not to the program"
)]
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
    // Who leaves while nothing comes free is gone at once.
    tokio::time::sleep(20 * SECOND).await;
    settle().await;
    let gone = tasks.iter().filter(|task| task.is_finished()).count();
    assert!(gone > crowd / 4, "{gone} of {crowd}");
    assert_eq!(rig.pool.summary().waiting, crowd - gone);
    drop(held);
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await.unwrap());
    }
    // Six places with 100 ms each for forty seconds, or whoever was still there.
    assert!(served > crowd / 10, "{served} of {crowd}");
    let summary = rig.pool.summary();
    assert_eq!((summary.waiting, summary.in_flight), (0, 0));
    assert_eq!(Arc::strong_count(&model), 1, "a request is still kept");
}
