//! What systemd is told: ready, reloading, stopping, and that the threads which serve clients are alive.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use sd_notify::NotifyState;
use tokio::runtime::Handle;

/// Tells systemd, where it listens.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}

/// Says that a reload is under way, and that it is over when dropped, whatever came of it.
pub(super) struct Reloading(());

impl Reloading {
    pub(super) fn begin() -> Reloading {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("systemd cannot be told of the reload: {error}"),
        }
        Reloading(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

/// The threads that serve clients, known from their first connection on.
pub(super) type Workers = Arc<OnceLock<Handle>>;

/// Feeds systemd's watchdog (`WatchdogSec=`) as long as `workers` take work. A gateway whose threads all
/// hang still has a thread that could say it is fine: so each word goes through them.
/// Requests that finish while the gateway drains are watched too.
pub(super) async fn feed_watchdog(workers: &Workers, mut stop: ShutdownWatch) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let every = limit / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.changed() => return,
        }
        match workers.get() {
            Some(workers) if !is_alive(workers, every).await => {
                tracing::error!("the threads that serve clients take no work");
            }
            _ => tell(&[NotifyState::Watchdog]),
        }
    }
}

async fn is_alive(workers: &Handle, within: Duration) -> bool {
    let task = workers.spawn(std::future::ready(()));
    // An error is the end of that runtime: the process is on its way out.
    tokio::time::timeout(within, task).await.is_ok()
}
