//! `state.key` is exchanged: what was sealed under the old one is gone, and stands in nobody's way.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{add, delete, gateway};
use crate::support::get;

#[test]
fn after_another_state_key_accounts_of_the_api_can_be_added_and_changed_anew() {
    let (mut gateway, vendor) = gateway();
    for id in ["b", "c"] {
        let added = add(&gateway, id, &vendor, &json!({}));
        assert_eq!(added.status, 201, "{}", added.text());
    }
    gateway.act("a0", "disable");
    gateway.program.stop(Signal::SIGTERM);
    let data = gateway.program.folder().join("data");
    fs::remove_file(data.join("state.key")).unwrap();
    // Made with the first token that is kept.
    let _ = fs::remove_dir_all(data.join("tokens"));
    gateway.start_again();
    assert_eq!(gateway.account("a0")["enabled"], true, "as the file says");
    let said = gateway.program.output();
    assert!(said.contains("3 of 3 accounts"), "{said}");

    let again = add(&gateway, "b", &vendor, &json!({"weight": 7}));
    assert_eq!(again.status, 201, "{}", again.text());
    let removed = gateway.admin(delete("/api/v1/accounts/c"));
    assert!(matches!(removed.status, 200 | 204), "{}", removed.text());
    let removed = gateway.admin(delete("/api/v1/accounts/c"));
    assert_eq!(removed.status, 404, "{}", removed.text());
    gateway.act("a0", "disable");
    gateway.restart(Signal::SIGTERM);
    assert_eq!(gateway.account("a0")["enabled"], false, "and it is kept");
    assert_eq!(gateway.account("b")["weight"], 7);
    let list = gateway.admin(get("/api/v1/accounts")).json();
    assert_eq!(list["accounts"].as_array().unwrap().len(), 2, "{list}");
}
