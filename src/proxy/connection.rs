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
use super::guarded::{Guarded, Watch};
use super::kept;
use super::wire::{self, Scan};
use super::{Corks, Gateway};
use crate::clock;
use crate::dialect::Reject;

/// Most heads are shorter; who waits for a first byte costs so much memory.
const FIRST_READ: usize = 4096;

/// So much of a body goes to Pingora together with the head, in bytes: less than it keeps to send again. What it takes
/// in one piece must not be all of a longer body (`body`).
const FIRST_BODY: usize = 32 * 1024;

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
    /// A sound head with the beginning of its body, what follows, and what came of that.
    Head(BytesMut, Watch, BytesMut),
    /// The preface of HTTP/2, and what came behind it.
    Http2(BytesMut),
    Refused(BytesMut, Reject),
    /// It left, or said nothing in time.
    Nothing,
}

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
    pub async fn serve(&self, proxy: &Proxy, stream: Stream, shutdown: &ShutdownWatch) {
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
        let mut stream = Box::new(Guarded::new(stream));
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
            let head = match arrived {
                Arrived::Head(head, watch, ahead) => {
                    stream.watch(watch, ahead);
                    head
                }
                Arrived::Http2(bytes) if is_first => {
                    let stream = stream.into_inner();
                    return serve_http2(proxy, stream, &bytes, limits, shutdown).await;
                }
                Arrived::Http2(bytes) => {
                    let reject = Reject::bad_request("this connection speaks HTTP/1 already");
                    let stream = stream.into_inner();
                    return farewell::say(&self.gateway, stream, &bytes, &reject).await;
                }
                Arrived::Refused(bytes, reject) => {
                    let stream = stream.into_inner();
                    return farewell::say(&self.gateway, stream, &bytes, &reject).await;
                }
                Arrived::Nothing => return,
            };
            is_first = false;
            let mut session = ServerSession::new_http1(stream);
            session.set_pipelined_prefix(head);
            let request = HttpServerApp::process_new_http(proxy, session, shutdown);
            let reusable = kept::serve(request).await;
            match reusable.and_then(|stream| stream.into_any().downcast().ok()) {
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

/// Waits for the next head, until `idle`, and reads it.
async fn arrive(guarded: &mut Guarded, mut idle: Pin<&mut Sleep>, limits: Limits) -> Arrived {
    let (mut bytes, stream) = guarded.next();
    // Some clients end a body with a line that does not belong to it (RFC 9112 §2.2): that is no head yet.
    let mut may_skip = true;
    skip_line_end(&mut bytes, &mut may_skip);
    while matches!(bytes[..], [] | [b'\r']) {
        if bytes.capacity() == 0 {
            bytes.reserve(FIRST_READ);
        }
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut bytes) => read,
            () = &mut idle => return Arrived::Nothing,
        };
        if !matches!(read, Ok(1..)) {
            return Arrived::Nothing;
        }
        skip_line_end(&mut bytes, &mut may_skip);
    }
    let mut scan = Scan::default();
    // Nearly every head comes in one piece, and needs no deadline.
    let ended = match end(&mut scan, &bytes, limits.size) {
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
        Ok(Some(length)) => match follow(&mut bytes, length) {
            Ok((watch, ahead)) => Arrived::Head(bytes, watch, ahead),
            Err(reject) => Arrived::Refused(bytes, reject),
        },
        Ok(None) => Arrived::Nothing,
        Err(reject) => Arrived::Refused(bytes, reject),
    }
}

/// Takes the end of a line off the front, once.
fn skip_line_end(bytes: &mut BytesMut, may_skip: &mut bool) {
    if *may_skip && bytes.starts_with(b"\r\n") {
        bytes.advance(2);
        *may_skip = false;
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
fn end(scan: &mut Scan, bytes: &[u8], most: usize) -> Result<Option<usize>, Reject> {
    if bytes.starts_with(HTTP2) {
        // It has the end of a head in it, and six bytes more.
        return match PREFACE.get(..bytes.len().min(PREFACE.len())) {
            Some(part) if !bytes.starts_with(part) => {
                Err(Reject::bad_request("this is neither HTTP/1.1 nor HTTP/1.0"))
            }
            _ => Ok((bytes.len() >= PREFACE.len()).then_some(PREFACE.len())),
        };
    }
    match scan.end(bytes)? {
        Some(length) if length <= most => Ok(Some(length)),
        None if bytes.len() <= most => Ok(None),
        _ => Err(Reject::header_too_large(most)),
    }
}

/// Checks the head, and the body as far as it goes along with it; the rest of what has come is split off.
fn follow(bytes: &mut BytesMut, head: usize) -> Result<(Watch, BytesMut), Reject> {
    let framing = wire::check(&bytes[..head])?;
    let come = &bytes[head..bytes.len().min(head + FIRST_BODY)];
    let (watch, belong) = if framing.is_chunked {
        let mut chunks = Chunks::new();
        let belong = chunks.saw(come);
        let malformed = || Reject::bad_request("the body is not in proper chunks");
        (Watch::Chunks(chunks), belong.ok_or_else(malformed)?)
    } else if framing.is_handshake {
        (Watch::Nothing, come.len())
    } else {
        let belong = come.len().min(framing.length);
        (Watch::Length(framing.length - belong), belong)
    };
    let end = head + belong;
    // Nearly always nothing more is there, and a split would make it shared memory.
    let ahead = match end < bytes.len() {
        true => bytes.split_off(end),
        false => BytesMut::new(),
    };
    Ok((watch, ahead))
}
