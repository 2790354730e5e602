//! What signals do. SIGTERM and SIGINT: not ready, a moment later no new requests, and the end once
//! nothing is under way; a second one: at once. SIGQUIT: nothing, as long as no successor can
//! take over (Pingora would shut down all the same). A successor that serves ends it, too: nothing is
//! refused then, and connections are left to their own end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, renewals, systemd};
use crate::admin::Control;

/// So long a stop at once still waits for tokens that are being saved.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) struct Signals {
    app: Arc<App>,
}

impl Signals {
    pub(super) fn new(app: Arc<App>) -> Self {
        Signals { app }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let streams = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::quit()),
        );
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut quit)) = streams else {
            tracing::error!("signals cannot be watched; the process can only be killed");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = quit.recv() => self.quit(),
                () = self.app.handing.is_over.notified() => {
                    let app = self.app.clone();
                    std::thread::spawn(move || Signals::new(app).exit_on_second(false));
                    return ShutdownSignal::GracefulTerminate;
                }
            }
        }
        tracing::info!(
            requests = self.app.in_flight.load(Ordering::SeqCst),
            "stopping"
        );
        self.app.draining.store(true, Ordering::SeqCst);
        systemd::tell(&[sd_notify::NotifyState::Stopping]);
        let drained = tokio::select! {
            drained = self.drain() => drained,
            () = second(&mut terminate, &mut interrupt) => {
                self.at_once().await;
                return ShutdownSignal::FastShutdown;
            }
        };
        if !drained {
            tracing::warn!("stopped with requests under way: their time is over");
            return ShutdownSignal::FastShutdown;
        }
        // This thread is Pingora's from here on, and sleeps; the second signal needs another.
        let app = self.app.clone();
        std::thread::spawn(move || Signals::new(app).exit_on_second(true));
        ShutdownSignal::GracefulTerminate
    }
}

impl Signals {
    /// Lets requests under way end, and then the renewals of tokens; both have their time. False: there
    /// are requests still.
    async fn drain(&self) -> bool {
        let server = self.app.config.load().server.clone();
        tokio::time::sleep(server.drain_delay).await;
        // Pingora would close the listeners now. Whoever comes while others finish is told that the
        // gateway is stopping, and not left to guess from a refused connection.
        self.app.refusing.store(true, Ordering::SeqCst);
        let drained = tokio::time::timeout(server.drain_timeout, self.drained()).await;
        // What they needed tokens for is over.
        self.end_renewals(renewals::LONGEST).await;
        drained.is_ok()
    }

    async fn end_renewals(&self, most: Duration) {
        let app = self.app.clone();
        // Cut short, it would have waited for nothing else than those that are lost then.
        let _ = tokio::task::spawn_blocking(move || app.renewals.end(most)).await;
    }

    async fn at_once(&self) {
        tracing::warn!("stopped at once, by a second signal");
        self.app.instances.kill();
        self.end_at_once().await;
    }

    /// Neither a token that is on its way nor what was used is lost to a hurry, if there is a second.
    async fn end_at_once(&self) {
        self.end_renewals(AT_ONCE).await;
        let app = self.app.clone();
        let _ = tokio::task::spawn_blocking(move || app.usage.end(AT_ONCE)).await;
    }

    /// A successor that is there takes over as soon as it can, whether or not it is asked to.
    fn quit(&self) {
        match self.app.handing.is_under_way.load(Ordering::SeqCst) {
            true => tracing::info!("SIGQUIT: a successor takes over as soon as it is prepared"),
            false => tracing::warn!("SIGQUIT is ignored: no successor waits to take over"),
        }
    }

    /// Ends the process. Its programs end with it where they are this process's own.
    fn exit_on_second(&self, is_own: bool) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            if let (Ok(mut terminate), Ok(mut interrupt)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) {
                second(&mut terminate, &mut interrupt).await;
                tracing::warn!("stopped at once, by a signal");
                if is_own {
                    self.app.instances.kill();
                }
                self.end_at_once().await;
                std::process::exit(0);
            }
        });
    }

    /// Returns when no request has an account or waits for one. Requests that are turned away do
    /// not count, or a busy gateway would never end. Those that a predecessor still finishes do: with
    /// this process systemd would end that one, too.
    async fn drained(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        loop {
            let queue = self.app.queue();
            let pools = self.app.pools.load();
            let elsewhere = pools
                .iter()
                .map(|pool| pool.places_elsewhere())
                .sum::<u32>();
            if queue.active + queue.waiting == 0 && elsewhere == 0 {
                return;
            }
            drop(pools);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn second(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
