//! The request's body: read before an account is asked, and kept so that it can be sent again.
//!
//! Pingora replays at most 64 KiB. So the body is read here, and Pingora's buffer is armed for the
//! last part only: it replays that part once per attempt through `request_body_filter`, where the
//! whole body is put in its place. A body without a stated length, or longer than `retry.max_body`,
//! is read up to [`HEAD`] (enough to find the model in it) and streamed from there on; such a
//! request can only be sent again while Pingora still has all of it.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;

use super::Gateway;
use super::reject::Refused;
use super::unmeasured;
use crate::dialect::Reject;

/// Pingora's own buffer for replays (`BODY_BUF_LIMIT`).
const PINGORA_BUFFER: usize = 64 * 1024;

/// So much of a body that is not kept is read before an account is asked.
const HEAD: usize = 32 * 1024;

/// Bodies up to this size are always read whole: reading no more than [`HEAD`] of them could reach
/// their end, and Pingora would then have nothing left to send.
const ALWAYS_WHOLE: usize = 128 * 1024;

/// Slower than this, beside `body_timeout`, a body may not come.
const SLOWEST_BYTES_PER_SECOND: usize = 64 * 1024;

/// Bodies up to this size count for nothing: connections are limited, and so are they.
pub(super) const FREE_KIB: u32 = 64;

/// How long a request waits for memory for its body.
const BUDGET_WAIT: Duration = Duration::from_secs(1);

/// A body as far as it was read.
pub(super) enum Replay {
    None,
    /// All of it; it can be sent again and again.
    Whole(Bytes),
    /// Its beginning, which Pingora could not keep and so is put before what follows.
    Head(Bytes),
    /// Its beginning, which Pingora sends by itself.
    Kept(Bytes),
    /// It was sent, and will not be again.
    Sent,
}

/// What a body may be.
pub(super) struct Limits {
    pub(super) max_body: usize,
    pub(super) max_replay: usize,
    pub(super) timeout: Duration,
}

impl Replay {
    /// The bytes that were read, for a look at the model.
    pub(super) fn seen(&self) -> &[u8] {
        match self {
            Replay::None | Replay::Sent => &[],
            Replay::Whole(bytes) | Replay::Head(bytes) | Replay::Kept(bytes) => bytes,
        }
    }

    pub(super) fn whole(&self) -> Option<&Bytes> {
        match self {
            Replay::Whole(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Is nothing of the body still to come?
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Replay::None | Replay::Whole(_))
    }
}

/// The stated length of the body, if it has one.
pub(super) fn stated_length(session: &Session) -> Option<usize> {
    session
        .req_header()
        .headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A body as far as it was read, and its share of the memory for bodies.
pub(super) type Read = (Replay, Option<OwnedSemaphorePermit>);

/// Reads the body, or its beginning.
pub(super) async fn read(
    gateway: &Gateway,
    session: &mut Session,
    limits: &Limits,
) -> Result<Read, Refused> {
    let length = stated_length(session);
    if length.is_some_and(|length| length > limits.max_body) {
        return Err(Reject::request_too_large(limits.max_body).into());
    }
    if length == Some(0) || session.is_body_done() || session.is_body_empty() {
        return Ok((Replay::None, None));
    }
    let is_http2 = session.as_http2().is_some();
    let max_whole = if is_http2 {
        limits.max_body
    } else {
        limits.max_replay
    };
    let whole = length.filter(|length| *length <= max_whole.max(ALWAYS_WHOLE));
    let share = reserve(gateway, whole.unwrap_or(HEAD)).await?;
    if session.req_header().headers.contains_key(EXPECT) {
        let keepalive = session.get_keepalive();
        let told = session.write_continue_response().await;
        told.map_err(gone)?;
        // Pingora takes the 100 for an early answer, after which it would close the connection.
        session.set_keepalive(keepalive);
    }
    if is_http2 && whole.is_none() {
        return unmeasured::read(gateway, session, limits).await;
    }
    let patience = patience(limits.timeout, length.unwrap_or(0));
    let reading = async {
        match whole {
            Some(length) => read_whole(session, length).await,
            None => read_head(session, limits.max_body, limits.timeout).await,
        }
    };
    // A body that is there already, as most are, needs no deadline, and so no look at the clock.
    let late = async { tokio::time::sleep(patience).await };
    tokio::select! {
        biased;
        read = reading => Ok((read?, share)),
        () = late => Err(Reject::request_timeout().into()),
    }
}

/// Takes so much of the memory for bodies; waits a moment for it where it is short.
pub(super) async fn reserve(
    gateway: &Gateway,
    length: usize,
) -> Result<Option<OwnedSemaphorePermit>, Refused> {
    // A body larger than the whole budget takes all of it, instead of waiting for ever.
    let all = gateway.config.load().clients.buffer_budget / 1024;
    let kib = u32::try_from(length.div_ceil(1024).min(all)).unwrap_or(u32::MAX);
    if kib <= FREE_KIB {
        return Ok(None);
    }
    let taking = gateway.body_budget.clone().acquire_many_owned(kib);
    match tokio::time::timeout(BUDGET_WAIT, taking).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        _ => Err(Reject::overloaded(BUDGET_WAIT).into()),
    }
}

/// Takes memory for a second copy of this body as well, which is made where it goes out otherwise than it came.
/// What was taken is returned first: where memory is short nobody waits for more of it holding some.
pub(super) async fn reserve_copy(
    gateway: &Gateway,
    body: &Replay,
    share: Option<OwnedSemaphorePermit>,
) -> Result<Option<OwnedSemaphorePermit>, Refused> {
    match body.whole() {
        Some(whole) if share.is_some() => {
            drop(share);
            reserve(gateway, whole.len().saturating_mul(2)).await
        }
        _ => Ok(share),
    }
}

/// Is this a body that is not in proper chunks, and not a connection that broke?
pub(super) fn is_malformed(e: &Error) -> bool {
    let cause = e.cause.as_deref();
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == ErrorKind::InvalidData)
}

/// What a body that cannot be read to its end means.
pub(super) fn unreadable(e: Box<Error>) -> Refused {
    match e.etype() {
        _ if is_malformed(&e) => Reject::bad_request("the body is not in proper chunks").into(),
        ErrorType::ReadTimedout => Reject::request_timeout().into(),
        ErrorType::ReadError | ErrorType::ConnectionClosed => Refused::Gone(e.into_down()),
        _ => Reject::bad_request("the body could not be read").into(),
    }
}

/// Writing to the client failed: nobody is there to be told.
pub(super) fn gone(e: Box<Error>) -> Refused {
    Refused::Gone(e.into_down())
}

/// How long `length` bytes of a body may take.
pub(super) fn patience(timeout: Duration, length: usize) -> Duration {
    timeout + Duration::from_secs((length / SLOWEST_BYTES_PER_SECOND) as u64)
}

async fn read_whole(session: &mut Session, length: usize) -> Result<Replay, Refused> {
    let mut body = BytesMut::with_capacity(length.min(1 << 20));
    loop {
        if length.saturating_sub(body.len()) <= PINGORA_BUFFER {
            session.enable_retry_buffering();
        }
        match session.read_request_body().await.map_err(unreadable)? {
            Some(bytes) => {
                if bytes.len() > body.capacity() - body.len() {
                    // All of it at once: its share of the memory is for that, not for twice as much.
                    body.reserve(length.saturating_sub(body.len()));
                }
                body.extend_from_slice(&bytes);
            }
            None => break,
        }
        if session.is_body_done() {
            break;
        }
    }
    if body.is_empty() {
        Ok(Replay::None)
    } else {
        Ok(Replay::Whole(body.freeze()))
    }
}

async fn read_head(
    session: &mut Session,
    max_body: usize,
    timeout: Duration,
) -> Result<Replay, Refused> {
    let mut body = BytesMut::new();
    session.enable_retry_buffering();
    loop {
        match session.read_request_body().await.map_err(unreadable)? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => break,
        }
        if body.len() > max_body {
            return Err(Reject::request_too_large(max_body).into());
        }
        if session.is_body_done() || body.len() >= HEAD {
            break;
        }
    }
    // What follows is read while an account waits for it.
    session.set_read_timeout(Some(timeout));
    let body = body.freeze();
    Ok(
        match (session.is_body_done(), session.retry_buffer_truncated()) {
            _ if body.is_empty() => Replay::None,
            // Complete, and Pingora has it all: it can be replaced as a whole.
            (true, false) => Replay::Whole(body),
            (_, true) => Replay::Head(body),
            (false, false) => Replay::Kept(body),
        },
    )
}
