//! What a test or a demo can rely on in a vendor, over real sockets: a raw and an ordinary client.

mod dialects;
mod faults;
mod life;
mod socket;

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

use super::{Settings, Vendor};

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
