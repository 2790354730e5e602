//! The configuration as it is in force, and a reload that says first what it would change.

use serde_json::{Value, json};

use super::gateway;
use crate::support::{get, post};

#[test]
fn a_reload_can_be_looked_at_first() {
    let (gateway, _vendor) = gateway();
    let file = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace("{id: a0,", "{id: a0, weight: 4,");
    gateway.program.write(
        "poolgate.yaml",
        &format!("server: {{threads: 3}}\n{changed}"),
    );
    let dry = gateway.admin(post("/api/v1/reload?dry_run=true", &json!({})));
    assert_eq!(dry.status, 200, "{}", dry.text());
    let changes = json!([
        {"path": "pools.default.accounts[a0].weight", "before": 1, "after": 4},
        {"path": "server.threads", "before": 0, "after": 3},
    ]);
    let expected =
        json!({"reloaded": false, "changes": changes, "needs_upgrade": ["server.threads"]});
    assert_eq!(dry.json(), expected);
    assert_eq!(
        gateway.account("a0")["weight"],
        1,
        "nothing has changed yet"
    );
    let done = gateway.admin(post("/api/v1/reload", &json!({}))).json();
    assert_eq!(
        (&done["reloaded"], &done["changes"]),
        (&json!(true), &changes)
    );
    assert_eq!(gateway.account("a0")["weight"], 4);
    let config = gateway.admin(get("/api/v1/config")).json();
    assert!(config["path"].as_str().unwrap().ends_with("poolgate.yaml"));
    assert_eq!(
        config["config"]["pools"]["default"]["accounts"][0]["weight"],
        4
    );
    gateway.program.write("poolgate.yaml", "pools: 7\n");
    let wrong = gateway.admin(post("/api/v1/reload?dry_run=true", &json!({})));
    assert_eq!(
        (wrong.status, &wrong.json()["error"]["code"]),
        (422, &json!("invalid_configuration"))
    );
    assert_ne!(wrong.json()["problems"], Value::Null);
}
