//! Accounts whose token expires: it is renewed in time, once, and never lost.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Gateway, Mock, chat, post, wait_for};

/// The first refresh token, as configured.
const FIRST: &str = "rt-the-configured-one";

/// A vendor that serves whoever has a token of its token endpoint.
fn vendor(oauth: &serde_json::Value) -> Mock {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": oauth}));
    vendor
}

/// An account of it, for a list of accounts.
fn account(id: &str, vendor: &Mock, more: &str) -> String {
    let url = vendor.url();
    format!(
        "      - {{id: {id}, upstream: \"{url}\", dialects: [openai]{more}, credential: {{oauth2: {{token_url: \
         \"{url}/oauth/token\", client_id: me, client_secret: cs-canary, refresh_token: {FIRST}}}}}}}\n"
    )
}

fn in_front_of(accounts: &str) -> Gateway {
    let gateway = Gateway::start(&format!("pools:\n  default:\n    accounts:\n{accounts}"));
    gateway.wait_until_ready();
    gateway
}

/// Requests for tokens.
fn asked(vendor: &Mock) -> u64 {
    vendor.count("token_requests")
}

#[test]
fn a_token_is_had_before_the_first_request_and_one_is_enough_for_all() {
    let vendor = vendor(&json!({}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        }
    });
    assert_eq!(asked(&vendor), 1);
    let view = gateway.account("a");
    assert_eq!(view["credential"]["kind"], "oauth2");
    assert!(view["credential"]["expires_at"].is_string(), "{view}");
    let left = gateway.metric("poolgate_token_expiry_seconds", &["account=\"a\""]);
    assert!((3500.0..=3600.0).contains(&left), "{left}");
}

#[test]
fn a_rotated_token_is_kept_over_a_restart() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    gateway.restart(Signal::SIGTERM);
    gateway.wait_until_ready();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 1, "the kept one is good still");
    // The configured one was used up: only the kept one can get another.
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn a_token_that_its_upstream_refuses_is_renewed_once_and_the_request_served() {
    let vendor = vendor(&json!({}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    // Every token that was issued is forgotten by the vendor.
    let expired = post("/mock/expire", &json!({})).send(vendor.address);
    assert_eq!(expired.status, 200);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        }
    });
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn a_login_that_is_over_takes_its_account_out_and_is_not_asked_about_again() {
    let dead = vendor(&json!({"error": "invalid_grant"}));
    let spare = Mock::start(&[]);
    let spare_account = format!(
        "      - {{id: b, priority: 1, upstream: \"{}\", credential: {{api_key: k}}}}\n",
        spare.url()
    );
    let gateway = in_front_of(&[account("a", &dead, ""), spare_account].concat());
    for _ in 0..5 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    assert_eq!(gateway.account("a")["status"], "needs_login");
    assert_eq!(asked(&dead), 1);
    // An operator who has logged in says so.
    dead.set(&json!({"oauth": {}}));
    gateway.act("a", "reset");
    wait_for("the account to serve again", || {
        (gateway.account("a")["status"] == "healthy").then_some(())
    });
    assert_eq!(asked(&dead), 2);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(dead.count("requests"), 1);
}

#[test]
fn a_token_endpoint_in_trouble_is_asked_again_and_waited_for() {
    let vendor = vendor(&json!({"error": "server_error"}));
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n{}",
        account("a", &vendor, "")
    ));
    wait_for("the endpoint to be asked", || {
        (asked(&vendor) > 0).then_some(())
    });
    wait_for("the account to be out", || {
        (gateway.account("a")["status"] == "unhealthy").then_some(())
    });
    vendor.set(&json!({"oauth": {}}));
    wait_for("the account to serve", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
}

#[test]
fn a_token_of_another_program_is_read_anew_when_it_writes_another() {
    let vendor = Mock::start(&["--token", "first-token", "--token", "second-token"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login.json");
    fs::write(&path, r#"{"access_token": "first-token", "expires_at": 1}"#).unwrap();
    let url = vendor.url();
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", credential: {{json_file: {{path: {}, expires: /expires_at}}}}}}]}}}}\n",
        path.display()
    ));
    wait_for("the account to be out", || {
        (gateway.account("a")["status"] == "needs_login").then_some(())
    });
    fs::write(
        &path,
        r#"{"access_token": "second-token", "expires_at": "2999-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    wait_for("the account to serve", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
}
