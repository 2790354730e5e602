//! Keys that one account alone serves.

use serde_json::json;

use super::{account, clients, held};
use crate::support::{Gateway, Mock, chat, pool};

/// Keys of a tier with slots, one that is bound to a1 by its tier, and one of the tier with slots that
/// is bound to a1, too.
fn house(vendors: &[Mock]) -> Gateway {
    let bound = "    - {name: b0, key: secret-of-b0, tier: high, account: a1, expose_account: true}\n    \
         - {name: b1, key: secret-of-b1, tier: medium, account: a1, expose_account: true}\n";
    let text = clients(1, "").replace("tiers:\n", &format!("{bound}tiers:\n"));
    Gateway::start(&(text + &pool(vendors, "")))
}

#[test]
fn a_bound_key_is_always_served_by_its_account_and_takes_no_slot() {
    let vendors = Mock::several(3, &[]);
    let gateway = house(&vendors);
    for name in ["b0", "b1"] {
        let request = chat(false).bearer(&format!("secret-of-{name}"));
        for _ in 0..5 {
            assert_eq!(account(&gateway.send(&request)), "a1");
        }
    }
    assert!(held(&gateway).is_empty());
}

#[test]
fn a_bound_key_never_moves_whatever_becomes_of_its_account() {
    let vendors = Mock::several(3, &[]);
    let gateway = house(&vendors);
    let request = chat(false).bearer("secret-of-b0");
    gateway.act("a1", "disable");
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "no_account_available");
    gateway.act("a1", "enable");
    vendors[1].set(&json!({"behaviour": {"status": "500"}}));
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 500, "its own answer: {}", answer.text());
    vendors[1].set(&json!({"behaviour": {}}));
    assert_eq!(account(&gateway.send(&request)), "a1");
    assert_eq!(
        vendors[0].count("requests") + vendors[2].count("requests"),
        0
    );
}

#[test]
fn a_bound_key_whose_account_is_gone_is_told_so() {
    let vendors = Mock::several(3, &[]);
    let gateway = house(&vendors);
    let create = json!({"name": "bound", "tier": "high", "account": "a2"});
    let made = gateway.admin(crate::support::post("/api/v1/keys", &create));
    assert_eq!(made.status, 201, "{}", made.text());
    let request = chat(false).bearer(made.json()["key"].as_str().unwrap());
    assert_eq!(gateway.send(&request).status, 200);
    let file = std::fs::read_to_string(gateway.program.folder().join("poolgate.yaml")).unwrap();
    let without: Vec<&str> = file
        .lines()
        .filter(|line| !line.contains("id: a2"))
        .collect();
    gateway
        .program
        .write("poolgate.yaml", &(without.join("\n") + "\n"));
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "no_account_available");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("is gone") && !message.contains("a2"),
        "{message}"
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}
