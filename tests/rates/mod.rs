//! Accounts keep to their own `rate_limits` and to what their vendors state, whoever asks; who waits is
//! served as soon as one of them is back, and who need not wait is told for how long.

mod asked;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, chat, many, pool_of, post, ranked};

/// So many accounts that each may serve this.
fn gateway(accounts: usize, keys: &str, limits: &str) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(accounts, &[]);
    let limited = |_| format!(", rate_limits: [{limits}]");
    let gateway = Gateway::start(&pool_of(&vendors, keys, limited));
    (gateway, vendors)
}

/// A refusal because of limits, and how many seconds it says to wait.
#[track_caller]
fn wait_of(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    answer.header("retry-after").unwrap().parse().unwrap()
}

fn reasons(gateway: &Gateway) -> Vec<String> {
    let question = json!({"model": "gpt-5"});
    let answer = gateway.admin(post("/api/v1/route", &question)).json();
    let others = answer["others"].as_array().unwrap().iter();
    let reason = |other: &Value| other["reason"].as_str().unwrap().to_owned();
    others.map(reason).collect()
}

#[test]
fn of_a_hundred_an_hour_the_101st_goes_elsewhere_and_the_301st_of_three_accounts_is_told_when() {
    let limits = "{requests: 100, window: 1h}";
    let (gateway, vendors) = gateway(3, "    strategy: round_robin\n", limits);
    let begun = Instant::now();
    let answers = many(gateway.address, &chat(false), 8, 300);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let seen =
        |vendors: &[Mock]| -> Vec<u64> { vendors.iter().map(|it| it.count("requests")).collect() };
    assert_eq!(seen(&vendors), [100, 100, 100]);
    // Whoever the client says it is: the limit is the account's.
    for (name, value) in [
        ("x-user-id", "somebody"),
        ("x-forwarded-for", "203.0.113.9"),
    ] {
        let refused = gateway.send(&chat(false).header(name, value));
        let gone = begun.elapsed().as_secs();
        let wait = wait_of(&refused);
        assert!((3_599 - gone..=3_600).contains(&wait), "{wait}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
    }
    assert_eq!(seen(&vendors), [100, 100, 100]);
    let account = gateway.account("a1");
    assert_eq!(account["status"], "cooling", "{account}");
    assert_eq!(account["limited_by"], "100 requests in 1h");
    assert_eq!(
        account["rate_limits"],
        json!([{"requests": 100, "window": "1h", "used": 100, "held": 0}])
    );
    for reason in reasons(&gateway) {
        let said = "has reached its limit of 100 requests in 1h until 2";
        assert!(reason.starts_with(said), "{reason}");
    }
    let (_, shown, _) = gateway.program.command(&["status"]);
    assert!(shown.contains("its limit of 100"), "{shown}");
}

#[test]
fn the_first_choice_is_left_for_the_next_one_at_its_limit_and_streams_count_as_well() {
    let (vendors, text) = ranked("");
    let limited = text.replace(
        "id: a0,",
        "id: a0, rate_limits: [{requests: 4, window: 1h}],",
    );
    let gateway = Gateway::start(&limited);
    for n in 0..8 {
        assert_eq!(gateway.send(&chat(n % 2 == 0)).status, 200);
    }
    let seen: Vec<u64> = vendors.iter().map(|it| it.count("requests")).collect();
    assert_eq!(seen, [4, 4, 0]);
}

#[test]
fn a_request_waits_for_a_window_that_lets_it_through_before_its_patience_ends() {
    let (gateway, vendors) = gateway(1, "", "{requests: 2, window: 2s}");
    let answers = many(gateway.address, &chat(false), 5, 5);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(vendors[0].count("requests"), 5);
}

#[test]
fn tokens_count_as_the_vendor_states_them_and_as_estimated_where_it_does_not() {
    let keys = "    queue: {timeout: 0s}\n";
    let (gateway, _vendors) = gateway(1, keys, "{tokens: 1500, window: 1h}");
    let used = || {
        gateway.account("a0")["rate_limits"][0]["used"]
            .as_u64()
            .unwrap()
    };
    let usage = |usage: &str| chat(false).header("x-mock-usage", usage);
    assert_eq!(gateway.send(&usage("300,100")).status, 200);
    crate::support::wait_for("the first to be counted", || (used() == 400).then_some(()));
    let message = json!({"role": "user", "content": "Hello"});
    let body = json!({"model": "m", "max_tokens": 900, "messages": [message]});
    let size = body.to_string().len() as u64;
    let unstated = post("/v1/chat/completions", &body).header("x-mock-usage", "none");
    let answer = gateway.send(&unstated);
    assert_eq!(answer.status, 200);
    // It may have come to 900, and did not.
    let read = answer.body.len() as u64 / 4;
    assert!(read < 900, "{read}");
    let expected = 400 + read + size / 4;
    crate::support::wait_for("the estimate to be counted", || {
        (used() == expected).then_some(())
    });
    assert_eq!(gateway.send(&usage("300,1000")).status, 200);
    crate::support::wait_for("the last to be counted", || (used() > 1_500).then_some(()));
    let wait = wait_of(&gateway.send(&chat(false)));
    assert!((3_500..=3_600).contains(&wait), "{wait}");
}

#[test]
fn limits_outlive_a_reload_and_an_upgrade() {
    let (gateway, vendors) = gateway(1, "", "{requests: 3, window: 1h}");
    assert_eq!(gateway.send(&chat(false)).status, 200);
    let (code, said, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    assert_eq!(gateway.send(&chat(false)).status, 200);
    gateway.upgrade();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert!(wait_of(&gateway.send(&chat(false))) > 3_000);
    assert_eq!(vendors[0].count("requests"), 3);
}

#[test]
fn of_accounts_that_cool_for_5_s_8_s_and_2_h_the_first_one_back_serves_whoever_waits() {
    let (_vendors, text) = ranked("    queue: {timeout: 30s}\n");
    let gateway = Gateway::start(&format!(
        "clients: {{keys: [{{name: t, key: sk-t, expose_account: true}}]}}\n{text}"
    ));
    let ask = |limited: &str, wait: &str| {
        let request = chat(false).bearer("sk-t").header("x-mock-only", limited);
        let request = request.header("x-mock-status", "429");
        gateway.send(&request.header("x-mock-retry-after", wait))
    };
    let begun = Instant::now();
    let account = |answer: &Answer| answer.header("x-poolgate-account").map(str::to_owned);
    assert_eq!(account(&ask("a0", "5")).as_deref(), Some("a1"));
    assert_eq!(account(&ask("a1", "8")).as_deref(), Some("a2"));
    // The third one is limited as well, and the request waits.
    let served = ask("a2", "7200");
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(account(&served).as_deref(), Some("a0"));
    assert!(
        begun.elapsed() >= Duration::from_secs(5),
        "not before its time"
    );
}

#[test]
fn a_vendor_that_says_that_nothing_remains_is_left_alone_before_it_refuses() {
    let (vendors, text) = ranked("");
    let gateway = Gateway::start(&text);
    let message = |model: &str| {
        let body = json!({"model": model, "max_tokens": 9, "messages": []});
        post("/v1/messages", &body).header("anthropic-version", "2023-06-01")
    };
    let reset = jiff::Timestamp::now().as_second() + 600;
    let reset = jiff::Timestamp::from_second(reset).unwrap();
    let last = message("claude-x").header("x-mock-only", "a0").header(
        "x-mock-header",
        "anthropic-ratelimit-input-tokens-remaining: 0",
    );
    let last = last.header(
        "x-mock-header",
        format!("anthropic-ratelimit-input-tokens-reset: {reset}"),
    );
    assert_eq!(gateway.send(&last).status, 200);
    assert_eq!(gateway.send(&message("claude-x")).status, 200);
    let seen = || {
        vendors
            .iter()
            .map(|it| it.count("requests"))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(), [1, 1, 0]);
    // Limits are those of a family of models.
    assert_eq!(gateway.send(&message("claude-y")).status, 200);
    assert_eq!(seen(), [2, 1, 0]);
}
