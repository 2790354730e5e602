//! Slots that become free, and a book that is away or that others write in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::{NoSlot, Scope, Slots};
use super::{HOUR, SECOND, World};
use crate::config::{self, Config};
use crate::key::Keys;
use crate::store::{Ask, Candidate, Ledger};
use crate::telemetry::Metrics;

#[tokio::test]
async fn idle_keys_give_their_slots_back_and_used_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::of(dir, &["idle", "used", "busy"], ", idle_release: 2h").await;
    let accounts = ["a", "b", "c"];
    for name in ["idle", "used", "busy"] {
        world.ask(name, &accounts, world.began).await.unwrap();
    }
    let busy = world.client("busy");
    let stream = world.slots.enter(&busy, world.began.now);
    for quarter in 1..10 {
        let at = world.after(HOUR / 4 * quarter);
        world.ask("used", &accounts, at).await.unwrap();
        world.sweep(at).await;
    }
    assert_eq!(world.held().await, ["busy c", "used b"]);
    drop(stream);
    world.sweep(world.after(HOUR / 4 * 17 - SECOND)).await;
    assert_eq!(
        world.held().await,
        ["busy c", "used b"],
        "two hours have not gone by"
    );
    world.sweep(world.after(HOUR / 4 * 17)).await;
    assert_eq!(world.held().await, [""; 0]);
    assert_eq!(
        world.slots.held(&busy, world.after(HOUR / 4 * 17).now),
        None
    );
}

#[tokio::test]
async fn a_key_that_is_used_at_another_gateway_is_not_idle() {
    let dir = tempfile::tempdir().unwrap();
    let here = World::of(dir, &["one"], ", idle_release: 2h").await;
    let there = Slots::new(
        here.book.clone(),
        Arc::new(Metrics::new("test", here.began.wall).unwrap()),
        here.began.now,
    );
    let there_keys = Keys::new(&here.config, Some(Vec::new()));
    here.ask("one", &["a"], here.began).await.unwrap();
    for hour in 1..6 {
        let at = here.after(HOUR * hour);
        here.ask("one", &["a"], at).await.unwrap();
        here.sweep(at).await;
        let swept = there.sweep(&there_keys, &here.config, Scope::All, at);
        swept.await.unwrap();
    }
    assert_eq!(here.held().await, ["one a"]);
}

#[tokio::test]
async fn a_key_that_is_gone_gives_its_slot_back_unless_it_may_be_another_gateways() {
    let world = World::new(&["one"]).await;
    world.ask("one", &["a"], world.began).await.unwrap();
    let nobody = Config {
        clients: config::Clients {
            keys: Vec::new(),
            ..world.config.clients.clone()
        },
        ..world.config.clone()
    };
    world.keys.reload(&nobody);
    for scope in [Scope::Nobody, Scope::Records] {
        let swept = world.slots.sweep(&world.keys, &nobody, scope, world.began);
        swept.await.unwrap();
        assert_eq!(world.held().await, ["one a"], "{scope:?}");
    }
    let swept = world
        .slots
        .sweep(&world.keys, &nobody, Scope::All, world.began);
    swept.await.unwrap();
    assert_eq!(world.held().await, [""; 0]);
}

#[tokio::test]
async fn who_finds_all_taken_does_not_ask_the_book_each_time_and_gets_a_slot_when_one_is_free() {
    let world = World::new(&["one", "two", "three"]).await;
    for name in ["one", "two"] {
        world.ask(name, &["a"], world.began).await.unwrap();
    }
    let at = |ms| world.after(Duration::from_millis(ms));
    for ms in [1, 2, 499] {
        let full = world.ask("three", &["a"], at(ms)).await.unwrap_err();
        let NoSlot::Full { next_release } = full else {
            panic!("{full:?}");
        };
        assert!(next_release.unwrap() > at(ms).wall + HOUR * 23);
    }
    assert_eq!(world.asked(), 3);
    let book = &*world.book;
    book.release("cfg:one", "a", None).await.unwrap();
    world.sweep(at(499)).await;
    assert_eq!(world.ask("three", &["a"], at(500)).await.unwrap(), "a");
    assert_eq!(world.held().await, ["three a", "two a"]);
    assert_eq!(
        world.slots.held(&world.client("one"), at(500).now),
        None,
        "it knows"
    );
}

#[tokio::test]
async fn while_the_book_is_away_known_keys_stay_where_they_are() {
    let world = World::new(&["one", "two"]).await;
    world.ask("one", &["a", "b"], world.began).await.unwrap();
    world.book.away.store(true, Ordering::SeqCst);
    let due = world.after(HOUR * 24);
    assert_eq!(world.ask("one", &["a", "b"], due).await.unwrap(), "a");
    assert_eq!(world.ask("one", &["a", "b"], due).await.unwrap(), "a");
    assert_eq!(world.asked(), 2, "not once for each request");
    let (elsewhere, other) = tokio::join!(
        world.ask("one", &["b"], due),
        world.ask("two", &["a", "b"], due)
    );
    assert_eq!(
        (elsewhere, other),
        (Err(NoSlot::Unknown), Err(NoSlot::Unknown))
    );
    world.book.away.store(false, Ordering::SeqCst);
    let back = world.after(HOUR * 24 + SECOND * 5);
    assert_eq!(world.ask("one", &["a", "b"], back).await.unwrap(), "b");
}

#[tokio::test]
async fn a_key_without_an_account_waits_for_a_book_that_comes_back_in_time() {
    let world = World::new(&["one"]).await;
    world.book.away.store(true, Ordering::SeqCst);
    let back = async {
        while world.asked() < 2 {
            tokio::task::yield_now().await;
        }
        world.book.away.store(false, Ordering::SeqCst);
    };
    let (got, ()) = tokio::join!(world.ask("one", &["a"], world.began), back);
    assert_eq!(got.unwrap(), "a");
}

#[tokio::test]
async fn nobody_waits_for_the_book_longer_than_the_request_may() {
    let world = World::new(&["one"]).await;
    world.book.away.store(true, Ordering::SeqCst);
    let (client, patience) = (world.client("one"), SECOND / 4);
    let tier = &world.config.tiers["medium"];
    let candidates = [Candidate {
        account: "a".into(),
        rank: 0,
    }];
    let began = crate::clock::now();
    let place = || {
        let slots = &world.slots;
        slots.place(&client, tier, &candidates, world.began, patience)
    };
    let (one, other) = tokio::join!(place(), place());
    assert_eq!((one, other), (Err(NoSlot::Unknown), Err(NoSlot::Unknown)));
    assert!(began.elapsed() < SECOND * 2, "both together");
    assert!(world.asked() > 1, "it is asked again meanwhile");
}

#[tokio::test]
async fn a_book_that_is_known_to_be_away_is_asked_once() {
    let world = World::new(&["one"]).await;
    world.book.away.store(true, Ordering::SeqCst);
    world.book.is_known_away.store(true, Ordering::SeqCst);
    let asked = world.ask("one", &["a"], world.began).await;
    assert_eq!((asked, world.asked()), (Err(NoSlot::Unknown), 1));
}

#[tokio::test]
async fn requests_of_a_key_that_wait_beside_one_without_an_answer_are_told_with_it() {
    let world = World::new(&["one"]).await;
    world.book.away.store(true, Ordering::SeqCst);
    world.book.is_known_away.store(true, Ordering::SeqCst);
    let ask = || world.ask("one", &["a"], world.began);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    assert_eq!([one, two, three], [const { Err(NoSlot::Unknown) }; 3]);
    assert_eq!(world.asked(), 1, "not once for each that waits");
    assert_eq!((ask().await, world.asked()), (Err(NoSlot::Unknown), 2));
}

#[tokio::test]
async fn a_revoked_key_frees_its_slot_even_where_each_gateway_has_keys_of_its_own() {
    let world = World::new(&[]).await;
    let candidates = [Candidate {
        account: "a".into(),
        rank: 0,
    }];
    for key in ["key_ours", "key_anothers"] {
        let ask = Ask {
            key,
            tier: "medium",
            candidates: &candidates,
            limit: 2,
            may_stay: false,
            rotate_every: 1_000_000,
            idle_release: 1_000_000,
            now: crate::store::millis(world.began.wall),
        };
        world.book.place(&ask).await.unwrap();
    }
    let record = crate::store::KeyRecord {
        revoked_at: Some(1),
        ..serde_json::from_value(serde_json::json!({
            "id": "key_ours", "name": "ours", "hash": "00", "tier": "medium", "created_at": 0,
        }))
        .unwrap()
    };
    world.keys.set_records(&world.config, vec![record]);
    let at = world.after(SECOND);
    let swept = world
        .slots
        .sweep(&world.keys, &world.config, Scope::Nobody, at);
    swept.await.unwrap();
    let left = world.book.all().await.unwrap();
    let left: Vec<&str> = left.iter().map(|slot| &*slot.key).collect();
    assert_eq!(left, ["key_anothers"]);
}

#[tokio::test]
async fn what_another_gateway_did_to_a_key_is_seen() {
    let world = World::new(&["one"]).await;
    world.ask("one", &["a", "b"], world.began).await.unwrap();
    let candidates = [Candidate {
        account: "b".into(),
        rank: 0,
    }];
    let elsewhere = Ask {
        key: "cfg:one",
        tier: "medium",
        candidates: &candidates,
        limit: 2,
        may_stay: false,
        rotate_every: 1000,
        idle_release: 1000,
        now: crate::store::millis(world.began.wall),
    };
    world.book.place(&elsewhere).await.unwrap();
    world.sweep(world.after(SECOND / 2)).await;
    let held = world
        .slots
        .held(&world.client("one"), world.after(SECOND / 2).now);
    assert_eq!(held.as_deref(), Some("b"));
    let due = world
        .slots
        .held(&world.client("one"), world.after(SECOND * 2).now);
    assert_eq!(due, None, "and when it is due");
}
