//! What someone relies on in the first five minutes: an answer, a stream, a fair share, no lost request.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Connection, Gateway, Mock, chat, get, pool, post, wait_for};

fn vendors(flags: &[&[&str]]) -> Vec<Mock> {
    flags.iter().map(|flags| Mock::start(flags)).collect()
}

#[test]
fn a_chat_is_answered_without_any_key_on_loopback() {
    let vendors = vendors(&[&[]]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    let answer = gateway.send(&chat(false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["choices"][0]["message"]["content"].is_string());
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(gateway.get("/v1/models").json()["object"], "list");
}

#[test]
fn the_vendor_gets_the_whole_body_and_the_token_of_the_account() {
    let vendors = vendors(&[&[]]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let whole = chat(false)
        .bearer("sk-of-the-client")
        .header("x-mock-echo", 1);
    for request in [
        whole.clone(),
        whole.clone().chunked(),
        whole.clone().header("expect", "100-continue"),
    ] {
        let echo = gateway.send(&request).json();
        assert_eq!(echo["body_length"], request.body.len(), "{echo}");
        assert_eq!(
            echo["headers"]["authorization"],
            json!(["Bearer key-0"]),
            "{echo}"
        );
    }
}

#[test]
fn a_stream_arrives_event_by_event_and_ends_properly() {
    let vendors = vendors(&[&["--gap", "50ms", "--events", "5"]]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let mut reply = chat(true).open(gateway.address).unwrap();
    assert_eq!(reply.head.status, 200);
    let events = reply.events().unwrap();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let spread = events.last().unwrap().at - events[0].at;
    assert!(
        spread.as_millis() >= 150,
        "all events came within {spread:?}: they were held back"
    );
}

#[test]
fn thirty_requests_over_three_accounts_are_ten_each() {
    let vendors = vendors(&[&[], &[], &[]]);
    let gateway = Gateway::start(&pool(&vendors, "    strategy: round_robin\n"));
    let mut connection = Connection::open(gateway.address).unwrap();
    for _ in 0..30 {
        assert_eq!(connection.send(&chat(false)).unwrap().status, 200);
    }
    let counts: Vec<u64> = vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect();
    assert_eq!(counts, [10, 10, 10]);
    let by_account: BTreeMap<String, f64> = (0..3)
        .map(|n| format!("account=\"a{n}\""))
        .map(|label| {
            (
                label.clone(),
                gateway.metric("poolgate_requests_total", &[&label]),
            )
        })
        .collect();
    assert!(
        by_account.values().all(|count| *count == 10.0),
        "{by_account:?}"
    );
}

#[test]
fn a_vendor_that_is_gone_loses_no_request() {
    let mut vendors = vendors(&[&[], &[], &[]]);
    let gateway = Gateway::start(&pool(&vendors, "    strategy: round_robin\n"));
    vendors.pop();
    for _ in 0..20 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    wait_for(
        "the account of the vendor that is gone to be out of rotation",
        || (gateway.account("a2")["status"] == "open").then_some(()),
    );
}

#[test]
fn what_a_gateway_refuses_is_said_in_the_dialect_of_the_client() {
    let vendors = vendors(&[&[]]);
    let gateway = Gateway::start(&format!("clients: {{open: false}}\n{}", pool(&vendors, "")));
    let refused = gateway.send(&chat(false));
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    let message = post(
        "/v1/messages",
        &json!({"model": "m", "max_tokens": 1, "messages": []}),
    );
    let refused = gateway.send(&message);
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
    assert_eq!(vendors[0].count("requests"), 0);
}

#[test]
fn a_gateway_that_is_asked_to_stop_ends_well_and_says_so() {
    let vendors = vendors(&[&[]]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    assert_eq!(
        get("/livez").try_send_h2(gateway.address).unwrap().status,
        200
    );
    gateway.program.signal(nix::sys::signal::Signal::SIGTERM);
    let status = gateway.program.wait();
    assert!(status.success(), "{status}: {}", gateway.log());
}
