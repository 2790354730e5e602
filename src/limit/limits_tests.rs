//! What a key's limits let through, and when they say that they will again.

use std::sync::Arc;
use std::time::Duration;

use super::limits::{Ask, Exceeded, Hold, Limits, Spent};
use crate::clock::{self, Instant};
use crate::config::{Limit, LimitUnit};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn limit(models: &str, unit: LimitUnit, amount: f64, window: Duration) -> Limit {
    Limit {
        models: models.to_owned(),
        unit,
        amount,
        window,
    }
}

pub(super) fn limits(limits: &[Limit]) -> Arc<Limits> {
    Arc::new(Limits::of("key", limits.iter(), None))
}

pub(super) fn ask(model: &str, tokens: u64) -> Ask<'_> {
    Ask {
        model: Some(model),
        tokens,
        cost: 0,
    }
}

fn spent(tokens: u64) -> Spent {
    Spent { tokens, cost: 0 }
}

fn wait(admitted: Result<Hold, Exceeded>) -> Duration {
    admitted.err().unwrap().wait
}

/// A start that lies far enough from the beginning of the clock.
fn start() -> Instant {
    clock::now() + 10 * HOUR
}

#[test]
fn ten_requests_in_five_hours_are_ten_and_the_wait_is_until_the_first_is_out() {
    let limits = limits(&[limit("*opus*", LimitUnit::Requests, 10.0, 5 * HOUR)]);
    let start = start();
    for minute in 0..10 {
        let now = start + minute * 60 * SECOND;
        let hold = limits.admit(&ask("claude-opus-4", 0), now).unwrap();
        hold.settle(spent(100), now + SECOND);
    }
    let now = start + HOUR;
    let refused = limits.admit(&ask("claude-opus-4", 0), now).unwrap_err();
    assert_eq!(refused.wait, 4 * HOUR);
    assert_eq!(&*refused.limit, "10 requests of *opus* in 5h");
    let other = limits.admit(&ask("claude-sonnet-4", 0), now);
    assert!(other.is_ok(), "the limit is of other models");
    let again = start + 5 * HOUR;
    assert!(
        limits
            .admit(&ask("claude-opus-4", 0), again - SECOND)
            .is_err()
    );
    assert!(limits.admit(&ask("claude-opus-4", 0), again).is_ok());
}

#[test]
fn a_request_that_came_to_nothing_is_given_back() {
    let limits = limits(&[limit("*", LimitUnit::Requests, 1.0, HOUR)]);
    let now = start();
    let hold = limits.admit(&ask("m", 0), now).unwrap();
    assert!(limits.admit(&ask("m", 0), now).is_err(), "it is under way");
    drop(hold);
    let hold = limits.admit(&ask("m", 0), now + SECOND).unwrap();
    hold.settle(spent(1), now + 2 * SECOND);
    assert_eq!(
        wait(limits.admit(&ask("m", 0), now + 2 * SECOND)),
        HOUR - SECOND
    );
}

#[test]
fn a_limit_that_refuses_takes_nothing_of_the_others() {
    let limits = limits(&[
        limit("*", LimitUnit::Requests, 2.0, SECOND),
        limit("*opus*", LimitUnit::Requests, 0.0, HOUR),
    ]);
    let now = start();
    for _ in 0..5 {
        assert_eq!(wait(limits.admit(&ask("opus", 0), now)), HOUR, "0 is never");
    }
    let two = [0; 2].map(|_| limits.admit(&ask("sonnet", 0), now));
    assert!(two.iter().all(Result::is_ok));
    assert!(limits.admit(&ask("sonnet", 0), now).is_err());
}

#[test]
fn tokens_count_as_stated_and_the_estimate_is_held_only_until_then() {
    let limits = limits(&[limit("*", LimitUnit::Tokens, 1000.0, 60 * SECOND)]);
    let now = start();
    let one = limits.admit(&ask("m", 600), now).unwrap();
    let refused = wait(limits.admit(&ask("m", 600), now));
    assert_eq!(refused, SECOND, "the first may come to less at any time");
    one.settle(spent(100), now + SECOND);
    let two = limits.admit(&ask("m", 600), now + SECOND).unwrap();
    two.settle(spent(900), now + 2 * SECOND);
    let refused = wait(limits.admit(&ask("m", 1), now + 3 * SECOND));
    assert_eq!(refused, 58 * SECOND, "the first 100 count from their end");
}

#[test]
fn an_estimate_keeps_nobody_out_who_is_alone_and_within_the_limit() {
    let limits = limits(&[limit("*", LimitUnit::Tokens, 100.0, 60 * SECOND)]);
    let now = start();
    // Each may come to more than all of the limit, and comes to 30.
    for _ in 0..4 {
        let hold = limits.admit(&ask("m", 5000), now).unwrap();
        hold.settle(spent(30), now);
    }
    assert_eq!(wait(limits.admit(&ask("m", 5000), now)), 60 * SECOND);
}

#[test]
fn many_at_once_never_hold_more_than_the_limit() {
    let limits = limits(&[limit("*", LimitUnit::Tokens, 1000.0, 60 * SECOND)]);
    let now = start();
    let holds: Vec<_> = (0..50)
        .filter_map(|_| limits.admit(&ask("m", 90), now).ok())
        .collect();
    assert_eq!(holds.len(), 11);
    drop(holds);
    assert!(
        limits.admit(&ask("m", 1000), now).is_ok(),
        "dropped ones leave nothing held"
    );
}

#[test]
fn cost_is_limited_like_tokens() {
    let limits = limits(&[limit("*", LimitUnit::Cost, 0.5, HOUR)]);
    let now = start();
    let hold = limits.admit(&ask("m", 0), now).unwrap();
    let cost = 500_000_000;
    hold.settle(Spent { tokens: 9, cost }, now);
    let refused = limits.admit(&ask("m", 0), now).unwrap_err();
    assert_eq!(&*refused.limit, "a cost of 0.5 in 1h");
    assert_eq!(refused.wait, HOUR);
}

#[test]
fn what_was_used_stays_when_the_amount_of_a_limit_changes() {
    let requests = |amount| limit("*", LimitUnit::Requests, amount, HOUR);
    let old = limits(&[requests(2.0)]);
    let now = start();
    for _ in 0..2 {
        old.admit(&ask("m", 0), now).unwrap().settle(spent(0), now);
    }
    let under_way = old.admit(&ask("m", 0), now);
    assert!(under_way.is_err());
    let new = Arc::new(Limits::of("key", [requests(3.0)].iter(), Some(&old)));
    let hold = new.admit(&ask("m", 0), now).unwrap();
    assert!(new.admit(&ask("m", 0), now).is_err());
    drop(hold);
    assert!(new.admit(&ask("m", 0), now).is_ok());
}

#[test]
fn what_was_used_before_a_restart_is_remembered() {
    let limits = limits(&[
        limit("*", LimitUnit::Requests, 2.0, HOUR),
        limit("*", LimitUnit::Tokens, 100.0, HOUR),
    ]);
    let now = start();
    limits.remember(Some("m"), 9, &spent(0), now - 2 * HOUR);
    limits.remember(Some("m"), 0, &spent(99), now - 30 * 60 * SECOND);
    let hold = limits.admit(&ask("m", 1), now).unwrap();
    hold.settle(spent(1), now);
    let refused = limits.admit(&ask("m", 1), now).unwrap_err();
    assert_eq!(
        &*refused.limit, "100 tokens in 1h",
        "the nine requests are long out"
    );
    assert_eq!(refused.wait, 30 * 60 * SECOND);
}

#[test]
fn uses_are_told_apart_as_finely_as_the_shortest_window_does() {
    let grain = |spans: &[Duration]| {
        let one = |span: &Duration| limit("*", LimitUnit::Requests, 1.0, *span);
        limits(&spans.iter().map(one).collect::<Vec<_>>()).grain()
    };
    assert_eq!(grain(&[]), HOUR);
    assert_eq!(grain(&[10 * SECOND, HOUR]), SECOND);
    assert_eq!(grain(&[512 * 20 * SECOND, 99 * HOUR]), 20 * SECOND);
    assert_eq!(grain(&[24 * 365 * HOUR]), HOUR);
}

#[test]
fn two_limits_that_count_the_same_are_the_stricter_one() {
    let requests = |amount| limit("*", LimitUnit::Requests, amount, HOUR);
    let limits = limits(&[requests(5.0), requests(1.0), requests(3.0)]);
    let now = start();
    let hold = limits.admit(&ask("m", 0), now);
    assert!(hold.is_ok() && limits.admit(&ask("m", 0), now).is_err());
}

#[test]
fn a_request_that_hides_its_model_counts_for_all_of_them() {
    let limits = limits(&[limit("*opus*", LimitUnit::Requests, 1.0, HOUR)]);
    let hidden = Ask {
        model: None,
        ..ask("", 0)
    };
    let now = start();
    let hold = limits.admit(&hidden, now);
    assert!(hold.is_ok() && limits.admit(&ask("opus", 0), now).is_err());
}

#[test]
fn of_racing_threads_exactly_as_many_get_through_as_the_limit_says() {
    let limits = limits(&[limit("*", LimitUnit::Requests, 1000.0, HOUR)]);
    let now = start();
    let worker = || {
        let mut served = 0;
        for _ in 0..1000 {
            if let Ok(hold) = limits.admit(&ask("m", 0), now) {
                hold.settle(spent(1), now);
                served += 1;
            }
        }
        served
    };
    let served = std::thread::scope(|scope| {
        let workers = [0; 4].map(|_| scope.spawn(worker));
        workers
            .map(|worker| worker.join().unwrap())
            .iter()
            .sum::<u32>()
    });
    assert_eq!(served, 1000);
}
