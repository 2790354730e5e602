//! The errors a client sees: those poolgate writes itself, and a real answer that was held back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::Gateway;
use super::body;
use super::context::{Context, Failure, HeldAnswer};
use super::settle;
use super::verdict::answer_began;
use crate::clock::{self, Instant};
use crate::dialect::{Dialect, Reject};
use crate::pool::{Cause, Outcome, Refusal};

/// Come again so soon where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long an early answer waits for the rest of its request.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// A refused body of at most so many bytes is read before the answer: Pingora closes a connection
/// on which it answers any earlier, and most requests are that short.
const SHORT: usize = 64 * 1024;

/// Why a request does not go on.
pub(super) enum Refused {
    /// It is told why.
    Told(Reject),
    /// The connection does not work any more.
    Gone(Box<Error>),
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Self {
        Refused::Told(reject)
    }
}

/// Answers a request that was refused before any account was asked.
pub(super) async fn answer(
    session: &mut Session,
    ctx: &mut Context,
    refused: Refused,
) -> Result<bool> {
    match refused {
        Refused::Told(reject) => {
            if !reject.close && is_short(session) {
                drain(session).await;
            }
            write(session, ctx, &reject).await?;
            Ok(true)
        }
        Refused::Gone(e) => Err(e),
    }
}

/// Answers a request for which no account had a good answer.
pub(super) async fn final_answer(
    gateway: &Gateway,
    session: &mut Session,
    e: &Error,
    ctx: &mut Context,
) -> FailToProxy {
    // What is left of a request would be taken for the next one, and what follows a handshake is
    // none at all; the client is told before.
    if !session.is_body_done() || session.is_upgrade_req() {
        session.set_keepalive(None);
    }
    let answered = if answer_began(session) {
        end_stream(session, ctx).await.then_some(0)
    } else if is_gone(e, ctx) {
        None
    } else if let Some(held) = last_answer(ctx) {
        deliver(gateway, session, ctx, held).await.ok()
    } else {
        let reject = ctx.reject.take().unwrap_or_else(|| reason(ctx, e));
        let written = write(session, ctx, &reject).await;
        written.ok().map(|()| reject.status.as_u16())
    };
    ctx.is_answered = answered.is_some();
    FailToProxy {
        error_code: answered.unwrap_or(0),
        // Pingora asks so only where no account was asked yet: `kept` sees to it everywhere.
        can_reuse_downstream: false,
    }
}

/// Ends a stream that broke off with what is to be said of it; where that cannot be said, the
/// connection just ends. Returns whether the client has a whole answer now.
async fn end_stream(session: &mut Session, ctx: &mut Context) -> bool {
    let Some(last) = ctx.last_words.take() else {
        return false;
    };
    ctx.line.bytes_out += last.len() as u64;
    let written = session.write_response_body(Some(last), true).await;
    if let Err(e) = &written {
        tracing::debug!(kind = e.etype().as_str(), "the client left too");
    }
    written.is_ok()
}

/// The client's own connection failed, and nobody is there to be told.
fn is_gone(e: &Error, ctx: &Context) -> bool {
    let dead = matches!(
        e.etype(),
        ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            // The client took its request back (HTTP/2).
            | ErrorType::H2Error
    );
    let is_dead = dead && !body::is_malformed(e);
    *e.esource() == ErrorSource::Downstream && is_dead && ctx.reject.is_none()
}

/// The last real answer, if it is one that concerns the client: an account's own trouble does not.
fn last_answer(ctx: &mut Context) -> Option<HeldAnswer> {
    if ctx.reject.is_some() {
        return None;
    }
    ctx.last_answer
        .take_if(|held| held.outcome.delivers_last_answer())
}

/// What to say when no answer can be passed on.
fn reason(ctx: &Context, e: &Error) -> Reject {
    let now = clock::now();
    let refusal = ctx.refusal.as_ref();
    let recovery = |refusal: &Refusal| {
        refusal
            .recovers_at
            .map_or(RETRY_AFTER, |at| at.saturating_duration_since(now))
    };
    match refusal.map(|refusal| (refusal, refusal.cause)) {
        Some((refusal, Cause::RateLimited)) => return Reject::all_rate_limited(recovery(refusal)),
        Some((refusal, Cause::Full | Cause::QueueFull | Cause::QueueTimeout)) => {
            return Reject::overloaded(refusal.retry_after);
        }
        Some((refusal, Cause::NoneUsable)) => {
            return Reject::no_account_available(recovery(refusal));
        }
        Some((_, Cause::NoneServes)) => return Reject::not_found(),
        Some((_, Cause::AllTried)) | None => {}
    }
    if *e.esource() == ErrorSource::Downstream {
        return match e.etype() {
            ErrorType::ReadTimedout => Reject::request_timeout(),
            _ => Reject::bad_request("the request could not be read to its end"),
        };
    }
    match (
        ctx.last_answer.as_ref().map(|held| &held.outcome),
        ctx.retry.last_failure,
    ) {
        (Some(Outcome::RateLimited { wait, .. }), _) => {
            Reject::all_rate_limited(earliest(ctx, *wait, now))
        }
        (Some(_), _) | (None, Some(Failure::NoToken)) => Reject::no_account_available(RETRY_AFTER),
        (None, Some(Failure::Silent)) => Reject::upstream_timeout(),
        (None, _) => Reject::upstream_unreachable(),
    }
}

/// The pool's earliest recovery.
fn earliest(ctx: &Context, stated: Duration, now: Instant) -> Duration {
    let recovery = ctx
        .request
        .as_ref()
        .and_then(|request| request.pool.recovery(&request.demand, now));
    recovery.map_or(stated, |at| at.saturating_duration_since(now))
}

/// Writes an error of our own in the client's dialect.
async fn write(session: &mut Session, ctx: &mut Context, reject: &Reject) -> Result<()> {
    ctx.line.error = Some(reject.code);
    let asked = session.req_header();
    let dialect = Dialect::of_errors(asked.uri.path(), &asked.headers);
    let (parts, body) = reject.render(dialect, ctx.request_id()).into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        head.insert_header(name.clone(), value.clone())?;
    }
    if reject.close {
        session.set_keepalive(None);
    }
    settle::add_own_headers(&mut head, ctx)?;
    send(session, ctx, head, body).await
}

/// Writes an error answer as its upstream gave it, but for the account's own secrets.
async fn deliver(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
    held: HeldAnswer,
) -> Result<u16> {
    let status = held.status();
    ctx.line.account = Some(held.account.id.clone());
    let sent = held.secrets;
    let (mut head, mut body) = (*held.head, held.body);
    sent.blank(&mut body);
    for name in hop_by_hop(&head.headers) {
        head.remove_header(name.as_str());
    }
    settle::clean_answer(gateway, &mut head, ctx, Some(&sent))?;
    send(session, ctx, head, body.freeze()).await?;
    Ok(status.as_u16())
}

/// Headers of the connection to the upstream (RFC 9110 §7.6.1).
fn hop_by_hop(headers: &HeaderMap) -> Vec<String> {
    let nominated = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let nominated = nominated
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_ascii_lowercase());
    let known = [
        CONNECTION.as_str(),
        TRANSFER_ENCODING.as_str(),
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "trailer",
    ];
    nominated
        .chain(known.into_iter().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Whether the rest of the request is short, and on its way: who waits for a `100` sends nothing.
fn is_short(session: &Session) -> bool {
    let waits = session.req_header().headers.contains_key(EXPECT);
    !waits && body::stated_length(session).is_some_and(|length| length <= SHORT)
}

/// Reads on for a moment what the client still sends: a connection that is closed with bytes unread
/// is reset, and a client that is reset may never see the answer.
async fn drain(session: &mut Session) {
    if session.is_body_done() {
        return;
    }
    let drained = tokio::time::timeout(DRAIN_TIME, session.drain_request_body()).await;
    if !matches!(drained, Ok(Ok(()))) {
        session.set_keepalive(None);
    }
}

async fn send(
    session: &mut Session,
    ctx: &mut Context,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    let status = head.status;
    let bodyless = session.req_header().method == Method::HEAD || status == StatusCode::NO_CONTENT;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    ctx.line.bytes_out += if bodyless { 0 } else { body.len() as u64 };
    session.write_response_header(Box::new(head), false).await?;
    // Over HTTP/2 nothing but a last piece of body, if an empty one, ends an answer well.
    let body = Some(body).filter(|_| !bodyless);
    session.write_response_body(body, true).await?;
    drain(session).await;
    Ok(())
}
