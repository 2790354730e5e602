//! Requests that are looked for, and usage as a table.

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, chat, get, pool};

fn found(gateway: &Gateway, query: &str) -> Vec<String> {
    let answer = gateway.admin(get(&format!("/api/v1/requests?{query}")));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let json = answer.json();
    let requests = json["requests"].as_array().unwrap().iter();
    requests
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn requests_are_found_by_key_account_status_and_model() {
    let vendors = Mock::several(2, &[]);
    let text =
        pool(&vendors, "    strategy: round_robin\n").replace("id: a1,", "id: a1, priority: 1,");
    let keys = "clients: {keys: [{name: ci, key: sk-ci-0123456789}, {name: web, key: sk-web-0123456789}]}\n";
    let gateway = Gateway::start(&format!("{keys}{text}"));
    let send = |id: &str, key: &str, model: &str, status: u16| {
        let request = chat(false).header("x-request-id", id).bearer(key);
        let request = match status {
            200 => request,
            status => request.header("x-mock-status", status),
        };
        let mut body: Value = serde_json::from_slice(&request.body).unwrap();
        body["model"] = json!(model);
        gateway.send(&request.body(body.to_string())).status
    };
    assert_eq!(send("r1", "sk-ci-0123456789", "gpt-5", 200), 200);
    assert_eq!(send("r2", "sk-web-0123456789", "gpt_5-mini", 200), 200);
    assert_eq!(send("r3", "sk-ci-0123456789", "gpt-5", 422), 422);
    assert_eq!(send("r4", "sk-ci-0123456789", "gpt-5", 500), 500);
    for (query, expected) in [
        ("", &["r4", "r3", "r2", "r1"][..]),
        ("key=ci", &["r4", "r3", "r1"]),
        ("key=web", &["r2"]),
        ("key=nobody", &[]),
        ("status=422", &["r3"]),
        ("status=4xx", &["r3"]),
        ("status=error", &["r4", "r3"]),
        ("model=gpt-5", &["r4", "r3", "r1"]),
        ("model=gpt*mini", &["r2"]),
        ("account=a1", &["r4"]),
        ("account=a0&status=200", &["r2", "r1"]),
    ] {
        assert_eq!(found(&gateway, query), expected, "{query}");
    }
    let page = gateway.admin(get("/api/v1/requests?limit=3")).json();
    let next = page["next"].as_str().unwrap();
    assert_eq!(found(&gateway, &format!("cursor={next}")), ["r1"]);
    for wrong in ["status=9xx", "status=x", "cursor=x", "limit=0"] {
        let answer = gateway.admin(get(&format!("/api/v1/requests?{wrong}")));
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let asked = get("/api/v1/usage?by=model").header("accept", "text/csv");
    let table = gateway.admin(asked);
    assert!(
        table
            .header("content-type")
            .unwrap()
            .starts_with("text/csv")
    );
    let text = table.text();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().contains("model"), "{text}");
    assert!(text.contains("gpt_5-mini"), "{text}");
}
