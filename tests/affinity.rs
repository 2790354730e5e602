//! A conversation stays with its account, as the vendors' own counters tell.

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, Request, chat, pool, post};

/// Which of the vendors is asked for this request; its answer.
fn asked(gateway: &Gateway, vendors: &[Mock], request: &Request) -> (usize, Value) {
    let counts = || vendors.iter().map(|vendor| vendor.count("requests"));
    let before: Vec<u64> = counts().collect();
    let answer = gateway.send(request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut pairs = counts().zip(before);
    let which = pairs.position(|(after, before)| after != before);
    let body = serde_json::from_str(&answer.text()).unwrap_or(Value::String(answer.text()));
    (which.expect("one of them was asked"), body)
}

fn chat_of(fields: &Value) -> Request {
    let mut body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]});
    let all = body.as_object_mut().unwrap();
    all.extend(fields.as_object().unwrap().clone());
    post("/v1/chat/completions", &body)
}

#[test]
fn what_real_clients_send_keeps_a_conversation_with_its_account() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    strategy: round_robin\n"));
    let conversations = [
        chat(false).header("x-claude-code-session-id", "s-1"),
        chat(false).header("session-id", "s-2"),
        chat(false).header("conversation_id", "s-3"),
        chat_of(&json!({"prompt_cache_key": "s-4"})),
        chat_of(&json!({"metadata": {"user_id": "s-5"}})),
    ];
    let homes: Vec<usize> = conversations
        .iter()
        .map(|request| asked(&gateway, &vendors, request).0)
        .collect();
    for _ in 0..4 {
        for (request, home) in conversations.iter().zip(&homes) {
            // Others come between, and take turns.
            asked(&gateway, &vendors, &chat(false));
            assert_eq!(asked(&gateway, &vendors, request).0, *home);
        }
    }
    gateway.act(&format!("a{}", homes[0]), "disable");
    let (moved, _) = asked(&gateway, &vendors, &conversations[0]);
    assert_ne!(moved, homes[0], "its account cannot serve");
    gateway.act(&format!("a{}", homes[0]), "enable");
    assert_eq!(asked(&gateway, &vendors, &conversations[0]).0, moved);
}

#[test]
fn an_answer_of_a_fallback_is_gone_on_from_there() {
    let vendors = Mock::several(2, &[]);
    let [near, far] = [0, 1].map(|n: usize| vendors[n].url());
    let gateway = Gateway::start(&format!(
        "routes: [{{model: 'gpt-*', pool: near, fallback: far}}]\npools:\n  \
         near: {{accounts: [{{id: near, upstream: '{near}'}}]}}\n  \
         far: {{accounts: [{{id: far, upstream: '{far}'}}]}}"
    ));
    let first = json!({"model": "gpt-5", "input": "hi"});
    gateway.act("near", "disable");
    let (which, answer) = asked(&gateway, &vendors, &post("/v1/responses", &first));
    assert_eq!(which, 1);
    gateway.act("near", "enable");
    let mut next = first.clone();
    next["previous_response_id"] = answer["id"].clone();
    assert_eq!(
        asked(&gateway, &vendors, &post("/v1/responses", &next)).0,
        1
    );
    assert_eq!(
        asked(&gateway, &vendors, &post("/v1/responses", &first)).0,
        0
    );
    // Nobody else knows it, whoever could serve.
    gateway.act("far", "disable");
    let refused = gateway.send(&post("/v1/responses", &next));
    assert_eq!(refused.status, 503, "{}", refused.text());
}

#[test]
fn an_answer_is_gone_on_from_at_the_account_that_gave_it() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    strategy: round_robin\n"));
    let respond = |before: Option<&str>, stream: bool| {
        let mut body = json!({"model": "gpt-5", "input": "hi", "stream": stream});
        if let Some(before) = before {
            body["previous_response_id"] = before.into();
        }
        post("/v1/responses", &body)
    };
    for stream in [false, true] {
        let (home, answer) = asked(&gateway, &vendors, &respond(None, stream));
        let text = answer.to_string();
        let id = text.split("resp_").nth(1).unwrap();
        let id: String = id.chars().take_while(|c| c.is_alphanumeric()).collect();
        let id = format!("resp_{id}");
        for _ in 0..4 {
            // Another request takes its turn; simulated vendors number their answers alike.
            asked(&gateway, &vendors, &chat(false));
            let (there, _) = asked(&gateway, &vendors, &respond(Some(&id), stream));
            assert_eq!(there, home, "stream: {stream}");
        }
    }
    let (_, _) = asked(
        &gateway,
        &vendors,
        &respond(Some("resp_of_another_day"), false),
    );
}
