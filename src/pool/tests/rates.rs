//! Accounts keep to their own limits, to the request and to the millisecond, whoever asks and however many
//! at once; what a request did not use is free again at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{MINUTE, Rig, SECOND, accounts, anything, config, counts, for_model, limited};
use crate::clock::Instant;
use crate::limit::More;
use crate::pool::{Cause, Demand, Groups, Lease, Moment, Outcome, Pool, Refusal, Status};
use crate::telemetry::Metrics;

const HOUR: Duration = Duration::from_secs(3600);
const HUNDRED: &str = "rate_limits: [{requests: 100, window: 1h}]";

/// A request that may come to so many tokens.
pub(super) fn of_tokens(tokens: u64) -> Demand {
    Demand {
        tokens: Some(tokens),
        ..anything()
    }
}

impl Rig {
    /// Why nobody takes a request now.
    #[track_caller]
    fn refused(&self) -> Refusal {
        assert!(self.take().is_none(), "an account takes the request");
        self.pool.why_none(&anything(), self.now)
    }

    /// A request that comes to so many tokens as its vendor states them.
    #[track_caller]
    fn comes_to(&self, mut lease: Lease, tokens: u64) {
        lease.sent();
        lease.came_to(tokens);
        self.end(lease, &Outcome::Success);
    }

    fn reasons(&self, demand: &Demand) -> Vec<String> {
        let (now, wall) = (self.now, SystemTime::UNIX_EPOCH);
        let explained = self.pool.explain(demand, Moment { now, wall });
        explained.others.into_iter().map(|(_, why)| why).collect()
    }
}

#[test]
fn three_accounts_of_a_hundred_an_hour_serve_three_hundred_and_then_say_when() {
    for strategy in ["round_robin", "weighted", "least_used", "hash", "random"] {
        let mut rig = Rig::new(&format!("strategy: {strategy},"), &accounts(3, HUNDRED));
        let began = rig.now;
        let shares = rig.shares(300);
        assert_eq!(shares, counts([("a", 100), ("b", 100), ("c", 100)]));
        rig.pass(10 * MINUTE);
        let refusal = rig.refused();
        assert_eq!(refusal.cause, Cause::RateLimited);
        assert_eq!(refusal.recovers_at, Some(began + HOUR), "{strategy}");
        rig.pass(50 * MINUTE - Duration::from_millis(1));
        assert!(rig.take().is_none());
        rig.pass(Duration::from_millis(1));
        assert_eq!(rig.shares(300).len(), 3);
        assert!(rig.take().is_none());
    }
}

#[test]
fn the_first_choice_serves_its_hundred_and_the_next_one_goes_elsewhere() {
    let rig = Rig::new(
        "strategy: round_robin,",
        &[
            format!("id: a, priority: 0, {HUNDRED}"),
            "id: b, priority: 1".to_owned(),
        ],
    );
    assert_eq!(rig.order(100), "a".repeat(100));
    assert_eq!(rig.order(3), "bbb");
    let view = rig.view("a");
    assert_eq!((view.status, view.available), (Status::Cooling, false));
    assert_eq!(view.limited_by.as_deref(), Some("100 requests in 1h"));
    assert_eq!(view.until, Some(SystemTime::UNIX_EPOCH + HOUR));
    assert_eq!(
        (view.rate_limits[0].used, view.rate_limits[0].most),
        (100, 100)
    );
    let why = rig.reasons(&anything());
    assert_eq!(
        why,
        ["has reached its limit of 100 requests in 1h until 1970-01-01T01:00:00.000Z"]
    );
}

#[test]
fn of_several_windows_all_must_let_a_request_through() {
    let both = "id: a, rate_limits: [{requests: 2, window: 1s}, {requests: 3, window: 1m}]";
    let mut rig = Rig::new("", &[both]);
    let began = rig.now;
    assert_eq!(rig.order(3), "aa-");
    assert_eq!(rig.refused().recovers_at, Some(began + SECOND));
    rig.pass(SECOND);
    assert_eq!(rig.order(2), "a-");
    assert_eq!(rig.refused().recovers_at, Some(began + MINUTE));
    rig.pass(59 * SECOND);
    assert_eq!(rig.order(3), "aa-");
}

#[test]
fn what_never_went_out_does_not_count_and_what_failed_does() {
    let rig = Rig::new("", &["id: a, rate_limits: [{requests: 2, window: 1h}]"]);
    for _ in 0..5 {
        drop(rig.take().expect("nothing was used"));
        let mut lease = rig.take().unwrap();
        lease.sent();
        lease.unsent();
    }
    rig.one(&Outcome::Transient);
    let mut vanished = rig.take().unwrap();
    vanished.sent();
    drop(vanished);
    assert!(rig.take().is_none());
}

#[test]
fn what_is_given_back_is_free_at_once_for_the_account_and_all_of_its_organisation() {
    let limit = "rate_limits: [{requests: 1, window: 1h}]";
    let alone = Rig::new("", &[format!("id: a, {limit}")]);
    let [one, other] = two_pools(limit);
    for (first, next, id) in [(&alone, &alone, "a"), (&one, &other, "b")] {
        let lease = first.take().unwrap();
        assert!(next.take().is_none());
        assert_eq!(next.view(id).status, Status::Cooling);
        drop(lease);
        assert_eq!(next.view(id).status, Status::Healthy);
        assert!(next.take().is_some());
    }
}

#[test]
fn what_makes_no_model_work_counts_for_no_limit() {
    let rig = Rig::new("", &["id: a, rate_limits: [{requests: 1, window: 1h}]"]);
    let list = Demand {
        tokens: None,
        ..anything()
    };
    for _ in 0..5 {
        assert_eq!(rig.served_by(&list).as_deref(), Some("a"));
    }
    assert_eq!(rig.order(2), "a-");
}

#[test]
fn a_list_of_models_is_served_by_an_account_that_has_reached_its_limit() {
    let limited = "rate_limits: [{requests: 1, window: 1h}]";
    let rig = Rig::new("", &[format!("id: a, max_concurrent: 1, {limited}")]);
    let list = |only: Option<&str>| Demand {
        tokens: None,
        only: only.map(Arc::from),
        ..anything()
    };
    assert_eq!(rig.order(2), "a-");
    for only in [None, Some("a")] {
        assert_eq!(rig.served_by(&list(only)).as_deref(), Some("a"));
    }
    let held = rig.take_for(&list(None)).unwrap();
    assert!(rig.take_for(&list(None)).is_none(), "its places hold");
    assert_eq!(rig.pool.refusal(&list(None), rig.now).cause, Cause::Full);
    assert_eq!(rig.refused().cause, Cause::RateLimited);
    drop(held);
    // One that the vendor has refused is left alone.
    let cooling = Rig::new("", &["id: a"]);
    cooling.one(&super::limited(MINUTE));
    assert!(cooling.take_for(&list(None)).is_none());
    // Where another one is ready, that one serves.
    let rig = Rig::new(
        "strategy: round_robin,",
        &[format!("id: a, {limited}"), "id: b".into()],
    );
    assert_eq!(rig.order(2), "ab");
    for _ in 0..4 {
        assert_eq!(rig.served_by(&list(None)).as_deref(), Some("b"));
    }
}

#[test]
fn tokens_are_held_as_estimated_and_count_as_stated() {
    let mut rig = Rig::new("", &["id: a, rate_limits: [{tokens: 3000, window: 1m}]"]);
    let first = rig.take_for(&of_tokens(1_000)).unwrap();
    let second = rig.take_for(&of_tokens(1_000)).unwrap();
    assert!(
        rig.take_for(&of_tokens(1_500)).is_none(),
        "together too many"
    );
    let why = rig.pool.why_none(&of_tokens(1_500), rig.now).cause;
    assert_eq!(why, Cause::Full, "any of them may end now");
    drop(rig.take().expect("a smaller one fits"));
    rig.comes_to(first, 100);
    let third = rig.take_for(&of_tokens(1_500)).expect("900 are free again");
    rig.comes_to(second, 100);
    // Nobody says what it came to: the estimate stays.
    rig.end(third, &Outcome::Success);
    assert_eq!(rig.view("a").rate_limits[0].used, 1_700);
    let alone = rig
        .take_for(&of_tokens(9_999))
        .expect("the last one may come to more");
    rig.comes_to(alone, 1_300);
    let refusal = rig.refused();
    assert_eq!(refusal.recovers_at, Some(rig.now + MINUTE));
    rig.pass(MINUTE);
    assert!(rig.take_for(&of_tokens(3_000)).is_some());
}

#[test]
fn an_answer_that_is_an_error_has_used_no_tokens() {
    let rig = Rig::new("", &["id: a, rate_limits: [{tokens: 100, window: 1h}]"]);
    for outcome in [
        Outcome::ClientFault,
        Outcome::Overloaded,
        Outcome::Transient,
    ] {
        rig.one(&outcome);
    }
    assert_eq!(rig.view("a").rate_limits[0].used, 0);
    // Of a client that has gone the estimate stays, as its account has worked.
    rig.one(&Outcome::ClientGone);
    assert_eq!(rig.view("a").rate_limits[0].used, 100);
}

#[test]
fn what_a_client_says_its_answer_may_become_is_no_more_than_a_limit_lets_through() {
    let limits = "{tokens: 1000, window: 1m}, {tokens: 5000, window: 1h}";
    let mut rig = Rig::new("", &[format!("id: a, rate_limits: [{limits}]")]);
    let huge = of_tokens(2_000_000_000);
    for used in 1..=5 {
        let mut lease = rig.take_for(&huge).expect("it has its turn");
        lease.sent();
        drop(lease);
        assert_eq!(rig.view("a").rate_limits[1].used, used * 1_000);
        // Who just drops a lease does so by the clock, and not in the time of the test.
        rig.pass(2 * MINUTE);
    }
}

#[test]
fn accounts_of_one_organisation_count_together_whatever_each_may() {
    let rig = Rig::new(
        "strategy: round_robin,",
        &[
            "id: a, limit_group: org, rate_limits: [{requests: 4, window: 1h}]",
            "id: b, limit_group: org, rate_limits: [{requests: 6, window: 1h}]",
            "id: c, rate_limits: [{requests: 2, window: 1h}]",
        ],
    );
    let shares = rig.shares(8);
    assert_eq!(shares["c"], 2);
    assert_eq!(shares["a"] + shares["b"], 6);
    assert!(shares["a"] <= 4, "{shares:?}");
    assert!(rig.take().is_none());
}

/// Two pools with one account each, of the same organisation.
fn two_pools(keys: &str) -> [Rig; 2] {
    let registry = Arc::new(Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap());
    let (groups, now) = (Arc::<Groups>::default(), crate::clock::now());
    ["a", "b"].map(|id| {
        let config = config("", &[format!("id: {id}, limit_group: org, {keys}")]);
        let pool = Pool::among(&groups, &config, &registry, now);
        Rig { pool, now }
    })
}

#[test]
fn an_organisation_is_one_in_all_pools() {
    let [mut one, mut other] = two_pools("rate_limits: [{requests: 3, window: 1h}]");
    assert_eq!((one.order(2), other.order(2)), ("aa".into(), "b-".into()));
    assert!(one.take().is_none());
    for rig in [&mut one, &mut other] {
        rig.pass(HOUR);
    }
    let [one, other] = two_pools("");
    one.one(&limited(MINUTE));
    assert_eq!(other.view("b").status, Status::Cooling);
    assert!(other.take().is_none());
}

#[test]
fn a_reload_forgets_nothing_that_counts_and_a_limit_that_is_gone_holds_nobody() {
    let of = |limits: &str| config("", &[format!("id: a, rate_limits: [{limits}]")]);
    let two = "{requests: 2, window: 1h}";
    let rig = Rig::new("", &[format!("id: a, rate_limits: [{two}]")]);
    assert_eq!(rig.order(3), "aa-");
    rig.pool.reconfigure(&of(two));
    assert!(rig.take().is_none());
    rig.pool.reconfigure(&of("{requests: 3, window: 1h}"));
    assert_eq!(rig.order(2), "a-");
    rig.pool
        .reconfigure(&of("{requests: 2, window: 1h}, {tokens: 1, window: 9s}"));
    assert!(rig.take().is_none());
    rig.pool.reconfigure(&of(""));
    assert_eq!(rig.order(9), "aaaaaaaaa");
}

#[test]
fn a_successor_counts_on() {
    let keys = ["id: a, rate_limits: [{requests: 3, window: 1h}, {tokens: 9000, window: 1h}]"];
    let (mut rig, successor) = (Rig::new("", &keys), Rig::new("", &keys));
    rig.comes_to(rig.take().unwrap(), 70);
    rig.pass(MINUTE);
    rig.comes_to(rig.take().unwrap(), 30);
    let successor = Rig {
        now: rig.now,
        ..successor
    };
    rig.hand_over(&successor);
    assert_eq!(successor.view("a").rate_limits[1].used, 100);
    assert_eq!(successor.order(2), "a-");
    let recovers = successor.refused().recovers_at.unwrap();
    let wait = recovers.saturating_duration_since(successor.now);
    assert!(59 * MINUTE - wait < SECOND, "{wait:?}");
}

#[test]
fn a_successor_hears_what_was_used_after_its_copy() {
    let keys = [
        "id: a, limit_group: org, rate_limits: [{requests: 3, window: 1h}]",
        "id: b, limit_group: org, rate_limits: [{requests: 3, window: 1h}]",
    ];
    let (rig, successor) = (Rig::new("", &keys), Rig::new("", &keys));
    rig.one(&Outcome::Success);
    let left = rig.pool.bequeath(100, rig.now);
    successor.pool.inherit(&left, rig.now);
    rig.one(&Outcome::Success);
    let (mut more, later) = (More::new(), rig.now + SECOND);
    rig.pool.used_since(&left, rig.now, later, &mut more);
    successor.pool.used_elsewhere(&mut more, later);
    assert_eq!(successor.view("a").rate_limits[0].used, 2);
    assert_eq!(successor.order(2).matches('-').count(), 1);
}

#[test]
fn many_at_once_never_get_more_than_the_limit() {
    let rig = Rig::new(
        "strategy: least_connections,",
        &accounts(
            3,
            "rate_limits: [{requests: 50, window: 1h}, {tokens: 100000, window: 1h}]",
        ),
    );
    let served: usize = std::thread::scope(|scope| {
        let ask = || {
            (0..100)
                .filter(|_| rig.served_by(&of_tokens(10)).is_some())
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(served, 150);
    assert!(rig.take().is_none());
}

#[test]
fn of_several_gateways_each_keeps_to_its_part() {
    let keys = ["id: a, rate_limits: [{requests: 10, window: 1h}]"];
    let served: Vec<usize> = (0..3)
        .map(|rank| {
            let rig = Rig::new("", &keys);
            rig.pool.is_one_of(rank, 3, rig.now);
            rig.order(20).matches('a').count()
        })
        .collect();
    assert_eq!(served, [4, 3, 3]);
    // One that is alone again has all of it.
    let rig = Rig::new("", &keys);
    rig.pool.is_one_of(1, 3, rig.now);
    assert_eq!(rig.order(4), "aaa-");
    rig.pool.is_one_of(0, 1, rig.now);
    assert_eq!(rig.order(8), "aaaaaaa-");
}

#[tokio::test]
async fn who_waits_for_tokens_that_others_hold_is_served_when_they_end() {
    let rig = Rig::new("", &["id: a, rate_limits: [{tokens: 1000, window: 1h}]"]);
    let first = rig.take_for(&of_tokens(1_000)).unwrap();
    let (pool, now): (Arc<Pool>, Instant) = (rig.pool.clone(), rig.now);
    let waits = tokio::spawn(async move {
        let demand = of_tokens(1_000);
        pool.lease(&demand, now, now + 20 * SECOND).await
    });
    while rig.pool.summary().waiting == 0 {
        tokio::task::yield_now().await;
    }
    rig.comes_to(first, 10);
    let served = waits
        .await
        .unwrap()
        .map(|lease| lease.account().id.to_string());
    assert_eq!(served.ok().as_deref(), Some("a"));
}

#[test]
fn a_session_goes_back_to_an_account_whose_limit_frees_soon_and_leaves_one_for_long() {
    for (window, after) in [("2s", "a"), ("1h", "b")] {
        let one = format!("id: a, rate_limits: [{{requests: 1, window: {window}}}]");
        let mut rig = Rig::new("strategy: round_robin,", &[&*one, "id: b"]);
        let session = Demand {
            session: Some(7),
            ..anything()
        };
        let serve = |rig: &Rig| rig.served_by(&session).unwrap();
        assert_eq!((serve(&rig), serve(&rig)), ("a".into(), "b".into()));
        rig.pass(2 * SECOND);
        assert_eq!(serve(&rig), after, "{window}");
    }
}

#[test]
fn after_a_limit_of_one_model_one_request_goes_first() {
    let keys = "strategy: round_robin, breaker: {slow_start: 0s},";
    let mut rig = Rig::new(keys, &accounts(2, ""));
    let opus = for_model("opus");
    let mut lease = rig.take_for(&opus).unwrap();
    lease.answered(Some(MINUTE), Some("opus"), rig.now);
    drop(lease);
    let served = |rig: &Rig| -> String { (0..6).filter_map(|_| rig.served_by(&opus)).collect() };
    assert_eq!(served(&rig), "bbbbbb");
    rig.pass(MINUTE);
    let mut trial = None;
    while trial.is_none() {
        let lease = rig.take_for(&opus).expect("b is always ready");
        trial = (&*lease.account().id == "a").then_some(lease);
    }
    assert_eq!(served(&rig), "bbbbbb", "the others go elsewhere");
    let why = rig.reasons(&opus).concat();
    assert_eq!(why, "is tried for this model by one request");
    assert!(rig.shares(10).contains_key("a"), "other models do not wait");
    // One that says nothing makes room for the next, and a good answer for all.
    drop(trial);
    let mut seen = served(&rig);
    seen.push_str(&served(&rig));
    assert_eq!(seen.matches('a').count(), 6, "{seen}");
}

#[test]
fn a_long_answer_to_the_one_that_goes_first_does_not_hold_the_others_up() {
    let mut rig = Rig::new("", &["id: a"]);
    let opus = for_model("opus");
    let mut lease = rig.take_for(&opus).unwrap();
    lease.answered(Some(MINUTE), Some("opus"), rig.now);
    drop(lease);
    rig.pass(MINUTE);
    let _slow = rig.take_for(&opus).expect("one goes first");
    assert!(rig.take_for(&opus).is_none());
    rig.pass(5 * SECOND);
    let later: Vec<Lease> = (0..3).filter_map(|_| rig.take_for(&opus)).collect();
    assert_eq!(later.len(), 3);
}

#[test]
fn a_request_from_before_a_reload_blocks_no_account_whose_limit_was_raised() {
    let of = |requests: u32| format!("id: a, rate_limits: [{{requests: {requests}, window: 1h}}]");
    let rig = Rig::new("", &[of(1)]);
    let mut before = rig.take().unwrap();
    before.sent();
    assert_eq!(rig.refused().cause, Cause::RateLimited);
    rig.pool.reconfigure(&config("", &[of(3)]));
    rig.comes_to(before, 10);
    assert_eq!(rig.view("a").status, Status::Healthy);
    for _ in 0..2 {
        rig.one(&Outcome::Success);
    }
    assert_eq!(rig.refused().cause, Cause::RateLimited);
}
