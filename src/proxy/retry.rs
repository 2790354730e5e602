//! The end of an attempt: its one report to the account, and whether another account is asked.

use std::time::Duration;

use pingora_core::ErrorType;
use pingora_proxy::Session;

use super::body::Replay;
use super::context::{Attempt, Context, RefusedToken, Request, Retry};
use super::verdict::answer_began;
use crate::clock::{self, Instant};
use crate::dialect::Meter;
use crate::pool::{Outcome, Report};
use crate::telemetry::Try;

/// The pause before another account is asked after one whose vendor is overloaded, milliseconds.
const OVERLOADED_PAUSE_MS: std::ops::Range<u64> = 100..500;

/// A pooled connection that was closed already says so before this has passed; later the work may have begun.
const AT_ONCE: Duration = Duration::from_secs(3);

/// How far an attempt had come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    /// The request, and no answer came.
    Request,
    /// The request, and no answer came in time.
    Silence,
    Answered,
    /// Whatever there is of an answer, nobody waits for it any more.
    InVain,
}

/// Reports the outcome, gives the account back, and says whether another one is asked.
pub(super) fn conclude(
    session: &Session,
    ctx: &mut Context,
    outcome: Outcome,
    kind: &ErrorType,
    sent: Sent,
) -> bool {
    let Some(mut attempt) = ctx.attempt.take() else {
        return false;
    };
    let counts = !(ctx.retry.counted && outcome == Outcome::Transient);
    ctx.retry.counted |= outcome == Outcome::Transient;
    let detail = match kind {
        ErrorType::HTTPStatus(status) => format!("HTTP {status}"),
        kind => kind.as_str().to_owned(),
    };
    let now = clock::now();
    report(ctx, &mut attempt, &outcome, &detail, counts, now);
    if outcome == Outcome::Transient && matches!(kind, ErrorType::HTTPStatus(_)) {
        attempt.lease.error_answer();
    }
    if let Some(retrying) = ctx.retry.retrying.take()
        && is_failure(&outcome)
    {
        retrying.failed(now);
    }
    let may = may_try_again(session, ctx, &outcome, sent, now);
    let again_here = may && has_attempts(ctx) && is_affordable(ctx, &outcome, now);
    // What a pool spends on failures is its own: another one begins anew.
    let elsewhere = may && !again_here && ctx.request.as_ref().is_some_and(Request::may_fall_back);
    let again = again_here || elsewhere;
    remember(ctx, &attempt, &outcome, sent);
    let renews = outcome == Outcome::AuthExpired && sent == Sent::Answered && !ctx.retry.renewed;
    if renews && again_here {
        // The same account is asked again, with another token (`dispatch`).
        ctx.retry.renewed = true;
        ctx.retry.refused = Some(RefusedToken {
            account: attempt.lease.account().clone(),
            slot: attempt.lease.slot(),
            secrets: attempt.secrets.clone(),
        });
    } else if let Some(request) = &mut ctx.request
        && !elsewhere
    {
        // An account that cools down is out anyway, and may be asked again when it has recovered.
        if !matches!(outcome, Outcome::RateLimited { .. }) {
            request.demand.tried.push(attempt.lease.slot());
        }
    }
    if again && let Some(request) = &mut ctx.request {
        request.demand.again = true;
        request.pool.count_retry(&outcome);
    }
    if elsewhere && let Some(request) = &mut ctx.request {
        ctx.retry.pause = None;
        request.fall_back(&mut ctx.retry, now);
    }
    again
}

/// Of a pooled connection that was already closed nobody is to blame, and the request was not
/// taken up: once it is sent over a new connection, and counts as one attempt still. That it was so is a guess, which
/// is made only where the connection broke at once and where work may be done twice at worst.
pub(super) fn anew(session: &Session, ctx: &mut Context) -> bool {
    let (Some(request), Some(attempt)) = (&ctx.request, &ctx.attempt) else {
        return false;
    };
    let now = clock::now();
    let is_late = now.saturating_duration_since(attempt.lease.began()) > AT_ONCE;
    let may_repeat = request.kind.is_some() && request.pool.settings().retry.after_sent;
    let is_harmless = session.req_header().method.is_idempotent();
    let guesses = !attempt.taken_up && !is_late && (may_repeat || is_harmless);
    let in_time = request.deadline.is_none_or(|deadline| now < deadline);
    if ctx.retry.fresh_connection || !guesses || !in_time || !is_replayable(session, ctx) {
        return false;
    }
    ctx.retry.fresh_connection = true;
    ctx.retry.attempts -= 1;
    if let Some(mut attempt) = ctx.attempt.take() {
        attempt.lease.unsent();
    }
    true
}

/// The one report of an attempt, with the tokens that were stated, or else as far as its answer was seen.
pub(super) fn report(
    ctx: &mut Context,
    attempt: &mut Attempt,
    outcome: &Outcome,
    detail: &str,
    counts: bool,
    now: Instant,
) {
    let reading = ctx
        .reading
        .take()
        .or_else(|| attempt.meter.take().map(Meter::finish));
    let request = ctx.request.as_ref();
    if let Some(bill) = &mut ctx.bill {
        let tokens = bill.read(reading.as_ref(), ctx.line.bytes_out);
        attempt.lease.came_to(tokens);
    }
    if let Some(reading) = reading {
        if let (Some(answer), Some(request)) = (reading.begun.id(), request) {
            let account = attempt.lease.account();
            request.pool.remember_answer(answer, account, now);
        }
        if let Some(usage) = reading.usage {
            attempt.lease.add_tokens(&usage);
            ctx.line.usage = Some(usage);
        }
    }
    let about = Report {
        model: request.and_then(|request| request.demand.model.as_deref()),
        detail,
        counts,
    };
    attempt.lease.report(outcome, &about, now);
    ctx.line.tries.push(Try {
        account: attempt.lease.account().id.clone(),
        outcome: outcome.label(),
    });
}

fn remember(ctx: &mut Context, attempt: &Attempt, outcome: &Outcome, sent: Sent) {
    let retry = &mut ctx.retry;
    retry.silent |= sent == Sent::Silence;
    retry.blames_account = matches!(
        outcome,
        Outcome::Transient | Outcome::AuthExpired | Outcome::AuthDead | Outcome::QuotaDead { .. }
    );
    match outcome {
        Outcome::Forbidden => retry.forbidden = true,
        Outcome::ModelUnavailable => {
            // Another pool may serve the model in the end.
            let pool = ctx.request.as_ref().map(|request| request.pool.clone());
            let without = pool.map(|pool| (pool, attempt.lease.account().clone()));
            retry.without_model.extend(without);
        }
        Outcome::Overloaded => {
            retry.pause = Some(Duration::from_millis(fastrand::u64(OVERLOADED_PAUSE_MS)));
        }
        _ => {}
    }
}

/// The third column of `contract/http.md` §2, and the last moment of the request.
fn may_try_again(
    session: &Session,
    ctx: &Context,
    outcome: &Outcome,
    sent: Sent,
    now: Instant,
) -> bool {
    let Some(request) = &ctx.request else {
        return false;
    };
    let retry = &request.pool.settings().retry;
    let allowed = match outcome {
        _ if sent == Sent::InVain => false,
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
    let in_time = request.deadline.is_none_or(|deadline| now < deadline);
    allowed
        && safe
        && in_time
        && !answer_began(session)
        && (sent == Sent::Nothing || is_replayable(session, ctx))
}

/// Does the pool ask for one more answer? What another one was asked for before does not count.
fn has_attempts(ctx: &Context) -> bool {
    let Retry {
        attempts, before, ..
    } = ctx.retry;
    let most = |request: &Request| request.pool.settings().retry.attempts;
    ctx.request
        .as_ref()
        .is_some_and(|request| attempts - before < most(request))
}

/// Where an upstream failed, the pool's budget must allow another attempt; to look past accounts that
/// are limited or dead costs their vendors nothing.
fn is_affordable(ctx: &mut Context, outcome: &Outcome, now: Instant) -> bool {
    if !is_failure(outcome) {
        return true;
    }
    let pool = ctx.request.as_ref().map(|request| &request.pool);
    ctx.retry.retrying = pool.and_then(|pool| pool.retry(now));
    ctx.retry.retrying.is_some()
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Transient | Outcome::Overloaded)
}

/// Can all of the body be sent again?
fn is_replayable(session: &Session, ctx: &Context) -> bool {
    match ctx.request.as_ref().map(|request| &request.body) {
        Some(Replay::None | Replay::Whole(_)) => true,
        Some(Replay::Head(_) | Replay::Kept(_)) => !session.as_ref().retry_buffer_truncated(),
        Some(Replay::Sent) | None => false,
    }
}
