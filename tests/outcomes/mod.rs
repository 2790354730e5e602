//! What each answer of an upstream leads to: `contract/http.md` §2, row by row. The first of three
//! accounts fails in the row's way; asserted is what the client gets, which accounts were asked, and
//! what becomes of the first one.

mod limits;
mod models;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, chat, get, post, ranked, wait_for};

/// Three accounts that are asked in the order a0, a1, a2, and a key that is told which one answered.
struct House {
    vendors: Vec<Mock>,
    gateway: Gateway,
    /// Requests sent so far.
    sent: u32,
}

/// One request's fate.
struct Fate {
    answer: Answer,
    tries: String,
}

const KEY: &str = "sk-of-a-test";

fn house() -> House {
    house_with("")
}

fn house_with(keys: &str) -> House {
    let (vendors, pool) = ranked(keys);
    let clients = format!("clients: {{keys: [{{name: t, key: {KEY}, expose_account: true}}]}}\n");
    let gateway = Gateway::start(&format!("{clients}{pool}"));
    House {
        vendors,
        gateway,
        sent: 0,
    }
}

impl House {
    /// Sends the request with these faults at these vendors.
    #[track_caller]
    fn ask(&mut self, request: &Request, only: &str, faults: &[(&str, &str)]) -> Fate {
        self.sent += 1;
        let id = format!("test-{}", self.sent);
        let request = request.clone().bearer(KEY).header("x-request-id", &id);
        let request = faults.iter().fold(
            request.header("x-mock-only", only),
            |request, (name, value)| request.header(&format!("x-mock-{name}"), value),
        );
        let answer = self.gateway.send(&request);
        let tries = self.gateway.tries(&id);
        Fate { answer, tries }
    }

    fn first(&self) -> Value {
        self.gateway.account("a0")
    }

    /// Requests that each vendor has seen.
    fn counts(&self) -> Vec<u64> {
        let count = |vendor: &Mock| vendor.count("requests");
        self.vendors.iter().map(count).collect()
    }

    #[track_caller]
    fn assert_all_are_healthy(&self) {
        for id in ["a0", "a1", "a2"] {
            let account = self.gateway.account(id);
            assert_eq!(account["status"], "healthy", "{account}");
            assert_eq!(account["consecutive_failures"], 0, "{account}");
        }
    }
}

/// Served by a1 after a0 failed in this way.
#[track_caller]
fn assert_a1_took_over(fate: &Fate, outcome: &str) {
    assert_eq!(fate.answer.status, 200, "{}", fate.answer.text());
    assert_eq!(fate.answer.header("x-poolgate-account"), Some("a1"));
    assert_eq!(fate.tries, format!("a0:{outcome},a1:success"));
}

/// The account's status ends within these seconds from now.
#[track_caller]
fn assert_until(account: &Value, seconds: std::ops::RangeInclusive<i64>) {
    let until: Timestamp = account["until"].as_str().unwrap().parse().unwrap();
    let left = until.duration_since(Timestamp::now()).as_secs();
    assert!(seconds.contains(&left), "{left} s are left: {account}");
}

fn message() -> Request {
    let body = json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    post("/v1/messages", &body).header("anthropic-version", "2023-06-01")
}

fn generate() -> Request {
    let body = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    post("/v1beta/models/gemini-x:generateContent", &body)
}

fn of_model(model: &str) -> Request {
    let message = json!({"role": "user", "content": "Hello"});
    post(
        "/v1/chat/completions",
        &json!({"model": model, "messages": [message]}),
    )
}

#[test]
fn a_success_comes_from_the_first_account_and_names_it() {
    let mut house = house();
    let fate = house.ask(&chat(false), "nobody", &[]);
    assert_eq!(fate.answer.header("x-poolgate-account"), Some("a0"));
    assert_eq!(fate.tries, "a0:success");
    let account = house.first();
    assert_eq!(
        (&account["successes"], &account["failures"]),
        (&json!(1), &json!(0))
    );
    // What `response_time` chooses by.
    assert!(account["response_ms"]["p50"].is_number(), "{account}");
}

#[test]
fn a_wrong_request_is_told_so_in_the_vendors_own_words_and_no_other_account_is_asked() {
    let mut house = house();
    for (request, status, body, words) in [
        (chat(false), 400, "invalid_request", "We could not parse"),
        (chat(false), 400, "context_length", "maximum context length"),
        (message(), 400, "context_length", "prompt is too long"),
        (generate(), 400, "context_length", "The input token count"),
        (chat(false), 413, "too_large", "body too large"),
    ] {
        let fate = house.ask(&request, "a0", &[("body", body)]);
        assert_eq!(fate.answer.status, status, "{body}");
        let message = fate.answer.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{message}");
        assert_eq!(fate.tries, "a0:client_fault");
        assert_eq!(fate.answer.header("x-poolgate-account"), Some("a0"));
    }
    // Too long is too long, whatever its status.
    let fate = house.ask(
        &chat(false),
        "a0",
        &[("body", "context_length"), ("status", "500")],
    );
    assert_eq!((fate.answer.status, &*fate.tries), (500, "a0:client_fault"));
    assert_eq!(house.counts(), [6, 0, 0]);
    house.assert_all_are_healthy();
    assert_eq!(house.first()["last_error"], Value::Null);
}

#[test]
fn a_403_asks_one_more_account_and_two_of_them_are_believed() {
    let mut house = house();
    let fate = house.ask(&chat(false), "a0", &[("status", "403")]);
    assert_a1_took_over(&fate, "forbidden");
    let forbidden = [("status", "403")];
    let fate = house.ask(&chat(false), "a0,a1,a2", &forbidden);
    assert_eq!(fate.answer.status, 403);
    assert_eq!(fate.tries, "a0:forbidden,a1:forbidden");
    assert!(
        fate.answer.text().contains("insufficient permissions"),
        "{}",
        fate.answer.text()
    );
    for _ in 0..20 {
        house.ask(&chat(false), "a0,a1,a2", &forbidden);
    }
    // One client's 403s take nobody out of rotation.
    house.assert_all_are_healthy();
    assert_eq!(house.ask(&chat(false), "nobody", &[]).tries, "a0:success");
}

#[test]
fn a_failing_account_is_replaced_and_five_failures_in_a_row_open_its_breaker() {
    let mut house = house();
    let ways: [&[(&str, &str)]; 5] = [
        &[("status", "500")],
        &[("body", "html")],
        &[("body", "empty")],
        &[("status", "408")],
        &[("reset", "1")],
    ];
    for (n, faults) in ways.into_iter().enumerate() {
        let fate = house.ask(&chat(false), "a0", faults);
        assert_a1_took_over(&fate, "transient");
        let account = house.first();
        assert_eq!(account["consecutive_failures"], n + 1, "{account}");
        assert!(
            account["last_error"]
                .as_str()
                .unwrap()
                .starts_with("transient"),
            "{account}"
        );
    }
    let account = house.first();
    assert_eq!(account["status"], "open", "{account}");
    assert_eq!(account["breaker"]["state"], "open", "{account}");
    assert_until(&account, 25..=30);
    assert_eq!(
        house.ask(&chat(false), "a0", &[("status", "500")]).tries,
        "a1:success"
    );
    assert_eq!(
        house
            .gateway
            .metric("poolgate_breaker_opened_total", &["account=\"a0\""]),
        1.0
    );
}

#[test]
fn a_request_that_fails_alike_everywhere_counts_once_and_gets_the_last_real_answer() {
    let mut house = house();
    let fate = house.ask(&chat(false), "a0,a1,a2", &[("status", "500")]);
    assert_eq!(fate.answer.status, 500);
    assert!(
        fate.answer.text().contains("The server had an error"),
        "{}",
        fate.answer.text()
    );
    assert_eq!(fate.tries, "a0:transient,a1:transient,a2:transient");
    let failures = |id: &str| house.gateway.account(id)["consecutive_failures"].clone();
    assert_eq!([failures("a0"), failures("a1"), failures("a2")], [1, 0, 0]);
}

#[test]
fn an_error_is_judged_and_delivered_whatever_its_length_and_framing() {
    let mut house = house_with("    breaker: {enabled: false}\n");
    for shape in [
        ("size", "200000"),
        ("split", "7"),
        ("chunked", "1"),
        ("size", "70000"),
    ] {
        let fate = house.ask(&chat(false), "a0", &[("body", "context_length"), shape]);
        assert_eq!(
            (fate.answer.status, &*fate.tries),
            (400, "a0:client_fault"),
            "{shape:?}"
        );
        let message = fate.answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        let least = if shape.0 == "size" {
            shape.1.parse().unwrap()
        } else {
            1
        };
        assert!(message.len() >= least, "{} bytes came", message.len());
        let fate = house.ask(&chat(false), "a0", &[("status", "500"), shape]);
        assert_a1_took_over(&fate, "transient");
    }
    // One that breaks off still says what became of its account, but is no answer to a client.
    let cut = |status| [("status", status), ("size", "5000"), ("cut", "1")];
    let fate = house.ask(&chat(false), "a0", &cut("500"));
    assert_a1_took_over(&fate, "transient");
    let fate = house.ask(&chat(false), "a0", &cut("400"));
    assert_a1_took_over(&fate, "transient");
    let fate = house.ask(&chat(false), "a0", &cut("429"));
    assert_a1_took_over(&fate, "rate_limited");
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_replaced() {
    let (vendors, pool) = ranked("");
    let tls = pool.replacen("http://", "https://", 1);
    let gateway = Gateway::start(&tls);
    let answer = gateway.send(&chat(false).header("x-request-id", "tls"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.tries("tls"), "a0:transient,a1:success");
    assert_eq!(gateway.account("a0")["consecutive_failures"], 1);
    drop(vendors);
}

#[test]
fn a_stream_that_breaks_is_counted_against_its_account_and_not_begun_again() {
    let mut house = house();
    let mut reply = chat(true)
        .bearer(KEY)
        .header("x-request-id", "cut")
        .header("x-mock-cut", 2)
        .open(house.gateway.address)
        .unwrap();
    while let Ok(Some(_)) = reply.piece() {}
    assert_eq!(house.gateway.tries("cut"), "a0:broken_stream");
    assert_eq!(house.first()["consecutive_failures"], 1);
    // An error event says itself what it is.
    let fate = house.ask(&chat(true), "a0", &[("error-event", "2")]);
    assert_eq!(fate.tries, "a0:overloaded");
    assert_eq!(house.counts(), [2, 0, 0]);
}

#[test]
fn an_answer_without_a_body_is_whole() {
    let house = house();
    let head = Request::new("HEAD", "/v1/models")
        .bearer(KEY)
        .header("x-mock-echo", 1);
    let answer = house.gateway.send(&head.header("x-request-id", "head"));
    assert_eq!(answer.status, 200);
    assert_eq!(house.gateway.tries("head"), "a0:success");
}

#[test]
fn a_client_that_leaves_is_held_against_nobody() {
    let house = house();
    let request = chat(true).bearer(KEY).header("x-request-id", "left");
    let mut reply = request
        .header("x-mock-hang", 2)
        .open(house.gateway.address)
        .unwrap();
    assert!(reply.event().unwrap().is_some());
    drop(reply);
    assert_eq!(house.gateway.tries("left"), "a0:client_gone");
    let account = house.first();
    assert_eq!(
        (&account["in_flight"], &account["failures"]),
        (&json!(0), &json!(0))
    );
    house.assert_all_are_healthy();
    wait_for("the vendor to be let go", || {
        (house.vendors[0].count("aborted") == 1).then_some(())
    });
    assert_eq!(get("/livez").send(house.gateway.address).status, 200);
}
