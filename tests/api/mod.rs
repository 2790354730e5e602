//! The management API over the real program.

mod accounts;
mod described;
mod operators;
mod rekeyed;
mod reload;
mod socket;
mod tokens;
mod usage;

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, pool, post};

/// One account, `a0`, at a vendor of its own.
fn gateway() -> (Gateway, Mock) {
    let vendor = Mock::start(&["--name", "first"]);
    let text = pool(std::slice::from_ref(&vendor), "");
    (Gateway::start(&text), vendor)
}

fn patch(path: &str, body: &Value) -> Request {
    Request::new("PATCH", path)
        .header("content-type", "application/json")
        .body(body.to_string())
}

fn delete(path: &str) -> Request {
    Request::new("DELETE", path)
}

/// Adds an account with a key at this vendor.
#[track_caller]
fn add(gateway: &Gateway, id: &str, vendor: &Mock, more: &Value) -> Answer {
    let mut account = json!({
        "pool": "default", "id": id, "upstream": vendor.url(), "credential": {"api_key": "key-of-the-api-0123456789"},
    });
    let keys = account.as_object_mut().unwrap();
    keys.extend(more.as_object().unwrap().clone());
    gateway.admin(post("/api/v1/accounts", &account))
}
