//! The last word to a client whose head was refused before it became a request: an answer in its
//! dialect as far as that can be told, its line in the access log, and the end of the connection.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Gateway;
use super::origin;
use super::wire::Readable;
use crate::clock;
use crate::dialect::{Dialect, Reject};
use crate::telemetry::AccessLine;

/// How long a client may take to read the answer and to stop sending.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many bytes of a client that sends on are read, so that it sees the answer before a reset.
const MOST_UNREAD: u64 = 1024 * 1024;

/// Answers with `reject` and closes; `head` is what was read.
pub(super) async fn say(gateway: &Gateway, stream: Stream, head: &[u8], reject: &Reject) {
    let readable = Readable::of(head);
    let request_id = origin::request_id(&readable.headers);
    let dialect = Dialect::of_errors(&readable.path, &readable.headers);
    let answer = reject.render(dialect, &request_id);
    if gateway.access.is_on() {
        let mut line = AccessLine::new(clock::wall(), request_id, readable.method);
        let digest = stream.get_socket_digest();
        let peer = digest
            .as_ref()
            .and_then(|digest| digest.peer_addr()?.as_inet());
        line.client = peer.map(|address| address.ip().to_canonical());
        line.status = reject.status.as_u16();
        line.error = Some(reject.code);
        line.bytes_out = answer.body().len() as u64;
        gateway.access.write(&line);
    }
    // Whether the client was there to hear it is all that can fail.
    let _ = timeout(PATIENCE, send(stream, &answer)).await;
}

async fn send(mut stream: Stream, answer: &Response<Bytes>) -> std::io::Result<()> {
    stream.write_all(&wire_form(answer)).await?;
    stream.flush().await?;
    AsyncWriteExt::shutdown(&mut stream).await?;
    let mut unread = stream.take(MOST_UNREAD);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

fn wire_form(answer: &Response<Bytes>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status());
    let date = httpdate::fmt_http_date(clock::wall());
    // Writing to a `String` does not fail.
    let _ = write!(head, "date: {date}\r\n");
    let mut bytes = head.into_bytes();
    for (name, value) in answer.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(answer.body());
    bytes
}
