//! `poolgate keys import`.

use super::{command, gateway, keys, show, status};
use crate::support::wait_for;

#[test]
fn keys_of_the_older_pool_go_on_working_here() {
    let (gateway, _vendors) = gateway("tiers: {medium: {}}");
    let old = format!("sk-cli-v1-{}", "5".repeat(64));
    let line = format!(
        r#"{{"key": "{old}", "client_name": "alice", "account_name": "medium_pool", "use_pool": "true", "tier": "medium", "expires_at": "1999999999000", "active": "true", "status": "sold"}}"#
    );
    gateway.program.write("old.jsonl", &line);
    let said = keys(&gateway.program, &["import", "old.jsonl"]);
    assert_eq!(said, "1 keys were imported, 0 were known already\n");
    wait_for("the imported key to be let in", || {
        (status(&gateway, &old) == 200).then_some(())
    });
    let shown = show(&gateway.program, "alice");
    assert_eq!(
        (&shown["tier"], &shown["account"]),
        (&"medium".into(), &serde_json::Value::Null)
    );
    assert_eq!(shown["expires_at"], "2033-05-18T03:33:19.000Z");
    let again = keys(&gateway.program, &["import", "old.jsonl"]);
    assert_eq!(again, "0 keys were imported, 1 were known already\n");
    let bad = format!("{line}\n{{\"key\": \"{old}x\", \"tier\": \"none\"}}\n");
    gateway.program.write("bad.jsonl", &bad);
    let (code, _, said) = command(&gateway.program, &["import", "bad.jsonl"]);
    assert!(
        code == Some(1) && said.contains("line 2: tier: there is no tier"),
        "{said}"
    );
    assert!(!said.contains(&old), "{said}");
}
