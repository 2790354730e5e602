//! `/api/v1/keys`.

use serde_json::{Value, json};

use super::{ask, create, gateway, show, status};
use crate::support::{Answer, Gateway, Request, get, post};

fn patch(id: &str, body: &Value) -> Request {
    let request = Request::new("PATCH", &format!("/api/v1/keys/{id}"));
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

#[track_caller]
fn made(gateway: &Gateway, body: &Value) -> (String, String) {
    let answer = gateway.admin(post("/api/v1/keys", body));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    let text = |field: &str| answer[field].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

#[track_caller]
fn field_of(answer: &Answer, code: u16, field: &str) {
    let said = answer.json()["error"]["message"].to_string();
    assert!(
        answer.status == code && said.contains(field),
        "{}: {said}",
        answer.status
    );
}

#[test]
fn a_key_made_by_api_is_in_force_when_the_answer_comes_and_so_is_each_change() {
    let (gateway, _vendors) = gateway("tiers: {small: {models: ['gpt-*']}}");
    let asked = json!({"name": "team", "tier": "small", "days": 3, "labels": {"team": "x"}});
    let (id, key) = made(&gateway, &asked);
    assert_eq!(status(&gateway, &key), 200);
    let shown = gateway.admin(get(&format!("/api/v1/keys/{id}"))).json();
    assert_eq!(
        (&shown["name"], &shown["labels"]["team"]),
        (&json!("team"), &json!("x"))
    );
    assert_eq!(shown["hint"], key[key.len() - 4..]);
    assert_eq!(
        show(&gateway.program, "team"),
        shown,
        "the command says the same"
    );

    let disabled = gateway.admin(patch(&id, &json!({"enabled": false})));
    assert_eq!(disabled.json()["status"], "disabled");
    assert_eq!(status(&gateway, &key), 401);
    gateway.admin(patch(&id, &json!({"enabled": true, "expires_at": null})));
    assert_eq!(status(&gateway, &key), 200);

    let rotate = post(
        &format!("/api/v1/keys/{id}/rotate"),
        &json!({"grace": "1h"}),
    );
    let rotated = gateway.admin(rotate).json();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((status(&gateway, &key), status(&gateway, new)), (200, 200));

    let revoked = gateway.admin(Request::new("DELETE", &format!("/api/v1/keys/{id}")));
    assert_eq!(revoked.json()["status"], "revoked");
    assert_eq!((status(&gateway, &key), status(&gateway, new)), (401, 401));
    let again = gateway.admin(Request::new("DELETE", &format!("/api/v1/keys/{id}")));
    assert_eq!(again.status, 409);
    let log = gateway.log();
    assert!(
        log.contains("a key was created") && log.contains(&id),
        "{log}"
    );
    assert!(!log.contains(&key) && !log.contains(new));
}

#[test]
fn lists_have_pages_and_show_no_key() {
    let (gateway, _vendors) = gateway("");
    let made: Vec<(String, String)> = (0..5).map(|_| made(&gateway, &json!({}))).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..5 {
        let page = gateway.admin(get(&format!("/api/v1/keys?limit=2{cursor}")));
        let text = page.text();
        assert!(
            made.iter().all(|(_, key)| !text.contains(&key[..20])),
            "{text}"
        );
        let page = page.json();
        let ids = page["keys"].as_array().unwrap().iter();
        seen.extend(ids.map(|key| key["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut ids: Vec<String> = made.into_iter().map(|(id, _)| id).collect();
    ids.sort();
    assert_eq!(seen, ids);
}

#[test]
fn bad_input_names_its_field_and_only_an_administrator_makes_keys() {
    let (gateway, _vendors) = gateway("tiers: {high: {assignment: any}}");
    let make = |body: Value| gateway.admin(post("/api/v1/keys", &body));
    field_of(&make(json!({"tier": "none"})), 400, "default, high");
    field_of(&make(json!({"account": "none"})), 400, "a0");
    field_of(&make(json!({"days": 0})), 400, "days");
    field_of(&make(json!({"expire": 3})), 400, "expire");
    field_of(
        &make(json!({"limits": [{"requests": 1, "window": "x"}]})),
        400,
        "window",
    );
    let unknown = gateway.admin(patch("key_none", &json!({"notes": "x"})));
    assert_eq!(unknown.status, 404);
    made(&gateway, &json!({"name": "one"}));
    assert_eq!(make(json!({"name": "one"})).status, 409);
    let stranger = post("/api/v1/keys", &json!({})).send(gateway.admin_address);
    assert_eq!(stranger.status, 401);
}

#[test]
fn a_viewer_sees_keys_and_makes_none() {
    let text = "admin: {address: \"{admin}\", tokens: [{name: v, token: viewer-token-0123, role: viewer}, {name: a, token: admin-token-01234, role: admin}]}\n";
    let (gateway, _vendors) = gateway(text);
    let as_viewer = |request: Request| {
        request
            .bearer("viewer-token-0123")
            .send(gateway.admin_address)
            .status
    };
    assert_eq!(as_viewer(get("/api/v1/keys")), 200);
    assert_eq!(as_viewer(post("/api/v1/keys", &json!({}))), 403);
    let made = post("/api/v1/keys", &json!({})).bearer("admin-token-01234");
    assert_eq!(made.send(gateway.admin_address).status, 201);
}

#[test]
fn a_key_is_held_to_its_models_and_addresses() {
    let (gateway, _vendors) = gateway("");
    let (_, narrow) = made(&gateway, &json!({"models": ["gpt-5-mini", "claude-*"]}));
    let asked = |model: &str| gateway.send(&ask(model).bearer(&narrow)).status;
    assert_eq!(
        ["gpt-5-mini", "gpt-5", "claude-opus-4"].map(asked),
        [200, 403, 200]
    );
    let (_, elsewhere) = made(&gateway, &json!({"allowed_ips": ["10.0.0.0/8"]}));
    let refused = gateway.send(&ask("gpt-5").bearer(&elsewhere));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["error"]["code"], "permission_denied");
    let (_, here) = made(&gateway, &json!({"allowed_ips": ["127.0.0.1"]}));
    assert_eq!(status(&gateway, &here), 200);
    for reason in ["model", "address"] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(
            gateway.metric("poolgate_key_rejections_total", &[&label]),
            1.0
        );
    }
}

#[test]
fn an_expiry_counts_by_the_second_and_needs_nobody_to_notice_it() {
    let (gateway, _vendors) = gateway("");
    let key = create(&gateway.program, &["--name", "short"]);
    let id = show(&gateway.program, "short")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = since.as_millis() as u64 + 1500;
    let changed = gateway.admin(patch(&id, &json!({"expires_at": soon})));
    assert_eq!(changed.status, 200, "{}", changed.text());
    crate::support::wait_for("the end of the key", || {
        (status(&gateway, &key) == 401).then_some(())
    });
    let ended = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    assert!(ended.unwrap().as_millis() as u64 >= soon, "before its time");
    assert_eq!(show(&gateway.program, "short")["status"], "expired");
}
