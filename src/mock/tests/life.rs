//! Whom a vendor lets in, how it is watched and changed, and how it ends.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{CHAT, Raw, SOON, STREAM, call, events, json, ordinary, vendor};
use crate::mock::{AtCapacity, Connections, OAuth, RateLimit, Settings, Vendor};
use crate::secret::Secret;

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

#[tokio::test]
async fn issued_tokens_are_accepted_until_they_expire() {
    let settings = Settings {
        oauth: Some(OAuth::default()),
        ..Settings::named("signed")
    };
    let vendor = vendor(settings).await;
    let form = "grant_type=refresh_token&refresh_token=r%2D1&client_id=c";
    let (_, _, body) = call(&vendor, "/oauth/token", &[], form).await;
    let token = json(&body)["access_token"].as_str().unwrap().to_owned();
    let with = async |token: &str| {
        let headers = [("authorization", &*format!("Bearer {token}"))];
        call(&vendor, "/v1/messages", &headers, CHAT)
            .await
            .0
            .as_u16()
    };
    assert_eq!(with(&token).await, 200);
    assert_eq!(with("another").await, 401);
    vendor.expire_tokens();
    assert_eq!(with(&token).await, 401);
    let used = r#"{"grantType":"refresh_token","refreshToken":"r-1"}"#;
    let (status, headers, body) = call(&vendor, "/token", &[], used).await;
    assert_eq!(status, 400, "it was used up, in whatever form it comes");
    assert_eq!(headers["x-amzn-errortype"], "InvalidGrantException");
    assert_eq!(json(&body)["error"], "invalid_grant");
    let fresh = used.replace("r-1", "r-2");
    let (_, _, body) = call(&vendor, "/token", &[], &fresh).await;
    assert_eq!(
        with(json(&body)["accessToken"].as_str().unwrap()).await,
        200
    );
    assert_eq!(vendor.stats().token_requests, 3);
    assert_eq!(vendor.last_token_request().unwrap().body, fresh);
}
