//! What streams come to: asked for where the client did not, and estimated where they broke off.

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, Request, Verbatim, chat, get, pool, pool_of, post, wait_for};

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

#[test]
fn a_client_that_hangs_up_takes_no_account_out_by_what_it_said_its_answer_might_become() {
    let vendors = Mock::several(1, &[]);
    let limited = |_| ", rate_limits: [{tokens: 1000, window: 1h}]".to_owned();
    let gateway = Gateway::start(&pool_of(&vendors, "", limited));
    let body = json!({"model": "m", "max_tokens": 2_000_000_000, "stream": true, "messages": []});
    let request = post("/v1/chat/completions", &body);
    let mut held = std::net::TcpStream::connect(gateway.address).unwrap();
    let hanging = request.clone().header("x-mock-hang", "head");
    std::io::Write::write_all(&mut held, &hanging.bytes(gateway.address)).unwrap();
    wait_for("the vendor to have it", || {
        (vendors[0].count("requests") == 1).then_some(())
    });
    drop(held);
    wait_for("it to be counted off", || {
        let limit = gateway.account("a0")["rate_limits"][0].clone();
        (limit["held"] == 0 && gateway.account("a0")["in_flight"] == 0).then_some(())
    });
    let account = gateway.account("a0");
    let used = account["rate_limits"][0]["used"].as_u64().unwrap();
    assert!(used < 100, "{account}");
    // A stream that says nothing of its usage counts its text: not what it may become, nor its framing.
    let mut reply = request
        .header("x-mock-size", 400)
        .open(gateway.address)
        .unwrap();
    assert!(!reply.events().unwrap().is_empty());
    let row = row(&gateway, 2);
    let output = row["tokens"]["output"].as_u64().unwrap();
    assert!((90..200).contains(&output), "{row}");
    assert_eq!(row["estimated"], true, "{row}");
    wait_for("the stream to be counted", || {
        let limit = gateway.account("a0")["rate_limits"][0].clone();
        (used + 90..used + 250)
            .contains(&limit["used"].as_u64()?)
            .then_some(())
    });
}

#[test]
fn an_amount_that_no_vendor_can_mean_leaves_room_for_what_comes_after_it() {
    let vendor = Verbatim::start();
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: '{}'}}]}}}}",
        vendor.url()
    ));
    let body = r#"{"usage":{"prompt_tokens":9223372036854775808,"completion_tokens":7}}"#;
    vendor.say(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    for sent in 1..=3 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
        // Each in a transaction of its own, added to the one before.
        wait_for("the sum", || {
            let usage = gateway.admin(get("/api/v1/usage")).json();
            (usage["usage"][0]["requests"] == sent).then_some(())
        });
    }
    assert_eq!(gateway.metric("poolgate_usage_rows_lost_total", &[]), 0.0);
}
