//! What the client sees of an answer's head, and the end of every request: outcome, metrics, and
//! the access line, once.

use http::header::{CONNECTION, HeaderName, SET_COOKIE};
use pingora::http::ResponseHeader;
use pingora_core::{Error, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::context::{Attempt, Context};
use super::verdict;
use crate::clock;
use crate::dialect::Usage;
use crate::pool::Outcome;

/// Says whose account an answer is of.
const ORGANISATION: [&str; 4] =
    ["anthropic-organization-id", "openai-organization", "openai-project", "x-goog-user-project"];

/// The head of an answer that is passed on.
pub(super) fn clean_head(gateway: &Gateway, session: &Session, head: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    // What only looks informational is the hidden head of a held answer.
    if head.status.is_informational() {
        return Ok(());
    }
    if session.is_process_shutting_down() {
        head.insert_header(CONNECTION, "close")?;
    }
    clean_answer(gateway, head, ctx)
}

/// Takes off what belongs to the account, and puts on what belongs to the request.
pub(super) fn clean_answer(gateway: &Gateway, head: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let pass_limits = gateway.config.load().clients.pass_rate_limit_headers;
    let hidden: Vec<HeaderName> =
        head.headers.keys().filter(|name| is_hidden(name, pass_limits)).cloned().collect();
    hidden.iter().for_each(|name| drop(head.remove_header(name)));
    add_own_headers(gateway, head, ctx)
}

fn is_hidden(name: &HeaderName, pass_limits: bool) -> bool {
    let name = name.as_str();
    let is_limit = || name.starts_with("anthropic-ratelimit-") || name.starts_with("x-ratelimit-");
    name == SET_COOKIE.as_str()
        // Would send clients past the gateway.
        || name == "alt-svc"
        || ORGANISATION.contains(&name)
        || (!pass_limits && is_limit())
}

pub(super) fn add_own_headers(_: &Gateway, head: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    head.insert_header("x-request-id", ctx.request_id())?;
    let exposed = ctx.client.as_ref().is_some_and(|client| client.expose_account);
    if let Some(account) = ctx.line.account.as_deref().filter(|_| exposed) {
        head.insert_header("x-poolgate-account", account)?;
    }
    Ok(())
}

/// Settles the attempt that served, or did not, and writes the request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, e: Option<&Error>, ctx: &mut Context) {
    let now = clock::now();
    if let Some(mut attempt) = ctx.attempt.take() {
        settle(ctx, &mut attempt, e);
    }
    let duration = now.saturating_duration_since(ctx.began);
    if ctx.settled {
        // Probes would drown the log.
        return;
    }
    ctx.line.duration = duration;
    ctx.line.status = session.response_written().map_or(0, |head| head.status.as_u16());
    ctx.line.bytes_in = session.body_bytes_read() as u64;
    if gateway.access.is_on() {
        let next = Context::new().line;
        gateway.access.write(std::mem::replace(&mut ctx.line, next));
    }
}

fn settle(ctx: &mut Context, attempt: &mut Attempt, e: Option<&Error>) {
    let account = attempt.lease.account().clone();
    let duration = clock::now().saturating_duration_since(ctx.began);
    account.metrics.request_duration_seconds.observe(duration.as_secs_f64());
    let reading = attempt.meter.take().map(|mut meter| meter.finish());
    if let Some(usage) = reading.as_ref().and_then(|reading| reading.usage) {
        count_tokens(attempt, usage);
        ctx.line.usage = Some(usage);
    }
    if attempt.judged.is_some() {
        return;
    }
    let in_stream = reading.as_ref().and_then(|reading| reading.error.as_ref());
    let (outcome, detail) = match (e, in_stream) {
        (None, None) => (Outcome::Success, ""),
        (None, Some(error)) => (Outcome::of_stream_error(error), "an error in the stream"),
        (Some(e), _) => (Outcome::ClientGone, e.etype().as_str()),
    };
    if outcome == Outcome::Success {
        for other in std::mem::take(&mut ctx.retry.without_model) {
            if let Some(request) = &ctx.request
                && let Some(model) = &request.demand.model
            {
                request.pool.lacks_model(&other, model, clock::now());
            }
        }
    }
    verdict::report(ctx, attempt, &outcome, detail, true);
}

fn count_tokens(attempt: &Attempt, usage: Usage) {
    attempt.lease.add_tokens(usage.input + usage.output);
    let metrics = &attempt.lease.account().metrics;
    metrics.count_tokens(usage);
}
