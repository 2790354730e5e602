//! What the client sees of an answer's head, and the end of every request: outcome, metrics, and
//! the access line, once.

use http::Method;
use http::header::{HeaderName, SET_COOKIE};
use pingora::http::ResponseHeader;
use pingora_core::{Error, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::context::{Attempt, Context, Request};
use super::retry;
use crate::clock;
use crate::dialect::{Meter, Reading};
use crate::pool::Outcome;
use crate::telemetry::AccessLine;

/// Says whose account an answer is of.
const ORGANISATION: [&str; 4] = [
    "anthropic-organization-id",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
];

/// The head of an answer that is passed on.
pub(super) fn clean_head(
    gateway: &Gateway,
    session: &mut Session,
    head: &mut ResponseHeader,
    ctx: &Context,
) -> Result<()> {
    // What only looks informational is the hidden head of a held answer.
    if head.status.is_informational() {
        return Ok(());
    }
    if session.is_process_shutting_down() {
        // Pingora says `Connection: close` by itself then.
        session.set_keepalive(None);
    }
    clean_answer(gateway, head, ctx)
}

/// Takes off what belongs to the account, and puts on what belongs to the request.
pub(super) fn clean_answer(
    gateway: &Gateway,
    head: &mut ResponseHeader,
    ctx: &Context,
) -> Result<()> {
    let pass_limits = gateway.config.load().clients.pass_rate_limit_headers;
    let hidden: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| is_hidden(name, pass_limits))
        .cloned()
        .collect();
    hidden
        .iter()
        .for_each(|name| drop(head.remove_header(name)));
    add_own_headers(head, ctx)
}

fn is_hidden(name: &HeaderName, pass_limits: bool) -> bool {
    let name = name.as_str();
    let is_limit = || name.starts_with("anthropic-ratelimit-") || name.starts_with("x-ratelimit-");
    name == SET_COOKIE.as_str()
        // Would send clients past the gateway.
        || name == "alt-svc"
        || name == "x-poolgate-account"
        || name == "keep-alive"
        || ORGANISATION.contains(&name)
        || (!pass_limits && is_limit())
}

/// What each answer says of its request.
pub(super) fn add_own_headers(head: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    head.insert_header("x-request-id", ctx.request_id())?;
    let exposed = ctx
        .client
        .as_ref()
        .is_some_and(|client| client.expose_account);
    if let Some(account) = ctx.line.account.as_deref().filter(|_| exposed) {
        head.insert_header("x-poolgate-account", account)?;
    }
    Ok(())
}

/// Settles the attempt that served, or did not, and writes the request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, e: Option<&Error>, ctx: &mut Context) {
    if let Some(mut attempt) = ctx.attempt.take() {
        settle(ctx, &mut attempt, e);
    }
    if ctx.is_local {
        // Probes would drown the log.
        return;
    }
    ctx.line.duration = clock::now().saturating_duration_since(ctx.began);
    ctx.line.status = session
        .response_written()
        .map_or(0, |head| head.status.as_u16());
    ctx.line.bytes_in = session.body_bytes_read() as u64;
    if gateway.access.is_on() {
        let nothing = AccessLine::new(ctx.line.time, String::new(), Method::GET);
        let line = std::mem::replace(&mut ctx.line, Box::new(nothing));
        gateway.access.write(line);
    }
}

/// The one outcome of an attempt that no error has ended.
fn settle(ctx: &mut Context, attempt: &mut Attempt, e: Option<&Error>) {
    let reading = ctx
        .reading
        .take()
        .or_else(|| attempt.meter.take().map(Meter::finish));
    let (outcome, detail) = match (e, &reading) {
        (Some(e), _) => (Outcome::ClientGone, e.etype().as_str()),
        (None, Some(reading)) => of_reading(ctx.request.as_ref(), attempt, reading),
        (None, None) => (Outcome::Success, ""),
    };
    ctx.reading = reading;
    if outcome == Outcome::Success {
        mark_those_without_model(ctx);
    }
    retry::report(ctx, attempt, &outcome, detail, true);
}

/// What an answer that had begun came to, by what it said of itself.
pub(super) fn of_reading(
    request: Option<&Request>,
    attempt: &Attempt,
    reading: &Reading,
) -> (Outcome, &'static str) {
    if let Some(error) = &reading.error {
        let renewable = attempt.lease.account().credential.is_renewable();
        let model = request.and_then(|request| request.demand.model.as_deref());
        let outcome = Outcome::of_stream_error(error, model, renewable, clock::wall());
        return (outcome, "an error in the stream");
    }
    match reading.complete {
        true => (Outcome::Success, ""),
        false => (Outcome::BrokenStream, "the answer has no end"),
    }
}

/// Accounts that did not know a model which this one served are not asked for it for a while.
fn mark_those_without_model(ctx: &mut Context) {
    for other in std::mem::take(&mut ctx.retry.without_model) {
        if let Some(request) = &ctx.request
            && let Some(model) = &request.demand.model
        {
            request.pool.lacks_model(&other, model, clock::now());
        }
    }
}
