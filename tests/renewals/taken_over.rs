//! What the command line does with tokens: takes over those of the older pool, shows the time left.

use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::json;

use super::{FIRST, account, asked, in_front_of, token_in_use};
use crate::support::{Mock, post};

/// A command in the folder of a gateway.
fn poolgate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolgate"));
    command.args(arguments).current_dir(folder).env_clear();
    command.output().unwrap()
}

#[test]
fn the_older_pools_tokens_are_taken_over_and_used_as_they_are() {
    let vendor = Mock::start(&["--token", "at-older"]);
    vendor.set(&json!({"oauth": {"refresh_tokens": ["rt-older"]}}));
    let mut gateway = in_front_of_nobody_yet(&vendor);
    gateway.program.stop(Signal::SIGTERM);
    let folder = gateway.program.folder().to_owned();
    std::fs::create_dir(folder.join("cache")).unwrap();
    let kept = json!({"access_token": "at-older", "refresh_token": "rt-older",
        "expires_at": "2026-11-21T12:00:00.123456"});
    std::fs::write(folder.join("cache/a.json"), kept.to_string()).unwrap();
    let arguments = ["import", "amazonq-env", "cache"];
    let done = poolgate(&folder, &arguments);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(said, "a: its tokens are taken over\n");
    let again = poolgate(&folder, &arguments);
    assert!(String::from_utf8_lossy(&again.stdout).contains("something is kept of it already"));
    let before = asked(&vendor);
    gateway.start_again();
    gateway.wait_until_ready();
    assert_eq!(token_in_use(&gateway), "at-older");
    assert_eq!(
        asked(&vendor),
        before,
        "its end is not known, and no reason to renew it"
    );
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
}

/// A gateway whose configured refresh token was used up long ago.
fn in_front_of_nobody_yet(vendor: &Mock) -> crate::support::Gateway {
    crate::support::Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n{}",
        account("a", vendor, "")
    ))
}

#[test]
fn what_is_no_file_of_the_older_pool_is_refused_and_not_shown() {
    let vendor = Mock::start(&[]);
    let gateway = in_front_of_nobody_yet(&vendor);
    let folder = gateway.program.folder();
    std::fs::create_dir(folder.join("cache")).unwrap();
    std::fs::write(
        folder.join("cache/a.json"),
        "{\"access_token\": \"hunter2\"}",
    )
    .unwrap();
    let done = poolgate(folder, &["import", "amazonq-env", "cache"]);
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("cache/a.json") && !complaint.contains("hunter2"),
        "{complaint}"
    );
}

#[test]
fn status_shows_each_credentials_kind_and_the_time_left_in_80_columns() {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {"refresh_tokens": [FIRST]}}));
    let fixed = format!(
        "      - {{id: b, upstream: \"{}\", credential: {{api_key: k}}}}\n",
        vendor.url()
    );
    let gateway = in_front_of(&[account("a", &vendor, ""), fixed].concat());
    assert_eq!(gateway.account("b")["credential"]["kind"], "api_key");
    crate::support::wait_for("the token", || {
        (gateway.account("a")["status"] == "healthy"
            && gateway.account("a")["credential"]["expires_at"].is_string())
        .then_some(())
    });
    let done = poolgate(gateway.program.folder(), &["status"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("CREDENTIAL"), "{said}");
    let row = |id: &str| said.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(
        row("a ").contains("oauth2 59m") || row("a ").contains("oauth2 60m"),
        "{said}"
    );
    assert!(row("b ").contains("api_key"), "{said}");
    assert!(
        said.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );
}
