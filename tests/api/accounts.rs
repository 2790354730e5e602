//! Accounts by the API: served at once, kept over restarts, seen by all gateways of the same records.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{add, delete, gateway, patch};
use crate::support::{Gateway, Mock, Postgres, chat, get, pool, post, wait_for};

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
