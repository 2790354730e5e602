//! What operators did is written down; the page's session; planted texts.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{add, delete, gateway, patch};
use crate::support::{Gateway, Mock, chat, get, pool, post, wait_for};

fn audit(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.admin(get("/api/v1/audit"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["audit"].as_array().unwrap().clone()
}

#[test]
fn each_write_is_in_the_audit_record_with_who_what_and_from_where() {
    let (gateway, vendor) = gateway();
    add(&gateway, "b", &vendor, &json!({}));
    gateway.admin(patch("/api/v1/accounts/b", &json!({"weight": 3})));
    gateway.act("b", "disable");
    gateway.admin(delete("/api/v1/accounts/b"));
    let key = gateway
        .admin(post("/api/v1/keys", &json!({"name": "ci"})))
        .json();
    gateway.admin(post("/accounts/a0/reset", &json!({})));
    gateway.admin(post("/api/v1/reload", &json!({})));
    // These do nothing.
    gateway.admin(post("/api/v1/reload?dry_run=true", &json!({})));
    gateway.admin(post("/api/v1/accounts/nobody/disable", &json!({})));
    let question = json!({"model": "gpt-5", "key": key["key"]});
    let tried = gateway.admin(post("/api/v1/route", &question));
    assert_eq!(tried.status, 200, "{}", tried.text());
    let rows = audit(&gateway);
    let said: Vec<(&str, &str)> = rows
        .iter()
        .rev()
        .map(|row| {
            (
                row["action"].as_str().unwrap(),
                row["target"].as_str().unwrap(),
            )
        })
        .collect();
    let id = key["id"].as_str().unwrap();
    assert_eq!(
        said,
        [
            ("accounts.create", "b"),
            ("accounts.change", "b"),
            ("accounts.disable", "b"),
            ("accounts.delete", "b"),
            ("keys.create", id),
            ("accounts.reset", "a0"),
            ("reload", ""),
        ]
    );
    for row in &rows {
        assert_eq!(
            (&row["actor"], &row["source"]),
            (&json!("admin"), &json!("127.0.0.1"))
        );
    }
    assert_eq!(rows[5]["detail"], json!({"weight": 3}));
    let page = gateway.admin(get("/api/v1/audit?limit=3")).json();
    let next = page["next"].as_str().unwrap();
    let rest = gateway
        .admin(get(&format!("/api/v1/audit?cursor={next}")))
        .json();
    assert_eq!(rest["audit"].as_array().unwrap().len(), 4);
    assert_eq!(rest["next"], Value::Null);
}

#[test]
fn a_first_start_prints_a_link_that_logs_in_once() {
    let (gateway, _vendor) = gateway();
    let log = gateway.log();
    let link = log
        .lines()
        .find_map(|line| line.strip_prefix("dashboard: "))
        .unwrap();
    let code = link
        .split_once("#login=")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap();
    let log_in = || post("/api/v1/session", &json!({"link": code})).send(gateway.admin_address);
    let answer = log_in();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(log_in().status, 401);
    let cookie = answer
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let shown = get("/api/v1/accounts")
        .header("cookie", &cookie)
        .send(gateway.admin_address);
    assert_eq!(shown.status, 200);
    let page = get("/").send(gateway.admin_address);
    assert_eq!(page.status, 200);
    assert!(
        page.text().starts_with("<!doctype html>"),
        "{}",
        page.text()
    );
}

/// Who may read the journal may not log in by it.
#[test]
fn a_later_start_prints_no_link() {
    let (mut gateway, _vendor) = gateway();
    gateway.restart(Signal::SIGTERM);
    gateway.upgrade();
    let log = gateway.log();
    let count = |words: &str| log.lines().filter(|line| line.starts_with(words)).count();
    assert_eq!(count("operators: "), 3, "{log}");
    assert_eq!(count("dashboard: "), 1, "{log}");
}

#[test]
fn connections_of_operators_are_not_without_number() {
    let (gateway, _vendor) = gateway();
    let to = gateway.admin_address;
    wait_for("one too many to be turned away", || {
        let crowd: Vec<_> = (0..256).map(|_| TcpStream::connect(to).unwrap()).collect();
        let refused = get("/livez").try_send(to).is_err();
        drop(crowd);
        refused.then_some(())
    });
    wait_for("room again", || {
        let answer = get("/livez").try_send(to).ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn events_tell_what_becomes_of_an_account() {
    let (gateway, _vendor) = gateway();
    let listen = get("/api/v1/events").bearer(&gateway.admin_token());
    let mut reply = listen.open(gateway.admin_address).unwrap();
    let mut until = |name: &str, is_it: &dyn Fn(&Value) -> bool| loop {
        let event = reply.event().unwrap().expect("the stream goes on");
        if event.name == name {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            if is_it(&data) {
                return data;
            }
        }
    };
    until("accounts", &|data| data["changed"][0]["id"] == "a0");
    until("numbers", &|data| data["accounts"]["total"] == 1);
    gateway.act("a0", "disable");
    until("state", &|data| {
        data["action"] == "accounts.disable" && data["target"] == "a0"
    });
    let state = until("state", &|data| data["account"] == "a0");
    assert_eq!(
        (&state["from"], &state["to"]),
        (&json!("healthy"), &json!("disabled"))
    );
    gateway.act("a0", "enable");
    until("state", &|data| data["to"] == "healthy");
    let made = gateway.admin(post("/api/v1/keys", &json!({"name": "laptop"})));
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let key = made.json()["key"].as_str().unwrap().to_owned();
    gateway.admin(patch(&format!("/api/v1/keys/{id}"), &json!({"days": 3})));
    for action in ["keys.create", "keys.change"] {
        let said = until("state", &|data| data["action"] == action);
        assert_eq!(said["target"], "laptop", "people know keys by their names");
    }
    gateway.send(&chat(false).bearer(&key));
    // The rate follows the row, in the same second.
    until("accounts", &|data| data["changed"][0]["requests"] == 1);
    until("numbers", &|data| {
        data["requests_per_second"].as_f64().unwrap() > 0.0
    });
}

#[test]
fn planted_texts_come_as_json_and_secrets_not_at_all() {
    const EVIL: &str = "<img src=x onerror=alert(1)>";
    let vendor = Mock::start(&[]);
    let text =
        pool(std::slice::from_ref(&vendor), "").replace("key-0", "sk-canary-0123456789-end0");
    let gateway = Gateway::start(&format!(
        "notify: [{{webhook: \"https://hooks.test/canary-0123456789\", events: [account_down]}}]\n{text}"
    ));
    let key = gateway.admin(post(
        "/api/v1/keys",
        &json!({"name": EVIL, "labels": {"team": EVIL}}),
    ));
    assert_eq!(key.status, 201, "{}", key.text());
    let secret = key.json()["key"].as_str().unwrap().to_owned();
    let request = chat(false).bearer(&secret).header("x-request-id", "r1");
    let body = String::from_utf8(request.body.clone()).unwrap();
    let mut body: Value = serde_json::from_str(&body).unwrap();
    body["model"] = json!(EVIL);
    gateway.send(&request.body(body.to_string()));
    for path in [
        "/api/v1/overview",
        "/api/v1/history",
        "/api/v1/accounts",
        "/api/v1/accounts/a0",
        "/api/v1/keys",
        "/api/v1/requests",
        "/api/v1/usage?by=key,model,label:team",
        "/api/v1/config",
        "/api/v1/audit",
        "/api/v1/slots",
        "/api/v1/instances",
        "/api/v1/pools",
        "/openapi.json",
        "/api/v1/usage?by=model&format=csv",
        "/api/v1/accounts/%3Cimg%20src=x%20onerror=alert(1)%3E",
    ] {
        let answer = gateway.admin(get(path));
        let kind = answer.header("content-type").unwrap();
        assert!(
            kind == "application/json" || kind.starts_with("text/csv"),
            "{path}: {kind}"
        );
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let text = answer.text();
        assert!(!text.contains("canary-0123456789"), "{path}: {text}");
        assert!(!text.contains(&secret), "{path}: {text}");
    }
}
