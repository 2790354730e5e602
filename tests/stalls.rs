//! Who stands still in the middle of a stream is let go: a client that stops reading, and a vendor
//! that falls silent. Each time the lease is freed and the right one is blamed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use poolgate::dialect::Dialect;
use serde_json::json;

use crate::support::{Gateway, Mock, Request, chat, pool, post, wait_for};

/// More than the kernel's buffers of both connections hold.
const ENDLESS: &[&str] = &["--events", "1000000", "--gap", "0ms"];

const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

fn gateway(vendor: &Mock) -> Gateway {
    let clients = "clients: {open: true, write_timeout: 1s}\n";
    let pool = pool(std::slice::from_ref(vendor), "    retry: {attempts: 1}\n");
    Gateway::start(&format!("{clients}{pool}"))
}

#[track_caller]
fn wait_until_taken(gateway: &Gateway) {
    wait_for("the account to be taken", || {
        (gateway.account("a0")["in_flight"] == 1).then_some(())
    });
}

/// The lease is back, the vendor was told, and nobody but the client is to blame.
#[track_caller]
fn assert_let_go(gateway: &Gateway, vendor: &Mock, since: Instant) {
    wait_for("the account to be free", || {
        (gateway.account("a0")["in_flight"] == 0).then_some(())
    });
    assert!(
        since.elapsed() >= WRITE_TIMEOUT,
        "a client may take a breath"
    );
    wait_for("the vendor's connection to be closed", || {
        (vendor.count("in_flight") == 0).then_some(())
    });
    assert_eq!(vendor.count("aborted"), 1);
    let gone = ["outcome=\"client_gone\""];
    wait_for("the outcome", || {
        (gateway.metric("poolgate_requests_total", &gone) == 1.0).then_some(())
    });
    assert_eq!(gateway.account("a0")["status"], "healthy");
    assert_eq!(gateway.account("a0")["failures"], 0);
}

#[test]
fn a_client_that_stops_reading_is_let_go_and_its_account_freed() {
    let vendor = Mock::start(ENDLESS);
    let gateway = gateway(&vendor);
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    let request = chat(true).bytes(gateway.address);
    socket.write_all(&request).unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    let since = Instant::now();
    wait_until_taken(&gateway);
    assert_let_go(&gateway, &vendor, since);
    // Until here: the client is there, and only does not read.
    drop(socket);
}

/// A head is written in another way than a body: its client is let go all the same.
#[test]
fn a_client_that_reads_no_head_is_let_go_and_its_account_freed() {
    let vendor = Mock::start(&[]);
    let gateway = gateway(&vendor);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&gateway.address.into()).unwrap();
    let mut socket = TcpStream::from(socket);
    let request = Request::new("HEAD", "/v1/models").bytes(gateway.address);
    // One after the other, until what the kernels hold for a client is full of their answers.
    let is_served = |before: u64| {
        let since = Instant::now();
        while since.elapsed() < WRITE_TIMEOUT / 2 {
            if vendor.count("requests") > before {
                return true;
            }
        }
        false
    };
    wait_for("an answer that finds no room", || {
        let before = vendor.count("requests");
        socket.write_all(&request).unwrap();
        (!is_served(before)).then_some(())
    });
    wait_for("the account to be free", || {
        (gateway.account("a0")["in_flight"] == 0).then_some(())
    });
    wait_for("the connection to be gone", || {
        (gateway.metric("poolgate_connections", &[]) == 0.0).then_some(())
    });
    drop(socket);
}

#[test]
fn a_stream_of_http2_that_is_not_read_is_let_go_and_the_others_go_on() {
    let vendor = Mock::start(ENDLESS);
    let gateway = gateway(&vendor);
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let ask = |events: u32| {
        let body = r#"{"model":"gpt-5","stream":true,"messages":[]}"#;
        http::Request::post(format!("http://{}/v1/chat/completions", gateway.address))
            .header("x-mock-events", events)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let (mut sender, stalled) = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.address).await;
        let io = TokioIo::new(socket.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let stalled = sender.send_request(ask(1_000_000)).await.unwrap();
        (sender, stalled)
    });
    let since = Instant::now();
    wait_until_taken(&gateway);
    assert_let_go(&gateway, &vendor, since);
    let other = runtime.block_on(async {
        let answer = sender.send_request(ask(2)).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    assert!(other.ends_with(b"data: [DONE]\n\n"), "{other:?}");
    drop(stalled);
}

/// A streamed request, and how its stream says that it broke off.
fn streams() -> [(Dialect, Request, &'static str, &'static str); 4] {
    let message = json!([{"role": "user", "content": "Hello"}]);
    let messages = json!({"model": "claude", "max_tokens": 9, "stream": true, "messages": message});
    let responses = json!({"model": "gpt-5", "stream": true, "input": "Hello"});
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let generate = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
    [
        (Dialect::OpenAi, chat(true), "", "/error/message"),
        (
            Dialect::OpenAi,
            post("/v1/responses", &responses),
            "response.failed",
            "/response/error/message",
        ),
        (
            Dialect::Anthropic,
            post("/v1/messages", &messages),
            "error",
            "/error/message",
        ),
        (
            Dialect::Gemini,
            post(generate, &contents),
            "",
            "/error/message",
        ),
    ]
}

#[test]
fn a_vendor_that_falls_silent_in_a_stream_is_blamed_and_the_client_told_in_its_dialect() {
    let vendor = Mock::start(&["--hang", "2"]);
    let timeouts = "    timeouts: {read_stream: 300ms}\n    breaker: {consecutive_failures: 100}\n";
    let gateway = Gateway::start(&pool(std::slice::from_ref(&vendor), timeouts));
    for (n, (dialect, request, name, pointer)) in streams().into_iter().enumerate() {
        let mut stream = request.open(gateway.address).unwrap();
        assert_eq!(stream.head.status, 200);
        // To its proper end: the framing is whole, so that only the event tells of the break.
        let events = stream.events().unwrap();
        let last = events.last().unwrap();
        assert_eq!(last.name, name, "{dialect:?}");
        let data: serde_json::Value = serde_json::from_str(&last.data).unwrap();
        assert!(data.pointer(pointer).is_some(), "{dialect:?}: {data}");
        let failures = n as u64 + 1;
        wait_for("the account to be blamed", || {
            (gateway.account("a0")["failures"] == failures).then_some(())
        });
        let broken = ["outcome=\"broken_stream\""];
        let broken = gateway.metric("poolgate_requests_total", &broken);
        assert_eq!(broken, failures as f64, "{dialect:?}");
        assert_eq!(gateway.account("a0")["in_flight"], 0);
        wait_for("the vendor's connection to be closed", || {
            (vendor.count("in_flight") == 0).then_some(())
        });
    }
}
