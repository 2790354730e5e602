//! Reads a copy of what passes, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::Context;

/// A part of the answer goes to the client.
pub(super) fn on_body(bytes: Option<&[u8]>, ctx: &mut Context) {
    let Some(bytes) = bytes else { return };
    ctx.line.bytes_out += bytes.len() as u64;
    if let Some(meter) = ctx.attempt.as_mut().and_then(|attempt| attempt.meter.as_mut()) {
        meter.push(bytes);
    }
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
