//! A client's connection: heads are read here, each within its deadline, and only one that all
//! readers understand alike is handed to Pingora, which would wait for every single byte anew.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use pingora_timeout::timeout;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, Sleep, sleep};

use super::chunks::Chunks;
use super::farewell;
use super::frames::PREFACE;
use super::guarded::Guarded;
use super::kept;
use super::wire::{self, Framing, Scan};
use super::{Corks, Gateway};
use crate::clock;
use crate::dialect::Reject;

/// Most heads are shorter; who waits for a first byte costs so much memory.
const FIRST_READ: usize = 4096;

/// A connection that has said nothing stays for so long, even without keep-alive.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// How HTTP/2 begins, and no method of HTTP/1.
const HTTP2: &[u8] = b"PRI ";

/// Serves connections, whatever they speak.
pub struct Connections {
    pub gateway: Gateway,
}

/// What serves the requests of all connections.
type Proxy = Arc<HttpProxy<Gateway, Corks>>;

/// What a client began with.
enum Arrived {
    /// A sound head, and what came behind it.
    Head(BytesMut, Guard),
    /// The preface of HTTP/2, and what came behind it.
    Http2(BytesMut),
    Refused(BytesMut, Reject),
    /// It left, or said nothing in time.
    Nothing,
}

/// What looks at the body, where one has to.
type Guard = Option<Chunks>;

/// Within what a head must come.
#[derive(Clone, Copy)]
struct Limits {
    /// For the first byte.
    idle: Duration,
    /// From the first byte to the last.
    head: Duration,
    /// In bytes.
    size: usize,
}

impl Connections {
    /// One connection until its end.
    pub async fn serve(&self, proxy: &Proxy, mut stream: Stream, shutdown: &ShutdownWatch) {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            let stream = Box::new(Guarded::frames(stream, self.limits().head));
            ServerApp::process_new(proxy, stream, shutdown).await;
            return;
        }
        let mut stop = shutdown.clone();
        let leaving = &self.gateway.leaving;
        let mut stop = pin!(async move {
            // Where a successor serves, who waits between two requests is not cut off: the next answer
            // says that it is the last, or the wait has its end. It fails when nobody is left who
            // could stop anything, as the process ends.
            let stopped = |stop: &bool| *stop && !leaving.load(Ordering::SeqCst);
            let _ = stop.wait_for(stopped).await;
        });
        // One for all heads: to put it off costs next to nothing, a new one for each request does not.
        let mut idle = pin!(sleep(Duration::ZERO));
        let mut is_first = true;
        loop {
            let limits = self.limits();
            idle.as_mut()
                .reset(Instant::from_std(clock::now() + limits.idle));
            let arrived = tokio::select! {
                // What is there already is still served.
                biased;
                arrived = arrive(&mut stream, idle.as_mut(), limits) => arrived,
                () = &mut stop => return,
            };
            let (head, guard) = match arrived {
                Arrived::Head(head, guard) => (head, guard),
                Arrived::Http2(bytes) if is_first => {
                    return serve_http2(proxy, stream, &bytes, limits, shutdown).await;
                }
                Arrived::Http2(bytes) => {
                    let reject = Reject::bad_request("this connection speaks HTTP/1 already");
                    return farewell::say(&self.gateway, stream, &bytes, &reject).await;
                }
                Arrived::Refused(bytes, reject) => {
                    return farewell::say(&self.gateway, stream, &bytes, &reject).await;
                }
                Arrived::Nothing => return,
            };
            is_first = false;
            let is_guarded = guard.is_some();
            if let Some(chunks) = guard {
                stream = Box::new(Guarded::chunks(stream, chunks));
            }
            let mut session = ServerSession::new_http1(stream);
            session.set_pipelined_prefix(head);
            let request = HttpServerApp::process_new_http(proxy, session, shutdown);
            let ended = kept::serve(request).await;
            match ended.and_then(|stream| unguarded(stream, is_guarded)) {
                Some(reusable) => stream = reusable,
                None => return,
            }
        }
    }

    fn limits(&self) -> Limits {
        let config = self.gateway.config.load();
        let clients = &config.clients;
        Limits {
            idle: clients.keepalive.max(SHORTEST_WAIT),
            head: clients.header_timeout,
            size: clients.max_header,
        }
    }
}

async fn serve_http2(
    proxy: &Proxy,
    stream: Stream,
    read: &[u8],
    limits: Limits,
    shutdown: &ShutdownWatch,
) {
    let Ok(mut socket) = stream.into_any().downcast::<Socket>() else {
        // Over TLS it is agreed on before, and never begun without.
        return;
    };
    socket.rewind(read);
    let stream = Box::new(Guarded::frames(socket, limits.head));
    ServerApp::process_new(proxy, stream, shutdown).await;
}

/// The connection without what looked at the last body.
fn unguarded(stream: Stream, is_guarded: bool) -> Option<Stream> {
    if !is_guarded {
        return Some(stream);
    }
    let guarded = stream.into_any().downcast::<Guarded>().ok()?;
    Some(guarded.into_inner())
}

/// Waits for the next head, until `idle`, and reads it.
async fn arrive(stream: &mut Stream, idle: Pin<&mut Sleep>, limits: Limits) -> Arrived {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    let first = tokio::select! {
        biased;
        read = stream.read_buf(&mut bytes) => read,
        () = idle => return Arrived::Nothing,
    };
    if !matches!(first, Ok(1..)) {
        return Arrived::Nothing;
    }
    let mut scan = Scan::default();
    // Nearly every head comes in one piece, and needs no deadline.
    let ended = match end(&mut scan, &mut bytes, limits.size) {
        Ok(None) => {
            let rest = rest(stream, &mut scan, &mut bytes, limits.size);
            match timeout(limits.head, rest).await {
                Ok(ended) => ended,
                Err(_) => Err(Reject::request_timeout()),
            }
        }
        ended => ended,
    };
    match ended {
        Ok(Some(_)) if bytes.starts_with(HTTP2) => Arrived::Http2(bytes),
        Ok(Some(length)) => match guard(&bytes, length) {
            Ok(guard) => Arrived::Head(bytes, guard),
            Err(reject) => Arrived::Refused(bytes, reject),
        },
        Ok(None) => Arrived::Nothing,
        Err(reject) => Arrived::Refused(bytes, reject),
    }
}

/// Reads on until the head has its end; `None` = the client left.
async fn rest(
    stream: &mut Stream,
    scan: &mut Scan,
    bytes: &mut BytesMut,
    most: usize,
) -> Result<Option<usize>, Reject> {
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len());
        }
        match stream.read_buf(bytes).await {
            Ok(1..) => {}
            _ => return Ok(None),
        }
        if let Some(length) = end(scan, bytes, most)? {
            return Ok(Some(length));
        }
    }
}

/// The length of the head, or of HTTP/2's preface, once it is there.
fn end(scan: &mut Scan, bytes: &mut BytesMut, most: usize) -> Result<Option<usize>, Reject> {
    if bytes.starts_with(HTTP2) {
        // It has the end of a head in it, and six bytes more.
        return match PREFACE.get(..bytes.len().min(PREFACE.len())) {
            Some(part) if !bytes.starts_with(part) => {
                Err(Reject::bad_request("this is neither HTTP/1.1 nor HTTP/1.0"))
            }
            _ => Ok((bytes.len() >= PREFACE.len()).then_some(PREFACE.len())),
        };
    }
    if scan.is_new() && bytes.starts_with(b"\r\n") {
        // Some clients end a body with a line that does not belong to it (RFC 9112 §2.2).
        bytes.advance(2);
    }
    match scan.end(bytes)? {
        Some(length) if length <= most => Ok(Some(length)),
        None if bytes.len() <= most => Ok(None),
        _ => Err(Reject::header_too_large(most)),
    }
}

/// Checks the head, and as much of a chunked body as has come with it.
fn guard(bytes: &[u8], length: usize) -> Result<Guard, Reject> {
    let (head, body) = bytes.split_at(length);
    let Framing { is_chunked } = wire::check(head)?;
    let mut chunks = is_chunked.then(Chunks::new);
    if chunks
        .as_mut()
        .is_some_and(|chunks| !chunks.are_sound(body))
    {
        return Err(Reject::bad_request("the body is not in proper chunks"));
    }
    Ok(chunks)
}
