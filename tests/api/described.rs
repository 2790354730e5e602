//! The description against the program: schemathesis asks whatever the document allows, and what it
//! does not allow.

use std::process::Command;

use crate::clients::installed;
use crate::support::{Gateway, Mock, count, pool};

/// What it looks at in each answer. It cannot know which bodies are accepted: the accounts and keys
/// that it invents may be refused for what they say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,ignored_auth,\
    negative_data_rejection,unsupported_method";

#[test]
fn nothing_that_the_document_allows_or_forbids_makes_the_program_fail() {
    let vendor = Mock::start(&[]);
    let gateway = Gateway::start(&pool(std::slice::from_ref(&vendor), ""));
    let examples = count(8, 200).to_string();
    let run = Command::new(installed("schemathesis-venv/bin/schemathesis"))
        .args([
            "run",
            &format!("http://{}/openapi.json", gateway.admin_address),
        ])
        .args([
            "--header",
            &format!("Authorization:Bearer {}", gateway.admin_token()),
        ])
        .args(["--checks", CHECKS, "--max-examples", &examples])
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
