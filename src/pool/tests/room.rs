//! A request that finds too little room beside others in an account's limits goes elsewhere or waits, keeps nobody
//! out, and has its turn.

use super::queue::{ask, served};
use super::rates::of_tokens;
use super::{Rig, SECOND, accounts};
use crate::pool::{Demand, Lease, Status};

#[test]
fn what_does_not_fit_beside_others_goes_elsewhere_and_keeps_nobody_out() {
    let rig = Rig::new(
        "",
        &[
            "id: a, priority: 0, rate_limits: [{tokens: 1000, window: 1h}]",
            "id: b, priority: 1, rate_limits: [{tokens: 5000, window: 1h}]",
        ],
    );
    let id = |lease: &Lease| lease.account().id.to_string();
    let small = rig.take_for(&of_tokens(600)).unwrap();
    let large = rig.take_for(&of_tokens(900)).unwrap();
    assert_eq!((id(&small), id(&large)), ("a".into(), "b".into()));
    assert_eq!(rig.view("a").status, Status::Healthy);
    assert!(
        rig.take_for(&of_tokens(5_000)).is_none(),
        "there is none for it"
    );
    for id in ["a", "b"] {
        assert_eq!(rig.view(id).status, Status::Healthy);
    }
    assert_eq!(rig.served_by(&of_tokens(400)).as_deref(), Some("a"));
}

#[test]
fn of_very_many_accounts_with_too_little_room_few_are_asked() {
    let limits = "rate_limits: [{tokens: 1000, window: 1h}]";
    for strategy in ["round_robin", "hash"] {
        let strategy = format!("strategy: {strategy},");
        let rig = Rig::new(&strategy, &accounts(200, limits));
        let held: Vec<Lease> = (0..199)
            .map(|_| rig.take_for(&of_tokens(600)).unwrap())
            .collect();
        // One of them has room. Each look goes on with others, whatever the caller's own order.
        for caller in 0..20 {
            let large = Demand {
                caller: Some(caller),
                ..of_tokens(900)
            };
            let looks = (0..20).find(|_| rig.take_for(&large).is_some());
            assert!(looks.is_some(), "{strategy} caller {caller}");
        }
        drop(held);
    }
}

/// A pool whose one account has tokens for little more than one request under way.
fn busy() -> (Rig, Lease) {
    let rig = Rig::new("", &["id: a, rate_limits: [{tokens: 1000, window: 1h}]"]);
    let held = rig.take_for(&of_tokens(600)).unwrap();
    (rig, held)
}

#[tokio::test(start_paused = true)]
async fn a_smaller_request_of_another_key_passes_one_that_waits_for_room() {
    let (rig, held) = busy();
    let large = ask(&rig.pool, of_tokens(900)).await;
    for key in [7, 8] {
        let small = Demand {
            key,
            ..of_tokens(100)
        };
        drop(served(ask(&rig.pool, small).await).await);
    }
    assert!(!large.is_finished());
    assert_eq!(rig.view("a").status, Status::Healthy);
    drop(held);
    drop(served(large).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_waited_for_half_of_its_time_is_passed_no_more() {
    let (rig, held) = busy();
    let large = ask(&rig.pool, of_tokens(900)).await;
    tokio::time::sleep(16 * SECOND).await;
    let other = Demand {
        key: 7,
        ..of_tokens(200)
    };
    let small = ask(&rig.pool, other).await;
    assert!(!small.is_finished(), "else it might never have its turn");
    drop(held);
    let mut large = served(large).await;
    assert!(!small.is_finished());
    large.sent();
    large.came_to(10);
    drop(large);
    drop(served(small).await);
}
