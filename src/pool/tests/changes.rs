//! A reload, an operator, another strategy: live state stays, removed accounts drain, nobody is lost.

use std::time::Duration;

use super::{MINUTE, Rig, accounts, anything, config, counts, for_model, limited};
use crate::clock;
use crate::config::Strategy;
use crate::pool::{Outcome, Status};

#[test]
fn a_reload_forgets_no_live_state() {
    let rig = Rig::new("strategy: round_robin,", &accounts(2, ""));
    rig.one(&limited(MINUTE));
    let held = rig.take().unwrap();
    let changed = ["id: b, weight: 5", "id: c", "id: a, weight: 3"];
    rig.pool
        .reconfigure(&config("strategy: round_robin,", &changed));
    assert_eq!(rig.view("a").status, Status::Cooling);
    assert_eq!((rig.view("b").in_flight, rig.view("b").weight), (1, 5));
    let order = rig.pool.accounts();
    let order: Vec<&str> = order.iter().map(|account| &*account.id).collect();
    assert_eq!(order, ["b", "c", "a"], "as the file says");
    drop(held);
    assert_eq!(rig.view("b").in_flight, 0);
    assert_eq!(rig.shares(10), counts([("b", 5), ("c", 5)]));
}

#[test]
fn a_removed_account_takes_nothing_new_and_ends_with_its_last_request() {
    let rig = Rig::new("strategy: round_robin,", &accounts(2, ""));
    let held = rig.take().unwrap();
    rig.pool
        .reconfigure(&config("strategy: round_robin,", &["id: b"]));
    assert_eq!(rig.order(4), "bbbb");
    assert!(rig.pool.account_named("a").is_none());
    assert_eq!(rig.pool.summary().in_flight, 1);
    rig.end(held, &Outcome::Success);
    assert_eq!(rig.pool.summary().in_flight, 0);
}

/// Removes `a` while it serves a request, puts `c` in its slot, and ends the old request so.
fn end_of_a_removed_account(end: impl FnOnce(&Rig, crate::pool::Lease)) -> Rig {
    let rig = Rig::new(
        "strategy: round_robin,",
        &["id: a, max_concurrent: 1", "id: b"],
    );
    let held = rig.take().unwrap();
    rig.pool
        .reconfigure(&config("strategy: round_robin,", &["id: b"]));
    rig.pool
        .reconfigure(&config("strategy: round_robin,", &["id: b", "id: c"]));
    let slot = rig.pool.account_named("c").unwrap().slot;
    assert_eq!(slot, held.slot(), "slots are used again");
    end(&rig, held);
    rig
}

#[test]
fn a_request_of_a_removed_account_does_nothing_to_the_one_in_its_place() {
    let ends: [fn(&Rig, crate::pool::Lease); 6] = [
        |_, held| drop(held),
        |rig, held| drop(rig.end(held, &Outcome::Success)),
        |rig, held| drop(rig.end(held, &limited(MINUTE))),
        |rig, held| drop(rig.end(held, &Outcome::AuthDead)),
        |rig, held| rig.limited_for("m", held),
        |rig, held| rig.pool.lacks_model(held.account(), "m", rig.now),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let rig = end_of_a_removed_account(end);
        let ids: String = (0..4)
            .filter_map(|_| rig.served_by(&for_model("m")))
            .collect();
        assert!(matches!(&*ids, "bcbc" | "cbcb"), "end {n}: {ids}");
        assert_eq!(rig.view("c").status, Status::Healthy, "end {n}");
    }
}

#[test]
fn marks_of_a_removed_account_do_not_fall_on_the_one_in_its_place() {
    let rig = Rig::new("", &accounts(2, ""));
    let a = rig.pool.account_named("a").unwrap();
    rig.pool.lacks_model(&a, "m", rig.now);
    rig.pool
        .reconfigure(&config("", &["id: b, enabled: false"]));
    rig.pool
        .reconfigure(&config("", &["id: b, enabled: false", "id: c"]));
    assert_eq!(rig.served_by(&for_model("m")).as_deref(), Some("c"));
}

#[test]
fn what_the_operator_disabled_stays_so_over_a_reload_that_does_not_speak_of_it() {
    let rig = Rig::new("", &accounts(2, ""));
    rig.pool.set_enabled("a", false);
    rig.pool.reconfigure(&config("", &accounts(3, "")));
    assert_eq!(rig.view("a").status, Status::Disabled);
    rig.pool.set_enabled("a", true);
    assert_eq!(rig.view("a").status, Status::Healthy);
    assert!(!rig.pool.set_enabled("nobody", true));
}

#[test]
fn another_strategy_holds_from_the_next_request_on() {
    let rig = Rig::new("strategy: round_robin,", &["id: a, weight: 3", "id: b"]);
    assert_eq!(rig.order(4), "abab");
    rig.pool.set_strategy(Strategy::Weighted);
    assert_eq!(rig.shares(4), counts([("a", 3), ("b", 1)]));
    assert_eq!(rig.pool.summary().strategy, "weighted");
}

#[test]
fn a_pool_without_accounts_refuses_and_takes_some_later() {
    let mut rig = Rig::new("", &["id: a"]);
    let mut empty = config("", &["id: a"]);
    empty.accounts.clear();
    rig.pool.reconfigure(&empty);
    assert!(rig.take().is_none());
    rig.pass(Duration::from_secs(1));
    rig.pool.reconfigure(&config("", &["id: z"]));
    assert_eq!(rig.served_by(&anything()).as_deref(), Some("z"));
}

#[test]
fn ten_thousand_accounts_are_all_used() {
    for strategy in ["round_robin", "weighted", "least_used"] {
        let many = accounts(10_000, "max_concurrent: 1");
        let rig = Rig::new(&format!("strategy: {strategy},"), &many);
        let held: Vec<_> = (0..10_000).map_while(|_| rig.take()).collect();
        assert_eq!(held.len(), 10_000, "{strategy}");
        assert!(rig.take().is_none());
        drop(held);
        assert!(rig.take().is_some());
    }
}

/// Row 1-90 of the checklist: a lease is far below a millisecond, also of many accounts; the bound is
/// for a machine that has more to do.
#[test]
fn a_lease_of_a_thousand_accounts_takes_less_than_a_millisecond() {
    for strategy in [
        "round_robin",
        "weighted",
        "least_used",
        "random",
        "least_connections",
    ] {
        let rig = Rig::new(&format!("strategy: {strategy},"), &accounts(1_000, ""));
        let begun = clock::now();
        for _ in 0..5_000 {
            assert!(rig.take().is_some(), "{strategy}");
        }
        let taken = clock::now() - begun;
        assert!(
            taken < Duration::from_secs(5),
            "{strategy}: {taken:?} for 5,000"
        );
    }
}
