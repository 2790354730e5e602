//! Keys of a tier with slots: one account at a time, few keys on each, and no client that notices
//! when its key gets another one.

mod assigned;
mod bound;
mod gateways;
mod killed;
mod moved;
mod released;
mod rotated;
mod shown;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Answer, Gateway, Mock, Request, chat, get, pool, wait_for};

/// The configuration of a tier `medium` with slots over these vendors' accounts a0, a1 …, with `keys`
/// keys k0, k1 … in it whose answers say which account it was. `tier` and `of_pool` are more keys of
/// each, the first beginning with a comma, the second a line.
fn medium(vendors: &[Mock], keys: usize, tier: &str, of_pool: &str) -> String {
    format!("{}{}", clients(keys, tier), pool(vendors, of_pool))
}

/// The same without its pools.
fn clients(keys: usize, tier: &str) -> String {
    let key = |n: usize| {
        format!("    - {{name: k{n}, key: secret-of-k{n}, tier: medium, expose_account: true}}\n")
    };
    let keys: String = (0..keys).map(key).collect();
    format!(
        "clients:\n  keys:\n{keys}tiers:\n  medium: {{assignment: slots{tier}}}\n  \
         high: {{assignment: bound}}\n"
    )
}

/// A chat with this key.
fn with_key(n: usize) -> Request {
    chat(false).bearer(&format!("secret-of-k{n}"))
}

/// Has the key's request served; by which account.
#[track_caller]
fn served(gateway: &Gateway, n: usize) -> String {
    account(&gateway.send(&with_key(n)))
}

#[track_caller]
fn account(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-poolgate-account").unwrap().to_owned()
}

/// What `GET /api/v1/slots` says.
#[track_caller]
fn slots(gateway: &Gateway) -> Value {
    let answer = gateway.admin(get("/api/v1/slots?limit=1000"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let slots = answer.json();
    assert_eq!(slots["problem"], Value::Null, "{slots}");
    slots
}

/// Name and account of each key that holds a slot. Of each account as many are counted as hold one.
#[track_caller]
fn held(gateway: &Gateway) -> BTreeMap<String, String> {
    let slots = slots(gateway);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = slots["keys"].as_array().unwrap();
    let held: BTreeMap<_, _> = keys
        .iter()
        .map(|key| (text(&key["name"]), text(&key["account"])))
        .collect();
    assert_eq!(
        held.len(),
        keys.len(),
        "a key holds one slot at most: {slots}"
    );
    for account in slots["accounts"].as_array().unwrap() {
        let id = text(&account["account"]);
        let here = held.values().filter(|held| **held == id).count();
        assert_eq!(account["used"], here, "{slots}");
    }
    held
}

/// Waits until so many keys hold a slot.
#[track_caller]
fn wait_for_held(gateway: &Gateway, count: usize) -> BTreeMap<String, String> {
    wait_for(&format!("{count} slots to be held"), || {
        let held = held(gateway);
        (held.len() == count).then_some(held)
    })
}
