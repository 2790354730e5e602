//! What a key has used is remembered over a restart and an upgrade.

use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{ask, create, gateway, status};
use crate::support::{Gateway, Request, get, post, wait_for};

const LIMITS: &str = "tiers: {default: {limits: [{requests: 5, window: 1h}]}, tokens: {limits: [{tokens: 100, window: 1h}]}}";

fn used_up(gateway: &Gateway) -> [String; 2] {
    let requests = create(&gateway.program, &["--name", "requests"]);
    let tokens = create(&gateway.program, &["--name", "tokens", "--tier", "tokens"]);
    wait_for("the keys", || {
        (status(gateway, &requests) == 200).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(status(gateway, &requests), 200);
    }
    let asked = ask("m").bearer(&tokens).header("x-mock-usage", "100,50");
    wait_for("the other key", || {
        (gateway.send(&asked).status == 200).then_some(())
    });
    [requests, tokens]
}

#[track_caller]
fn goes_on(gateway: &Gateway, [requests, tokens]: &[String; 2]) {
    assert_eq!(status(gateway, tokens), 429, "its tokens were used before");
    assert_eq!(
        [0; 2].map(|_| status(gateway, requests)),
        [200, 429],
        "one of five was left"
    );
}

#[test]
fn limits_go_on_where_they_were_after_a_restart() {
    let (mut gateway, _vendors) = gateway(LIMITS);
    let keys = used_up(&gateway);
    gateway.restart(Signal::SIGTERM);
    goes_on(&gateway, &keys);
}

#[test]
fn limits_go_on_where_they_were_though_the_key_was_disabled_over_a_restart() {
    let (mut gateway, _vendors) = gateway(LIMITS);
    let keys = used_up(&gateway);
    let enable = |gateway: &Gateway, enabled: bool| {
        let listed = gateway.admin(get("/api/v1/keys")).json();
        for key in listed["keys"].as_array().unwrap() {
            let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
            let change = Request::new("PATCH", &path).header("content-type", "application/json");
            let change = change.body(json!({"enabled": enabled}).to_string());
            let changed = gateway.admin(change);
            assert_eq!(changed.status, 200, "{}", changed.text());
        }
    };
    enable(&gateway, false);
    gateway.restart(Signal::SIGTERM);
    let [requests, _] = &keys;
    assert_eq!(status(&gateway, requests), 401, "it is disabled");
    enable(&gateway, true);
    goes_on(&gateway, &keys);
}

#[test]
fn limits_go_on_where_they_were_after_an_upgrade() {
    let (gateway, _vendors) = gateway(LIMITS);
    let keys = used_up(&gateway);
    gateway.upgrade();
    goes_on(&gateway, &keys);
}

#[test]
fn what_the_old_process_still_serves_after_an_upgrade_counts_in_the_new_one() {
    const LARGE: &str = "tiers: {default: {limits: [{tokens: 1000000, window: 1h}]}}";
    let (gateway, _vendors) = gateway(LARGE);
    let key = create(&gateway.program, &["--name", "one"]);
    let small = ask("m").bearer(&key).header("x-mock-usage", "1,1");
    wait_for("the key", || {
        (gateway.send(&small).status == 200).then_some(())
    });
    let body = json!({
        "model": "m",
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Hello"}],
    });
    let stream = post("/v1/chat/completions", &body).bearer(&key);
    let stream = stream.header("x-mock-gap", "60ms");
    let stream = stream.header("x-mock-events", "50");
    let stream = stream.header("x-mock-usage", "900000,200000");
    thread::scope(|scope| {
        let served = scope.spawn(|| gateway.send(&stream));
        wait_for("the stream to begin", || {
            (gateway.metric("poolgate_active_requests", &[]) > 0.0).then_some(())
        });
        gateway.upgrade();
        assert_eq!(served.join().unwrap().status, 200);
    });
    wait_for("its tokens to count", || {
        (gateway.send(&small).status == 429).then_some(())
    });
}
