//! Who may manage the gateway: the token that a start made, those of `admin.tokens`, and a state folder
//! that is to be another.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::gateway;
use crate::support::{Gateway, Mock, get, pool, post, wait_for};

const METRICS: &str = "tokens: [{name: prometheus, token: a-token-for-metrics, role: metrics}]";

/// The gateway's file with this put into `admin`.
fn state(gateway: &Gateway, more: &str) {
    let file = gateway.program.folder().join("poolgate.yaml");
    let text = fs::read_to_string(file).unwrap();
    let text = text.replacen("admin: {", &format!("admin: {{{more}, "), 1);
    gateway.program.write("poolgate.yaml", &text);
}

#[test]
fn a_token_for_prometheus_does_not_lock_the_administrator_out() {
    let (mut gateway, _vendor) = gateway();
    state(&gateway, METRICS);
    let (code, out, complaints) = gateway.program.command(&["check"]);
    assert_eq!(code, Some(0), "{out}{complaints}");
    let said = format!("{out}{complaints}");
    assert!(said.contains("none has the role admin"), "{said}");
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    let works = |gateway: &Gateway| {
        let metrics = get("/metrics").bearer("a-token-for-metrics");
        assert_eq!(metrics.send(gateway.admin_address).status, 200);
        let (code, _, complaints) = gateway.program.command(&["status"]);
        assert_eq!(code, Some(0), "{complaints}");
        let reload = gateway.admin(post("/api/v1/reload", &json!({})));
        assert_eq!(reload.status, 200, "{}", reload.text());
    };
    works(&gateway);
    gateway.restart(Signal::SIGTERM);
    works(&gateway);
    // Somebody else is the administrator now.
    state(&gateway, "token: the-administrators-own");
    let old = gateway.admin_token();
    assert_eq!(gateway.program.command(&["reload"]).0, Some(0));
    let status = |token: &str| {
        let ask = get("/api/v1/overview").bearer(token);
        ask.send(gateway.admin_address).status
    };
    assert_eq!((status("the-administrators-own"), status(&old)), (200, 401));
}

#[test]
fn a_made_token_that_leaked_is_exchanged_by_writing_its_file() {
    let (gateway, _vendor) = gateway();
    let leaked = gateway.admin_token();
    gateway
        .program
        .write("data/admin.token", "another-token-0123456789\n");
    let status = |token: &str| {
        let ask = get("/api/v1/overview").bearer(token);
        ask.send(gateway.admin_address).status
    };
    wait_for("the leaked token to be refused", || {
        (status(&leaked) == 401).then_some(())
    });
    assert_eq!(status("another-token-0123456789"), 200);
    assert_eq!(gateway.program.command(&["status"]).0, Some(0));
}

#[test]
fn the_command_line_uses_a_token_of_the_list() {
    let vendor = Mock::start(&[]);
    let admin = "admin: {address: \"{admin}\", tokens: [{name: eve, token: a-token-of-eve, role: viewer}, \
                 {name: ann, token: {file: ann.token}, role: admin}]}\n";
    let text = format!("{admin}{}", pool(std::slice::from_ref(&vendor), ""));
    let gateway = Gateway::start_with(&text, &[("ann.token", "the-token-of-ann")], &[]);
    let (code, _, complaints) = gateway.program.command(&["accounts", "disable", "a0"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(!gateway.program.folder().join("data/admin.token").exists());
    let audit = get("/api/v1/audit").bearer("the-token-of-ann");
    let audit = audit.send(gateway.admin_address).text();
    assert!(audit.contains("\"ann\""), "{audit}");
}

#[test]
fn another_state_folder_waits_for_an_upgrade_and_changes_no_token() {
    let (gateway, _vendor) = gateway();
    let folder = gateway.program.folder().to_owned();
    let file = folder.join("poolgate.yaml");
    let text = fs::read_to_string(file).unwrap();
    let text = format!("state: {{dir: data2}}\n{text}");
    gateway.program.write("poolgate.yaml", &text);
    // Whether it is there already or not.
    for _ in 0..2 {
        for path in ["/api/v1/reload?dry_run=true", "/api/v1/reload"] {
            let said = gateway.admin(post(path, &json!({})));
            assert_eq!(said.status, 200, "{path}: {}", said.text());
            assert_eq!(said.json()["needs_upgrade"], json!(["state"]));
        }
        assert!(!folder.join("data2/admin.token").exists());
        fs::create_dir_all(folder.join("data2")).unwrap();
    }
    assert_eq!(gateway.admin(get("/api/v1/overview")).status, 200);
    let (code, _, complaints) = gateway.program.command(&["upgrade"]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("--state"), "{complaints}");
    let (code, _, complaints) = gateway.program.command(&["reload", "--state", "data"]);
    assert_eq!(code, Some(0), "{complaints}");
    let (code, _, complaints) = gateway.program.command(&["upgrade", "--state", "data"]);
    assert_eq!(code, Some(0), "{complaints}");
    wait_for("the new folder to take orders", || {
        (gateway.program.command(&["reload"]).0 == Some(0)).then_some(())
    });
}
