//! What a test or a demo can rely on in a vendor, over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AtCapacity, Connections, RateLimit, Settings, Vendor};
use crate::secret::Secret;

const CHAT: &str = r#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"gpt-5","messages":[],"stream":true}"#;
/// Nothing here takes longer, unless it is broken.
const SOON: Duration = Duration::from_secs(5);
/// Silence for so long is taken for silence.
const SILENCE: Duration = Duration::from_millis(60);

async fn vendor(settings: Settings) -> Vendor {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Vendor::start(any, settings).await.unwrap()
}

async fn ordinary() -> Vendor {
    vendor(Settings::named("mock-t")).await
}

/// A connection on which bytes are sent and received as they are.
struct Raw(TcpStream);

impl Raw {
    async fn to(vendor: &Vendor) -> Raw {
        Raw(TcpStream::connect(vendor.address()).await.unwrap())
    }

    async fn post(vendor: &Vendor, path: &str, headers: &str, body: &str) -> Raw {
        let mut raw = Raw::to(vendor).await;
        raw.send(path, headers, body).await;
        raw
    }

    async fn send(&mut self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: t\r\n{headers}content-length: {length}\r\n\r\n");
        self.0.write_all((head + body).as_bytes()).await.unwrap();
    }

    /// Everything until the connection ends, and how it ended.
    async fn rest(&mut self) -> (String, std::io::Result<()>) {
        let mut bytes = Vec::new();
        let end = timeout(SOON, self.0.read_to_end(&mut bytes)).await;
        let end = end.expect("the connection ends").map(|_| ());
        (String::from_utf8(bytes).unwrap(), end)
    }

    /// What comes until nothing more comes.
    async fn until_silence(&mut self) -> String {
        let mut bytes = Vec::new();
        while let Ok(read) = timeout(SILENCE, self.0.read_buf(&mut bytes)).await {
            assert_ne!(read.unwrap(), 0, "silence is not an end");
        }
        String::from_utf8(bytes).unwrap()
    }
}

/// An ordinary call: status, headers, body.
async fn call(
    vendor: &Vendor,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, HeaderMap, Bytes) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut request = Request::builder().method(method).uri(vendor.url() + path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = timeout(SOON, client.request(request))
        .await
        .unwrap()
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = timeout(SOON, body.collect())
        .await
        .unwrap()
        .unwrap()
        .to_bytes();
    (parts.status, parts.headers, body)
}

fn json(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn events(text: &str) -> usize {
    text.matches("data: ").count()
}

#[tokio::test]
async fn every_dialect_answers_and_says_who_served() {
    let vendor = ordinary().await;
    for (path, text) in [
        ("/v1/chat/completions", "/choices/0/message/content"),
        ("/v1/completions", "/choices/0/text"),
        ("/v1/responses", "/output/0/content/0/text"),
        ("/v1/messages", "/content/0/text"),
        (
            "/v1beta/models/g:generateContent",
            "/candidates/0/content/parts/0/text",
        ),
    ] {
        let (status, _, body) = call(&vendor, path, &[], CHAT).await;
        assert_eq!(status, 200, "{path}");
        let said = json(&body)
            .pointer(text)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(said, "Hello from mock-t 1 2 3 4 5 6 7", "{path}");
    }
}

#[tokio::test]
async fn every_stream_says_the_whole_text_in_events_that_are_json() {
    let vendor = ordinary().await;
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1beta/models/g:streamGenerateContent?alt=sse",
    ] {
        let (_, headers, body) = call(&vendor, path, &[], STREAM).await;
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        let text = String::from_utf8(body.to_vec()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if line != "[DONE]" {
                serde_json::from_str::<Value>(line).unwrap();
            }
        }
        assert!(
            text.contains("Hello from mock-t") && text.contains("\" 7\""),
            "{path}"
        );
    }
    let (_, _, body) = call(
        &vendor,
        "/v1beta/models/g:streamGenerateContent",
        &[],
        STREAM,
    )
    .await;
    assert_eq!(
        json(&body).as_array().unwrap().len(),
        9,
        "an array without alt=sse"
    );
}

#[tokio::test]
async fn usage_is_counted_stated_or_left_out_as_asked() {
    let vendor = ordinary().await;
    let usage = async |ask: &str| {
        let asked = [("x-mock-usage", ask)];
        json(&call(&vendor, "/v1/messages", &asked, CHAT).await.2)["usage"].clone()
    };
    assert_eq!(usage("none").await, Value::Null);
    let stated = usage("100,20,80").await;
    assert_eq!(stated["input_tokens"], 20);
    assert_eq!(stated["cache_read_input_tokens"], 80);
    assert_eq!(stated["output_tokens"], 20);
    let (_, _, counted) = call(&vendor, "/v1/messages", &[], CHAT).await;
    assert_eq!(json(&counted)["usage"]["input_tokens"], CHAT.len() / 4);
}

#[tokio::test]
async fn a_cut_comes_after_the_stated_events_and_is_a_fin_or_a_reset() {
    let vendor = ordinary().await;
    let path = "/v1/chat/completions";
    let (text, end) = Raw::post(&vendor, path, "x-mock-cut: 3\r\n", STREAM)
        .await
        .rest()
        .await;
    assert_eq!(events(&text), 3);
    assert!(end.is_ok(), "FIN");
    assert!(!text.ends_with("0\r\n\r\n"), "it does not look complete");
    let headers = "x-mock-cut: 3\r\nx-mock-reset: 1\r\n";
    let (text, end) = Raw::post(&vendor, path, headers, STREAM).await.rest().await;
    assert_eq!(events(&text), 3);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (text, end) = Raw::post(&vendor, path, "x-mock-reset: 1\r\n", CHAT)
        .await
        .rest()
        .await;
    assert_eq!(text, "", "without a cut there is not even a head");
    assert!(end.is_err());
    let stats = vendor.stats();
    assert_eq!((stats.requests, stats.aborted, stats.in_flight), (3, 0, 0));
}

#[tokio::test]
async fn half_of_a_whole_answer_comes_before_a_cut() {
    let vendor = ordinary().await;
    let headers = "x-mock-cut: 1\r\nx-mock-size: 1000\r\n";
    let (text, _) = Raw::post(&vendor, "/v1/messages", headers, CHAT)
        .await
        .rest()
        .await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let stated = head.split("content-length: ").nth(1).unwrap();
    let stated: usize = stated.split("\r\n").next().unwrap().parse().unwrap();
    assert_eq!(body.len(), stated.div_ceil(2));
}

#[tokio::test]
async fn a_hang_keeps_its_place_until_the_client_leaves() {
    let vendor = ordinary().await;
    let path = "/v1/messages";
    let mut silent = Raw::post(&vendor, path, "x-mock-hang: head\r\n", STREAM).await;
    let mut stuck = Raw::post(&vendor, path, "x-mock-hang: 3\r\n", STREAM).await;
    assert_eq!(silent.until_silence().await, "");
    assert_eq!(events(&stuck.until_silence().await), 3);
    assert_eq!(vendor.stats().in_flight, 2);
    drop((silent, stuck));
    let gone = async {
        while vendor.stats().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    assert_eq!(vendor.stats().aborted, 2);
}

#[tokio::test]
async fn an_error_event_ends_a_stream_in_the_dialects_way() {
    let vendor = ordinary().await;
    let asked = [("x-mock-error-event", "2")];
    for (path, end) in [
        ("/v1/chat/completions", "data: {\"error\":"),
        (
            "/v1/responses",
            "event: response.failed\ndata: {\"type\":\"response.failed\"",
        ),
        ("/v1/messages", "event: error\ndata: {\"error\":"),
        (
            "/v1/models/g:streamGenerateContent?alt=sse",
            "data: {\"error\":",
        ),
    ] {
        let (_, _, body) = call(&vendor, path, &asked, STREAM).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(events(&text), 3, "{path}");
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with(end), "{path}: {last}");
    }
}

#[tokio::test]
async fn errors_come_in_the_vendors_shape_and_with_its_headers() {
    let vendor = ordinary().await;
    let asked = [("x-mock-status", "429"), ("x-mock-retry-after", "30")];
    let (status, headers, body) = call(&vendor, "/v1/messages", &asked, CHAT).await;
    assert_eq!(
        (status.as_u16(), &headers["retry-after"]),
        (429, &"30".parse().unwrap())
    );
    assert_eq!(json(&body)["error"]["type"], "rate_limit_error");
    let asked = [
        ("x-mock-body", "insufficient_quota"),
        ("x-mock-size", "200000"),
    ];
    let (status, _, body) = call(&vendor, "/v1/chat/completions", &asked, CHAT).await;
    assert_eq!(status, 429);
    assert!(body.len() > 200_000, "an error's body can be long");
    assert_eq!(json(&body)["error"]["code"], "insufficient_quota");
    let (status, _, body) = call(
        &vendor,
        "/v1/chat/completions",
        &[("x-mock-body", "empty")],
        CHAT,
    )
    .await;
    assert_eq!((status.as_u16(), body.len()), (500, 0));
    let (status, _, body) = call(&vendor, "/v1/messages", &[("x-mock-status", "x")], CHAT).await;
    assert_eq!(status, 400);
    assert!(
        json(&body)["error"]["message"]
            .as_str()
            .unwrap()
            .contains("x-mock-status")
    );
}

#[tokio::test]
async fn only_an_accepted_token_is_served() {
    let settings = Settings {
        tokens: vec![Secret::new("sk-a-very-good-token")],
        ..Settings::named("guarded")
    };
    let vendor = vendor(settings).await;
    let status = async |name: &str, value: &str| {
        call(&vendor, "/v1/messages", &[(name, value)], CHAT)
            .await
            .0
            .as_u16()
    };
    assert_eq!(
        status("authorization", "Bearer sk-a-very-good-token").await,
        200
    );
    assert_eq!(status("x-api-key", "sk-a-very-good-token").await, 200);
    assert_eq!(status("x-api-key", "sk-another").await, 401);
    let (_, _, body) = call(&vendor, "/v1/messages", &[], CHAT).await;
    assert_eq!(json(&body)["error"]["type"], "authentication_error");
    assert_eq!(vendor.requests_of("sk-a-very-good-token"), 2);
    let shown = call(&vendor, "/mock/stats", &[], "").await.2;
    assert!(
        !String::from_utf8_lossy(&shown).contains("very-good"),
        "tokens are masked"
    );
}

#[tokio::test]
async fn a_spent_limit_is_stated_as_the_vendor_states_it() {
    let limit = RateLimit {
        requests: 1,
        window: Duration::from_secs(3600),
    };
    let settings = Settings {
        rate_limit: Some(limit),
        ..Settings::named("limited")
    };
    let vendor = vendor(settings).await;
    let (status, headers, _) = call(&vendor, "/v1/messages", &[], CHAT).await;
    assert_eq!(status, 200);
    assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "0");
    let (status, headers, _) = call(&vendor, "/v1/messages", &[], CHAT).await;
    assert_eq!(status, 429);
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait));
    let (_, headers, _) = call(&vendor, "/v1/chat/completions", &[], CHAT).await;
    assert_eq!(headers["x-ratelimit-remaining-requests"], "0");
}

#[tokio::test]
async fn more_calls_at_once_than_it_takes_are_a_violation() {
    let settings = Settings {
        max_concurrent: Some(1),
        at_capacity: AtCapacity::Overloaded,
        ..Settings::named("small")
    };
    let vendor = vendor(settings).await;
    let mut first = Raw::post(&vendor, "/v1/messages", "x-mock-hang: 1\r\n", STREAM).await;
    assert_eq!(events(&first.until_silence().await), 1);
    assert_eq!(call(&vendor, "/v1/messages", &[], CHAT).await.0, 529);
    vendor
        .change(|s| s.at_capacity = AtCapacity::Record)
        .unwrap();
    assert_eq!(call(&vendor, "/v1/messages", &[], CHAT).await.0, 200);
    let stats = vendor.stats();
    assert_eq!((stats.violations, stats.max_in_flight_seen), (2, 2));
    assert_eq!(
        call(&vendor, "/v1/models", &[], "").await.0,
        200,
        "a list takes no place"
    );
}

#[tokio::test]
async fn calls_one_after_another_on_one_connection_never_overlap() {
    let vendor = vendor(Settings {
        max_concurrent: Some(1),
        ..Settings::named("serial")
    })
    .await;
    let mut raw = Raw::to(&vendor).await;
    for _ in 0..200 {
        raw.send("/v1/chat/completions", "x-mock-events: 2\r\n", STREAM)
            .await;
        let mut seen = Vec::new();
        while !seen.ends_with(b"0\r\n\r\n") {
            assert_ne!(
                timeout(SOON, raw.0.read_buf(&mut seen))
                    .await
                    .unwrap()
                    .unwrap(),
                0
            );
        }
    }
    assert_eq!(
        (vendor.stats().violations, vendor.stats().connections),
        (0, 1)
    );
}

#[tokio::test]
async fn a_connection_can_be_dropped_after_an_answer_that_promised_more() {
    let vendor = ordinary().await;
    for body in [CHAT, STREAM] {
        let mut raw = Raw::post(
            &vendor,
            "/v1/chat/completions",
            "x-mock-drop-keepalive: 1\r\n",
            body,
        )
        .await;
        let (text, end) = raw.rest().await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("Hello from"));
        assert!(!text.to_lowercase().contains("connection: close"));
        assert!(end.is_ok());
    }
}

#[tokio::test]
async fn an_answer_can_leave_in_pieces_of_any_size() {
    let vendor = ordinary().await;
    let asked = [("x-mock-split", "7"), ("x-mock-events", "2")];
    let (_, _, pieces) = call(&vendor, "/v1/messages", &asked, STREAM).await;
    let text = String::from_utf8(pieces.to_vec()).unwrap();
    assert!(text.contains("\"text\":\" 1\"") && text.ends_with("{\"type\":\"message_stop\"}\n\n"));
    let (_, headers, whole) = call(&vendor, "/v1/messages", &asked, CHAT).await;
    assert_eq!(json(&whole)["type"], "message");
    assert!(headers.contains_key("content-length"));
    let (_, headers, _) = call(&vendor, "/v1/messages", &[("x-mock-chunked", "1")], CHAT).await;
    assert!(!headers.contains_key("content-length"));
}

#[tokio::test]
async fn sizes_and_gaps_are_as_asked() {
    let vendor = ordinary().await;
    for body in [CHAT, STREAM] {
        let asked = [("x-mock-size", "200000"), ("x-mock-events", "50")];
        let (_, _, body) = call(&vendor, "/v1/chat/completions", &asked, body).await;
        assert!((200_000..220_000).contains(&body.len()), "{}", body.len());
    }
    let before = crate::clock::now();
    let asked = [
        ("x-mock-gap", "20ms"),
        ("x-mock-events", "4"),
        ("x-mock-delay", "20ms"),
    ];
    call(&vendor, "/v1/chat/completions", &asked, STREAM).await;
    assert!(before.elapsed() >= Duration::from_millis(20 + 4 * 20));
}

#[tokio::test]
async fn what_arrived_can_be_seen_byte_for_byte() {
    let vendor = ordinary().await;
    let headers = [
        ("x-mock-echo", "1"),
        ("authorization", "Bearer t"),
        ("x-many", "1"),
        ("x-many", "2"),
    ];
    let (_, _, body) = call(
        &vendor,
        "/v1/chat/completions?a=b%20c",
        &headers,
        "not json at all",
    )
    .await;
    let echo = json(&body);
    assert_eq!(echo["path"], "/v1/chat/completions");
    assert_eq!(echo["query"], "a=b%20c");
    assert_eq!(echo["body_length"], 15);
    let hash = xxhash_rust::xxh3::xxh3_64(b"not json at all");
    assert_eq!(echo["body_xxh3"], format!("{hash:016x}"));
    assert_eq!(echo["headers"]["authorization"][0], "Bearer t");
    assert_eq!(echo["headers"]["x-many"], serde_json::json!(["1", "2"]));
    call(&vendor, "/v1/chat/completions", &[], CHAT).await;
    assert_eq!(vendor.last_request().unwrap().body, CHAT);
}

#[tokio::test]
async fn it_can_be_changed_while_it_runs() {
    let vendor = ordinary().await;
    let change =
        r#"{"name":"other","faults":[{"first":1,"status":503}],"health":500,"models":["m"]}"#;
    assert_eq!(call(&vendor, "/mock/settings", &[], change).await.0, 200);
    assert_eq!(call(&vendor, "/health", &[], "").await.0, 500);
    let body = r#"{"model":"m"}"#;
    assert_eq!(
        call(&vendor, "/v1/messages", &[], body).await.0,
        503,
        "the first one fails"
    );
    let (status, _, answer) = call(&vendor, "/v1/messages", &[], body).await;
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&answer).contains("Hello from other"));
    assert_eq!(
        call(&vendor, "/v1/messages", &[], CHAT).await.0,
        404,
        "no such model"
    );
    let (status, _, answer) = call(&vendor, "/mock/settings", &[], r#"{"colour":1}"#).await;
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&answer).contains("colour"));
    assert_eq!(call(&vendor, "/mock/reset", &[], "{}").await.0, 200);
    assert_eq!(vendor.stats().requests, 0);
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_on_the_same_port() {
    let vendor = ordinary().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let send = async |cut: &str| {
        let body = Full::new(Bytes::from_static(STREAM.as_bytes()));
        let request = Request::post(vendor.url() + "/v1/messages").header("x-mock-cut", cut);
        let response = client.request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        timeout(SOON, response.into_body().collect()).await.unwrap()
    };
    let text = send("1000").await.unwrap().to_bytes();
    assert!(text.ends_with(b"data: {\"type\":\"message_stop\"}\n\n"));
    assert!(send("2").await.is_err(), "a cut ends the connection");
}

#[tokio::test]
async fn a_stopping_vendor_finishes_its_answers_and_a_killed_one_does_not() {
    let gap = "x-mock-gap: 5ms\r\n";
    let gentle = ordinary().await;
    let idle = Raw::to(&gentle).await;
    let mut raw = Raw::post(&gentle, "/v1/chat/completions", gap, STREAM).await;
    let mut first = [0; 1];
    raw.0.read_exact(&mut first).await.unwrap();
    let address = gentle.address();
    assert!(gentle.stop(SOON).await, "all answers were finished");
    let (text, _) = raw.rest().await;
    assert!(text.contains("[DONE]"));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(idle);

    let crashing = ordinary().await;
    let mut raw = Raw::post(&crashing, "/v1/chat/completions", gap, STREAM).await;
    raw.0.read_exact(&mut first).await.unwrap();
    let address = crashing.address();
    crashing.kill().await;
    assert!(raw.rest().await.1.is_err(), "reset");
    Vendor::start(address, Settings::default()).await.unwrap();
}

#[tokio::test]
async fn connections_can_be_refused_reset_closed_or_left_alone() {
    let vendor = ordinary().await;
    let rest = async |connections| {
        vendor.change(|s| s.connections = connections).unwrap();
        Raw::post(&vendor, "/v1/messages", "", CHAT)
            .await
            .rest()
            .await
    };
    assert_eq!(rest(Connections::Close).await.0, "");
    assert_eq!(rest(Connections::Reset).await.0, "");
    vendor
        .change(|s| s.connections = Connections::Hang)
        .unwrap();
    let mut hung = Raw::post(&vendor, "/v1/messages", "", CHAT).await;
    assert_eq!(hung.until_silence().await, "");
    vendor
        .change(|s| s.connections = Connections::Refuse)
        .unwrap();
    let refused = async { while TcpStream::connect(vendor.address()).await.is_ok() {} };
    timeout(SOON, refused).await.unwrap();
    vendor
        .change(|s| s.connections = Connections::Serve)
        .unwrap();
    let back = async {
        while TcpStream::connect(vendor.address()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, back).await.unwrap();
    assert_eq!(call(&vendor, "/v1/messages", &[], CHAT).await.0, 200);
}
