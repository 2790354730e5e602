//! Accounts by the API: served at once, kept over restarts, seen by all gateways of the same records.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{add, delete, gateway, patch};
use crate::support::{Gateway, Mock, Postgres, Vendor, chat, count, get, pool, post, wait_for};

#[test]
fn an_added_account_serves_at_once_and_after_a_restart() {
    let (mut gateway, first) = gateway();
    let second = Mock::start(&["--name", "second"]);
    let answer = add(
        &gateway,
        "b",
        &second,
        &json!({"priority": -1, "max_concurrent": 4}),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
    let shown = answer.json();
    assert_eq!(
        (&shown["source"], &shown["max_concurrent"]),
        (&json!("api"), &json!(4))
    );
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(
        (first.count("requests"), second.count("requests")),
        (0, 1),
        "it is preferred"
    );
    gateway.restart(Signal::SIGTERM);
    assert_eq!(gateway.account("b")["priority"], -1);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(second.count("requests"), 2);
    assert_eq!(add(&gateway, "b", &second, &json!({})).status, 409);
    assert_eq!(add(&gateway, "a0", &second, &json!({})).status, 409);
}

#[test]
fn its_secret_is_nowhere_to_be_read() {
    let (gateway, vendor) = gateway();
    add(
        &gateway,
        "b",
        &vendor,
        &json!({"headers": {"x-org": "header-of-the-api-0123456789"}}),
    );
    let secrets = ["key-of-the-api-01", "header-of-the-api-01"];
    let told = |text: &[u8]| {
        let told = secrets
            .iter()
            .filter(|it| memchr::memmem::find(text, it.as_bytes()).is_some());
        told.count()
    };
    for file in fs::read_dir(gateway.program.folder().join("data")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            assert_eq!(told(&fs::read(&path).unwrap()), 0, "{}", path.display());
        }
    }
    for path in [
        "/api/v1/accounts/b",
        "/api/v1/config",
        "/api/v1/audit",
        "/api/v1/accounts",
    ] {
        let answer = gateway.admin(get(path));
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(told(answer.text().as_bytes()), 0, "{path}");
    }
    let wrong = json!({"pool": "default", "id": "c", "upstream": "openai", "credential": "key-of-the-api-0123"});
    let answer = gateway.admin(post("/api/v1/accounts", &wrong));
    assert_eq!(
        (answer.status, told(answer.text().as_bytes())),
        (400, 0),
        "{}",
        answer.text()
    );
    assert_eq!(told(gateway.log().as_bytes()), 0);
}

#[test]
fn a_change_of_an_account_of_the_file_is_an_override_that_can_be_dropped() {
    let (mut gateway, _vendor) = gateway();
    let path = "/api/v1/accounts/a0";
    let answer = gateway.admin(patch(path, &json!({"weight": 7, "enabled": false})));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = answer.json();
    assert_eq!(
        (&shown["weight"], &shown["status"]),
        (&json!(7), &json!("disabled"))
    );
    assert_eq!(shown["override"], json!(["enabled", "weight"]));
    gateway.restart(Signal::SIGTERM);
    assert_eq!(
        gateway.account("a0")["status"],
        "disabled",
        "over a restart"
    );
    let answer = gateway.admin(patch(path, &json!({"enabled": null})));
    assert_eq!(
        (&answer.json()["status"], &answer.json()["weight"]),
        (&json!("healthy"), &json!(7))
    );
    let answer = gateway.admin(delete(&format!("{path}/override")));
    assert_eq!(
        (&answer.json()["weight"], &answer.json()["override"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(
        gateway.admin(delete(&format!("{path}/override"))).status,
        404
    );
    assert_eq!(gateway.admin(delete(path)).status, 409, "it is in the file");
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

#[test]
fn another_upstream_does_not_get_the_old_secret() {
    let (gateway, vendor) = gateway();
    let thief = Mock::start(&[]);
    add(
        &gateway,
        "b",
        &vendor,
        &json!({"headers": {"x-org": "mine"}}),
    );
    let upstream = json!({"upstream": thief.url()});
    for id in ["a0", "b"] {
        let path = format!("/api/v1/accounts/{id}");
        let answer = gateway.admin(patch(&path, &upstream));
        assert_eq!(answer.status, 400, "{id}");
        assert!(
            answer.text().contains("credential: is needed anew"),
            "{}",
            answer.text()
        );
    }
    let both = json!({"upstream": thief.url(), "credential": {"api_key": "another"}});
    let answer = gateway.admin(patch("/api/v1/accounts/b", &both));
    assert_eq!(answer.status, 400, "the header is a secret, too");
    let answer = gateway.admin(patch("/api/v1/accounts/a0", &both));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = gateway.admin(patch("/api/v1/accounts/a0", &json!({"credential": null})));
    assert_eq!(
        answer.status, 400,
        "the file's secret is for the file's upstream"
    );
}

/// A header of the file is a secret of the file's upstream, also one that is written there later.
#[test]
fn a_header_that_comes_into_the_file_goes_to_no_upstream_of_the_api() {
    let (gateway, vendor) = gateway();
    let other = Mock::start(&[]);
    let keys = json!({"upstream": other.url(), "credential": {"api_key": "another"}});
    let answer = gateway.admin(patch("/api/v1/accounts/a0", &keys));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!((vendor.count("requests"), other.count("requests")), (0, 1));
    let file = gateway.program.folder().join("poolgate.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let with_header = text.replace("id: a0,", "id: a0, headers: {x-org: secret-of-the-file},");
    assert_ne!(text, with_header);
    fs::write(&file, with_header).unwrap();
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert_eq!(gateway.account("a0")["upstream"], vendor.url());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!((vendor.count("requests"), other.count("requests")), (1, 1));
    assert!(
        gateway
            .log()
            .contains("what the API said of it is left out"),
        "{}",
        gateway.log()
    );
}

#[test]
fn what_was_switched_off_stays_off_until_it_is_switched_on() {
    let (mut gateway, vendor) = gateway();
    add(&gateway, "b", &vendor, &json!({}));
    gateway.act("a0", "disable");
    // The older systems' path does the same.
    let older = gateway.admin(post("/accounts/b/disable", &json!({})));
    assert_eq!(older.status, 200, "{}", older.text());
    gateway.restart(Signal::SIGTERM);
    for id in ["a0", "b"] {
        assert_eq!(gateway.account(id)["status"], "disabled", "{id}");
    }
    assert_eq!(gateway.account("a0")["override"], json!(["enabled"]));
    assert_eq!(gateway.send(&chat(false)).status, 503);
    gateway.act("a0", "enable");
    assert_eq!(gateway.account("a0")["override"], Value::Null);
    gateway.act("b", "enable");
    gateway.restart(Signal::SIGTERM);
    for id in ["a0", "b"] {
        assert_eq!(gateway.account(id)["enabled"], true, "{id}");
    }
    // An override of PATCH is taken back as well.
    let off = patch(
        "/api/v1/accounts/a0",
        &json!({"enabled": false, "weight": 3}),
    );
    assert_eq!(gateway.admin(off).status, 200);
    gateway.act("a0", "enable");
    assert_eq!(gateway.account("a0")["override"], json!(["weight"]));
    gateway.restart(Signal::SIGTERM);
    assert_eq!(gateway.account("a0")["enabled"], true);
}

#[test]
fn a_removed_account_finishes_its_requests() {
    let (gateway, vendor) = gateway();
    let slow = Mock::start(&["--name", "slow"]);
    add(&gateway, "b", &slow, &json!({"priority": -1}));
    let request = chat(true)
        .header("x-mock-gap", "50ms")
        .header("x-mock-events", 40);
    let mut reply = request.open(gateway.address).unwrap();
    reply.event().unwrap();
    let answer = gateway.admin(delete("/api/v1/accounts/b"));
    assert_eq!(answer.json(), json!({"id": "b", "in_flight": 1}));
    assert_eq!(gateway.admin(get("/api/v1/accounts/b")).status, 404);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(vendor.count("requests"), 1, "nothing new for it");
    let rest = reply.events().unwrap();
    assert_eq!(rest.last().unwrap().data, "[DONE]");
}

#[test]
fn what_names_a_file_or_a_program_is_refused() {
    let (gateway, _vendor) = gateway();
    for (field, value) in [
        ("instance", json!({"command": ["sh", "-c", "id"]})),
        ("credential", json!({"api_key": {"file": "/etc/passwd"}})),
        ("tls", json!({"ca": "/etc/passwd"})),
        ("upstream", json!("unix:/run/docker.sock")),
    ] {
        let mut account = json!({"pool": "default", "id": "c", "upstream": "openai"});
        account[field] = value.clone();
        let answer = gateway.admin(post("/api/v1/accounts", &account));
        assert_eq!(answer.status, 400, "{field}");
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(message.starts_with(field), "{message}");
        let mut change = json!({"credential": "none"});
        change[field] = value;
        let answer = gateway.admin(patch("/api/v1/accounts/a0", &change));
        assert_eq!(answer.status, 400, "{field}");
    }
}

#[test]
fn all_gateways_of_the_same_records_see_it_within_a_second() {
    let database = Postgres::start();
    let vendor = Mock::start(&[]);
    // The same key on both.
    let key = "0123456789abcdef".repeat(4);
    let text = format!(
        "state: {{dir: data, postgres: \"{}\", key: \"{key}\"}}\n{}",
        database.url(),
        pool(std::slice::from_ref(&vendor), "")
    );
    let gateways = [Gateway::start(&text), Gateway::start(&text)];
    assert_eq!(
        add(&gateways[0], "b", &vendor, &json!({"weight": 5})).status,
        201
    );
    let there = || gateways[1].admin(get("/api/v1/accounts/b"));
    wait_for("the other gateway to know it", || {
        (there().status == 200).then_some(())
    });
    let answer = gateways[1].admin(patch("/api/v1/accounts/b", &json!({"weight": 6})));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the change to be here", || {
        (gateways[0].account("b")["weight"] == 6).then_some(())
    });
    gateways[0].admin(delete("/api/v1/accounts/b"));
    wait_for("it to be gone there", || {
        (there().status == 404).then_some(())
    });
}

/// A renewal may take longer than anything that the gateway answers from memory. It is waited for with
/// `POOLGATE_SOAK=1` only.
#[test]
fn the_command_line_waits_for_a_renewal() {
    if count(0, 1) == 0 {
        return;
    }
    let admin = Vendor::start();
    let text = format!(
        "admin: {{address: \"{}\", token: an-admin-token-of-the-test}}\n\
         pools: {{default: {{accounts: [{{id: a0, upstream: openai, credential: {{api_key: k}}}}]}}}}\n",
        admin.address
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("poolgate.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolgate"));
    command.args(["accounts", "refresh", "a0"]);
    let command = command.current_dir(folder.path()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut asked = admin.next();
    std::thread::sleep(Duration::from_secs(12));
    let body = "{\"status\": \"healthy\"}";
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    asked.write((head + body).as_bytes());
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success());
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(out, "a0 has a new token: healthy\n");
}

#[test]
fn the_command_line_does_the_same() {
    let (gateway, vendor) = gateway();
    let ran = |arguments: &[&str]| {
        let arguments = [&["accounts"], arguments].concat();
        let (code, out, complaints) = gateway.program.command(&arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {complaints}");
        out
    };
    let added = ran(&["add", "b", "--upstream", &vendor.url(), "--weight", "4"]);
    assert_eq!(added, "b is added to default: healthy\n");
    let list = ran(&["list"]);
    assert!(list.contains("a0 ") && list.contains("b "), "{list}");
    assert_eq!(ran(&["disable", "b"]), "b is disabled: disabled\n");
    let shown: Value = serde_json::from_str(&ran(&["show", "b", "--json"])).unwrap();
    assert_eq!(
        (&shown["weight"], &shown["enabled"]),
        (&json!(4), &json!(false))
    );
    ran(&["enable", "b"]);
    assert!(ran(&["show", "b"]).contains("status: healthy\n"));
    ran(&["reset", "b"]);
    ran(&["probe", "b"]);
    assert_eq!(
        ran(&["remove", "b"]),
        "b is removed; requests that finish: 0\n"
    );
    let (code, _, complaints) = gateway.program.command(&["accounts", "restart", "a0"]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("no local program"), "{complaints}");
}
