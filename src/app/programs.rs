//! What a successor's clients wait for: through which programs of its predecessor accounts can serve.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};

use super::App;

/// A program that takes longer to say how it is serves later than the others; the predecessor, which
/// serves meanwhile, waits no longer than a minute.
const LONGEST: Duration = Duration::from_secs(20);

/// A service that others depend on: they begin once [`found`] has returned.
pub(super) struct Programs {
    app: Arc<App>,
}

impl Programs {
    pub(super) fn new(app: Arc<App>) -> Programs {
        Programs { app }
    }
}

/// Returns at once where there was no predecessor: its programs, if there are some, have yet to start.
pub(super) async fn found(app: &App) {
    if app.handing.is_heir.load(Ordering::SeqCst) {
        app.instances.looked(LONGEST).await;
    }
}

#[async_trait]
impl ServiceWithDependents for Programs {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        found(&self.app).await;
        ready.notify_ready();
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    fn name(&self) -> &str {
        "programs"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn on_startup_delay(&self, _: Duration) {}
}
