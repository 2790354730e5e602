//! Who gets a slot, and of which account.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use super::{account, clients, held, medium, served, slots, with_key};
use crate::support::{Gateway, Mock, many, pool, post, wait_for};

#[test]
fn a_key_holds_no_slot_before_its_first_request_and_one_from_then_on() {
    let vendors = [Mock::start(&[]), Mock::start(&[]), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 2, "", ""));
    assert!(held(&gateway).is_empty());
    for _ in 0..10 {
        assert_eq!(served(&gateway, 0), "a0");
    }
    assert_eq!(
        held(&gateway),
        BTreeMap::from([("k0".to_owned(), "a0".to_owned())])
    );
    let slots = slots(&gateway);
    let total = json!({"accounts": 3, "slots": 6, "used": 1, "free": 5, "percent": 16});
    assert_eq!(slots["total"], total);
    let key = &slots["keys"][0];
    assert_eq!(
        (&key["id"], &key["tier"]),
        (&json!("cfg:k0"), &json!("medium"))
    );
    assert_eq!(key["previous_account"], Value::Null);
    assert_eq!(
        gateway.metric("poolgate_slots_used", &["account=\"a0\""]),
        1.0
    );
    assert_eq!(
        gateway.metric("poolgate_slots_limit", &["account=\"a0\""]),
        2.0
    );
}

#[test]
fn of_a_hundred_keys_at_once_exactly_as_many_are_served_as_there_are_slots() {
    let vendor = Mock::start(&[]);
    let account = |n| format!("    - {{id: a{n}, upstream: \"{}\"}}\n", vendor.url());
    let accounts: String = (0..10).map(account).collect();
    let gateway = Gateway::start(&format!(
        "{}pools:\n  default:\n    accounts:\n{}",
        clients(100, ""),
        accounts.replace("    - ", "      - ")
    ));
    let start = Barrier::new(100);
    let answers: Vec<_> = thread::scope(|scope| {
        let (start, gateway) = (&start, &gateway);
        let client = |n| {
            scope.spawn(move || {
                start.wait();
                gateway.send(&with_key(n))
            })
        };
        let clients: Vec<_> = (0..100).map(client).collect();
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.collect()
    });
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let full: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 503)
        .collect();
    assert_eq!((served, full.len()), (20, 80));
    for answer in full {
        assert_eq!(
            answer.json()["error"]["code"],
            "capacity_error",
            "{}",
            answer.text()
        );
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(
            wait > 23 * 3600 && wait <= 24 * 3600,
            "an idle key's slot is free in a day: {wait}"
        );
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    assert_eq!(held(&gateway).len(), 20);
    for n in 0..10 {
        let account = format!("account=\"a{n}\"");
        assert_eq!(gateway.metric("poolgate_slots_used", &[&account]), 2.0);
    }
    assert_eq!(vendor.count("requests"), 20);
}

#[test]
fn clients_are_told_in_their_dialect_that_all_is_taken() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 2, ", slots_per_account: 1", ""));
    served(&gateway, 0);
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": []});
    let request = post("/v1/messages", &body).header("x-api-key", "secret-of-k1");
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 503);
    let said = answer.json();
    assert_eq!(
        (&said["type"], &said["error"]["type"]),
        (&json!("error"), &json!("capacity_error"))
    );
    assert!(said["error"]["message"].is_string());
}

#[test]
fn keys_spread_one_on_each_account_and_then_two() {
    let vendors = [Mock::start(&[]), Mock::start(&[]), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 7, "", ""));
    let got: Vec<String> = (0..6).map(|n| served(&gateway, n)).collect();
    assert_eq!(got, ["a0", "a1", "a2", "a0", "a1", "a2"]);
    assert_eq!(gateway.send(&with_key(6)).status, 503);
    for (n, account) in got.iter().enumerate() {
        assert_eq!(served(&gateway, n), *account, "and each stays where it is");
    }
}

#[test]
fn a_key_that_a_team_shares_takes_one_slot() {
    let vendors = [Mock::start(&["--delay", "50ms"]), Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, "", ""));
    let answers = many(gateway.address, &with_key(0), 20, 60);
    assert_eq!(answers.len(), 60);
    for answer in &answers {
        assert_eq!(account(answer), "a0");
    }
    assert_eq!(held(&gateway).len(), 1);
}

#[test]
fn a_key_waits_for_a_place_of_its_busy_account_and_takes_no_other() {
    let vendors = [Mock::start(&["--delay", "100ms"]), Mock::start(&[])];
    let text = medium(&vendors, 1, "", "").replace("{id: a0,", "{id: a0, max_concurrent: 1,");
    let gateway = Gateway::start(&text);
    let answers = many(gateway.address, &with_key(0), 5, 10);
    assert!(answers.iter().all(|answer| account(answer) == "a0"));
    assert_eq!(vendors[0].count("max_in_flight_seen"), 1);
}

#[test]
fn accounts_of_a_better_priority_fill_up_first() {
    let vendors = [Mock::start(&[]), Mock::start(&[]), Mock::start(&[])];
    let text = medium(&vendors, 5, "", "").replace("{id: a0,", "{id: a0, priority: 1,");
    let gateway = Gateway::start(&text.replace("{id: a1,", "{id: a1, weight: 0,"));
    let got: Vec<String> = (0..5).map(|n| served(&gateway, n)).collect();
    assert_eq!(got, ["a2", "a2", "a0", "a0", "a1"]);
}

#[test]
fn only_a_tier_that_asks_for_slots_has_them() {
    let vendors = [Mock::start(&[]), Mock::start(&[])];
    let plain = "    - {name: free, key: secret-of-free, expose_account: true}\n";
    let text = clients(1, "").replace("tiers:\n", &format!("{plain}tiers:\n"));
    let keys = "    strategy: round_robin\n";
    let gateway = Gateway::start(&(text + &pool(&vendors, keys)));
    served(&gateway, 0);
    let free = crate::support::chat(false).bearer("secret-of-free");
    let got: Vec<String> = (0..4).map(|_| account(&gateway.send(&free))).collect();
    assert_eq!(got, ["a0", "a1", "a0", "a1"]);
    assert_eq!(held(&gateway).len(), 1);
}

#[test]
fn a_keys_last_use_is_shown_as_soon_as_it_was() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&medium(&vendors, 1, "", ""));
    let last_used = || {
        let shown = slots(&gateway)["keys"][0]["last_used"].clone();
        shown.as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    served(&gateway, 0);
    let first = last_used();
    wait_for("the clock to go on", || {
        (jiff::Timestamp::now().duration_since(first).as_millis() > 20).then_some(())
    });
    served(&gateway, 0);
    assert!(last_used() > first, "the book hears of it later");
}
