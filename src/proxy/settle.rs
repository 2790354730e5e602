//! What the client sees of an answer's head, and the end of every request: outcome, metrics, and
//! the access line, once.

use http::header::{HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_core::{Error, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::context::Context;
use super::limits::Used;
use super::names;
use super::origin::X_REQUEST_ID;
use super::retry;
use super::verdict::answer_began;
use crate::clock::{self, Instant};
use crate::credential::Secrets;
use crate::pool::Outcome;
use crate::store::Row;
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
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    if session.is_process_shutting_down() {
        // Pingora says `Connection: close` by itself then.
        session.set_keepalive(None);
    }
    if session.req_header().version == Version::HTTP_10
        && head.headers.contains_key(TRANSFER_ENCODING)
    {
        // Such a client does not know chunks (RFC 9112 §6.1): the end of the connection ends it.
        head.remove_header(&TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
    let sent = ctx.attempt.as_ref().map(|attempt| &attempt.secrets);
    clean_answer(gateway, head, ctx, sent)
}

/// Takes off what belongs to the account, and puts on what belongs to the request. `sent`: what the
/// account's request carried, and its upstream may say back.
pub(super) fn clean_answer(
    gateway: &Gateway,
    head: &mut ResponseHeader,
    ctx: &Context,
    sent: Option<&Secrets>,
) -> Result<()> {
    let pass_limits = gateway.config.load().clients.pass_rate_limit_headers;
    let tells = |value: &HeaderValue| sent.is_some_and(|sent| sent.is_in(value.as_bytes()));
    names::change_answer(head, |parts| {
        let headers = &mut parts.headers;
        let hidden: Vec<HeaderName> = headers
            .iter()
            .filter(|(name, value)| is_hidden(name, pass_limits) || tells(value))
            .map(|(name, _)| name.clone())
            .collect();
        hidden.iter().for_each(|name| drop(headers.remove(name)));
        put_own_headers(headers, ctx)
    })
}

fn is_hidden(name: &HeaderName, pass_limits: bool) -> bool {
    let name = name.as_str();
    let is_limit = || name.starts_with("anthropic-ratelimit-") || name.starts_with("x-ratelimit-");
    name == SET_COOKIE.as_str()
        // Would send clients past the gateway.
        || name == "alt-svc"
        || name == "x-poolgate-account"
        || name == "keep-alive"
        // Pingora 0.9.1 reads the trailers of an HTTP/1 answer and drops them: none is announced.
        || name == "trailer"
        || ORGANISATION.contains(&name)
        || (!pass_limits && is_limit())
}

/// What each answer says of its request.
pub(super) fn add_own_headers(head: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    names::change_answer(head, |parts| put_own_headers(&mut parts.headers, ctx))
}

fn put_own_headers(headers: &mut HeaderMap, ctx: &Context) -> Result<()> {
    headers.insert(X_REQUEST_ID, names::value(ctx.request_id())?);
    let exposed = ctx
        .client
        .as_ref()
        .is_some_and(|client| client.expose_account);
    if let Some(account) = ctx.line.account.as_deref().filter(|_| exposed) {
        headers.insert("x-poolgate-account", names::value(account)?);
    }
    Ok(())
}

/// Settles the attempt that served, or did not, and writes the request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, e: Option<&Error>, ctx: &mut Context) {
    let now = clock::now();
    settle(ctx, e, now);
    if ctx.is_local {
        // Probes would drown the log.
        return;
    }
    ctx.line.duration = now.saturating_duration_since(ctx.began);
    // A `100` that the client waited for is no answer.
    ctx.line.status = session
        .response_written()
        .filter(|_| answer_began(session))
        .map_or(0, |head| head.status.as_u16());
    gateway.metrics.responded(ctx.line.status);
    ctx.line.bytes_in = session.body_bytes_read() as u64;
    let bill = ctx.bill.take();
    let used = bill.map(|bill| bill.settle(&ctx.line, now));
    let tokens = used
        .as_ref()
        .map_or(0, |used| used.usage.input + used.usage.output);
    gateway.metrics.traffic.count(&ctx.line, tokens);
    if gateway.access.is_on() {
        gateway.access.write(&ctx.line);
    }
    write_down(gateway, ctx, used.unwrap_or_default());
}

/// The records get the line itself: nobody reads it any more. Of strangers nothing is kept.
fn write_down(gateway: &Gateway, ctx: &mut Context, used: Used) {
    let Some(client) = &ctx.client else {
        return;
    };
    // A panic that is still to come is told with the request's id.
    let id = ctx.line.request_id.clone();
    let nothing = AccessLine::new(ctx.line.time, id, http::Method::GET);
    let line = std::mem::replace(&mut ctx.line, nothing);
    gateway.usage.record(Row {
        key: client.id.clone(),
        usage: used.usage,
        cost: used.cost,
        estimated: used.is_estimated,
        grain: client.limits.grain(),
        line,
    });
}

/// The one outcome of an attempt that no error has ended.
fn settle(ctx: &mut Context, e: Option<&Error>, now: Instant) {
    let said = said(ctx);
    let Some(mut attempt) = ctx.attempt.take() else {
        return;
    };
    let has_no_end = ctx.reading.as_ref().is_some_and(|read| !read.complete);
    let (outcome, detail) = match (said, e) {
        (Some(Outcome::Success), _) => (Outcome::Success, ""),
        (Some(outcome), _) => (outcome, "an error in the stream"),
        (None, Some(e)) => (Outcome::ClientGone, e.etype().as_str()),
        (None, None) if has_no_end => (Outcome::BrokenStream, "the answer has no end"),
        (None, None) => (Outcome::Success, ""),
    };
    if outcome == Outcome::Success {
        mark_those_without_model(ctx);
    }
    retry::report(ctx, &mut attempt, &outcome, detail, true, now);
}

/// What the answer itself says of how it went, whatever became of the connections: a stream that
/// came to its end is a success, and clients often hang up before the empty chunk that follows.
pub(super) fn said(ctx: &mut Context) -> Option<Outcome> {
    let attempt = ctx.attempt.as_mut()?;
    if let Some(meter) = attempt.meter.take() {
        ctx.reading = Some(meter.finish());
    }
    let reading = ctx.reading.as_ref()?;
    let Some(error) = &reading.error else {
        return (reading.complete && reading.is_stream).then_some(Outcome::Success);
    };
    let credential = &attempt.lease.account().credential;
    let renewable = credential.is_renewable(&attempt.secrets);
    let request = ctx.request.as_ref();
    let model = request.and_then(|request| request.demand.model.as_deref());
    let outcome = Outcome::of_stream_error(error, model, renewable, clock::wall());
    Some(outcome)
}

/// Accounts that did not know a model which this one served are not asked for it for a while.
fn mark_those_without_model(ctx: &mut Context) {
    let request = ctx.request.as_ref();
    let Some(model) = request.and_then(|request| request.demand.model.as_deref()) else {
        return;
    };
    for (pool, other) in std::mem::take(&mut ctx.retry.without_model) {
        pool.lacks_model(&other, model, clock::now());
    }
}
