//! The work in the background: health checks, notices, files that change, reloads, and the word that all is
//! ready.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use super::App;
use super::keys;
use super::orders;
use super::programs;
use super::renewals;
use super::roster;
use super::shared;
use super::systemd;
use super::upgrade;
use crate::clock;
use crate::instance::Owner;
use crate::net::watch_files;
use crate::store::StoreError;

pub(super) struct Background {
    app: Arc<App>,
}

impl Background {
    pub(super) fn new(app: Arc<App>) -> Self {
        Background { app }
    }
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, stop: ShutdownWatch) {
        let app = &self.app;
        let files = || app.watched_files();
        let changed = |path: &Path| app.file_changed(path);
        let owner: Arc<dyn Owner> = app.clone();
        let pools = || (app.pools.load_full(), app.moment());
        tokio::join!(
            kept_up(|| say_ready(app, stop.clone())),
            kept_up(|| open_records(app)),
            kept_up(|| keys::follow(app, stop.clone())),
            kept_up(|| roster::follow(app, stop.clone())),
            kept_up(|| app.pulse.beat(&**app, stop.clone())),
            kept_up(|| renewals::keep(app, stop.clone())),
            kept_up(|| shared::keep(app)),
            kept_up(|| app.health.run(|| app.pools.load().to_vec(), stop.clone())),
            kept_up(|| watch_files(files, changed, app.began.wall, stop.clone())),
            kept_up(|| tick(app, stop.clone())),
            kept_up(|| app.keep_slots(stop.clone())),
            kept_up(|| app.notices.watch(pools, stop.clone())),
            kept_up(|| app.notices.deliver(stop.clone())),
            kept_up(|| app.instances.run(&owner, stop.clone())),
            kept_up(|| app.watch_folders(stop.clone())),
            kept_up(|| reload_on_signal(app, stop.clone())),
            kept_up(|| take_orders(app, stop.clone())),
            kept_up(|| systemd::feed_watchdog(&app.workers, stop.clone())),
        );
    }
}

/// Does a work to its end, and begins it again when it panics: else a gateway would serve on and
/// never again look at its accounts' health or its files.
async fn kept_up<F: Future<Output = ()>>(work: impl Fn() -> F) {
    const PAUSE: Duration = Duration::from_secs(1);
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until each listener takes connections.
async fn say_ready(app: &Arc<App>, mut stop: ShutdownWatch) {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let addresses: Vec<SocketAddr> = app
        .config
        .load()
        .listen
        .iter()
        .map(|listen| listen.address)
        .collect();
    for address in &addresses {
        while TcpStream::connect(reachable(*address)).await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => return,
            }
        }
    }
    // As the successor's listeners do: until they accept, their sockets are the predecessor's too.
    programs::found(app).await;
    tokio::join!(renewals::first_tokens(app), shared::first_shares(app));
    let accounts: usize = app
        .pools
        .load()
        .iter()
        .map(|pool| pool.accounts().len())
        .sum();
    tracing::info!(accounts, listen = ?addresses, "ready");
    systemd::tell(&[sd_notify::NotifyState::Ready]);
    upgrade::say_serving(app);
}

/// Serving goes on without records; whoever needs them tries again.
async fn open_records(app: &App) {
    match app.store.ready().await {
        Ok(()) => {}
        Err(error @ StoreError::Away { .. }) => {
            tracing::warn!("requests are served; usage waits for the records: {error}");
        }
        Err(error) => tracing::error!("no records can be kept: {error}"),
    }
}

/// Lets accounts recover whose time has come, also while nobody asks for one.
async fn tick(app: &App, mut stop: ShutdownWatch) {
    const EVERY: Duration = Duration::from_millis(100);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
        for pool in app.pools.load().iter() {
            pool.tick(clock::now());
        }
    }
}

/// An address under which this machine reaches a listener of all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn reload_on_signal(app: &Arc<App>, mut stop: ShutdownWatch) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let app = app.clone();
                // What came of it is in the log.
                let _ = tokio::task::spawn_blocking(move || drop(app.reload())).await;
            }
            _ = stop.changed() => return,
        }
    }
}

async fn take_orders(app: &Arc<App>, mut stop: ShutdownWatch) {
    tokio::select! {
        () = orders::take(app) => {}
        _ = stop.changed() => {}
    }
}
