//! What operators see of slots.

use serde_json::Value;

use super::{medium, served};
use crate::support::{Gateway, Mock, get, pool, post};

#[test]
fn the_command_draws_a_bar_for_each_account_and_a_countdown_for_each_key() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&medium(&vendors, 4, "", ""));
    for n in 0..4 {
        served(&gateway, n);
    }
    let (code, said, complaints) = gateway.program.command(&["slots"]);
    assert_eq!(code, Some(0), "{complaints}");
    let lines: Vec<String> = said
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for want in [
        "medium a0 2/2 [##]",
        "medium a1 1/2 [#-]",
        "medium a2 1/2 [#-]",
        "3 accounts, 6 slots: 4 used, 2 free (66 %)",
        "k0 cfg:k0 medium a0 23h 59m",
        "k3 cfg:k3 medium a0 23h 59m",
    ] {
        assert!(lines.iter().any(|line| line == want), "{want}\n{said}");
    }
    let (code, said, _) = gateway.program.command(&["slots", "--json"]);
    assert_eq!(code, Some(0));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["keys"].as_array().unwrap().len(), 4);
    assert_eq!(said["total"]["used"], 4);
}

#[test]
fn without_slots_the_command_says_so() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let (code, said, _) = gateway.program.command(&["slots"]);
    assert_eq!(
        (code, &*said),
        (Some(0), "no tier has slots (`assignment: slots`)\n")
    );
}

#[test]
fn keys_come_in_pages_with_all_accounts_on_each() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&medium(&vendors, 3, "", ""));
    for n in 0..3 {
        served(&gateway, n);
    }
    let first = gateway.admin(get("/api/v1/slots?limit=2")).json();
    assert_eq!(
        (&first["next"], &first["keys"][1]["name"]),
        (&"cfg:k1".into(), &"k1".into())
    );
    let rest = gateway
        .admin(get("/api/v1/slots?limit=2&cursor=cfg:k1"))
        .json();
    assert_eq!(
        (&rest["next"], &rest["keys"][0]["name"]),
        (&Value::Null, &"k2".into())
    );
    assert_eq!(rest["accounts"].as_array().unwrap().len(), 2);
}

#[test]
fn a_dry_run_names_the_account_that_a_key_holds() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&medium(&vendors, 2, "", ""));
    served(&gateway, 1);
    assert_eq!(served(&gateway, 0), "a1");
    let question = serde_json::json!({"model": "gpt-5", "key": "secret-of-k0"});
    for _ in 0..3 {
        let answer = gateway.admin(post("/api/v1/route", &question)).json();
        assert_eq!(answer["account"], "a1", "{answer}");
    }
}
