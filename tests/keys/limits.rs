//! Limits of a key: requests, tokens and cost in a window, each for some models.

use serde_json::json;

use super::{ask, create, gateway, status, wait_of};
use crate::support::{Answer, Gateway, many, post, wait_for};

#[track_caller]
fn is_limited(answer: &Answer, said: &str) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "rate_limit_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(said), "{message}");
}

#[track_caller]
fn known(gateway: &Gateway, key: &str) {
    wait_for("the key", || {
        let models = crate::support::get("/v1/models").bearer(key);
        (gateway.send(&models).status != 401).then_some(())
    });
}

#[test]
fn a_tier_limits_each_of_its_keys_by_family_of_models() {
    let (gateway, _vendors) = gateway(
        "tiers: {high: {limits: [{models: '*opus*', requests: 2, window: 5h}, {models: '*sonnet*', requests: 3, window: 5h}]}}",
    );
    let key = create(&gateway.program, &["--tier", "high"]);
    let other = create(&gateway.program, &["--tier", "high"]);
    known(&gateway, &other);
    let asked = |model: &str, key: &str| gateway.send(&ask(model).bearer(key));
    for _ in 0..2 {
        assert_eq!(asked("claude-opus-4", &key).status, 200);
    }
    let refused = asked("claude-opus-4", &key);
    is_limited(&refused, "2 requests of *opus* in 5h");
    assert!(
        (17_900..=18_000).contains(&wait_of(&refused)),
        "{}",
        wait_of(&refused)
    );
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(asked("claude-sonnet-4", &key).status, 200);
    assert_eq!(asked("gpt-5", &key).status, 200, "no limit is for this one");
    assert_eq!(
        asked("claude-opus-4", &other).status,
        200,
        "each key has its own"
    );
    let rejected = gateway.metric("poolgate_key_rejections_total", &["reason=\"limit\""]);
    assert_eq!(rejected, 1.0);
}

#[test]
fn what_no_account_has_answered_does_not_count() {
    let (gateway, vendors) = gateway("tiers: {default: {limits: [{requests: 2, window: 1h}]}}");
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    for _ in 0..5 {
        let failed = ask("m").bearer(&key).header("x-mock-status", "400");
        assert_eq!(gateway.send(&failed).status, 400);
        let models = crate::support::get("/v1/models").bearer(&key);
        assert_eq!(
            gateway.send(&models).status,
            200,
            "nor what makes no model work"
        );
    }
    assert_eq!([0; 3].map(|_| status(&gateway, &key)), [200, 200, 429]);
    let seen = vendors[0].count("requests");
    assert_eq!(status(&gateway, &key), 429);
    assert_eq!(
        vendors[0].count("requests"),
        seen,
        "a refused one goes nowhere"
    );
}

#[test]
fn many_at_once_get_through_exactly_as_often_as_the_limit_says() {
    let (gateway, vendors) = gateway("tiers: {default: {limits: [{requests: 50, window: 1h}]}}");
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    let before = vendors[0].count("requests");
    let answers = many(gateway.address, &ask("m").bearer(&key), 20, 400);
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((count(200), count(429)), (50, 350));
    assert_eq!(vendors[0].count("requests") - before, 50);
}

/// So many requests have been settled: a client has its answer a moment before.
#[track_caller]
fn are_counted(gateway: &Gateway, requests: usize) {
    wait_for("the requests to be counted", || {
        let latest = crate::support::get("/api/v1/requests?last=10");
        let rows = gateway.admin(latest).json();
        let rows = rows["requests"].as_array()?.iter();
        let asked = rows.filter(|row| row["model"].is_string());
        (asked.count() >= requests).then_some(())
    });
}

#[test]
fn tokens_count_as_the_vendor_states_them_streamed_or_not() {
    let (gateway, _vendors) = gateway("tiers: {default: {limits: [{tokens: 100, window: 1h}]}}");
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    let asked = |usage: &str| gateway.send(&ask("m").bearer(&key).header("x-mock-usage", usage));
    assert_eq!(asked("30,10").status, 200);
    let stream = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": []});
    let stream = post("/v1/chat/completions", &stream).bearer(&key);
    let streamed = gateway.send(&stream.header("x-mock-usage", "20,30"));
    assert_eq!(streamed.status, 200);
    are_counted(&gateway, 2);
    assert_eq!(asked("5,5").status, 200, "10 are left");
    are_counted(&gateway, 3);
    let refused = asked("1,1");
    is_limited(&refused, "100 tokens in 1h");
    assert!((3_500..=3_600).contains(&wait_of(&refused)));
}

#[test]
fn cost_counts_by_the_prices_of_the_file() {
    let (gateway, _vendors) = gateway(
        "prices: [{models: 'gpt-5*', input: 1, cached: 0.1, output: 10}]\ntiers: {default: {limits: [{cost: 3, window: 1h}]}}",
    );
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    let asked =
        |usage: &str| gateway.send(&ask("gpt-5").bearer(&key).header("x-mock-usage", usage));
    // 1 + 1, then 0.5 × 0.1 + 0.5 × 1 + 0.45: what is cached is cheaper.
    assert_eq!(asked("1000000,100000").status, 200);
    assert_eq!(asked("1000000,44900,500000").status, 200);
    are_counted(&gateway, 2);
    assert_eq!(asked("1000,0").status, 200, "a tenth of a cent is left");
    are_counted(&gateway, 3);
    is_limited(&asked("1,1"), "a cost of 3 in 1h");
    let free = gateway.send(&ask("other").bearer(&key));
    assert_eq!(free.status, 429, "whatever the next one would cost");
}

#[test]
fn a_body_too_long_to_be_looked_through_costs_the_dearest_price() {
    let (gateway, _vendors) = gateway(
        "prices: [{models: 'gpt-5*', input: 1, output: 10}, {models: '*', input: 2, output: 1}]\n\
         tiers: {default: {limits: [{cost: 3, window: 1h}]}}",
    );
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    // Its length is not stated either: another model may follow, and it cannot be known which one counts.
    let content = "x".repeat(100_000);
    let text = json!({"model": "gpt-5", "messages": [{"role": "user", "content": content}]});
    let long = ask("gpt-5")
        .body(text.to_string())
        .chunked()
        .bearer(&key)
        .header("x-mock-usage", "1000000,100000");
    assert_eq!(gateway.send(&long).status, 200);
    // 2 of the one and 1 of the other.
    is_limited(
        &gateway.send(&ask("gpt-5").bearer(&key)),
        "a cost of 3 in 1h",
    );
}

#[test]
fn a_key_has_limits_of_its_own_besides_its_tiers() {
    let (gateway, _vendors) = gateway("tiers: {default: {limits: [{requests: 100, window: 1h}]}}");
    let key = create(&gateway.program, &["--limit", "1/30m of gpt-*"]);
    known(&gateway, &key);
    assert_eq!(status(&gateway, &key), 200);
    let refused = gateway.send(&ask("gpt-5").bearer(&key));
    is_limited(&refused, "1 requests of gpt-* in 30m");
    assert_eq!(gateway.send(&ask("claude-x").bearer(&key)).status, 200);
}

#[test]
fn a_short_window_lets_through_again_when_its_retry_after_says_so() {
    let (gateway, _vendors) = gateway("tiers: {default: {limits: [{requests: 1, window: 2s}]}}");
    let key = create(&gateway.program, &[]);
    known(&gateway, &key);
    assert_eq!(status(&gateway, &key), 200);
    let refused = gateway.send(&ask("m").bearer(&key));
    is_limited(&refused, "1 requests in 2s");
    std::thread::sleep(std::time::Duration::from_secs(wait_of(&refused)));
    assert_eq!(status(&gateway, &key), 200);
}
