//! Accounts whose token expires: it is renewed in time, once, and never lost.

mod disk;
mod expiry;
mod killed;
mod kinds;
mod liars;
mod stopped;
mod taken_over;
mod timing;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Gateway, Mock, chat, count, get, many, post, wait_for};

/// The first refresh token, as configured.
const FIRST: &str = "rt-the-configured-one";

/// A vendor that serves whoever has a token of its token endpoint.
fn vendor(oauth: &serde_json::Value) -> Mock {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": oauth}));
    vendor
}

/// An account of it, for a list of accounts.
fn account(id: &str, vendor: &Mock, more: &str) -> String {
    let url = vendor.url();
    format!(
        "      - {{id: {id}, upstream: \"{url}\", dialects: [openai]{more}, credential: {{oauth2: {{token_url: \
         \"{url}/oauth/token\", client_id: me, client_secret: cs-canary, refresh_token: {FIRST}}}}}}}\n"
    )
}

fn in_front_of(accounts: &str) -> Gateway {
    let gateway = Gateway::start(&format!("pools:\n  default:\n    accounts:\n{accounts}"));
    gateway.wait_until_ready();
    gateway
}

/// The token that a request carries, which its upstream shows. It is served.
#[track_caller]
fn token_in_use(gateway: &Gateway) -> String {
    let answer = gateway.send(&chat(false).header("x-mock-echo", 1));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = answer.json()["headers"]["authorization"][0].clone();
    let token = shown.as_str().unwrap().strip_prefix("Bearer ").unwrap();
    token.to_owned()
}

/// Requests for tokens.
fn asked(vendor: &Mock) -> u64 {
    vendor.count("token_requests")
}

#[test]
fn a_token_is_had_before_the_first_request_and_one_is_enough_for_all() {
    let vendor = vendor(&json!({}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        }
    });
    assert_eq!(asked(&vendor), 1);
    let view = gateway.account("a");
    assert_eq!(view["credential"]["kind"], "oauth2");
    assert!(view["credential"]["expires_at"].is_string(), "{view}");
    let left = gateway.metric("poolgate_token_expiry_seconds", &["account=\"a\""]);
    assert!((3500.0..=3600.0).contains(&left), "{left}");
}

#[test]
fn a_rotated_token_is_kept_over_a_restart() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    gateway.restart(Signal::SIGTERM);
    gateway.wait_until_ready();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 1, "the kept one is good still");
    // The configured one was used up: only the kept one can get another.
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn all_who_come_when_it_has_expired_wait_for_the_one_renewal() {
    let vendor = vendor(&json!({"lifetime": "1s"}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    gateway.program.stop(Signal::SIGTERM);
    let before = asked(&vendor);
    let expires = std::time::Instant::now() + Duration::from_secs(1);
    vendor.set(&json!({"oauth": {"delay": "1s"}}));
    wait_for("the kept token to expire", || {
        (std::time::Instant::now() > expires).then_some(())
    });
    gateway.start_again();
    let all = count(100, 1000);
    let answers = many(gateway.address, &chat(false), all / 5, all);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(asked(&vendor), before + 1);
}

#[test]
fn what_nobody_can_write_down_is_not_asked_for() {
    let vendor = vendor(&json!({}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    gateway.program.stop(Signal::SIGTERM);
    let tokens = gateway.program.folder().join("data/tokens");
    let kept = gateway.program.folder().join("data/kept");
    gateway.start_again();
    gateway.wait_until_ready();
    // Nothing can be made in a folder that is none any more; what is in use goes on.
    fs::rename(&tokens, &kept).unwrap();
    fs::write(&tokens, "").unwrap();
    let refused = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("could not be kept"),
        "{}",
        refused.text()
    );
    assert_eq!(asked(&vendor), 1, "no refresh token was spent");
    assert_eq!(gateway.send(&chat(false)).status, 200);
    fs::remove_file(&tokens).unwrap();
    fs::rename(&kept, &tokens).unwrap();
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn a_newer_login_in_the_configuration_takes_the_place_of_the_kept_one() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST, "rt-of-a-new-login"]}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    gateway.program.stop(Signal::SIGTERM);
    let path = gateway.program.folder().join("poolgate.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(FIRST, "rt-of-a-new-login")).unwrap();
    gateway.start_again();
    gateway.wait_until_ready();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 2, "the new login was used");
}

#[test]
fn a_damaged_file_concerns_its_account_alone() {
    let vendor = vendor(&json!({"rotate": false}));
    let accounts = [account("a", &vendor, ""), account("b", &vendor, "")].concat();
    let mut gateway = in_front_of(&accounts);
    wait_for("both to have a token", || {
        (asked(&vendor) == 2).then_some(())
    });
    wait_for("both to be kept", || {
        let serves = |id| gateway.account(id)["status"] == "healthy";
        (serves("a") && serves("b")).then_some(())
    });
    gateway.program.stop(Signal::SIGTERM);
    fs::write(
        gateway.program.folder().join("data/tokens/a.token"),
        "damaged",
    )
    .unwrap();
    gateway.start_again();
    gateway.wait_until_ready();
    wait_for("the damaged one to be had anew", || {
        (asked(&vendor) == 3).then_some(())
    });
    assert!(gateway.log().contains("the configured value is used"));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 3, "the other one was read");
}

#[test]
fn a_token_that_its_upstream_refuses_is_renewed_once_and_the_request_served() {
    let vendor = vendor(&json!({}));
    let gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    // Every token that was issued is forgotten by the vendor.
    let expired = post("/mock/expire", &json!({})).send(vendor.address);
    assert_eq!(expired.status, 200);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
        }
    });
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn a_login_that_is_over_takes_its_account_out_and_is_not_asked_about_again() {
    let dead = vendor(&json!({"error": "invalid_grant"}));
    let spare = Mock::start(&[]);
    let spare_account = format!(
        "      - {{id: b, priority: 1, upstream: \"{}\", credential: {{api_key: k}}}}\n",
        spare.url()
    );
    let gateway = in_front_of(&[account("a", &dead, ""), spare_account].concat());
    for _ in 0..5 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    assert_eq!(gateway.account("a")["status"], "needs_login");
    assert_eq!(asked(&dead), 1);
    // An operator who has logged in says so.
    dead.set(&json!({"oauth": {}}));
    gateway.act("a", "reset");
    wait_for("the account to serve again", || {
        (gateway.account("a")["status"] == "healthy").then_some(())
    });
    assert_eq!(asked(&dead), 2);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(dead.count("requests"), 1);
}

#[test]
fn a_token_endpoint_in_trouble_is_asked_again_and_waited_for() {
    let vendor = vendor(&json!({"error": "server_error"}));
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n{}",
        account("a", &vendor, "")
    ));
    wait_for("the endpoint to be asked", || {
        (asked(&vendor) > 0).then_some(())
    });
    wait_for("the account to be out", || {
        (gateway.account("a")["status"] == "unhealthy").then_some(())
    });
    vendor.set(&json!({"oauth": {}}));
    wait_for("the account to serve", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
}

#[test]
fn no_secret_of_a_login_leaves_the_sealed_files() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let accounts = account("a", &vendor, "");
    let gateway = Gateway::start(&format!(
        "log: {{level: debug, file: poolgate.log}}\npools:\n  default:\n    accounts:\n{accounts}"
    ));
    gateway.wait_until_ready();
    // The upstream shows what it was sent.
    let token = token_in_use(&gateway);
    assert_eq!(
        gateway
            .admin(post("/api/v1/accounts/a/refresh", &json!({})))
            .status,
        200
    );
    vendor.set(&json!({"oauth": {"error": "invalid_grant"}}));
    assert_eq!(
        gateway
            .admin(post("/api/v1/accounts/a/refresh", &json!({})))
            .status,
        409
    );
    let mut seen = vec![
        gateway.program.output().into_bytes(),
        gateway.admin(get("/metrics")).body,
        gateway.admin(get("/api/v1/accounts/a")).body,
        gateway.admin(get("/api/v1/accounts")).body,
    ];
    let folder = gateway.program.folder();
    let files = walk(&folder.join("data")).into_iter();
    let files: Vec<_> = files.chain([folder.join("poolgate.log")]).collect();
    assert!(files.len() > 3, "{files:?}");
    seen.extend(files.iter().map(|path| fs::read(path).unwrap()));
    // `me:cs-canary`, as HTTP Basic has it; and whatever the vendor gave.
    let given = ["mock-access-", "mock-refresh-", "bWU6Y3MtY2FuYXJ5"];
    for secret in [FIRST, "cs-canary", &token].into_iter().chain(given) {
        for text in &seen {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// All files below a folder; sockets are none.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => Vec::from_iter(path.is_file().then_some(path)),
        })
        .collect()
}

/// As during an upgrade: a token that was renewed by both would be refused to one of them.
#[test]
fn two_processes_over_one_folder_never_spend_the_same_token_twice() {
    let vendor = vendor(&json!({"lifetime": "1s", "refresh_tokens": [FIRST]}));
    let accounts = account("a", &vendor, "");
    let begun = std::time::Instant::now();
    let first = in_front_of(&accounts);
    let state = first.program.folder().join("data");
    let second = Gateway::start(&format!(
        "state: {{dir: {}}}\npools:\n  default:\n    accounts:\n{accounts}",
        state.display()
    ));
    let expiries = count(10, 200) as u64;
    while asked(&vendor) < expiries {
        for gateway in [&first, &second] {
            let answer = gateway.send(&chat(false));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert!(
            begun.elapsed() < Duration::from_secs(2 * expiries),
            "nobody renews"
        );
        thread::sleep(Duration::from_millis(50));
    }
    for gateway in [&first, &second] {
        let log = gateway.log();
        assert!(
            !log.contains("needs a login") && !log.contains("was not renewed"),
            "{log}"
        );
        assert!(!log.contains("without a lease"), "{log}");
    }
    // Each is due when seven tenths of its second are over, and not before.
    let most = begun.elapsed().as_millis() / 700 + 2;
    assert!(u128::from(asked(&vendor)) <= most, "one was renewed twice");
}

#[test]
fn a_token_of_another_program_is_read_anew_when_it_writes_another() {
    let vendor = Mock::start(&["--token", "first-token", "--token", "second-token"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login.json");
    fs::write(&path, r#"{"access_token": "first-token", "expires_at": 1}"#).unwrap();
    let url = vendor.url();
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", credential: {{json_file: {{path: {}, expires: /expires_at}}}}}}]}}}}\n",
        path.display()
    ));
    wait_for("the account to be out", || {
        (gateway.account("a")["status"] == "needs_login").then_some(())
    });
    fs::write(
        &path,
        r#"{"access_token": "second-token", "expires_at": "2999-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    wait_for("the account to serve", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
}
