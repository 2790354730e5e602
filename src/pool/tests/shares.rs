//! Where gateways share accounts, a request takes a place of this gateway's share, and none beyond.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Rig, SECOND, config};
use crate::pool::{News, Outcome};
use crate::store::shared::{Ask, Given};

fn shared(keys: &str, accounts: &[&str]) -> Rig {
    let rig = Rig::new(keys, accounts);
    rig.pool.share_with_others(&Arc::default());
    rig
}

fn asks(rig: &Rig) -> Vec<Ask> {
    rig.pool.share_asks(&HashSet::new(), false, rig.now)
}

/// What is asked now gets so many places, of which it should go down to `target`.
fn give(rig: &Rig, share: u32, target: u32) {
    rig.pool.forget_told();
    for ask in asks(rig) {
        rig.pool.take_share(&ask, Given { share, target });
    }
    rig.pool.shares_last(rig.now + 3 * SECOND, rig.now);
}

#[test]
fn before_anybody_was_asked_there_is_no_place_and_then_there_are_those_of_the_share() {
    let rig = shared("", &["id: a, max_concurrent: 5"]);
    assert!(rig.take().is_none());
    give(&rig, 2, 2);
    let held: Vec<_> = (0..5).map_while(|_| rig.take()).collect();
    assert_eq!(held.len(), 2);
    give(&rig, 3, 3);
    assert!(rig.take().is_some());
}

#[test]
fn an_account_without_a_limit_has_no_shares() {
    let rig = shared("", &["id: a"]);
    assert!(asks(&rig).is_empty());
    assert!(rig.take().is_some());
}

#[test]
fn what_others_need_is_given_back_as_requests_end() {
    let rig = shared("", &["id: a, max_concurrent: 5"]);
    give(&rig, 5, 5);
    let mut held: Vec<_> = (0..4).map_while(|_| rig.take()).collect();
    give(&rig, 5, 2);
    assert!(rig.take().is_none(), "others have a better right to them");
    for (left, hold) in [(4, 4), (3, 3), (2, 2), (1, 2)] {
        held.truncate(left);
        rig.pool.forget_told();
        assert_eq!(asks(&rig)[0].hold, hold, "{left} in flight");
    }
}

#[test]
fn what_has_not_changed_is_not_told_again_until_somebody_lacks_a_place() {
    let rig = shared("", &["id: a, max_concurrent: 5"]);
    give(&rig, 2, 2);
    assert!(asks(&rig).is_empty());
    let lacking = HashSet::from(["a".to_owned()]);
    assert_eq!(rig.pool.share_asks(&lacking, false, rig.now).len(), 1);
    let _held = rig.take();
    assert_eq!(asks(&rig)[0].need, 1);
    let leaving = rig.pool.share_asks(&lacking, true, rig.now);
    assert_eq!((leaving[0].hold, leaving[0].room), (1, 0));
}

#[test]
fn a_gateway_that_was_stopped_for_a_while_has_no_places_when_it_goes_on() {
    let mut rig = shared("", &["id: a, max_concurrent: 5"]);
    give(&rig, 5, 5);
    rig.pass(2 * SECOND);
    assert!(rig.take().is_some());
    rig.pool.shares_last(rig.now + 3 * SECOND, rig.now);
    rig.pass(2 * SECOND);
    assert!(rig.take().is_some(), "they were made to last longer");
    rig.pass(2 * SECOND);
    assert!(rig.take().is_none());
    assert_eq!(asks(&rig).len(), 1, "what it had told before holds no more");
    give(&rig, 1, 1);
    assert!(rig.take().is_some());
}

#[test]
fn a_request_that_finds_the_share_spent_asks_for_more_although_it_does_not_wait() {
    let rig = shared("queue: {max_waiting: 0},", &["id: a, max_concurrent: 9"]);
    give(&rig, 1, 1);
    let _held = rig.take().unwrap();
    assert_eq!(asks(&rig)[0].need, 1);
    assert!(rig.take().is_none() && rig.take().is_none());
    assert_eq!(asks(&rig)[0].need, 3, "the one under way, and two refused");
    assert_eq!(asks(&rig)[0].need, 1, "each is told once");
}

#[tokio::test]
async fn whoever_takes_the_last_place_of_the_share_asks_for_more_at_once() {
    let rig = Rig::new("", &["id: a, max_concurrent: 9"]);
    let wanted = Arc::<tokio::sync::Notify>::default();
    rig.pool.share_with_others(&wanted);
    give(&rig, 8, 8);
    let is_wanted = || {
        let soon = std::pin::pin!(wanted.notified());
        futures::FutureExt::now_or_never(soon).is_some()
    };
    let held: Vec<_> = (0..7).map(|_| rig.take().unwrap()).collect();
    assert!(!is_wanted());
    let last = rig.take();
    assert!(is_wanted());
    let ask = &asks(&rig)[0];
    assert_eq!((ask.need, ask.room), (8, 3), "a quarter more than it uses");
    drop((held, last));
}

#[test]
fn where_nobody_can_be_asked_each_has_its_part_once_those_of_the_others_have_run_out() {
    let mut rig = shared("", &["id: a, max_concurrent: 5"]);
    let free = |rig: &Rig| (0..9).map_while(|_| rig.take()).collect::<Vec<_>>().len();
    give(&rig, 4, 4);
    rig.pool.go_alone(0, 3, false, rig.now);
    assert_eq!(free(&rig), 2, "its part of 5, by 3");
    give(&rig, 1, 1);
    rig.pool.go_alone(0, 3, false, rig.now);
    assert_eq!(free(&rig), 1, "others may have the rest still");
    rig.pool.go_alone(0, 3, true, rig.now);
    assert_eq!(free(&rig), 2);
    rig.pass(60 * SECOND);
    assert_eq!(free(&rig), 2, "however long that is");
}

#[test]
fn a_reload_gives_no_place_that_nobody_gave() {
    let rig = shared("", &["id: a, max_concurrent: 5"]);
    give(&rig, 2, 2);
    let more = ["id: a, max_concurrent: 9", "id: b, max_concurrent: 3"];
    rig.pool.reconfigure(&config("", &more));
    assert_eq!(
        (0..9).map_while(|_| rig.take()).collect::<Vec<_>>().len(),
        2
    );
    rig.pool
        .reconfigure(&config("", &["id: a, max_concurrent: 1"]));
    assert_eq!(
        (0..9).map_while(|_| rig.take()).collect::<Vec<_>>().len(),
        1
    );
}

#[test]
fn what_happens_to_an_account_is_told_and_what_is_heard_is_not_told_on() {
    let keys = "breaker: {consecutive_failures: 1},";
    let (here, mut there) = (Rig::new(keys, &["id: a"]), Rig::new(keys, &["id: a"]));
    let (outbox, mut news) = mpsc::channel(10);
    here.pool.tell_others(outbox);
    let (silent, mut silence) = mpsc::channel(10);
    there.pool.tell_others(silent);
    let lease = here.take().unwrap();
    here.end(lease, &Outcome::Transient);
    let told = news.try_recv().unwrap();
    assert!(matches!(told, News::Opened { ms: 30_000, .. }), "{told:?}");
    assert_eq!(here.pool.standing(here.now), std::slice::from_ref(&told));
    assert!(there.pool.hear(&told, 10 * SECOND, there.now));
    assert!(there.take().is_none());
    assert!(silence.try_recv().is_err());
    there.pass(19 * SECOND);
    assert!(there.take().is_none());
    there.pass(2 * SECOND);
    assert!(there.take().is_some(), "it was told ten seconds late");
    assert!(!there.pool.hear(
        &News::Cools {
            account: "b".to_owned(),
            ms: 1,
            for_limit: true
        },
        SECOND,
        there.now
    ));
}
