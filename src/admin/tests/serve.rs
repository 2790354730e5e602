//! The API over a real socket, through Pingora's own session.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::l4::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::admin::AdminApp;

const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one connection, and ends the process' time when the sender says so.
async fn connect(router: Router) -> (TcpStream, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(AdminApp::new(router, Arc::default()));
    tokio::spawn(async move {
        app.process_new(Box::new(Stream::from(server)), &stopped)
            .await;
    });
    (client, stop)
}

async fn send(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the text holds `end`.
async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let mut part = [0; 4096];
        let n = timeout(PATIENCE, client.read(&mut part))
            .await
            .unwrap()
            .unwrap();
        assert!(n > 0, "closed after {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..n]);
    }
    String::from_utf8(text).unwrap()
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, client.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

fn echo() -> Router {
    Router::new()
        .route("/hello", get(async || "hello"))
        .route("/echo", post(async |body: Bytes| body))
}

#[tokio::test]
async fn one_connection_serves_one_request_after_another() {
    let (mut client, _stop) = connect(echo()).await;
    for _ in 0..3 {
        send(&mut client, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let text = read_until(&mut client, "\r\n\r\nhello").await;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.to_lowercase().contains("content-length: 5")
        );
    }
    send(
        &mut client,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    assert!(
        read_until(&mut client, "\r\n\r\nabc")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    send(&mut client, chunked).await;
    assert!(
        read_until(&mut client, "\r\n\r\nabc")
            .await
            .starts_with("HTTP/1.1 200")
    );
    send(
        &mut client,
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(read_to_end(&mut client).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_head_request_gets_no_body_and_the_connection_stays_right() {
    let (mut client, _stop) = connect(echo()).await;
    send(&mut client, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(
        text.to_lowercase().contains("content-length: 5") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    send(&mut client, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        read_until(&mut client, "hello")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_body_beyond_a_mebibyte_is_refused_whether_its_length_is_stated_or_not() {
    let (mut client, _stop) = connect(echo()).await;
    send(
        &mut client,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n",
    )
    .await;
    let text = read_to_end(&mut client).await;
    assert!(
        text.starts_with("HTTP/1.1 413") && text.contains("request_too_large"),
        "{text}"
    );

    let (mut client, _stop) = connect(echo()).await;
    send(
        &mut client,
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    // Exactly one byte too many, so that nothing unread is left to reset the connection.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    send(&mut client, &chunk.repeat(16)).await;
    send(&mut client, "1\r\nx\r\n").await;
    assert!(
        read_until(&mut client, "}")
            .await
            .starts_with("HTTP/1.1 413")
    );
}

/// Whoever is turned away is told so by the head alone.
#[tokio::test]
async fn of_whom_the_gate_refuses_no_body_is_read() {
    let gate = axum::middleware::from_fn(async |request: Request, next: Next| {
        match request.headers().contains_key("authorization") {
            true => next.run(request).await,
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    });
    let router = echo().layer(gate);
    let (mut client, _stop) = connect(router.clone()).await;
    send(
        &mut client,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
    )
    .await;
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    // A body that has come all the same is no beginning of the next request.
    let (mut client, _stop) = connect(router).await;
    let first = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    send(&mut client, first).await;
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    let second = "POST /echo HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    send(&mut client, second).await;
    let text = read_until(&mut client, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 100"), "{text}");
    send(&mut client, "def").await;
    let text = read_until(&mut client, "def").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

/// It takes ten seconds, and so `POOLGATE_SOAK=1`.
#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "how much is tried is said to the test, not to the program"
)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    if crate::config::process_env("POOLGATE_SOAK").as_deref() != Some("1") {
        return;
    }
    let (mut client, _stop) = connect(echo()).await;
    send(&mut client, "GET /hello HTTP/1.1\r\nHos").await;
    let mut text = String::new();
    let end = timeout(Duration::from_secs(30), client.read_to_string(&mut text));
    end.await.unwrap().unwrap();
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_stream_is_written_as_it_comes_and_ends_with_the_process() {
    let (events, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let router = Router::new().route(
        "/events",
        get(move || async move {
            let receiver = receiver.lock().await.take().unwrap();
            Body::from_stream(futures::stream::unfold(receiver, async |mut receiver| {
                receiver.recv().await.map(|event| (event, receiver))
            }))
        }),
    );
    let (mut client, stop) = connect(router).await;
    send(&mut client, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked"),
        "{head}"
    );
    for event in ["data: one\n\n", "data: two\n\n"] {
        events
            .send(Ok(Bytes::from_static(event.as_bytes())))
            .await
            .unwrap();
        read_until(&mut client, event).await;
    }
    stop.send(true).unwrap();
    assert!(read_to_end(&mut client).await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_end_of_the_process_up() {
    let (mut client, stop) = connect(echo()).await;
    send(&mut client, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    read_until(&mut client, "hello").await;
    stop.send(true).unwrap();
    assert_eq!(read_to_end(&mut client).await, "");
}
