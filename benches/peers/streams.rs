//! The clients of many streams at once: how late do events arrive, while the streams open and then.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use poolgate::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Streams opened in a second. They begin at all moments of a second, and so do their events.
const OPENED_PER_SECOND: u64 = 400;

/// What stands before the time at which an event was sent.
const MARK: &[u8] = br#""content":""#;

#[derive(Default)]
struct Seen {
    all_open: AtomicBool,
    alive: AtomicUsize,
    /// Microseconds.
    opening: Mutex<Vec<u32>>,
    open: Mutex<Vec<u32>>,
}

/// Opens `count` streams through `proxy`, says `open` on standard output, holds them for `seconds`
/// and prints what it saw as one line of JSON.
pub(crate) fn run(proxy: SocketAddr, count: usize, seconds: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let seen = Arc::new(Seen::default());
    runtime.block_on(async {
        let mut turns = tokio::time::interval(Duration::from_micros(1_000_000 / OPENED_PER_SECOND));
        for _ in 0..count {
            turns.tick().await;
            let seen = seen.clone();
            tokio::spawn(async move {
                seen.alive.fetch_add(1, Ordering::Relaxed);
                // A stream that ends is counted; why it ended is for the proxy's log.
                let _ = read_stream(proxy, &seen).await;
                seen.alive.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // The last ones must have had their first event.
        tokio::time::sleep(Duration::from_secs(2)).await;
        seen.all_open.store(true, Ordering::Relaxed);
        writeln!(io::stdout(), "open")?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let report = serde_json::json!({
            "alive": seen.alive.load(Ordering::Relaxed),
            "opening": percentiles(&mut seen.opening.lock()),
            "open": percentiles(&mut seen.open.lock()),
        });
        writeln!(io::stdout(), "{report}")
    })
}

async fn read_stream(proxy: SocketAddr, seen: &Seen) -> io::Result<()> {
    let mut connection = TcpStream::connect(proxy).await?;
    let body = r#"{"model":"bench","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer bench-key\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await?;
    let mut buffer = BytesMut::with_capacity(1024);
    while connection.read_buf(&mut buffer).await? > 0 {
        let now = (clock::unix_seconds(clock::wall()) * 1e6) as u64;
        while let Some((sent, end)) = first_event(&buffer) {
            let late = u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX);
            let delays = if seen.all_open.load(Ordering::Relaxed) {
                &seen.open
            } else {
                &seen.opening
            };
            delays.lock().push(late);
            buffer.advance(end);
        }
    }
    Ok(())
}

/// When the first whole event in `bytes` was sent, and where it ends.
fn first_event(bytes: &[u8]) -> Option<(u64, usize)> {
    let start = memchr::memmem::find(bytes, MARK)? + MARK.len();
    let length = memchr::memchr(b'"', &bytes[start..])?;
    let text = std::str::from_utf8(&bytes[start..start + length]).ok()?;
    Some((text.parse().ok()?, start + length))
}

/// Milliseconds.
fn percentiles(delays: &mut [u32]) -> serde_json::Value {
    delays.sort_unstable();
    let at = |share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        let delay = delays.get(index.min(delays.len().saturating_sub(1)));
        f64::from(delay.copied().unwrap_or(0)) / 1000.0
    };
    serde_json::json!({"events": delays.len(), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}
