//! What streams come to: asked for where the client did not, and estimated where they broke off.

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, Request, get, pool, post, wait_for};

fn stream(more: &Value) -> Request {
    let mut body = json!({"model": "gpt-5", "stream": true, "messages": []});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    post("/v1/chat/completions", &body).header("x-mock-usage", "30,12")
}

/// The latest request, once it was written down.
fn row(gateway: &Gateway, requests: usize) -> Value {
    wait_for("the request to be written down", || {
        let answer = gateway.admin(get("/api/v1/requests?last=10")).json();
        let rows = answer["requests"].as_array().unwrap();
        (rows.len() == requests).then(|| rows[0].clone())
    })
}

fn payloads(gateway: &Gateway, request: &Request) -> Vec<String> {
    let mut reply = request.open(gateway.address).unwrap();
    let events = reply.events().unwrap().into_iter();
    events.map(|event| event.data).collect()
}

#[test]
fn a_stream_is_asked_for_its_usage_and_its_client_sees_nothing_of_that() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    usage: ask\n"));
    let plain = Gateway::start(&pool(&vendors, ""));
    let without_ids = |events: Vec<String>| -> Vec<Value> {
        let events = events.into_iter().filter(|data| data != "[DONE]");
        let delta = |data: String| {
            let event: Value = serde_json::from_str(&data).unwrap();
            event["choices"].clone()
        };
        events.map(delta).collect()
    };
    for split in ["1", "7", "4096"] {
        let request = stream(&json!({})).header("x-mock-split", split);
        let seen = without_ids(payloads(&gateway, &request));
        let usual = without_ids(payloads(&plain, &request));
        assert_eq!(seen, usual, "in pieces of {split}");
    }
    let last = row(&gateway, 3);
    assert_eq!(last["tokens"]["output"], 12, "{last}");
    assert_eq!(last["estimated"], false, "{last}");
    assert_eq!(row(&plain, 3)["estimated"], true);
    // Who asks sees it.
    let asks = stream(&json!({"stream_options": {"include_usage": true}}));
    let events = payloads(&gateway, &asks);
    assert!(
        events
            .iter()
            .any(|data| data.contains("\"completion_tokens\":12"))
    );
    // What cannot be read is left alone, and is its vendor's to judge.
    let odd = stream(&json!({"stream_options": 7}));
    let statuses = [&gateway, &plain].map(|gateway| gateway.send(&odd).status);
    assert_eq!(statuses, [400, 400]);
}

#[test]
fn a_message_whose_client_hangs_up_costs_what_it_came_to_and_not_one_token() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let body = json!({"model": "claude-x", "max_tokens": 9999, "stream": true, "messages": []});
    let request = post("/v1/messages", &body)
        .header("anthropic-version", "2023-06-01")
        .header("x-mock-size", 8_000)
        .header("x-mock-events", 8)
        .header("x-mock-hang", 7);
    let mut reply = request.open(gateway.address).unwrap();
    let mut seen = 0;
    while seen < 4_000 {
        seen += reply.piece().unwrap().expect("the stream goes on").len();
    }
    drop(reply);
    let row = row(&gateway, 1);
    let output = row["tokens"]["output"].as_u64().unwrap();
    assert!(output >= 1_000, "{row}");
    assert_eq!(row["estimated"], true, "{row}");
    // One that comes to its end counts as stated.
    let whole = post("/v1/messages", &body).header("anthropic-version", "2023-06-01");
    assert_eq!(
        gateway.send(&whole.header("x-mock-usage", "9,5")).status,
        200
    );
    let whole = self::row(&gateway, 2);
    assert_eq!(
        (&whole["tokens"]["output"], &whole["estimated"]),
        (&json!(5), &json!(false))
    );
}
