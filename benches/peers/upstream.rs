//! The vendor of the measurement: answers at once, with next to no work of its own, so that it is
//! never what is measured. A request with `"stream":true` gets an event each second, for ever.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use poolgate::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between two events of a stream.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// The longest head or body that is taken.
const LONGEST: usize = 1 << 20;

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Serves on `listen` with one thread until it is killed.
pub(crate) fn run(listen: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        let answer = answer();
        loop {
            let (connection, _) = listener.accept().await?;
            connection.set_nodelay(true)?;
            // A connection that breaks is the proxy's affair.
            tokio::spawn(serve(connection, answer.clone()));
        }
    })
}

/// A chat completion of about 600 bytes, as one piece of wire text.
fn answer() -> bytes::Bytes {
    let text = "A sentence of an answer that says nothing. ".repeat(7);
    let body = format!(
        r#"{{"id":"chatcmpl-0","object":"chat.completion","created":1763719200,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":210,"completion_tokens":70,"total_tokens":280}}}}"#
    );
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    (head + &body).into()
}

async fn serve(mut connection: TcpStream, answer: bytes::Bytes) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    loop {
        let length = loop {
            if let Some(length) = request_length(&buffer) {
                break length;
            }
            if buffer.len() > LONGEST || connection.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        if memchr::memmem::find(&buffer[..length], br#""stream":true"#).is_some() {
            return stream(connection).await;
        }
        buffer.advance(length);
        connection.write_all(&answer).await?;
    }
}

/// Length of the first whole request in `bytes`: head and body. The body's length is stated.
fn request_length(bytes: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let stated = bytes[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let value = name.eq_ignore_ascii_case(NAME).then_some(value)?;
        std::str::from_utf8(value)
            .ok()?
            .trim()
            .parse::<usize>()
            .ok()
    });
    let whole = head + stated.unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}

/// Events that say when they were sent, in microseconds since 1970.
async fn stream(mut connection: TcpStream) -> io::Result<()> {
    connection.write_all(STREAM_HEAD.as_bytes()).await?;
    let mut ticks = tokio::time::interval(EVENT_EVERY);
    loop {
        ticks.tick().await;
        let sent = (clock::unix_seconds(clock::wall()) * 1e6) as u64;
        let event = format!(
            "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{sent}\"}}}}]}}\n\n"
        );
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        connection.write_all(chunk.as_bytes()).await?;
    }
}
