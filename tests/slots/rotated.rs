//! A key gets another account when its time is over, and its owner is told in the log.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{held, medium, served, slots, with_key};
use crate::support::{Gateway, Mock, get, wait_for};

/// When the first key's next rotation is due, and when its last one was.
fn rotations(gateway: &Gateway) -> (jiff::Timestamp, jiff::Timestamp) {
    let slots = slots(gateway);
    let at = |name: &str| slots["keys"][0][name].as_str().unwrap().parse().unwrap();
    (at("last_rotation"), at("next_rotation"))
}

#[track_caller]
fn wait_until_due(gateway: &Gateway) {
    let (_, next) = rotations(gateway);
    wait_for("the key to be due", || {
        (jiff::Timestamp::now() > next).then_some(())
    });
}

#[test]
fn the_first_request_after_a_period_brings_another_account_and_the_log_says_so() {
    let vendors = [Mock::start(&[]), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, ", rotate_every: 3s", ""));
    assert_eq!(served(&gateway, 0), "a0");
    let (last, next) = rotations(&gateway);
    assert_eq!(next.duration_since(last).as_secs(), 3);
    wait_until_due(&gateway);
    assert_eq!(held(&gateway)["k0"], "a0", "nobody has used the key since");
    assert_eq!(served(&gateway, 0), "a1");
    let key = &slots(&gateway)["keys"][0];
    assert_eq!(key["previous_account"], "a0");
    assert_eq!(held(&gateway).len(), 1);
    assert_eq!(
        gateway.metric("poolgate_slot_rotations_total", &["tier=\"medium\""]),
        1.0
    );
    let log = gateway.log();
    for said in [
        "Rotated to account: a0 (will rotate in 3 seconds)",
        "Rotated to account: a1 (will rotate in 3 seconds)",
        "Previous account was: a0",
        "Successfully obtained token from pool account: a1",
    ] {
        assert!(log.contains(said), "{said}\n{log}");
    }
    assert!(
        !log.contains("key-0") && !log.contains("secret-of"),
        "{log}"
    );
}

#[test]
fn ordinary_requests_say_how_long_the_account_is_theirs() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, "", ""));
    served(&gateway, 0);
    let first = "Rotated to account: a0 (will rotate in 24 hours)";
    assert!(gateway.log().contains(first));
    assert!(!gateway.log().contains("Using current account"));
    for _ in 0..20 {
        served(&gateway, 0);
    }
    let said = "Using current account: a0 (23 hours until rotation)";
    let lines = gateway.log().matches(said).count();
    assert_eq!(lines, 1, "not once for each request");
}

#[test]
fn the_least_taken_account_may_be_the_same_again() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, ", rotate_every: 1s", ""));
    assert_eq!(served(&gateway, 0), "a0");
    let (before, _) = rotations(&gateway);
    wait_until_due(&gateway);
    assert_eq!(served(&gateway, 0), "a0");
    let (after, _) = rotations(&gateway);
    assert!(after > before);
}

#[test]
fn a_stream_goes_on_where_it_is_while_its_key_moves() {
    let stream = ["--events", "40", "--gap", "100ms"];
    let vendors = [Mock::start(&stream), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, "", ""));
    let long = crate::support::chat(true).bearer("secret-of-k0");
    let mut reply = long.open(gateway.address).unwrap();
    assert!(reply.event().unwrap().is_some());
    gateway.act("a0", "disable");
    assert_eq!(served(&gateway, 0), "a1");
    let rest = reply.events().unwrap();
    assert_eq!(rest.last().unwrap().data, "[DONE]");
    assert!(rest.len() > 30);
}

#[test]
fn an_answer_is_gone_on_from_where_it_was_given_also_when_its_key_has_moved() {
    let vendors = [Mock::start(&[]), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 2, ", slots_per_account: 1", ""));
    let respond = |n: usize, before: Option<&str>| {
        let mut body = serde_json::json!({"model": "gpt-5", "input": "hi"});
        if let Some(before) = before {
            body["previous_response_id"] = before.into();
        }
        let request = crate::support::post("/v1/responses", &body);
        gateway.send(&request.bearer(&format!("secret-of-k{n}")))
    };
    let first = respond(0, None);
    assert_eq!(super::account(&first), "a0");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    gateway.act("a0", "disable");
    assert_eq!(served(&gateway, 0), "a1");
    gateway.act("a0", "enable");
    assert_eq!(super::account(&respond(0, Some(&id))), "a0");
    assert_eq!(held(&gateway)["k0"], "a1", "its slot stays where it is");
    assert_eq!(served(&gateway, 0), "a1");
    assert_eq!(super::account(&respond(1, Some(&id))), "a0");
    assert_eq!(held(&gateway)["k1"], "a0", "who has no slot gets one");
    gateway.act("a0", "disable");
    let answer = respond(0, Some(&id));
    assert_eq!(
        answer.status,
        503,
        "nobody else knows it: {}",
        answer.text()
    );
}

#[test]
fn a_restart_and_an_upgrade_leave_every_key_where_it_is() {
    let vendors = [Mock::start(&[]), Mock::start(&[]), Mock::start(&[])];
    let mut gateway = Gateway::start(&medium(&vendors, 4, "", ""));
    for n in [3, 1, 2, 0] {
        served(&gateway, n);
    }
    let before = held(&gateway);
    let times = rotations(&gateway);
    gateway.restart(Signal::SIGTERM);
    assert_eq!(held(&gateway), before);
    gateway.wait_until_it_takes_orders();
    gateway.upgrade();
    assert_eq!(rotations(&gateway), times);
    for n in 0..4 {
        assert_eq!(served(&gateway, n), before[&format!("k{n}")]);
    }
}

#[test]
fn a_lower_limit_empties_accounts_by_rotation_and_throws_nobody_out() {
    let vendors = [Mock::start(&[])];
    let text = medium(&vendors, 2, ", rotate_every: 4s", "");
    let gateway = Gateway::start(&text);
    served(&gateway, 0);
    served(&gateway, 1);
    let file = std::fs::read_to_string(gateway.program.folder().join("poolgate.yaml")).unwrap();
    let lower = file.replace("rotate_every: 4s", "rotate_every: 4s, slots_per_account: 1");
    gateway.program.write("poolgate.yaml", &lower);
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    // Both are served until the first of them is due, and then it has no place any more.
    let mut statuses = [200, 200];
    wait_for("one key to lose its place", || {
        for (n, status) in statuses.iter_mut().enumerate() {
            *status = gateway.send(&with_key(n)).status;
        }
        assert!(statuses.contains(&200), "{statuses:?}");
        std::thread::sleep(Duration::from_millis(50));
        statuses.contains(&503).then_some(())
    });
    assert_eq!(held(&gateway).len(), 1);
    assert_eq!(
        gateway.admin(get("/api/v1/slots")).json()["total"]["slots"],
        1
    );
}
