//! An account's own trouble: a refused credential, a limit, a spent quota. None of it is the client's.

use jiff::Timestamp;
use serde_json::json;

use super::{assert_a1_took_over, assert_until, generate, house, house_with, message, of_model};
use crate::support::{chat, wait_for};

#[test]
fn a_refused_credential_is_never_the_clients_trouble_and_cools_the_account_for_a_minute() {
    for (request, faults) in [
        (chat(false), &[("status", "401")][..]),
        (message(), &[("status", "401")]),
        (generate(), &[("body", "invalid_key")]),
        (message(), &[("body", "account_disabled")]),
        (generate(), &[("body", "account_disabled")]),
    ] {
        let mut house = house();
        let fate = house.ask(&request, "a0", faults);
        assert_a1_took_over(&fate, "auth_dead");
        let account = house.first();
        assert_eq!(account["status"], "cooling", "{account}");
        assert_until(&account, 55..=60);
        assert!(
            account["last_error"]
                .as_str()
                .unwrap()
                .starts_with("auth_dead"),
            "{account}"
        );
        let fate = house.ask(&request, "nobody", &[]);
        assert_eq!(fate.tries, "a1:success", "the account is left alone");
    }
}

#[test]
fn when_every_credential_is_refused_the_client_is_told_to_wait_not_to_log_in() {
    let mut house = house();
    let fate = house.ask(&chat(false), "a0,a1,a2", &[("status", "401")]);
    assert_eq!(fate.tries, "a0:auth_dead,a1:auth_dead,a2:auth_dead");
    assert_eq!(fate.answer.status, 503, "{}", fate.answer.text());
    assert_eq!(fate.answer.json()["error"]["code"], "no_account_available");
    assert!(fate.answer.header("retry-after").is_some());
    assert_eq!(fate.answer.header("x-poolgate-account"), None);
    // The next one finds nobody to ask, and is told when one of them is tried again.
    let fate = house.ask(&chat(false), "nobody", &[]);
    assert_eq!((fate.answer.status, &*fate.tries), (503, ""));
    let seconds: u64 = fate.answer.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&seconds), "{seconds}");
}

#[test]
fn a_rate_limited_account_is_left_alone_for_that_model_until_the_stated_time() {
    let mut house = house();
    let faults = [("status", "429"), ("retry-after", "300")];
    house.ask(&of_model("m0"), "a0", &faults);
    let faults = [("status", "429"), ("retry-after", "2")];
    let fate = house.ask(&of_model("m1"), "a0", &faults);
    assert_a1_took_over(&fate, "rate_limited");
    assert_eq!(
        house.ask(&of_model("m1"), "nobody", &[]).tries,
        "a1:success"
    );
    assert_eq!(
        house.ask(&of_model("m2"), "nobody", &[]).tries,
        "a0:success"
    );
    let account = house.first();
    assert_eq!(account["breaker"]["state"], "closed", "{account}");
    assert_eq!(
        account["consecutive_failures"], 0,
        "a limit is no failure: {account}"
    );
    assert!(
        account["last_error"]
            .as_str()
            .unwrap()
            .starts_with("rate_limited"),
        "{account}"
    );
    wait_for("a0 to serve the model again", || {
        (house.ask(&of_model("m1"), "nobody", &[]).tries == "a0:success").then_some(())
    });
    let account = house.first();
    let [cooling] = &account["cooling_models"].as_array().unwrap()[..] else {
        panic!("{account}");
    };
    assert_eq!(cooling["model"], "m0");
    assert_eq!(cooling["reason"], "rate_limited");
    let until = cooling["until"].as_str().unwrap();
    assert!(until.parse::<Timestamp>().is_ok(), "{cooling}");
}

#[test]
fn a_limit_of_the_whole_account_cools_it_for_every_model() {
    let mut house = house();
    let reset = Timestamp::now().as_second() + 600;
    let reset = format!("anthropic-ratelimit-unified-reset: {reset}");
    let faults = [
        ("status", "429"),
        ("header", "anthropic-ratelimit-unified-status: rejected"),
        ("header", &reset),
    ];
    let fate = house.ask(&message(), "a0", &faults);
    assert_a1_took_over(&fate, "rate_limited");
    assert_eq!(
        house.ask(&of_model("other"), "nobody", &[]).tries,
        "a1:success"
    );
    let account = house.first();
    assert_eq!(account["status"], "cooling", "{account}");
    assert_until(&account, 590..=600);
}

#[test]
fn when_every_account_is_limited_the_client_gets_429_with_the_earliest_recovery() {
    let mut house = house_with("    queue: {timeout: 1s}\n");
    for (n, wait) in ["200", "90", "120"].iter().enumerate() {
        let limited = json!({"behaviour": {"status": "429", "retry-after": wait}});
        house.vendors[n].set(&limited);
    }
    for tries in ["a0:rate_limited,a1:rate_limited,a2:rate_limited", ""] {
        let fate = house.ask(&chat(false), "nobody", &[]);
        assert_eq!(fate.tries, tries);
        assert_eq!(fate.answer.status, 429, "{}", fate.answer.text());
        assert_eq!(fate.answer.json()["error"]["code"], "rate_limit_exceeded");
        let seconds: u64 = fate.answer.header("retry-after").unwrap().parse().unwrap();
        assert!((85..=90).contains(&seconds), "{seconds}");
        assert_eq!(fate.answer.header("x-should-retry"), Some("false"));
    }
    assert_eq!(house.counts(), [1, 1, 1]);
}

#[test]
fn when_tries_are_spent_on_limits_and_another_account_is_free_the_client_may_come_back_at_once() {
    let mut house = house_with("    retry: {attempts: 2}\n");
    let limited = [("status", "429"), ("retry-after", "300")];
    let fate = house.ask(&chat(false), "a0,a1", &limited);
    assert_eq!(fate.tries, "a0:rate_limited,a1:rate_limited");
    assert_eq!(fate.answer.status, 429);
    assert_eq!(fate.answer.header("retry-after"), Some("1"));
    assert_eq!(fate.answer.header("x-should-retry"), None);
    assert_eq!(house.ask(&chat(false), "nobody", &[]).tries, "a2:success");
}

#[test]
fn a_short_limit_of_all_accounts_is_waited_out() {
    let mut house = house_with("    queue: {timeout: 10s}\n");
    let limited = [("status", "429"), ("retry-after", "1")];
    house.ask(&chat(false), "a0,a1,a2", &limited);
    let fate = house.ask(&chat(false), "nobody", &[]);
    assert_eq!(fate.answer.status, 200, "{}", fate.answer.text());
}

#[test]
fn a_spent_quota_takes_the_account_out_for_an_hour_and_never_reaches_the_client() {
    for (request, faults) in [
        (chat(false), &[("body", "insufficient_quota")][..]),
        (chat(false), &[("status", "402")]),
        (message(), &[("body", "credit_balance")]),
        (message(), &[("body", "spend_limit")]),
        (generate(), &[("body", "per_day_quota")]),
        (chat(false), &[("body", "monthly_request_count")]),
    ] {
        let mut house = house();
        let fate = house.ask(&request, "a0", faults);
        assert_a1_took_over(&fate, "quota_dead");
        let account = house.first();
        assert_eq!(account["status"], "cooling", "{account}");
        assert_until(&account, 3590..=3600);
        let fate = house.ask(&request, "a1,a2", faults);
        assert_eq!(fate.tries, "a1:quota_dead,a2:quota_dead");
        assert_eq!(fate.answer.status, 503, "{}", fate.answer.text());
        assert_eq!(fate.answer.header("x-should-retry"), Some("false"));
    }
}
