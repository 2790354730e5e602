//! Requests that one account alone may serve, and the accounts that could serve one.

use std::sync::Arc;
use std::time::Duration;

use super::{MINUTE, Rig, SECOND, accounts, anything, config, for_model, limited};
use crate::clock;
use crate::pool::{Cause, Demand, Lease, Outcome, Refusal};

fn only(id: &str) -> Demand {
    Demand {
        only: Some(id.into()),
        ..anything()
    }
}

/// `id rank`, of each candidate.
fn candidates(rig: &Rig, demand: &Demand, patience: Duration) -> Vec<String> {
    let candidates = rig
        .pool
        .candidates(demand, rig.now, rig.now + patience)
        .into_iter();
    let said = candidates.map(|it| format!("{} {}", it.account, it.rank));
    said.collect()
}

/// A request that waits for half a minute at most.
async fn ask(rig: &Rig, demand: Demand) -> tokio::task::JoinHandle<Result<Lease, Refusal>> {
    let pool = rig.pool.clone();
    let deadline = clock::now() + 30 * SECOND;
    let asked = tokio::spawn(async move { pool.lease(&demand, clock::now(), deadline).await });
    settle().await;
    asked
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn no_other_account_serves_it_whatever_the_strategy_and_the_ranks_say() {
    for strategy in ["round_robin", "weighted", "least_connections", "hash"] {
        let three = ["id: a", "id: b, weight: 0", "id: c, priority: 7"];
        let rig = Rig::new(&format!("strategy: {strategy},"), &three);
        for id in ["a", "b", "c", "c", "b", "a"] {
            assert_eq!(rig.served_by(&only(id)).as_deref(), Some(id), "{strategy}");
        }
        assert_eq!(rig.served_by(&only("d")), None);
    }
}

#[test]
fn its_ceiling_its_breaker_and_its_models_hold() {
    let rig = Rig::new(
        "breaker: {consecutive_failures: 1},",
        &[
            "id: a, max_concurrent: 1",
            "id: b",
            "id: c, models: [\"gpt-*\"]",
        ],
    );
    let held = rig.take_for(&only("a"));
    assert!(held.is_some() && rig.take_for(&only("a")).is_none());
    let lease = rig.take_for(&only("b")).unwrap();
    rig.end(lease, &Outcome::Transient);
    assert!(rig.take_for(&only("b")).is_none(), "its breaker is open");
    let asks = |model: &str| Demand {
        only: Some("c".into()),
        ..for_model(model)
    };
    assert!(rig.take_for(&asks("claude-x")).is_none());
    assert!(rig.take_for(&asks("gpt-5")).is_some());
}

#[test]
fn an_account_that_recovers_gets_all_of_its_own_requests() {
    let mut rig = Rig::new(
        "breaker: {consecutive_failures: 1, open_for: 1s, slow_start: 1h},",
        &["id: a", "id: b"],
    );
    let lease = rig.take_for(&only("a")).unwrap();
    rig.end(lease, &Outcome::Transient);
    rig.pass(2 * SECOND);
    for _ in 0..20 {
        assert_eq!(rig.served_by(&only("a")).as_deref(), Some("a"));
    }
}

#[test]
fn the_reason_is_that_of_the_account_alone() {
    let rig = Rig::new("", &["id: a", "id: b, models: [\"gpt-*\"]", "id: c"]);
    let why = |demand: &Demand| rig.pool.why_none(demand, rig.now);
    assert_eq!(why(&only("gone")).cause, Cause::NoneUsable);
    let other = Demand {
        only: Some("b".into()),
        ..for_model("claude-x")
    };
    assert_eq!(why(&other).cause, Cause::NoneServes);
    rig.pool.set_enabled("c", false);
    assert_eq!(why(&only("c")).cause, Cause::NoneUsable);
    let tried = Demand {
        tried: [rig.pool.account_named("a").unwrap().slot]
            .into_iter()
            .collect(),
        ..only("a")
    };
    assert_eq!(why(&tried).cause, Cause::AllTried);
    let lease = rig.take_for(&only("a")).unwrap();
    rig.end(lease, &limited(MINUTE));
    let why = why(&only("a"));
    assert_eq!(why.cause, Cause::RateLimited);
    assert!(why.outlasts(rig.now + 59 * SECOND) && !why.outlasts(rig.now + 61 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_one_account_gets_it_whoever_waits_for_others() {
    // More accounts than the queue looks at where requests have a choice.
    let rig = Rig::new("", &accounts(20, "max_concurrent: 1"));
    let ids: Vec<Arc<str>> = rig.pool.accounts().iter().map(|it| it.id.clone()).collect();
    let mut held: Vec<Lease> = ids
        .iter()
        .map(|id| rig.take_for(&only(id)).unwrap())
        .collect();
    let mut waiting = Vec::new();
    for id in &ids {
        waiting.push(ask(&rig, only(id)).await);
    }
    let (last, first) = (held.pop(), waiting.pop().unwrap());
    drop(last);
    settle().await;
    assert!(first.is_finished());
    assert_eq!(first.await.unwrap().unwrap().account().id, ids[19]);
    assert!(waiting.iter().all(|other| !other.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn who_has_a_choice_does_not_wait_behind_those_who_have_none() {
    let rig = Rig::new("", &accounts(2, "max_concurrent: 1"));
    let _held = rig.take_for(&only("a")).unwrap();
    let bound = ask(&rig, only("a")).await;
    let free = ask(&rig, anything()).await;
    assert!(free.is_finished() && !bound.is_finished());
    assert_eq!(&*free.await.unwrap().unwrap().account().id, "b");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_account_that_went_away() {
    let rig = Rig::new("", &accounts(2, "max_concurrent: 1"));
    let _held = rig.take_for(&only("a")).unwrap();
    let (began, waiting) = (clock::now(), ask(&rig, only("a")).await);
    rig.pool.reconfigure(&config("", &["id: b"]));
    let refusal = waiting.await.unwrap().map(drop).unwrap_err();
    assert_eq!(refusal.cause, Cause::NoneUsable);
    assert!(clock::now() - began < SECOND);
}

#[test]
fn candidates_are_those_that_serve_now_or_soon_in_their_ranks() {
    let rig = Rig::new(
        "",
        &[
            "id: full, max_concurrent: 1",
            "id: off",
            "id: soon",
            "id: late",
            "id: other, models: [x]",
            "id: spare, weight: 0",
            "id: second, priority: 1",
            "id: tried",
        ],
    );
    let _held = rig.take_for(&only("full")).unwrap();
    rig.pool.set_enabled("off", false);
    for (id, wait) in [("soon", 10 * SECOND), ("late", MINUTE)] {
        let lease = rig.take_for(&only(id)).unwrap();
        rig.end(lease, &limited(wait));
    }
    let demand = Demand {
        tried: [rig.pool.account_named("tried").unwrap().slot]
            .into_iter()
            .collect(),
        ..for_model("gpt-5")
    };
    let later = 1u32 << 31;
    assert_eq!(
        candidates(&rig, &demand, 30 * SECOND),
        [
            "full 0".to_owned(),
            format!("soon {later}"),
            "second 1".to_owned(),
            "spare 2".to_owned()
        ]
    );
    let never = Rig::new("queue: {wait_for_recovery: false},", &["id: soon"]);
    never.one(&limited(SECOND));
    assert!(candidates(&never, &anything(), MINUTE).is_empty());
}
