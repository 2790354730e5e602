//! A vendor's WebSocket: the handshake, a response, what comes back as it was, and its faults.

use futures::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Raw, SOON, ordinary, vendor};
use crate::mock::{Settings, Vendor};

type Client = WebSocketStream<TcpStream>;

async fn open(vendor: &Vendor, headers: &[(&'static str, &str)]) -> Client {
    let url = format!("ws://{}/v1/responses", vendor.address());
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(vendor.address()).await.unwrap();
    // The client checks the Sec-WebSocket-Accept.
    let (client, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    client
}

async fn next(client: &mut Client) -> Option<Result<Message, Error>> {
    timeout(SOON, client.next()).await.unwrap()
}

async fn ask(client: &mut Client) {
    let asked = r#"{"type":"response.create","model":"gpt-5","input":[]}"#;
    client.send(Message::text(asked)).await.unwrap();
}

/// The types of the events of one response, up to the last or to a cut.
async fn events(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(Ok(Message::Text(text))) = next(client).await {
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        seen.push(event["type"].as_str().unwrap().to_owned());
        if ["response.completed", "response.failed"].contains(&&**seen.last().unwrap()) {
            break;
        }
    }
    seen
}

#[tokio::test]
async fn a_response_comes_event_by_event_and_the_next_one_too() {
    let vendor = ordinary().await;
    let mut client = open(&vendor, &[("x-mock-events", "3")]).await;
    for _ in 0..2 {
        ask(&mut client).await;
        let seen = events(&mut client).await;
        assert_eq!(seen.first().unwrap(), "response.created");
        let deltas = seen.iter().filter(|kind| kind.ends_with(".delta")).count();
        assert_eq!(
            (deltas, seen.last().unwrap().as_str()),
            (3, "response.completed")
        );
    }
    assert_eq!(vendor.stats().in_flight, 1);
    client.close(None).await.unwrap();
    while next(&mut client).await.is_some() {}
    assert_eq!((vendor.stats().in_flight, vendor.stats().aborted), (0, 0));
}

#[tokio::test]
async fn anything_else_comes_back_as_it_was() {
    let vendor = ordinary().await;
    let mut client = open(&vendor, &[("sec-websocket-protocol", "realtime")]).await;
    for message in [Message::text("hi"), Message::binary(vec![0, 255, 7])] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut client).await.unwrap().unwrap(), message);
    }
    client.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(
        next(&mut client).await.unwrap().unwrap(),
        Message::Pong("p".into())
    );
}

#[tokio::test]
async fn a_session_breaks_where_it_is_told_to() {
    let vendor = ordinary().await;
    let mut cut = open(&vendor, &[("x-mock-cut", "2")]).await;
    ask(&mut cut).await;
    assert_eq!(events(&mut cut).await.len(), 2);
    let mut reset = open(&vendor, &[("x-mock-cut", "1"), ("x-mock-reset", "1")]).await;
    ask(&mut reset).await;
    next(&mut reset).await.unwrap().unwrap();
    let Some(Err(Error::Io(error))) = next(&mut reset).await else {
        panic!("not reset")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut failed = open(&vendor, &[("x-mock-error-event", "2")]).await;
    ask(&mut failed).await;
    assert_eq!(events(&mut failed).await.last().unwrap(), "response.failed");
    assert_eq!(vendor.stats().aborted, 0, "it was the vendor's doing");
}

#[tokio::test]
async fn a_client_without_a_key_is_told_and_one_that_vanishes_is_counted() {
    let vendor = vendor(Settings::named("v")).await;
    let mut raw = Raw::to(&vendor).await;
    let head = "GET /v1/responses HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    raw.0.write_all(head.as_bytes()).await.unwrap();
    assert!(raw.until_silence().await.starts_with("HTTP/1.1 400"));
    drop(open(&vendor, &[]).await);
    let gone = async {
        while vendor.stats().aborted == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}
