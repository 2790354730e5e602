//! A client that leaves: at a random byte of its request, after a random time, or at a random byte
//! of the answer; over HTTP/1.1 with FIN or RST, over HTTP/2 with RST_STREAM or the whole connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that a client stays.
const STAY_MS: u64 = 60;

/// A body that takes a part of the memory for bodies.
const LARGE: usize = 300 << 10;

/// What a request's vendor is asked to do, as headers of the mock.
pub(super) const FAULTS: [&[(&str, &str)]; 16] = [
    &[],
    &[],
    &[("x-mock-gap", "4ms")],
    &[("x-mock-delay", "30ms")],
    &[("x-mock-status", "500")],
    &[("x-mock-status", "429"), ("x-mock-retry-after", "200ms")],
    &[("x-mock-status", "401")],
    &[("x-mock-status", "400")],
    &[("x-mock-body", "overloaded")],
    &[("x-mock-reset", "1")],
    &[("x-mock-cut", "2")],
    &[("x-mock-hang", "head")],
    &[("x-mock-hang", "2")],
    &[("x-mock-error-event", "2")],
    &[("x-mock-drop-keepalive", "1")],
    &[("x-mock-split", "7")],
];

/// One client, from its connection to its end.
pub(super) async fn comes_and_leaves(to: SocketAddr, rng: &mut Rng) {
    // What goes wrong for a client that leaves is its own affair.
    match rng.u8(0..3) {
        0 => drop(over_http2(to, rng).await),
        _ => drop(over_http1(to, rng).await),
    }
}

struct Asked {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn asked(rng: &mut Rng) -> Asked {
    let stream = rng.u8(0..3) > 0;
    let mut body = format!(r#"{{"model":"gpt-5","stream":{stream},"messages":[]}}"#).into_bytes();
    if rng.u8(0..8) == 0 {
        body.resize(LARGE, b' ');
    }
    let faults = rng.choice(FAULTS).unwrap();
    let mut headers: Vec<(&str, String)> = faults
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    headers.push(("x-caller", rng.u8(0..20).to_string()));
    if rng.bool() {
        headers.push(("x-mock-only", format!("a{}", rng.u8(0..4))));
    }
    Asked { headers, body }
}

async fn over_http1(to: SocketAddr, rng: &mut Rng) -> std::io::Result<()> {
    let Asked { headers, body } = asked(rng);
    let mut bytes = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    let chunked = rng.u8(0..4) == 0;
    match chunked {
        true => {
            bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
            bytes.extend(format!("{:x}\r\n", body.len()).bytes());
            bytes.extend([&body[..], b"\r\n0\r\n\r\n"].concat());
        }
        false => {
            bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend(body);
        }
    }
    let sent = match rng.u8(0..3) {
        0 => rng.usize(0..bytes.len()),
        _ => bytes.len(),
    };
    let read = match rng.u8(0..3) {
        0 => rng.u64(0..2_000),
        _ => u64::MAX,
    };
    let half_closes = rng.u8(0..8) == 0;
    let stay = Duration::from_millis(rng.u64(0..STAY_MS));
    let resets = rng.bool();

    let mut socket = TcpStream::connect(to).await?;
    let exchange = async {
        socket.write_all(&bytes[..sent]).await?;
        if half_closes {
            socket.shutdown().await?;
        }
        let (reader, _) = socket.split();
        tokio::io::copy(&mut reader.take(read), &mut tokio::io::sink()).await
    };
    drop(timeout(stay, exchange).await);
    if resets {
        socket.set_zero_linger()?;
    }
    Ok(())
}

async fn over_http2(to: SocketAddr, rng: &mut Rng) -> anyhow::Result<()> {
    let socket = TcpStream::connect(to).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let streams: Vec<_> = (0..rng.usize(1..5))
        .map(|_| stream(sender.clone(), to, rng.fork()))
        .collect();
    let streams = futures::future::join_all(streams);
    if rng.bool() {
        // All of it goes at once, streams and all.
        let stay = Duration::from_millis(rng.u64(0..STAY_MS));
        drop(timeout(stay, streams).await);
        connection.abort();
    } else {
        streams.await;
        drop(sender);
        connection.await??;
    }
    Ok(())
}

/// One request of a connection, which goes on without it.
async fn stream(
    mut sender: http2::SendRequest<BoxBody<Bytes, Infallible>>,
    to: SocketAddr,
    mut rng: Rng,
) -> anyhow::Result<()> {
    let Asked { headers, body } = asked(&mut rng);
    let mut request = http::Request::post(format!("http://{to}/v1/chat/completions"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let body = match rng.u8(0..4) {
        // Half of it, and no end.
        0 => {
            let half = Bytes::from(body).slice(..20);
            let half = futures::stream::iter([Ok(Frame::data(half))]);
            let never = futures::stream::pending();
            StreamBody::new(futures::StreamExt::chain(half, never)).boxed()
        }
        _ => Full::from(body).boxed(),
    };
    let pieces = match rng.bool() {
        true => rng.usize(0..4),
        false => usize::MAX,
    };
    let exchange = async {
        let mut answer = sender.send_request(request.body(body)?).await?.into_body();
        for _ in 0..pieces {
            if answer.frame().await.transpose()?.is_none() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let stay = Duration::from_millis(rng.u64(0..STAY_MS));
    timeout(stay, exchange).await?
}
