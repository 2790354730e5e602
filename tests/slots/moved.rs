//! Accounts that go or fail: their keys get another one within the same request.

use std::fs;

use serde_json::json;

use super::{account, clients, held, medium, served, with_key};
use crate::support::{Gateway, Mock, many, wait_for};

/// k0 on a0, k1 on a1, and two more accounts.
fn two_of_four(of_pool: &str) -> (Vec<Mock>, Gateway) {
    let vendors = Mock::several(4, &[]);
    let gateway = Gateway::start(&medium(&vendors, 2, "", of_pool));
    assert_eq!([served(&gateway, 0), served(&gateway, 1)], ["a0", "a1"]);
    (vendors, gateway)
}

#[track_caller]
fn assert_moved(gateway: &Gateway) {
    let held = held(gateway);
    assert_eq!((held.len(), &*held["k0"], &*held["k1"]), (2, "a2", "a1"));
    assert_eq!(served(gateway, 0), "a2");
    assert_eq!(
        gateway.metric("poolgate_slot_rotations_total", &["tier=\"medium\""]),
        1.0
    );
}

#[test]
fn a_vendor_that_is_gone_is_not_noticed() {
    let (mut vendors, gateway) = two_of_four("");
    drop(vendors.remove(0));
    assert_eq!(served(&gateway, 0), "a2");
    assert_moved(&gateway);
}

#[test]
fn an_account_whose_credential_is_refused_is_left_within_the_request() {
    let (vendors, gateway) = two_of_four("");
    vendors[0].set(&json!({"behaviour": {"status": "401"}}));
    let answer = gateway.send(&with_key(0));
    assert_eq!(account(&answer), "a2");
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(gateway.tries(id), "a0:auth_dead,a2:success");
    vendors[0].set(&json!({"behaviour": {}}));
    assert_moved(&gateway);
}

#[test]
fn an_account_without_any_quota_left_is_left_within_the_request() {
    let (vendors, gateway) = two_of_four("");
    vendors[0].set(&json!({"behaviour": {"status": "402"}}));
    assert_eq!(served(&gateway, 0), "a2");
    assert_moved(&gateway);
}

#[test]
fn an_account_that_is_limited_for_longer_than_anybody_waits_is_left_within_the_request() {
    let (vendors, gateway) = two_of_four("    queue: {timeout: 5s}\n");
    vendors[0].set(&json!({"behaviour": {"status": "429", "retry-after": "60"}}));
    assert_eq!(served(&gateway, 0), "a2");
    assert_moved(&gateway);
}

#[test]
fn a_limit_that_is_over_soon_is_waited_for() {
    let (vendors, gateway) = two_of_four("");
    vendors[0].set(&json!({"behaviour": {"status": "429", "retry-after": "2"}}));
    let limited = with_key(0);
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gateway.send(&limited));
        wait_for("the limit", || {
            (gateway.account("a0")["status"] == "cooling" || gateway.account("a0")["failures"] == 1)
                .then_some(())
        });
        vendors[0].set(&json!({"behaviour": {}}));
        waiting.join().unwrap()
    });
    assert_eq!(account(&answer), "a0");
    assert_eq!(held(&gateway)["k0"], "a0");
}

#[test]
fn an_overloaded_vendor_moves_no_key() {
    let (vendors, gateway) = two_of_four("");
    vendors[0].set(&json!({"behaviour": {"status": "529"}}));
    let answer = gateway.send(&with_key(0));
    assert_eq!(answer.status, 529, "its own answer: {}", answer.text());
    assert_eq!(held(&gateway)["k0"], "a0");
}

#[test]
fn an_account_that_is_disabled_is_left_once_by_all_requests_of_its_key() {
    let (_vendors, gateway) = two_of_four("");
    gateway.act("a0", "disable");
    for answer in many(gateway.address, &with_key(0), 50, 50) {
        assert_eq!(account(&answer), "a2");
    }
    assert_moved(&gateway);
}

#[test]
fn an_account_whose_login_is_refused_is_given_to_nobody() {
    let vendors = Mock::several(2, &[]);
    let refusing = Mock::start(&["--status", "400", "--body", "invalid_grant"]);
    let oauth = format!(
        "{{oauth2: {{token_url: \"{}/oauth/token\", client_id: c, client_secret: s, refresh_token: r}}}}",
        refusing.url()
    );
    let text = medium(&vendors, 2, "", "").replace("{api_key: key-0}", &oauth);
    let gateway = Gateway::start(&text);
    wait_for("the login to be refused", || {
        let status = gateway.account("a0")["status"].clone();
        (status != "healthy").then_some(())
    });
    assert_eq!([served(&gateway, 0), served(&gateway, 1)], ["a1", "a1"]);
}

#[test]
fn a_request_that_fails_everywhere_does_not_drag_its_key_along() {
    let vendors = Mock::several(4, &["--status", "500"]);
    let keys = "    breaker: {enabled: false}\n    retry: {attempts: 2}\n";
    let gateway = Gateway::start(&medium(&vendors, 1, "", keys));
    for _ in 0..10 {
        assert_eq!(gateway.send(&with_key(0)).status, 500);
    }
    let rotations = gateway.metric("poolgate_slot_rotations_total", &["tier=\"medium\""]);
    assert!(
        rotations <= 2.0,
        "once, and perhaps again ten seconds later: {rotations}"
    );
    assert_eq!(held(&gateway).len(), 1);
}

#[test]
fn a_key_whose_account_is_out_keeps_its_slot_where_no_other_has_room() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&medium(&vendors, 2, ", slots_per_account: 1", ""));
    served(&gateway, 0);
    served(&gateway, 1);
    gateway.act("a0", "disable");
    let answer = gateway.send(&with_key(0));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "capacity_error");
    gateway.act("a0", "enable");
    assert_eq!(served(&gateway, 0), "a0");
}

#[test]
fn without_an_account_that_could_serve_that_is_said() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&medium(&vendors, 1, "", ""));
    for id in ["a0", "a1"] {
        gateway.act(id, "disable");
    }
    let answer = gateway.send(&with_key(0));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "no_account_available");
    assert!(held(&gateway).is_empty());
}

/// A pool whose accounts are the files of a folder.
fn from_files(vendor: &Mock, keys: usize) -> Gateway {
    let discover = format!(
        "pools:\n  default:\n    discover:\n      dir: medium\n      id: \"{{stem}}\"\n      account: \
         {{upstream: \"{}\", credential: {{json_file: {{path: \"{{auth_file}}\", token: /token}}}}}}\n",
        vendor.url()
    );
    let gateway = Gateway::start(&(clients(keys, ", slots_per_account: 1") + &discover));
    fs::create_dir(gateway.program.folder().join("medium")).unwrap();
    gateway
}

#[test]
fn an_account_whose_file_is_deleted_is_left_within_the_request_and_one_that_comes_is_used() {
    let vendor = Mock::start(&[]);
    let gateway = from_files(&vendor, 2);
    let empty = gateway.send(&with_key(0));
    assert_eq!(empty.status, 503, "{}", empty.text());
    assert_eq!(empty.json()["error"]["code"], "no_account_available");
    let add = |name: &str| {
        let token = json!({"token": format!("token-{name}")}).to_string();
        gateway
            .program
            .write(&format!("medium/{name}.json"), &token);
        wait_for("the new account", || {
            let known = crate::support::get(&format!("/api/v1/accounts/{name}"));
            (gateway.admin(known).status == 200).then_some(())
        });
    };
    add("one");
    assert_eq!(served(&gateway, 0), "one");
    assert_eq!(gateway.send(&with_key(1)).status, 503, "all is taken");
    add("two");
    wait_for("the new account's slot", || {
        (gateway.send(&with_key(1)).status == 200).then_some(())
    });
    fs::remove_file(gateway.program.folder().join("medium/one.json")).unwrap();
    gateway.program.write("medium/bad.json", "{");
    add("three");
    let mut seen = Vec::new();
    wait_for("the key to leave", || {
        let account = served(&gateway, 0);
        seen.push(account.clone());
        (account == "three").then_some(())
    });
    assert!(
        seen.iter()
            .all(|account| account == "one" || account == "three"),
        "{seen:?}"
    );
    assert_eq!(held(&gateway)["k0"], "three");
}
