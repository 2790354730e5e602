//! What is said of a panic: where, in one line, and never with what it was about.

use std::panic::{PanicHookInfo, set_hook};
use std::sync::Arc;

use crate::telemetry::Metrics;

/// From now on each panic of this process is counted, and is a line of the log instead of several
/// on stderr.
pub fn count_panics(metrics: Arc<Metrics>) {
    set_hook(Box::new(move |panic| {
        metrics.panicked();
        let at = panic.location().map(ToString::to_string);
        let at = at.unwrap_or_default();
        tracing::error!(
            at,
            "a panic, which is a mistake in poolgate: {}",
            what(panic)
        );
    }));
}

/// The text of a panic where it stands in the program. One that was put together may quote what a
/// client or a vendor wrote, as that of a slice within a character does.
fn what<'a>(panic: &PanicHookInfo<'a>) -> &'a str {
    match panic.payload().downcast_ref::<&'static str>() {
        Some(text) => text,
        None => "(its text may hold a secret and is left out)",
    }
}
