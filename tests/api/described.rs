//! The description against the program: schemathesis asks whatever the document allows, and what it
//! does not allow.

use std::process::Command;

use crate::clients::installed;
use crate::support::{Gateway, Mock, count, pool};

/// All that it can look at in each answer, and that what the document allows is accepted. But no document can say
/// which accounts, keys, strategies and cursors there are, what a time is, and which paths this gateway
/// routes: what is invented there may be refused for what it says.
const SETTINGS: &str = r#"
[checks]
# What was deleted may be made again, and an account is there a moment after it was added.
use_after_free.enabled = false
ensure_resource_availability.enabled = false

[[operations]]
include-operation-id = [REFUSED]
checks.positive_data_acceptance.enabled = false
"#;

/// What each of them may find wrong.
const MAY_REFUSE: [&str; 15] = [
    // A cursor that was not given out.
    "get_accounts",
    "get_audit",
    "get_instances",
    "get_keys",
    "get_pools",
    "get_slots",
    // That, and spans of time and names of groups.
    "get_usage",
    // Pools, upstreams, credentials, tiers, accounts, patterns, spans of time.
    "post_accounts",
    "patch_accounts_id",
    "post_keys",
    "patch_keys_id",
    "post_keys_id_rotate",
    "post_pools_name_strategy",
    // A path that nobody serves; neither a token nor a link.
    "post_route",
    "post_session",
];

#[test]
fn nothing_that_the_document_allows_or_forbids_makes_the_program_fail() {
    let vendor = Mock::start(&[]);
    let gateway = Gateway::start(&pool(std::slice::from_ref(&vendor), ""));
    let examples = count(8, 200).to_string();
    let names: Vec<String> = MAY_REFUSE.iter().map(|name| format!("{name:?}")).collect();
    let settings = gateway.program.folder().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS.replace("REFUSED", &names.join(", "))).unwrap();
    let run = Command::new(installed("schemathesis-venv/bin/schemathesis"))
        .arg("--config-file")
        .arg(&settings)
        .args([
            "run",
            &format!("http://{}/openapi.json", gateway.admin_address),
        ])
        .args([
            "--header",
            &format!("Authorization:Bearer {}", gateway.admin_token()),
        ])
        .args(["--max-examples", &examples])
        .args([
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--seed",
            "1",
        ])
        // A stream has no end.
        .args(["--exclude-path", "/api/v1/events"])
        .args(["--no-color", "--workers", "1"])
        .current_dir(gateway.program.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert_eq!(gateway.account("a0")["id"], "a0", "it goes on");
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
}
