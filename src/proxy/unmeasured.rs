//! A body of HTTP/2 that does not state its length. It is read to its end before an account is asked:
//! Pingora waits without a limit for the pieces of such a body, and so would the account.
//!
//! Pingora keeps the first piece, which is at most a frame of 16 KiB, and no other; it replays that
//! piece once per attempt, and the whole body is put in its place (see `body`).

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{ErrorType, OrErr, Result};
use pingora_proxy::Session;
use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::body::{FREE_KIB, Limits, Read, Replay, patience, reserve, unreadable};
use super::reject::Refused;
use crate::clock;
use crate::dialect::Reject;

pub(super) async fn read(
    gateway: &Gateway,
    session: &mut Session,
    limits: &Limits,
) -> Result<Read, Refused> {
    let began = Instant::from_std(clock::now());
    let mut body = BytesMut::new();
    let (mut share, mut covered) = (None, FREE_KIB as usize * 1024);
    session.enable_retry_buffering();
    while !session.is_body_done() {
        let deadline = began + patience(limits.timeout, body.len());
        let next = timeout_at(deadline, next(session, body.is_empty())).await;
        let next = next.map_err(|_| Reject::request_timeout())?;
        let Some(piece) = next.map_err(unreadable)? else {
            break;
        };
        body.extend_from_slice(&piece);
        if body.len() > limits.max_body {
            return Err(Reject::request_too_large(limits.max_body).into());
        }
        if body.len() > covered {
            // Returned first: where memory is short nobody waits for more of it holding some.
            drop(share.take());
            covered *= 2;
            share = reserve(gateway, covered).await?;
        }
    }
    let replay = match body.is_empty() {
        true => Replay::None,
        false => Replay::Whole(body.freeze()),
    };
    Ok((replay, share))
}

/// The next piece of the body; only the first one is kept by Pingora.
async fn next(session: &mut Session, is_first: bool) -> Result<Option<Bytes>> {
    match session.as_mut() {
        ServerSession::H2(stream) if !is_first => {
            let piece = poll_fn(|cx| stream.poll_read_body_bytes(cx)).await;
            piece
                .transpose()
                .or_err(ErrorType::ReadError, "reading a body")
        }
        session => session.read_request_body().await,
    }
}
