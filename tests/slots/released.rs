//! Slots that become free: their keys are gone, expired, or were not used for long.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{account, clients, held, medium, served, wait_for_held, with_key};
use crate::support::{Gateway, Mock, Request, chat, pool, post, wait_for};

/// One account with one slot, and one key that has it.
fn taken() -> (Mock, Gateway, String, Request) {
    let vendor = Mock::start(&[]);
    let text = clients(1, ", slots_per_account: 1") + &pool(std::slice::from_ref(&vendor), "");
    let gateway = Gateway::start(&text);
    let create = json!({"name": "issued", "tier": "medium", "expose_account": true});
    let made = gateway.admin(post("/api/v1/keys", &create));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let request = chat(false).bearer(made["key"].as_str().unwrap());
    assert_eq!(account(&gateway.send(&request)), "a0");
    assert_eq!(gateway.send(&with_key(0)).status, 503);
    (
        vendor,
        gateway,
        made["id"].as_str().unwrap().to_owned(),
        request,
    )
}

#[track_caller]
fn assert_free_for_another(gateway: &Gateway) {
    wait_for("the slot to be another key's", || {
        (gateway.send(&with_key(0)).status == 200).then_some(())
    });
    assert_eq!(held(gateway).into_keys().collect::<Vec<_>>(), ["k0"]);
}

#[test]
fn a_revoked_key_gives_its_slot_back() {
    let (_vendor, gateway, id, request) = taken();
    let revoked = gateway.admin(
        Request::new("DELETE", &format!("/api/v1/keys/{id}"))
            .header("content-type", "application/json"),
    );
    assert!(revoked.status < 300, "{}", revoked.text());
    assert_eq!(gateway.send(&request).status, 401);
    assert_free_for_another(&gateway);
}

#[test]
fn an_expired_key_is_refused_and_gives_its_slot_back() {
    let (_vendor, gateway, id, request) = taken();
    let soon = SystemTime::now() + Duration::from_secs(1);
    let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expires = json!({"expires_at": u64::try_from(soon.as_millis()).unwrap()});
    let change = Request::new("PATCH", &format!("/api/v1/keys/{id}"))
        .header("content-type", "application/json")
        .body(expires.to_string());
    let changed = gateway.admin(change);
    assert_eq!(changed.status, 200, "{}", changed.text());
    wait_for("the key to expire", || {
        (gateway.send(&request).status == 401).then_some(())
    });
    assert_free_for_another(&gateway);
}

#[test]
fn a_key_that_changes_its_tier_gives_its_slot_back() {
    let (_vendor, gateway, id, request) = taken();
    let change = Request::new("PATCH", &format!("/api/v1/keys/{id}"))
        .header("content-type", "application/json")
        .body(json!({"tier": "default"}).to_string());
    let changed = gateway.admin(change);
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_free_for_another(&gateway);
    assert_eq!(
        gateway.send(&request).status,
        200,
        "and needs none any more"
    );
}

#[test]
fn an_idle_key_gives_its_slot_back_and_one_whose_stream_goes_on_does_not() {
    let vendors = [
        Mock::start(&["--events", "60", "--gap", "100ms"]),
        Mock::start(&[]),
    ];
    let tier = ", slots_per_account: 1, idle_release: 2s";
    let gateway = Gateway::start(&medium(&vendors, 3, tier, ""));
    let mut reply = chat(true)
        .bearer("secret-of-k0")
        .open(gateway.address)
        .unwrap();
    assert!(reply.event().unwrap().is_some());
    assert_eq!(served(&gateway, 1), "a1");
    let full = gateway.send(&with_key(2));
    assert_eq!(full.status, 503);
    let wait: u64 = full.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(wait_for_held(&gateway, 1)["k0"], "a0", "its stream goes on");
    assert_eq!(served(&gateway, 2), "a1");
    assert_eq!(reply.events().unwrap().last().unwrap().data, "[DONE]");
    wait_for_held(&gateway, 0);
}

#[test]
fn a_key_that_left_the_configuration_gives_its_slot_back() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 2, "", ""));
    served(&gateway, 0);
    served(&gateway, 1);
    let file = std::fs::read_to_string(gateway.program.folder().join("poolgate.yaml")).unwrap();
    let without: Vec<&str> = file
        .lines()
        .filter(|line| !line.contains("name: k1"))
        .collect();
    gateway
        .program
        .write("poolgate.yaml", &(without.join("\n") + "\n"));
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert_eq!(wait_for_held(&gateway, 1)["k0"], "a0");
}
