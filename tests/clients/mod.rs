//! The vendors' own clients through the gateway, as their users call them: whole answers, streams, usage.

use std::path::Path;
use std::process::Command;

use crate::support::{Gateway, Mock, pool};

/// Runs a script of this folder against a gateway over one vendor.
#[track_caller]
fn works(script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/clients-venv/bin/python");
    assert!(
        python.exists(),
        "the vendors' clients are not installed: run `make deps`"
    );
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    let address = format!("http://{}", gateway.address);
    let run = Command::new(python)
        .arg(root.join("tests/clients").join(script))
        .env_clear()
        .env("HOME", gateway.program.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs([
            ("OPENAI_BASE_URL", format!("{address}/v1")),
            ("OPENAI_API_KEY", "any".into()),
        ])
        .envs([
            ("ANTHROPIC_BASE_URL", address.clone()),
            ("ANTHROPIC_API_KEY", "any".into()),
        ])
        .envs([
            ("GOOGLE_GEMINI_BASE_URL", address),
            ("GEMINI_API_KEY", "any".into()),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{script}: {}\n{said}", run.status);
    assert!(
        vendors[0].count("requests") > 0,
        "the client called somebody else"
    );
}

#[test]
fn openai_s_client_works() {
    works("openai_sdk.py");
}

#[test]
fn anthropic_s_client_works() {
    works("anthropic_sdk.py");
}

#[test]
fn gemini_s_client_works() {
    works("gemini_sdk.py");
}
