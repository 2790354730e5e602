//! Reads a copy of what passes, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::context::Context;
use crate::dialect::{Meter, Reject};

/// A part of the answer goes to the client: a copy is read. Only to a stream that ends before its
/// own end something is added, so that it does not look complete.
pub(super) fn on_body(body: &mut Option<Bytes>, end: bool, ctx: &mut Context) {
    if let Some(attempt) = &mut ctx.attempt {
        if let (Some(meter), Some(bytes)) = (&mut attempt.meter, body.as_deref()) {
            meter.push(bytes);
        }
        if attempt.meter.as_ref().is_some_and(Meter::tells_error)
            && let Some(bytes) = body
        {
            // Errors say back what was sent; ordinary answers are not looked at.
            let sent = attempt.lease.account().credential.sent();
            *bytes = sent.blanked(bytes).unwrap_or_else(|| bytes.clone());
        }
        if end && let Some(event) = last_words(ctx) {
            let bytes = body.take().unwrap_or_default();
            *body = Some(Bytes::from([bytes, event].concat()));
        }
    }
    ctx.line.bytes_out += body.as_ref().map_or(0, Bytes::len) as u64;
}

/// The answer came to its end, or was cut. Returns the error event with which the client must be
/// told that an event stream is not complete.
pub(super) fn last_words(ctx: &mut Context) -> Option<Bytes> {
    let meter = ctx.attempt.as_mut()?.meter.take()?;
    let mid_event = meter.mid_event();
    let reading = ctx.reading.insert(meter.finish());
    if !reading.is_stream || reading.is_over() {
        return None;
    }
    let request = ctx.request.as_ref()?;
    let (dialect, kind) = (request.demand.dialect, request.kind?);
    let event = Reject::broken_stream().stream_event(dialect, kind, &reading.begun);
    let gap: &[u8] = if mid_event { b"\n\n" } else { b"" };
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
