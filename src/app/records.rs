//! The records at the start and at the end: what stops a start, who writes usage, and how long the last
//! rows may take.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::State;
use crate::store::{Store, Usage};
use crate::telemetry::Metrics;

/// What the last rows of usage may take at the end.
pub(super) const LAST_ROWS: Duration = Duration::from_secs(20);

/// A start with records that waiting does not help is refused: a wrong URL or password, a database of
/// a newer poolgate. One that is away only now does not stop a gateway.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check(state: &State) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    // Connections live as long as their runtime: these records are not those that are used.
    let ready = runtime.block_on(async { Store::of(state)?.ready().await });
    match ready {
        Err(error) if error.is_lasting() => Err(error).context("the records cannot be kept"),
        _ => Ok(()),
    }
}

/// The writer of usage.
///
/// # Errors
/// It cannot be started.
pub(super) fn usage(state: &State, metrics: &Arc<Metrics>) -> Result<Usage> {
    let store = Store::of(state)?.counted(metrics.clone());
    let started = Usage::start(store, state.keep.clone(), &state.dir, metrics.clone());
    started.context("no thread for the records")
}
