//! What an outcome does to its account, and when and how the account comes back.

use std::time::{Duration, SystemTime};

use super::{MINUTE, Rig, SECOND, accounts, anything, counts, for_model, limited};
use crate::config::HealthCheck;
use crate::pool::{Outcome, Report, Status};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Nothing serves for this time, and then at its end one request does, and only one.
#[track_caller]
fn one_request_after(rig: &mut Rig, wait: Duration) -> crate::pool::Lease {
    assert!(rig.take().is_none(), "it is out from the start");
    rig.pass(wait - MILLISECOND);
    assert!(rig.take().is_none(), "it is out until {wait:?} are over");
    rig.pass(MILLISECOND);
    let probe = rig.take().expect("its time has come");
    assert!(rig.take().is_none(), "one request goes first");
    probe
}

#[test]
fn a_limited_account_waits_until_the_stated_time_however_long() {
    for wait in [SECOND, 90 * SECOND, Duration::from_secs(5 * 24 * 3600)] {
        let mut rig = Rig::new("", &["id: a"]);
        rig.one(&limited(wait));
        assert_eq!(rig.view("a").status, Status::Cooling);
        let probe = one_request_after(&mut rig, wait);
        rig.end(probe, &Outcome::Success);
        assert_eq!(rig.view("a").status, Status::Healthy);
        let all: Vec<_> = (0..20).map_while(|_| rig.take()).collect();
        assert_eq!(all.len(), 20);
    }
}

/// A vendor refuses whoever comes within the last millisecond as well as all before.
#[test]
fn a_limited_account_is_not_back_a_part_of_a_millisecond_too_early() {
    let micros = Duration::from_micros;
    let mut rig = Rig::new("", &["id: a"]);
    rig.pass(micros(600));
    rig.one(&limited(micros(1_000_600)));
    rig.pass(micros(1_000_500));
    assert!(rig.take().is_none(), "0.1 ms before its time");
    rig.pass(micros(900));
    assert!(rig.take().is_some());
}

#[test]
fn a_shorter_wait_never_shortens_a_longer_one() {
    let mut rig = Rig::new("", &["id: a"]);
    let (first, second) = (rig.take().unwrap(), rig.take().unwrap());
    rig.end(first, &limited(MINUTE));
    rig.end(second, &limited(SECOND));
    drop(one_request_after(&mut rig, MINUTE));
}

/// The models that the account does not serve, whether for a limit, and for how many seconds.
fn cooling(rig: &Rig, id: &str) -> Vec<(String, bool, u64)> {
    let shown = rig.view(id).cooling_models.into_iter();
    let said = shown.map(|it| {
        // The tests' wall clock stands at the epoch.
        let left = it.until.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (it.model.to_string(), it.for_limit, left.as_secs())
    });
    said.collect()
}

#[test]
fn which_models_an_account_does_not_serve_is_told_to_other_gateways_and_left_to_a_successor() {
    let new = || Rig::new("", &accounts(2, ""));
    let (rig, mut other, successor) = (new(), new(), new());
    let lease = rig.take_for(&for_model("opus")).unwrap();
    let limited = lease.account().id.to_string();
    rig.limited_for("opus", lease);
    let account = rig.pool.account_named(&limited).unwrap();
    rig.pool.lacks_model(&account, "gpt-9", rig.now);
    let both = [("gpt-9".into(), false, 3_600), ("opus".into(), true, 60)];
    assert_eq!(cooling(&rig, &limited), both);
    other.now = rig.now;
    for news in rig.pool.standing(rig.now) {
        let told = serde_json::to_string(&news).unwrap();
        let heard = serde_json::from_str(&told).unwrap();
        assert!(other.pool.hear(&heard, Duration::ZERO, other.now));
    }
    assert_eq!(cooling(&other, &limited), both);
    rig.hand_over(&successor);
    assert_eq!(cooling(&successor, &limited), both);
    let free = if limited == "a" { "b" } else { "a" };
    assert_eq!(cooling(&successor, free), []);
}

#[test]
fn a_limit_of_one_model_leaves_the_others() {
    let mut rig = Rig::new("", &["id: a"]);
    let lease = rig.take_for(&for_model("opus")).unwrap();
    rig.limited_for("opus", lease);
    assert!(rig.take_for(&for_model("opus")).is_none());
    assert!(rig.take_for(&for_model("haiku")).is_some());
    assert_eq!(rig.view("a").status, Status::Healthy);
    assert_eq!(cooling(&rig, "a"), [("opus".into(), true, 60)]);
    rig.pass(MINUTE);
    assert!(rig.take_for(&for_model("opus")).is_some());
    assert_eq!(cooling(&rig, "a"), []);
}

#[test]
fn the_share_of_a_model_grows_back_after_its_limit() {
    let mut rig = Rig::new("strategy: round_robin,", &accounts(2, ""));
    fastrand::seed(7);
    let lease = rig.take_for(&for_model("opus")).unwrap();
    assert_eq!(&*lease.account().id, "a");
    rig.limited_for("opus", lease);
    let share_of_a = |rig: &Rig, model: &str| {
        let by_a = |_: &i32| rig.served_by(&for_model(model)).as_deref() == Some("a");
        (0..200).filter(by_a).count()
    };
    assert_eq!(share_of_a(&rig, "opus"), 0);
    rig.pass(MINUTE);
    let beginning = share_of_a(&rig, "opus");
    assert!((1..50).contains(&beginning), "{beginning}");
    assert_eq!(share_of_a(&rig, "haiku"), 100, "it never was limited");
    rig.pass(20 * SECOND);
    let later = share_of_a(&rig, "opus");
    assert!((beginning + 1..95).contains(&later), "{later}");
    rig.pass(10 * SECOND);
    assert_eq!(share_of_a(&rig, "opus"), 100);
}

#[test]
fn accounts_of_one_organisation_share_a_limit() {
    let mut rig = Rig::new(
        "strategy: round_robin,",
        &[
            "id: a, limit_group: org",
            "id: b, limit_group: org",
            "id: c",
        ],
    );
    rig.one(&limited(MINUTE));
    assert_eq!(rig.order(3), "ccc");
    rig.pass(MINUTE);
    let shares = rig.shares(30);
    assert_eq!(shares.len(), 3, "{shares:?}");
}

#[test]
fn a_limit_that_a_success_announces_cools_ahead() {
    let mut rig = Rig::new("strategy: round_robin,", &accounts(2, ""));
    let mut lease = rig.take().unwrap();
    lease.answered(Some(MINUTE), None, rig.now);
    drop(lease);
    assert_eq!(rig.order(3), "bbb");
    rig.pass(MINUTE);
    assert_eq!(rig.shares(10).len(), 2);
}

#[test]
fn a_refused_credential_cools_once_and_then_needs_a_login() {
    let mut rig = Rig::new("", &["id: a"]);
    rig.one(&Outcome::AuthDead);
    assert_eq!(rig.view("a").status, Status::Cooling);
    let mut probe = one_request_after(&mut rig, MINUTE);
    for minutes in [1, 5, 30, 60, 60] {
        rig.end(probe, &Outcome::AuthDead);
        assert_eq!(rig.view("a").status, Status::NeedsLogin);
        probe = one_request_after(&mut rig, minutes * MINUTE);
    }
    rig.end(probe, &Outcome::Success);
    assert_eq!(rig.view("a").status, Status::Healthy);
    // The count begins anew.
    rig.one(&Outcome::AuthDead);
    assert_eq!(rig.view("a").status, Status::Cooling);
}

#[test]
fn a_new_secret_or_an_operator_ends_the_need_for_a_login() {
    let ways: [fn(&Rig); 2] = [
        |rig| rig.pool.secret_changed("a"),
        |rig| {
            rig.pool.reset("a");
        },
    ];
    for way in ways {
        let mut rig = Rig::new("", &["id: a"]);
        rig.one(&Outcome::AuthDead);
        rig.pass(MINUTE);
        rig.one(&Outcome::AuthDead);
        assert!(rig.take().is_none());
        way(&rig);
        assert!(rig.take().is_some());
    }
}

#[test]
fn a_spent_quota_is_tried_by_one_request_each_hour_or_at_its_reset() {
    for (stated, wait) in [(None, 60 * MINUTE), (Some(7 * MINUTE), 7 * MINUTE)] {
        let mut rig = Rig::new("", &["id: a"]);
        rig.one(&Outcome::QuotaDead { wait: stated });
        let probe = one_request_after(&mut rig, wait);
        rig.end(probe, &Outcome::QuotaDead { wait: stated });
        let probe = one_request_after(&mut rig, wait);
        rig.end(probe, &Outcome::Success);
        assert_eq!(rig.shares(5), counts([("a", 5)]));
    }
}

#[test]
fn a_model_that_another_account_served_is_off_for_an_hour() {
    let mut rig = Rig::new("strategy: round_robin,", &accounts(2, ""));
    let account = rig.pool.account_named("a").unwrap();
    rig.pool.lacks_model(&account, "gpt-9", rig.now);
    let order = |rig: &Rig, model: &str| -> String {
        (0..4)
            .filter_map(|_| rig.served_by(&for_model(model)))
            .collect()
    };
    assert_eq!(order(&rig, "gpt-9"), "bbbb");
    assert_eq!(order(&rig, "gpt-5"), "abab");
    rig.pass(60 * MINUTE);
    assert_eq!(order(&rig, "gpt-9"), "abab");
}

#[test]
fn failures_in_a_row_open_the_breaker_and_one_success_closes_it() {
    let mut rig = Rig::new("breaker: {slow_start: 0s},", &["id: a"]);
    for _ in 0..4 {
        rig.one(&Outcome::Transient);
    }
    rig.one(&Outcome::Success);
    for _ in 0..5 {
        assert_eq!(rig.view("a").status, Status::Healthy);
        rig.one(&Outcome::Transient);
    }
    assert_eq!(rig.view("a").status, Status::Open);
    // A probe that fails opens it for twice as long, up to the most.
    for seconds in [30, 60, 120, 240, 300, 300] {
        let probe = one_request_after(&mut rig, seconds * SECOND);
        assert_eq!(rig.view("a").status, Status::HalfOpen);
        rig.end(probe, &Outcome::BrokenStream);
    }
    let probe = one_request_after(&mut rig, 300 * SECOND);
    rig.end(probe, &Outcome::Success);
    assert_eq!(rig.view("a").status, Status::Healthy);
    assert_eq!(rig.shares(5), counts([("a", 5)]));
}

#[test]
fn answers_that_begin_well_and_break_off_open_the_breaker() {
    let rig = Rig::new("breaker: {consecutive_failures: 3},", &["id: a"]);
    for round in 0..3 {
        assert_eq!(rig.view("a").status, Status::Healthy, "round {round}");
        let mut lease = rig.take().unwrap();
        lease.answered(None, None, rig.now);
        rig.end(lease, &Outcome::BrokenStream);
    }
    assert_eq!(rig.view("a").status, Status::Open);
}

#[test]
fn a_probe_that_says_nothing_about_the_account_makes_room_for_the_next() {
    let mut rig = Rig::new("", &["id: a"]);
    for _ in 0..5 {
        rig.one(&Outcome::Transient);
    }
    let probe = one_request_after(&mut rig, 30 * SECOND);
    rig.end(probe, &Outcome::ClientGone);
    let probe = rig.take().expect("the next one tries");
    assert!(rig.take().is_none());
    drop(probe);
    assert!(
        rig.take().is_some(),
        "nor is the place of one that was just dropped lost"
    );
}

#[test]
fn a_recovering_account_gets_a_growing_share() {
    let keys = "strategy: round_robin, breaker: {slow_start: 100s},";
    let mut rig = Rig::new(keys, &accounts(2, ""));
    rig.pool.set_enabled("b", false);
    for _ in 0..5 {
        rig.one(&Outcome::Transient);
    }
    rig.pass(30 * SECOND);
    rig.one(&Outcome::Success);
    rig.pool.set_enabled("b", true);
    let share = |rig: &Rig| *rig.shares(2_000).get("a").unwrap_or(&0);
    // Of two accounts each has a half; a tenth of the turns of one is 1 in 11 or less.
    let first = share(&rig);
    assert!((40..220).contains(&first), "{first}");
    rig.pass(50 * SECOND);
    let middle = share(&rig);
    assert!((520..800).contains(&middle), "{middle}");
    rig.pass(50 * SECOND);
    assert_eq!(share(&rig), 1_000);
}

#[test]
fn a_recovering_account_serves_at_once_where_nobody_else_is() {
    let mut rig = Rig::new("", &["id: a"]);
    for _ in 0..5 {
        rig.one(&Outcome::Transient);
    }
    rig.pass(30 * SECOND);
    rig.one(&Outcome::Success);
    assert_eq!(rig.shares(500), counts([("a", 500)]));
}

#[test]
fn what_is_not_the_accounts_fault_changes_nothing() {
    let rig = Rig::new("", &["id: a"]);
    for outcome in [
        Outcome::ClientFault,
        Outcome::ClientGone,
        Outcome::Forbidden,
        Outcome::ModelUnavailable,
        Outcome::Overloaded,
    ] {
        for _ in 0..10 {
            rig.one(&outcome);
        }
        assert_eq!(rig.view("a").status, Status::Healthy, "{outcome:?}");
    }
}

#[test]
fn a_failure_that_the_request_brings_along_does_not_count() {
    let rig = Rig::new("", &["id: a"]);
    for _ in 0..20 {
        let mut lease = rig.take().unwrap();
        let about = Report {
            model: None,
            detail: "the same elsewhere",
            counts: false,
        };
        lease.report(&Outcome::Transient, &about, rig.now);
    }
    assert_eq!(rig.view("a").status, Status::Healthy);
}

#[test]
fn a_disabled_breaker_never_takes_an_account_out() {
    let rig = Rig::new("breaker: {enabled: false},", &["id: a"]);
    for _ in 0..50 {
        rig.one(&Outcome::Transient);
    }
    assert!(rig.take().is_some());
}

#[test]
fn health_probes_take_an_account_out_and_back_by_their_counts() {
    let keys = "health_check: {unhealthy_after: 3, healthy_after: 2},";
    let rig = Rig::new(keys, &["id: a"]);
    let account = rig.pool.account_named("a").unwrap();
    let check: HealthCheck = account.config.health_check.clone().unwrap();
    let probe = |good: bool| {
        let result = if good {
            Ok(())
        } else {
            Err("refused".to_owned())
        };
        rig.pool.probed(&account, &check, result, rig.now);
        rig.view("a").status
    };
    assert_eq!(rig.view("a").status, Status::Unknown);
    let states = [
        true, false, false, true, false, false, false, true, false, true, true,
    ]
    .map(probe);
    let expected = [
        Status::Healthy,
        Status::Healthy,
        Status::Healthy,
        Status::Healthy,
        Status::Healthy,
        Status::Healthy,
        Status::Unhealthy,
        Status::Unhealthy,
        Status::Unhealthy,
        Status::Unhealthy,
        Status::Healthy,
    ];
    assert_eq!(states, expected);
    probe(false);
    probe(false);
    probe(false);
    assert!(rig.take_for(&anything()).is_none());
}

#[test]
fn the_last_error_is_kept_without_growing() {
    let rig = Rig::new("", &["id: a"]);
    let mut lease = rig.take().unwrap();
    let about = Report {
        model: None,
        detail: &"é".repeat(5_000),
        counts: true,
    };
    lease.report(&Outcome::Transient, &about, rig.now);
    let error = rig.view("a").last_error.unwrap();
    assert!(
        error.starts_with("transient: é") && error.len() <= 300,
        "{error}"
    );
}
