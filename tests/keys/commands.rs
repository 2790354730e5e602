//! `poolgate keys`, with nothing running and beside a running gateway.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{command, create, gateway, keys, piped, show, status};
use crate::support::{Gateway, Mock, Program, get, pool, post, wait_for};

/// Until this a change by command must be in force.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Asks until the answer to this key is `wanted`, and tells how long that took.
#[track_caller]
fn becomes(gateway: &Gateway, key: &str, wanted: u16) -> Duration {
    let begun = Instant::now();
    wait_for(&format!("{wanted}"), || {
        (status(gateway, key) == wanted).then_some(())
    });
    begun.elapsed()
}

#[test]
fn keys_work_with_nothing_running_and_the_key_is_shown_once() {
    let vendors = Mock::several(1, &[]);
    let text = pool(&vendors, "");
    let program = Program::start(&["version"], &[("poolgate.yaml", &text)], &[]);
    let none = keys(&program, &["list"]);
    assert_eq!(none, "there is no key; `poolgate keys create` issues one\n");
    let key = create(&program, &["--name", "ci", "--days", "30"]);
    assert!(key.starts_with("sk-pg-") && key.len() == 78, "{key}");
    let shown = show(&program, "ci");
    assert_eq!(shown["status"], "active");
    let listed = keys(&program, &["list"]);
    let listed_for_machines = keys(&program, &["list", "--json"]);
    assert!(
        listed.contains("ci") && listed.contains("active"),
        "{listed}"
    );
    for said in [&listed, &listed_for_machines, &shown.to_string()] {
        assert!(!said.contains(&key[..20]), "{said}");
    }
    let records = std::fs::read(program.folder().join("data/poolgate.db")).unwrap();
    let wal = std::fs::read(program.folder().join("data/poolgate.db-wal"));
    let kept = [records, wal.unwrap_or_default()].concat();
    let holds = |text: &str| kept.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("sk-pg-") || holds("\"ci\""), "this is where it is");
    assert!(!holds(&key), "the key itself is kept nowhere");
    let (code, found) = piped(&program, &["show", "-"], &format!("{key}\n"));
    assert!(code == Some(0) && found.contains("ci"), "{found}");
}

#[test]
fn wrong_usage_is_told_as_such_and_what_cannot_be_with_what_could() {
    let vendors = Mock::several(2, &[]);
    let text = format!(
        "tiers: {{high: {{assignment: any}}}}\n{}",
        pool(&vendors, "")
    );
    let program = Program::start(&["version"], &[("poolgate.yaml", &text)], &[]);
    for days in ["0", "-1", "abc"] {
        let (code, _, said) = command(&program, &["create", "--days", days]);
        assert_eq!(code, Some(2), "{days}: {said}");
        assert!(said.contains("--days"), "{said}");
    }
    let refused = |options: &[&str]| {
        let (code, said, complaint) = command(&program, options);
        assert_eq!((code, &*said), (Some(1), ""), "{complaint}");
        complaint
    };
    let said = refused(&["create", "--tier", "hihg"]);
    assert_eq!(
        said,
        "poolgate: tier: there is no tier \"hihg\"; there are default, high\n"
    );
    let said = refused(&["create", "--account", "a7"]);
    assert_eq!(
        said,
        "poolgate: account: there is no account \"a7\"; there are a0, a1\n"
    );
    let said = refused(&["revoke", "nobody"]);
    assert_eq!(said, "poolgate: there is no key \"nobody\"\n");
    create(&program, &["--name", "ci"]);
    let said = refused(&["create", "--name", "ci"]);
    assert_eq!(said, "poolgate: there is a key named \"ci\" already\n");
}

#[test]
fn a_running_gateway_sees_each_change_by_command_within_a_second() {
    let (gateway, _vendors) = gateway("");
    let program = &gateway.program;
    let mut longest = Duration::ZERO;
    let key = create(program, &["--name", "ci"]);
    longest = longest.max(becomes(&gateway, &key, 200));
    let new = keys(program, &["rotate", "ci", "--grace", "0s"]);
    longest = longest.max(becomes(&gateway, new.trim(), 200));
    assert_eq!(
        status(&gateway, &key),
        401,
        "without grace the old one ends"
    );
    keys(program, &["revoke", "ci"]);
    longest = longest.max(becomes(&gateway, new.trim(), 401));
    // On a machine that does a hundred things at once the time for it is not the gateway's alone.
    assert!(longest < 3 * IN_FORCE, "{longest:?}");
    let reason = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        gateway.metric("poolgate_key_rejections_total", &[&label])
    };
    assert!(reason("revoked") >= 1.0);
    assert_eq!(
        gateway.metric("poolgate_keys_active", &["tier=\"default\""]),
        0.0
    );
    assert!(!gateway.log().contains(&key) && !gateway.log().contains(new.trim()));
}

#[test]
fn both_keys_of_a_rotation_are_good_for_its_grace() {
    let (gateway, _vendors) = gateway("");
    let program = &gateway.program;
    let old = create(program, &["--name", "ci"]);
    becomes(&gateway, &old, 200);
    let id = show(program, "ci")["id"].clone();
    let (code, said) = piped(program, &["rotate", "-", "--grace", "2s", "--json"], &old);
    let rotated = Instant::now();
    assert_eq!(code, Some(0), "{said}");
    let rotated_key: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(rotated_key["id"], id, "it is the same key");
    assert!(rotated_key["previous_valid_until"].is_string());
    let new = rotated_key["key"].as_str().unwrap();
    becomes(&gateway, new, 200);
    let still = status(&gateway, &old);
    if rotated.elapsed() < Duration::from_secs(1) {
        assert_eq!(still, 200, "its grace is not over");
    }
    becomes(&gateway, &old, 401);
    assert!(
        rotated.elapsed() > Duration::from_secs(1),
        "before its time"
    );
    assert_eq!(status(&gateway, new), 200);
    assert!(gateway.metric("poolgate_key_rejections_total", &["reason=\"expired\""]) >= 1.0);
}

#[test]
fn a_first_start_beyond_loopback_issues_a_key_once() {
    let vendors = Mock::several(1, &[]);
    let address = crate::support::free_address();
    let listen = format!("listen: [{{address: \"0.0.0.0:{}\"}}]\n", address.port());
    let (admin, text) = (crate::support::free_address(), pool(&vendors, ""));
    let text = format!("{listen}admin: {{address: \"{admin}\"}}\n{text}");
    let mut program = Program::start(&["run"], &[("poolgate.yaml", &text)], &[]);
    program.wait_until_it_serves(address, "/livez");
    let output = program.output();
    let said = "clients need a key; this one is shown only now: ";
    let key = output
        .split(said)
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let key = key.unwrap_or_else(|| panic!("{output}")).to_owned();
    let chat = crate::support::chat(false);
    assert_eq!(chat.send(address).status, 401);
    let with_key = crate::support::chat(false).bearer(&key);
    assert_eq!(with_key.send(address).status, 200);
    assert_eq!(show(&program, "first")["tier"], "default");
    program.stop(Signal::SIGTERM);
    program.start_again();
    program.wait_until_it_serves(address, "/livez");
    assert_eq!(with_key.send(address).status, 200);
    assert_eq!(
        program.output().matches(said).count(),
        1,
        "{}",
        program.output()
    );
}

#[test]
fn keys_that_an_older_poolgate_issued_go_on() {
    let (mut gateway, _vendors) = gateway("");
    let key = create(&gateway.program, &["--name", "x"]);
    gateway.program.stop(Signal::SIGTERM);
    // As it was before keys were records: a file of names and hashes.
    let hash = poolgate::key::KeyHash::of(&key).to_hex();
    let data = gateway.program.folder().join("data");
    for name in ["poolgate.db", "poolgate.db-wal", "poolgate.db-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    std::fs::write(data.join("issued_keys"), format!("first {hash}\n")).unwrap();
    gateway.start_again();
    assert_eq!(status(&gateway, &key), 200);
    assert!(!data.join("issued_keys").exists());
    keys(&gateway.program, &["revoke", "first"]);
    becomes(&gateway, &key, 401);
}

#[test]
fn what_commands_do_to_keys_is_in_the_audit_record() {
    let (gateway, _vendors) = gateway("");
    create(&gateway.program, &["--name", "ci"]);
    let id = show(&gateway.program, "ci")["id"].clone();
    keys(&gateway.program, &["rotate", "ci"]);
    keys(&gateway.program, &["revoke", "ci"]);
    let answer = gateway.admin(get("/api/v1/audit"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut answer = answer.json();
    let rows = answer["audit"].as_array_mut().unwrap();
    rows.retain(|row| row["target"] == id);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&row["action"], &row["source"]))
        .collect();
    let line = &json!("command line");
    let actions = ["keys.delete", "keys.rotate", "keys.create"].map(|action| json!(action));
    assert_eq!(told, actions.each_ref().map(|action| (action, line)));
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
    let name = user.unwrap().map(|user| user.name);
    for row in rows {
        assert_eq!(row["actor"].as_str(), name.as_deref());
        assert_eq!(row["detail"]["name"], "ci");
    }
}

#[test]
fn a_key_is_bound_to_an_account_that_the_api_added() {
    let (gateway, vendors) = gateway("tiers: {high: {assignment: bound}}");
    let account = json!({"pool": "default", "id": "added", "upstream": vendors[0].url(),
        "credential": {"api_key": "key-of-the-api-0123456789"}});
    let added = gateway.admin(post("/api/v1/accounts", &account));
    assert_eq!(added.status, 201, "{}", added.text());
    let key = create(
        &gateway.program,
        &["--name", "bound", "--tier", "high", "--account", "added"],
    );
    becomes(&gateway, &key, 200);
    let (code, _, complaints) = gateway
        .program
        .command(&["keys", "create", "--account", "nobody"]);
    assert!(
        code == Some(1) && complaints.contains("added"),
        "{complaints}"
    );
}

#[test]
fn the_lines_for_a_client_know_whether_a_key_is_asked() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let lines = || gateway.program.command(&["env", "claude"]).1;
    assert!(lines().contains("AUTH_TOKEN=any"), "{}", lines());
    let key = create(&gateway.program, &["--name", "me"]);
    becomes(&gateway, &key, 200);
    wait_for("keys to be asked", || {
        (status(&gateway, "no-key") == 401).then_some(())
    });
    assert!(lines().contains("AUTH_TOKEN=YOUR_KEY"), "{}", lines());
}
