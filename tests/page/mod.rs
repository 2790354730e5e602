//! The dashboard in a real Chromium over the real program. The scripts beside this file do what an
//! operator does; screenshots of every screen are left in target/page/.

mod files;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Gateway, Mock};

const VIEWER: &str = "pga-for-the-eye-only-0123456789abcdef";
const ADMIN: &str = "pga-for-the-hand-also-0123456789abcdef";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script over a gateway and its vendors; it must end well. `more` is what else it must know.
#[track_caller]
fn run(script: &str, gateway: &Gateway, vendors: &[Mock], more: &[(&str, serde_json::Value)]) {
    let python = root().join("target/page-venv/bin/python");
    assert!(python.exists(), "{python:?} is missing: run `make deps`");
    let home = tempfile::tempdir().unwrap();
    let mut given = json!({
        "admin": format!("http://{}", gateway.admin_address),
        "gateway": format!("http://{}", gateway.address),
        "token": null,
        "soak": std::env::var("POOLGATE_SOAK").as_deref() == Ok("1"),
        "mocks": vendors.iter().map(Mock::url).collect::<Vec<_>>(),
        "file": gateway.program.folder().join("poolgate.yaml"),
        "poolgate": env!("CARGO_BIN_EXE_poolgate"),
        "shots": root().join("target/page"),
        "axe": root().join("target/axe-venv"),
    });
    for (name, value) in more {
        given[*name] = value.clone();
    }
    if given["token"].is_null() {
        given["token"] = json!(gateway.admin_token());
    }
    let ran = Command::new(python)
        .arg(Path::new("tests/page").join(script))
        .current_dir(root())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home.path())
        .env("SE_OFFLINE", "true")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PAGE_TEST", given.to_string())
        .output()
        .unwrap();
    let (said, complained) = (&ran.stdout, &ran.stderr);
    let told = [&said[..], &complained[..]].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(ran.status.success(), "{script}: {}\n{told}", ran.status);
}

/// A pool `default` over these vendors, round robin, whose breakers open soon and close late.
fn pool(vendors: &[Mock], more: &str) -> String {
    let account = |(n, vendor): (usize, &Mock)| {
        let url = vendor.url();
        format!("      - {{id: a{n}, upstream: \"{url}\", credential: {{api_key: key-{n}}}}}\n")
    };
    let accounts: String = vendors.iter().enumerate().map(account).collect();
    format!(
        "pools:\n  default:\n    strategy: round_robin\n    \
         breaker: {{consecutive_failures: 2, open_for: 5m}}\n    accounts:\n{accounts}{more}"
    )
}

#[test]
fn an_operator_steers_the_gateway_from_the_page() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    let log = gateway.log();
    let link = log.split("/#login=").nth(1).unwrap();
    let code = link.split_whitespace().next().unwrap();
    run("steer.py", &gateway, &vendors, &[("code", json!(code))]);
}

/// Names, labels, models, settings and log lines that would be scripts, were they read as markup.
#[test]
fn every_screen_shows_what_others_wrote_as_text_and_keeps_nobody_out() {
    let vendors = Mock::several(3, &[]);
    let program = "      - {id: local, credential: {api_key: k}, instance: {command: [sh, -c, \
                   \"echo '<img src=x onerror=planted=1>'; exec sleep 600\"]}}\n";
    let slotted = "  slotted:\n    accounts:\n";
    let account = |n: usize| {
        format!(
            "      - {{id: s{n}, upstream: \"{}\", credential: {{api_key: s{n}}}, \
             limit_group: \"<img src=x onerror=planted=1>\"}}\n",
            vendors[0].url()
        )
    };
    let tiers = "tiers:\n  slotted: {pools: [slotted], assignment: slots, slots_per_account: 2}\n  \
                 default: {pools: [default]}\n";
    let text = [
        &*pool(&vendors, program),
        slotted,
        &account(0),
        &account(1),
        tiers,
    ];
    let gateway = Gateway::start(&text.concat());
    gateway.wait_until_ready();
    run("look.py", &gateway, &vendors, &[]);
}

#[test]
fn the_page_bears_nothing_very_much_and_a_gateway_that_goes_away() {
    let vendor = Mock::start(&[]);
    let account = |n: usize| {
        let url = vendor.url();
        format!("      - {{id: b{n}, upstream: \"{url}\", credential: {{api_key: key-{n}}}}}\n")
    };
    let accounts: String = (0..1_000).map(account).collect();
    let text = format!(
        "admin: {{address: \"{{admin}}\", tokens: [{{name: eye, token: {VIEWER}, role: viewer}}, \
         {{name: hand, token: {ADMIN}, role: admin}}]}}\npools:\n  default:\n    accounts:\n{accounts}"
    );
    let gateway = Gateway::start(&text);
    gateway.wait_until_ready();
    let pid = gateway.program.processes()[0];
    let more = [
        ("viewer", json!(VIEWER)),
        ("token", json!(ADMIN)),
        ("pid", json!(pid)),
    ];
    run("states.py", &gateway, &[vendor], &more);
}
