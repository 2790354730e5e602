//! The vendors' own clients through the gateway, as their users call them: whole answers, streams, usage.

mod litellm;
mod recipes;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Gateway, Mock, pool, post};

/// A program that `make deps` installed in one of its folders.
#[track_caller]
pub(crate) fn installed(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(program);
    assert!(
        path.exists(),
        "{} is missing: run `make deps`",
        path.display()
    );
    path
}

/// Runs a script of this folder, with its arguments and the clients pointed at a gateway; it must end well.
#[track_caller]
fn run(script: &str, gateway: &Gateway) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let address = format!("http://{}", gateway.address);
    let run = Command::new(installed("clients-venv/bin/python"))
        .arg(folder.join(script))
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
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Runs a script against a gateway over one vendor.
#[track_caller]
fn works(script: &str) {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    run(script, &gateway);
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
    works("gemini_count.py");
}

/// However a stream ends before its end, each client says so by its own error.
#[test]
fn each_client_sees_its_own_error_on_a_stream_that_breaks_off() {
    for fault in ["cut", "hang", "error-event"] {
        let vendors = [Mock::start(&[])];
        vendors[0].set(&json!({"behaviour": {fault: "5"}}));
        let keys = "    timeouts: {read: 1s, read_stream: 1s}\n    breaker: {enabled: false}\n";
        let gateway = Gateway::start(&pool(&vendors, keys));
        gateway.wait_until_ready();
        for script in [
            "broken_openai.py",
            "broken_anthropic.py",
            "broken_gemini.py",
        ] {
            run(script, &gateway);
            gateway.admin(post("/api/v1/accounts/a0/reset", &json!({})));
        }
    }
}
