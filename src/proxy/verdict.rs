//! What became of an attempt, and whether another account is asked. An outcome is decided here,
//! once, and reported to the account at the same moment.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorSource, ErrorType, Result, RetryType};
use pingora_proxy::Session;

use super::context::{Attempt, Context, Failure, HeldAnswer, Retry};
use crate::clock;
use crate::dialect::{Meter, success_hint};
use crate::pool::{Answer, Outcome, Report};
use crate::telemetry::Try;

/// So much of an error answer is read before it is judged (`contract/http.md` §1).
const JUDGED_BYTES: usize = 64 * 1024;

/// So much of an error answer is kept for the client; what is longer is cut.
const KEPT_BYTES: usize = 1024 * 1024;

/// The pause before another account is asked after one whose vendor is overloaded, milliseconds.
const OVERLOADED_PAUSE_MS: std::ops::Range<u64> = 100..500;

/// The head of an answer: a good one passes; an error is held until its body was read too.
pub(super) fn on_head(
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let Some(attempt) = &mut ctx.attempt else {
        return Ok(());
    };
    let now = clock::now();
    attempt.lease.first_byte(now);
    ctx.line.first_byte = Some(now.saturating_duration_since(ctx.began));
    if head.status.as_u16() < 400 {
        let wait = success_hint(ctx.dialect, &head.headers, clock::wall());
        let model = ctx
            .request
            .as_ref()
            .and_then(|request| request.demand.model.as_deref());
        attempt.lease.answered(wait, model, now);
        ctx.line.account = Some(attempt.lease.account().id.clone());
        let kind = ctx.request.as_ref().and_then(|request| request.kind);
        attempt.meter = kind.map(|kind| Meter::new(ctx.dialect, kind, &head.headers));
        return Ok(());
    }
    let held = HeldAnswer {
        head: Box::new(head.clone()),
        body: BytesMut::new(),
        outcome: Outcome::Transient,
        account: attempt.lease.account().id.clone(),
    };
    attempt.held = Some(held);
    if has_no_body(session, head) {
        return Err(judge(session, ctx));
    }
    // Pingora writes a head as soon as its filters let it pass. One that looks informational it
    // does not write at all, once told so (over HTTP/2 it never does); the true one is kept.
    session.set_ignore_info_resp(true);
    head.set_status(StatusCode::EARLY_HINTS)?;
    head.remove_header(&CONTENT_LENGTH);
    head.remove_header(&TRANSFER_ENCODING);
    Ok(())
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
        if attempt.sent
            && answer_began(session)
            && let Some(request) = &mut ctx.request
        {
            attempt.rewritten = None;
            request.let_go_of_body();
        }
        return Ok(None);
    };
    if let Some(bytes) = body.take() {
        let room = KEPT_BYTES.saturating_sub(held.body.len());
        held.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    if end || held.body.len() >= KEPT_BYTES {
        return Err(judge(session, ctx));
    }
    Ok(None)
}

fn has_no_body(session: &Session, head: &ResponseHeader) -> bool {
    session.req_header().method == Method::HEAD
        || head
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() == b"0")
}

/// Decides what the held answer means, and makes the error that ends the attempt.
fn judge(session: &Session, ctx: &mut Context) -> Box<Error> {
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
    let account = attempt.lease.account().clone();
    let asked = model.as_deref();
    held.outcome = Outcome::of(&Answer {
        status: held.status().as_u16(),
        headers: &held.head.headers,
        body: &held.body[..held.body.len().min(JUDGED_BYTES)],
        model: asked.map(|asked| account.model_name(asked).unwrap_or(asked)),
        renewable: account.credential.is_renewable(),
        now: clock::wall(),
    });
    let (outcome, status) = (held.outcome.clone(), held.status());
    let detail = format!("HTTP {}", status.as_u16());
    ctx.last_answer = Some(held);
    let again = conclude(session, ctx, outcome, &detail, Sent::Answered);
    end_attempt(ErrorType::HTTPStatus(status.as_u16()), again)
}

/// The upstream could not be reached; nothing was sent.
pub(super) fn no_connection(session: &Session, ctx: &mut Context, mut e: Box<Error>) -> Box<Error> {
    ctx.retry.last_failure = Some(Failure::Unreachable);
    let again = conclude(
        session,
        ctx,
        Outcome::Transient,
        e.etype().as_str(),
        Sent::Nothing,
    );
    e.set_retry(again);
    e
}

/// Anything that went wrong after the connection stood.
pub(super) fn on_error(
    session: &Session,
    ctx: &mut Context,
    mut e: Box<Error>,
    reused: bool,
) -> Box<Error> {
    // Pingora marks what it sees when it reads from a dead connection; a write may see it first.
    let broke = matches!(e.retry, RetryType::ReusedOnly) || *e.etype() == ErrorType::WriteError;
    let dead_connection = reused && broke;
    e.retry.decide_reuse(reused);
    let Some(attempt) = &ctx.attempt else {
        return e;
    };
    if attempt.judged.is_some() {
        return e;
    }
    let again = match e.esource() {
        ErrorSource::Upstream if answer_began(session) => conclude(
            session,
            ctx,
            Outcome::BrokenStream,
            e.etype().as_str(),
            Sent::Answered,
        ),
        // Of a pooled connection that was already closed nobody is to blame, and the request was
        // not taken up: the same account is asked again over a new connection.
        ErrorSource::Upstream
            if dead_connection && !ctx.retry.fresh_connection && is_replayable(session, ctx) =>
        {
            ctx.retry.fresh_connection = true;
            ctx.retry.attempts -= 1;
            ctx.attempt = None;
            true
        }
        ErrorSource::Upstream => {
            let silent = matches!(e.etype(), ErrorType::ReadTimedout);
            ctx.retry.last_failure = Some(if silent {
                Failure::Silent
            } else {
                Failure::Unreachable
            });
            let sent = if silent { Sent::Silence } else { Sent::Request };
            conclude(session, ctx, Outcome::Transient, e.etype().as_str(), sent)
        }
        ErrorSource::Downstream => conclude(
            session,
            ctx,
            Outcome::ClientGone,
            "the client left",
            Sent::Answered,
        ),
        ErrorSource::Internal | ErrorSource::Unset => conclude(
            session,
            ctx,
            Outcome::ClientFault,
            e.etype().as_str(),
            Sent::Answered,
        ),
    };
    e.set_retry(again);
    e
}

/// How far an attempt had come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// The request, and no answer came.
    Request,
    /// The request, and no answer came in time.
    Silence,
    Answered,
}

/// Reports the outcome to the account, writes it down, and says whether another one is asked.
fn conclude(
    session: &Session,
    ctx: &mut Context,
    outcome: Outcome,
    detail: &str,
    sent: Sent,
) -> bool {
    let Some(mut attempt) = ctx.attempt.take() else {
        return false;
    };
    let counts = !(ctx.retry.counted && outcome == Outcome::Transient);
    ctx.retry.counted |= outcome == Outcome::Transient;
    report(ctx, &mut attempt, &outcome, detail, counts);
    let again = may_try_again(session, ctx, &outcome, sent);
    remember(&mut ctx.retry, &attempt, &outcome, sent);
    if let Some(request) = &mut ctx.request {
        // An account that cools down is out anyway, and may be asked again when it has recovered.
        if !matches!(outcome, Outcome::RateLimited { .. }) {
            request.demand.tried.push(attempt.lease.slot());
        }
        if again {
            request.pool.count_retry(&outcome);
        }
    }
    attempt.judged = Some(outcome);
    if !again {
        // Kept until the end: it says that the outcome is settled.
        ctx.attempt = Some(attempt);
    }
    again
}

/// The one report of an attempt.
pub(super) fn report(
    ctx: &mut Context,
    attempt: &mut Attempt,
    outcome: &Outcome,
    detail: &str,
    counts: bool,
) {
    let model = ctx
        .request
        .as_ref()
        .and_then(|request| request.demand.model.clone());
    attempt.lease.report(
        outcome,
        &Report {
            model: model.as_deref(),
            detail,
            counts,
        },
        clock::now(),
    );
    let account = attempt.lease.account().id.clone();
    ctx.line.tries.push(Try {
        account,
        outcome: outcome.label(),
    });
}

fn remember(retry: &mut Retry, attempt: &Attempt, outcome: &Outcome, sent: Sent) {
    retry.silent |= sent == Sent::Silence;
    match outcome {
        Outcome::Forbidden => retry.forbidden = true,
        Outcome::ModelUnavailable => retry.without_model.push(attempt.lease.account().clone()),
        Outcome::Overloaded => {
            retry.pause = Some(Duration::from_millis(fastrand::u64(OVERLOADED_PAUSE_MS)))
        }
        _ => {}
    }
}

/// The third column of `contract/http.md` §2, and the limits of `retry`.
fn may_try_again(session: &Session, ctx: &Context, outcome: &Outcome, sent: Sent) -> bool {
    let Some(request) = &ctx.request else {
        return false;
    };
    let retry = &request.pool.settings().retry;
    let allowed = match outcome {
        Outcome::Forbidden => !ctx.retry.forbidden,
        Outcome::Transient if sent == Sent::Silence => {
            retry.after_sent && request.stream && !ctx.retry.silent
        }
        Outcome::Transient if sent == Sent::Request => retry.after_sent,
        outcome => outcome.may_retry(),
    };
    // Of paths that nobody knows, only what surely did nothing is sent again.
    let safe = request.kind.is_some()
        || sent == Sent::Nothing
        || matches!(outcome, Outcome::AuthDead | Outcome::RateLimited { .. });
    allowed
        && safe
        && ctx.retry.attempts < retry.attempts
        && !answer_began(session)
        && is_replayable(session, ctx)
}

fn is_replayable(session: &Session, ctx: &Context) -> bool {
    let complete = ctx
        .request
        .as_ref()
        .is_some_and(|request| request.body.is_complete());
    complete || !session.as_ref().retry_buffer_truncated()
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
