//! When a token is renewed, and who waits for it.

use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use poolgate::credential::cache::TokenCache;
use poolgate::credential::seal::Key;
use serde_json::json;

use super::{FIRST, account, asked, in_front_of, token_in_use, vendor};
use crate::support::{Gateway, Mock, chat, count, post, wait_for};

/// Stops the gateway and starts it again with so much left of its token's hour.
fn start_again_with_left(gateway: &mut Gateway, left: Duration) {
    gateway.program.stop(Signal::SIGTERM);
    let state = gateway.program.folder().join("data");
    let key = Key::open(&state.join("state.key"), None).unwrap();
    let cache = TokenCache::open(&state.join("tokens"), key).unwrap();
    let mut kept = cache.load("a").unwrap().unwrap();
    let ends = SystemTime::now() + left;
    kept.expires_at = Some(ends);
    kept.saved_at = ends - Duration::from_secs(3600);
    cache.save("a", &kept).unwrap();
    gateway.start_again();
}

#[test]
fn a_token_with_299_s_left_is_renewed_before_it_is_used() {
    let vendor = vendor(&json!({"delay": "300ms"}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    let first = token_in_use(&gateway);
    start_again_with_left(&mut gateway, Duration::from_secs(299));
    assert_ne!(token_in_use(&gateway), first);
    assert_eq!(asked(&vendor), 2);
}

/// The seconds between are for a busy machine: `schedule` has the exact moment.
#[test]
fn a_token_with_more_than_five_minutes_left_is_used_as_it_is() {
    let vendor = vendor(&json!({}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    let first = token_in_use(&gateway);
    start_again_with_left(&mut gateway, Duration::from_secs(330));
    assert_eq!(token_in_use(&gateway), first);
    assert_eq!(asked(&vendor), 1);
}

#[test]
fn a_token_endpoint_that_hangs_keeps_nobody_from_a_token_that_lives() {
    let vendor = vendor(&json!({}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    let first = token_in_use(&gateway);
    vendor.set(&json!({"oauth": {"delay": "60s"}}));
    start_again_with_left(&mut gateway, Duration::from_secs(299));
    assert_eq!(token_in_use(&gateway), first);
}

#[test]
fn a_request_for_which_there_is_no_token_yet_is_told_to_come_again() {
    let vendor = vendor(&json!({"delay": "60s"}));
    for attempts in [1, 3] {
        let gateway = Gateway::start(&format!(
            "pools:\n  default:\n    retry: {{attempts: {attempts}}}\n    queue: {{timeout: 300ms}}\n    accounts:\n{}",
            account("a", &vendor, "")
        ));
        let answer = gateway.send(&chat(false));
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "no_account_available");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(vendor.count("requests"), 0);
}

#[test]
fn a_token_that_was_refused_is_not_used_by_others_while_the_next_one_is_awaited() {
    let vendor = vendor(&json!({}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    vendor.set(&json!({"oauth": {"delay": "2s"}}));
    post("/mock/expire", &json!({})).send(vendor.address);
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        wait_for("the renewal", || (asked(&vendor) == 2).then_some(()));
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        }
    });
    // One before, one refused and sent again, ten that waited.
    assert_eq!((asked(&vendor), vendor.count("requests")), (2, 13));
}

#[test]
fn a_token_that_was_refused_and_cannot_be_replaced_is_left_alone_and_another_account_serves() {
    let vendor = vendor(&json!({}));
    let spare = Mock::start(&[]);
    let spare_account = format!(
        "      - {{id: b, priority: 1, upstream: \"{}\", credential: {{api_key: k}}}}\n",
        spare.url()
    );
    let gateway = in_front_of(&[account("a", &vendor, ""), spare_account].concat());
    wait_for("the token", || {
        gateway.account("a")["credential"]["expires_at"]
            .is_string()
            .then_some(())
    });
    vendor.set(&json!({"oauth": {"error": "server_error"}}));
    post("/mock/expire", &json!({})).send(vendor.address);
    for _ in 0..10 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    assert_eq!((vendor.count("requests"), spare.count("requests")), (1, 10));
    assert_eq!(gateway.account("a")["status"], "unhealthy");
    vendor.set(&json!({"oauth": {}}));
    wait_for("the account to serve again", || {
        (gateway.account("a")["status"] == "healthy").then_some(())
    });
}

#[test]
fn a_vendor_that_said_no_is_not_asked_again_however_long_one_waits() {
    let dead = vendor(&json!({"error": "invalid_grant"}));
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n{}",
        account("a", &dead, "")
    ));
    wait_for("the account to be out", || {
        (gateway.account("a")["status"] == "needs_login").then_some(())
    });
    for _ in 0..count(15, 300) {
        assert_eq!(gateway.send(&chat(false)).status, 503);
        // What must not happen has this long to happen.
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(asked(&dead), 1);
}

/// As two gateways that a machine starts at once over one folder.
#[test]
fn of_two_processes_that_begin_together_one_asks_and_both_have_the_token() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST], "delay": "2s"}));
    let accounts = account("a", &vendor, "");
    let text = |state: &str| format!("{state}pools:\n  default:\n    accounts:\n{accounts}");
    let first = Gateway::start(&text(""));
    let state = first.program.folder().join("data");
    let second = Gateway::start(&text(&format!("state: {{dir: {}}}\n", state.display())));
    for gateway in [&first, &second] {
        let answer = gateway.send(&chat(false));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(asked(&vendor), 1);
}
