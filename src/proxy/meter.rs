//! Reads a copy of what passes, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};

use super::context::{Attempt, Context};
use crate::dialect::{Reading, Reject};

/// A part of the answer goes to the client, and is read on its way. Of a stream an event goes when it
/// is whole; only to one that ends before its own end something is added, so that it does not look
/// complete.
pub(super) fn on_body(body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    if let Some(attempt) = &mut ctx.attempt
        && let Some(meter) = &mut attempt.meter
        && let Some(bytes) = body.take()
    {
        let mut ready = meter.pass(bytes);
        if meter.tells_error() {
            ready = blanked(ready, attempt);
        }
        *body = (!ready.is_empty()).then_some(ready);
    }
    if end {
        append(body, rest_of_document(ctx));
        match last_words(ctx) {
            Some(last) => append(body, last),
            None if is_half_a_document(ctx) => {
                return Error::e_explain(HALF, "").map_err(|e| e.into_up());
            }
            None => {}
        }
    }
    ctx.line.bytes_out += body.as_ref().map_or(0, Bytes::len) as u64;
    Ok(())
}

/// Errors say back what was sent; ordinary answers are not looked at.
fn blanked(bytes: Bytes, attempt: &Attempt) -> Bytes {
    attempt.secrets.blanked(&bytes).unwrap_or(bytes)
}

/// What was kept back of an answer that is no stream, and goes as it is.
fn rest_of_document(ctx: &mut Context) -> Bytes {
    let attempt = ctx.attempt.as_mut();
    let rest = attempt.and_then(|attempt| {
        let meter = attempt.meter.as_mut()?;
        let rest = (!meter.is_event_stream()).then(|| meter.rest())?;
        Some(blanked(rest, attempt))
    });
    rest.unwrap_or_default()
}

/// What the log says of it.
const HALF: ErrorType = ErrorType::Custom("the answer has no end");

/// A stream that is one JSON document (Gemini's array) ended without its last bracket. Nothing can
/// be said within it; that the connection breaks off is what tells the client.
fn is_half_a_document(ctx: &Context) -> bool {
    let is_half = |reading: &Reading| !reading.complete && reading.error.is_none();
    ctx.request.as_ref().is_some_and(|request| request.stream)
        && ctx.reading.as_ref().is_some_and(is_half)
}

fn append(body: &mut Option<Bytes>, last: Bytes) {
    if last.is_empty() {
        return;
    }
    let bytes = body.take().unwrap_or_default();
    *body = Some(match bytes.is_empty() {
        true => last,
        false => Bytes::from([bytes, last].concat()),
    });
}

/// The answer came to its end, or was cut. Returns with what an event stream ends: what is left of
/// it, or the error event by which the client sees that it is not complete. `None`: of this answer
/// nothing can be said by us.
pub(super) fn last_words(ctx: &mut Context) -> Option<Bytes> {
    let attempt = ctx.attempt.as_mut()?;
    let mut meter = attempt.meter.take()?;
    let (is_torn, rest) = (meter.is_torn(), meter.rest());
    let reading = ctx.reading.insert(meter.finish());
    if !reading.is_stream {
        return None;
    }
    if reading.is_over() {
        // Half an event behind the end would be an error to a client that has all it needs.
        let is_wanted = reading.ends_whole && !reading.ends_unasked;
        let rest = if is_wanted { rest } else { Bytes::new() };
        return Some(blanked(rest, attempt));
    }
    let request = ctx.request.as_ref()?;
    let (dialect, kind) = (request.demand.dialect, request.kind?);
    let event = Reject::broken_stream().stream_event(dialect, kind, &reading.begun);
    let gap: &[u8] = if is_torn { b"\n\n" } else { b"" };
    Some(Bytes::from([gap, &event[..]].concat()))
}

/// One request under way; dropping it counts it off.
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        InFlight(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
