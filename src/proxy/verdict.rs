//! What became of an attempt, and whether another account is asked. An outcome is decided here,
//! once, and reported to the account at the same moment.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorSource, ErrorType, Result, RetryType};
use pingora_proxy::Session;

use super::context::{Context, Failure, HeldAnswer};
use super::meter;
use super::names;
use super::retry::{self, Sent, conclude};
use super::settle;
use super::upgrade;
use crate::clock::{self, Instant};
use crate::dialect::{Meter, success_hint};
use crate::pool::{Answer, Lease, Outcome};

/// So much of an error answer is read before it is judged (`contract/http.md` §1).
const JUDGED_BYTES: usize = 64 * 1024;

/// So much of an error answer is kept for the client; what is longer is cut.
const KEPT_BYTES: usize = 1024 * 1024;

/// So long the body of an error answer may take: another account may serve meanwhile.
pub(super) const HELD_FOR: Duration = Duration::from_secs(10);

/// The head of an answer: a good one passes; an error is held until its body was read too.
pub(super) fn on_head(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    names::forget_spelling_of_answer(head);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return on_switch(session, head, ctx);
    }
    if head.status.is_informational() {
        if let Some(attempt) = &mut ctx.attempt {
            attempt.taken_up = true;
        }
        return Ok(());
    }
    let (Some(request), Some(attempt)) = (&ctx.request, &mut ctx.attempt) else {
        return Ok(());
    };
    let now = clock::now();
    ctx.line.first_byte = Some(now.saturating_duration_since(ctx.began));
    // A handshake that is answered with anything but a 101 has failed, even if with a 200; and its
    // connection must not be used again (`dial`).
    if head.status.as_u16() < 400 && !request.demand.websocket {
        good_head(session, head, now, ctx);
        return Ok(());
    }
    let held = HeldAnswer {
        head: Box::new(head.clone()),
        body: BytesMut::new(),
        outcome: Outcome::Transient,
        account: attempt.lease.account().clone(),
        secrets: attempt.secrets.clone(),
        since: now,
    };
    attempt.held = Some(held);
    if has_no_body(session, head) {
        return Err(judge(session, ctx, Body::Whole));
    }
    // Pingora writes a head as soon as its filters let it pass. One that looks informational it
    // does not write at all (`admit::limit_session` told it so); the true one is kept.
    head.set_status(StatusCode::EARLY_HINTS)?;
    head.remove_header(&CONTENT_LENGTH);
    head.remove_header(&TRANSFER_ENCODING);
    Ok(())
}

/// A 101: the tunnel that was asked for, or an upstream that speaks another protocol unasked.
fn on_switch(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    let request = ctx.request.as_ref();
    let Some(request) = request.filter(|request| request.demand.websocket && upgrade::opens(head))
    else {
        return Err(end_attempt(ErrorType::InvalidHTTPHeader, false));
    };
    // Pingora begins each wait for the client anew whenever something comes from the upstream, and
    // the other way round: both sides must be silent for so long.
    let silence = request.pool.settings().timeouts.read;
    session.set_read_timeout(Some(silence));
    // A 101 has no body, whatever it states (RFC 9110 §15.2).
    head.remove_header(&CONTENT_LENGTH);
    head.remove_header(&TRANSFER_ENCODING);
    let now = clock::now();
    ctx.line.first_byte = Some(now.saturating_duration_since(ctx.began));
    good_head(session, head, now, ctx);
    Ok(())
}

/// The account serves: whatever happens from here on, no other one is asked.
fn good_head(session: &Session, head: &mut ResponseHeader, now: Instant, ctx: &mut Context) {
    let (Some(request), Some(attempt)) = (&mut ctx.request, &mut ctx.attempt) else {
        return;
    };
    ctx.retry.retrying = None;
    let dialect = request.demand.dialect;
    let wall = ctx.line.time + now.saturating_duration_since(ctx.began);
    let wait = success_hint(dialect, &head.headers, wall);
    // Of good answers only: who fails fast must not look fast.
    attempt.lease.first_byte(now);
    attempt
        .lease
        .answered(wait, request.demand.model.as_deref(), now);
    // An answer that has no body by its nature is not one that broke off.
    let kind = request.kind.filter(|_| !has_no_body(session, head));
    let meter = kind.map(|kind| Meter::new(dialect, kind, &head.headers));
    attempt.meter = match attempt.asked_usage {
        true => meter.map(Meter::without_usage_event),
        false => meter,
    };
    if attempt.meter.as_ref().is_some_and(Meter::is_event_stream) {
        // What is said at the end of a stream that broke off is not in the stated length.
        head.remove_header(&CONTENT_LENGTH);
    }
    ctx.line.account = Some(attempt.lease.account().id.clone());
}

/// A part of an answer's body. That of a held answer is kept; at its end the answer is judged.
pub(super) fn on_body(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Context,
) -> Result<Option<Duration>> {
    let Some(attempt) = &mut ctx.attempt else {
        return Ok(None);
    };
    let Some(held) = &mut attempt.held else {
        // The client has seen the head, so that nothing is sent again, and what had to be sent has
        // been: a long stream must not hold the memory of its request.
        if answer_began(session)
            && let Some(request) = &mut ctx.request
        {
            request.forget_body(attempt);
        }
        return Ok(None);
    };
    if let Some(bytes) = body.take() {
        let room = KEPT_BYTES.saturating_sub(held.body.len());
        held.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    let is_late = || clock::now().saturating_duration_since(held.since) > HELD_FOR;
    if end || held.body.len() >= KEPT_BYTES {
        return Err(judge(session, ctx, Body::Whole));
    } else if is_late() {
        return Err(judge(session, ctx, Body::Cut));
    }
    Ok(None)
}

fn has_no_body(session: &Session, head: &ResponseHeader) -> bool {
    session.req_header().method == Method::HEAD
        || matches!(
            head.status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
        || head.headers.get(CONTENT_LENGTH).is_some_and(is_zero)
}

/// Pingora takes a list of equal lengths for one (RFC 9110 §8.6).
fn is_zero(length: &HeaderValue) -> bool {
    let mut parts = length.as_bytes().split(|byte| *byte == b',');
    parts.all(|part| {
        let part = part.trim_ascii();
        !part.is_empty() && part.iter().all(|digit| *digit == b'0')
    })
}

/// How much of a held answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Whole,
    Cut,
}

/// What an error answer means, as far as it came.
fn meaning(held: &HeldAnswer, lease: &Lease, asked: Option<&str>) -> Outcome {
    let account = lease.account();
    Outcome::of(&Answer {
        status: held.status().as_u16(),
        headers: &held.head.headers,
        body: &held.body[..held.body.len().min(JUDGED_BYTES)],
        model: asked.map(|asked| account.model_name(asked).unwrap_or(asked)),
        renewable: account.credential.is_renewable(&held.secrets),
        now: clock::wall(),
    })
}

/// Nobody waits for an answer any more. What an account has said of itself, in a stream or in an answer that is held,
/// holds all the same.
fn client_left(session: &Session, ctx: &mut Context, kind: &ErrorType) -> bool {
    if answer_began(session) {
        let outcome = settle::said(ctx).unwrap_or(Outcome::ClientGone);
        return conclude(session, ctx, outcome, kind, Sent::InVain);
    }
    let request = ctx.request.as_ref();
    let model = request.and_then(|request| request.demand.model.as_deref());
    let attempt = ctx.attempt.as_ref();
    let held = attempt.and_then(|attempt| Some((attempt.held.as_ref()?, &attempt.lease)));
    let said = held.map(|(held, lease)| (meaning(held, lease, model), held.status().as_u16()));
    match said {
        Some((outcome, status)) if !outcome.delivers_last_answer() => {
            let kind = ErrorType::HTTPStatus(status);
            conclude(session, ctx, outcome, &kind, Sent::InVain)
        }
        _ => conclude(session, ctx, Outcome::ClientGone, kind, Sent::InVain),
    }
}

/// Decides what the held answer means, and makes the error that ends the attempt.
fn judge(session: &Session, ctx: &mut Context, body: Body) -> Box<Error> {
    let model = ctx
        .request
        .as_ref()
        .and_then(|request| request.demand.model.clone());
    let Some(attempt) = &mut ctx.attempt else {
        return give_up();
    };
    let Some(mut held) = attempt.held.take() else {
        return give_up();
    };
    held.outcome = meaning(&held, &attempt.lease, model.as_deref());
    let (mut outcome, status) = (held.outcome.clone(), held.status());
    // What a cut answer says of its account still holds; as an answer to the client it is none.
    if body == Body::Cut && !outcome.may_retry() {
        outcome = Outcome::Transient;
    }
    if body == Body::Whole || !outcome.delivers_last_answer() {
        ctx.last_answer = Some(held);
    }
    let kind = ErrorType::HTTPStatus(status.as_u16());
    let again = conclude(session, ctx, outcome, &kind, Sent::Answered);
    end_attempt(kind, again)
}

/// The upstream could not be reached; nothing was sent.
pub(super) fn no_connection(session: &Session, ctx: &mut Context, mut e: Box<Error>) -> Box<Error> {
    ctx.retry.last_failure = Some(Failure::Unreachable);
    // The next account's upstream has addresses of its own.
    ctx.retry.addresses = 0;
    let again = conclude(session, ctx, Outcome::Transient, e.etype(), Sent::Nothing);
    e.set_retry(again);
    e
}

/// The upstream's address could not be reached, but it has another one: no account is to blame yet.
pub(super) fn elsewhere(ctx: &mut Context, mut e: Box<Error>) -> Box<Error> {
    ctx.retry.attempts -= 1;
    ctx.attempt = None;
    e.set_retry(true);
    e
}

/// Anything that went wrong after the connection stood.
pub(super) fn on_error(
    session: &Session,
    ctx: &mut Context,
    mut e: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let marked = matches!(e.retry, RetryType::ReusedOnly);
    e.retry.decide_reuse(reused);
    let Some(attempt) = &ctx.attempt else {
        // The filter that made this error has judged the answer.
        return e;
    };
    if attempt.held.is_some() && *e.esource() == ErrorSource::Upstream {
        return judge(session, ctx, Body::Cut);
    }
    let fell_silent = session.was_upgraded() && *e.etype() == ErrorType::ReadTimedout;
    let again = match e.esource() {
        // Nobody is to blame for a WebSocket that is not used any more.
        _ if fell_silent => conclude(session, ctx, Outcome::Success, e.etype(), Sent::Answered),
        ErrorSource::Upstream if answer_began(session) => {
            ctx.last_words = meter::last_words(ctx);
            let outcome = settle::said(ctx).unwrap_or(Outcome::BrokenStream);
            conclude(session, ctx, outcome, e.etype(), Sent::Answered)
        }
        ErrorSource::Upstream
            if reused && (marked || is_broken(e.etype())) && retry::anew(session, ctx) =>
        {
            true
        }
        ErrorSource::Upstream => {
            let silent = *e.etype() == ErrorType::ReadTimedout;
            let (failure, sent) = match silent {
                true => (Failure::Silent, Sent::Silence),
                false => (Failure::Unreachable, Sent::Request),
            };
            ctx.retry.last_failure = Some(failure);
            conclude(session, ctx, Outcome::Transient, e.etype(), sent)
        }
        ErrorSource::Downstream => client_left(session, ctx, e.etype()),
        ErrorSource::Internal | ErrorSource::Unset => conclude(
            session,
            ctx,
            Outcome::ClientFault,
            e.etype(),
            Sent::Answered,
        ),
    };
    e.set_retry(again);
    e
}

/// What a connection looks like that the other side had closed. Pingora marks it when it finds out
/// by reading; a write may find out first.
fn is_broken(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed
    )
}

/// Has the client seen a byte of an answer?
pub(super) fn answer_began(session: &Session) -> bool {
    session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    })
}

fn end_attempt(kind: ErrorType, again: bool) -> Box<Error> {
    let mut e = Error::create(kind, ErrorSource::Upstream, None, None);
    e.set_retry(again);
    e
}

/// The error that ends a request for which everything is said already.
pub(super) fn give_up() -> Box<Error> {
    end_attempt(ErrorType::InternalError, false)
}
