//! Which account a key has, and for how long.

use std::sync::Arc;

use super::super::Slots;
use super::{HOUR, SECOND, World};
use crate::clock::Moment;
use crate::telemetry::Metrics;
use std::time::Duration;

#[tokio::test]
async fn a_key_gets_its_account_with_its_first_request_and_the_book_is_asked_no_more() {
    let world = World::new(&["one"]).await;
    assert_eq!(world.held().await, [""; 0]);
    for hour in 0..24 {
        let at = world.after(HOUR * hour);
        assert_eq!(world.ask("one", &["a", "b"], at).await.unwrap(), "a");
    }
    assert_eq!(
        (world.asked(), world.held().await),
        (1, vec!["one a".to_owned()])
    );
}

#[tokio::test]
async fn two_keys_first_used_an_hour_apart_rotate_an_hour_apart() {
    let world = World::new(&["one", "two"]).await;
    let accounts = ["a", "b", "c", "d"];
    let at = |minutes: u32| world.after(Duration::from_secs(60) * minutes);
    let both = async |minutes| {
        let one = world.ask("one", &accounts, at(minutes)).await.unwrap();
        let two = world.ask("two", &accounts, at(minutes)).await.unwrap();
        [one, two]
    };
    world.ask("one", &accounts, at(0)).await.unwrap();
    assert_eq!(both(60).await, ["a", "b"]);
    assert_eq!(both(24 * 60 - 1).await, ["a", "b"]);
    assert_eq!(both(24 * 60).await, ["c", "b"], "the first, after a day");
    assert_eq!(both(25 * 60 - 1).await, ["c", "b"]);
    assert_eq!(both(25 * 60).await, ["c", "d"], "the second, an hour later");
    assert_eq!(both(48 * 60 - 1).await, ["c", "d"]);
    assert_eq!(both(48 * 60).await[0], "a", "a day after its rotation");
}

#[tokio::test]
async fn the_period_begins_with_the_first_use_after_the_one_before() {
    let world = World::new(&["one"]).await;
    let accounts = ["a", "b"];
    world.ask("one", &accounts, world.began).await.unwrap();
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 40))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 63))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 64))
            .await
            .unwrap(),
        "a"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_of_a_key_that_is_due_move_it_once() {
    let world = Arc::new(World::new(&["one", "two"]).await);
    let accounts = ["a", "b", "c"];
    world.ask("one", &accounts, world.began).await.unwrap();
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.ask("one", &accounts, world.after(HOUR * 24)).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "b");
    }
    assert_eq!(world.asked(), 2, "once at first, once at the rotation");
    assert_eq!(world.held().await, ["one b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_whose_account_went_away_move_their_key_once() {
    let world = Arc::new(World::new(&["one"]).await);
    world
        .ask("one", &["a", "b", "c"], world.began)
        .await
        .unwrap();
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.ask("one", &["b", "c"], world.after(SECOND)).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "b");
    }
    assert_eq!(
        (world.asked(), world.held().await),
        (2, vec!["one b".to_owned()])
    );
}

#[tokio::test]
async fn a_wall_clock_that_jumps_while_the_gateway_runs_rotates_nobody() {
    let world = World::new(&["one"]).await;
    let accounts = ["a", "b"];
    world
        .ask("one", &accounts, world.after(HOUR))
        .await
        .unwrap();
    for jump in [HOUR * 24 * 365, Duration::ZERO] {
        let at = Moment {
            now: world.began.now + HOUR * 2,
            wall: world.began.wall + jump,
        };
        world.sweep(at).await;
        assert_eq!(world.ask("one", &accounts, at).await.unwrap(), "a");
    }
    let due = world.after(HOUR * 25);
    assert_eq!(
        world.ask("one", &accounts, due).await.unwrap(),
        "b",
        "and it rotates in its time"
    );
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let world = World::new(&["one", "two"]).await;
    let accounts = ["a", "b", "c"];
    world.ask("one", &accounts, world.began).await.unwrap();
    world
        .ask("two", &accounts, world.after(HOUR))
        .await
        .unwrap();
    let World { dir, began, .. } = world;
    let next = World {
        began,
        ..World::of(dir, &["one", "two"], "").await
    };
    let next = World {
        slots: Arc::new(Slots::new(
            next.book.clone(),
            Arc::new(Metrics::new("test", began.wall).unwrap()),
            began.now,
        )),
        ..next
    };
    next.sweep(next.after(HOUR * 2)).await;
    assert_eq!(
        next.ask("one", &accounts, next.after(HOUR * 23))
            .await
            .unwrap(),
        "a"
    );
    assert_eq!(
        next.ask("two", &accounts, next.after(HOUR * 23))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(next.asked(), 0, "what it read at first is enough");
    assert_eq!(
        next.ask("one", &accounts, next.after(HOUR * 24))
            .await
            .unwrap(),
        "c"
    );
    assert_eq!(
        next.ask("two", &accounts, next.after(HOUR * 24))
            .await
            .unwrap(),
        "b"
    );
}

#[tokio::test]
async fn a_key_that_fails_everywhere_is_not_dragged_from_account_to_account() {
    let world = World::new(&["one"]).await;
    let client = world.client("one");
    let at = |seconds| world.after(SECOND * seconds).now;
    assert!(world.slots.may_flee(&client, at(0)));
    assert!(!world.slots.may_flee(&client, at(9)));
    assert!(world.slots.may_flee(&client, at(11)));
}
