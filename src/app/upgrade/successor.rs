//! The successor's side: it takes the sockets of the running gateway, makes everything, and says so; it
//! answers for new connections only from then on.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::App;
use super::super::orders::{self, Line, Order};
use super::sockets::{self, Inherited};
use super::{Chosen, Left, News, STEP, Used, places};
use crate::clock;
use crate::config::{Config, Strategy};

/// The running gateway, which hands over.
pub struct Predecessor {
    line: Line,
    inherited: Inherited,
    /// How long it, and those before it, have served the accounts.
    pub(in crate::app) age: Duration,
}

impl Predecessor {
    /// Asks the gateway whose `state.dir` this is to hand over.
    ///
    /// # Errors
    /// Nothing runs there, or it refuses; its log says why.
    pub fn find(state: &Path) -> Result<Predecessor> {
        let mut line = orders::connect(state)?;
        let successor = std::process::id();
        line.send(&Order::TakeOver { successor })?;
        line.wait_at_most(STEP)?;
        let (will, inherited) = sockets::receive(line.reader.get_ref())?;
        Ok(Predecessor {
            line,
            inherited,
            age: Duration::from_millis(will.age_ms),
        })
    }

    /// Says that nothing will come of it, and why.
    pub fn disappoint(mut self, lines: Vec<String>) {
        // It notices in any case that we have gone.
        let _ = self.line.send(&News::Failed { lines });
    }

    /// The sockets that this configuration has a use for. The others are closed: they would take
    /// connections and never answer.
    pub(in crate::app) fn sockets(&mut self, used: &[String]) -> Inherited {
        let all = std::mem::take(&mut self.inherited);
        let (kept, others): (Inherited, Vec<(String, RawFd)>) = all.into_iter().fold(
            Default::default(),
            |(mut kept, mut others), (address, socket)| {
                match used.contains(&address) {
                    true => drop(kept.insert(address, socket)),
                    false => others.push((address, socket)),
                }
                (kept, others)
            },
        );
        for (address, socket) in others {
            if let Err(error) = nix::unistd::close(socket) {
                tracing::warn!(
                    address,
                    "a socket that is no longer used stays open: {error}"
                );
            }
        }
        kept
    }

    /// Says that all is made; takes the live state of the accounts over.
    ///
    /// # Errors
    /// The other one has given up waiting.
    pub(in crate::app) fn inherit(&mut self, app: &App) -> Result<()> {
        self.line.send(&News::Prepared)?;
        self.line.wait_at_most(STEP)?;
        let left: Left = self.line.receive()?;
        app.instances.find_ports(app);
        let now = clock::now();
        for pool in app.pools.load().iter() {
            pool.inherit(&left.accounts, now);
            let chosen = left.strategies.iter().find(|one| *one.pool == *pool.name);
            let is_written = |one: &&Chosen| one.written == pool.settings().strategy.name();
            let chosen = chosen.filter(is_written);
            if let Some(strategy) = chosen.and_then(|one| Strategy::named(&one.chosen)) {
                pool.set_strategy(strategy);
            }
        }
        app.notices.were_told(&left.told);
        if let Some(writer) = left.writer {
            app.handing.heritage.begin(writer);
        }
        Ok(())
    }
}

/// Says that this process serves. If the other one has given up by now there would be two: this one
/// ends.
pub(in crate::app) fn say_serving(app: &Arc<App>) {
    let Some(mut predecessor) = app.handing.predecessor.lock().take() else {
        return;
    };
    let app = app.clone();
    std::thread::spawn(move || {
        if let Err(error) = take_over(&app, &mut predecessor.line) {
            tracing::error!("no upgrade, the running gateway has given up on this one: {error:#}");
            std::process::exit(1);
        }
        hear_used(&app, &mut predecessor.line);
        let shared = places::share(&app, predecessor.line);
        // Where the database was away it has left what its last requests have used.
        app.usage.take_left();
        app.handing.heritage.is_over.store(true, Ordering::SeqCst);
        match shared.context("requests of the predecessor are not counted") {
            Ok(()) => tracing::info!("the predecessor has ended"),
            Err(error) => tracing::error!("{error:#}"),
        }
    });
}

/// What the predecessor's accounts have used of their limits until it took no more requests.
fn hear_used(app: &App, line: &mut Line) {
    let heard = line.wait_at_most(STEP).context("no deadline");
    match heard.and_then(|()| line.receive::<Used>()) {
        Ok(mut used) => {
            let now = clock::now();
            for pool in app.pools.load().iter() {
                pool.used_elsewhere(&mut used.more, now);
            }
        }
        Err(error) => tracing::warn!("limits may let through more than they should: {error:#}"),
    }
}

fn take_over(app: &App, line: &mut Line) -> Result<()> {
    match agree(line) {
        // A gateway that has died goes on with nothing: this one must.
        Err(error) if line.is_alone() => tracing::warn!("the predecessor has died: {error:#}"),
        agreed => agreed?,
    }
    let (told, tells) = mpsc::channel();
    *app.handing.reachable.lock() = Some(told);
    app.handing.agreed.notify_one();
    let opened = tells.recv_timeout(STEP);
    match opened.unwrap_or_else(|late| Err(late.into())) {
        Ok(()) => {}
        // Nobody else serves, with the socket or without.
        Err(_) if line.is_alone() => return Ok(()),
        Err(error) => {
            let lines = vec![format!("the successor cannot take orders: {error:#}")];
            // Without this the connection's end says it.
            let _ = line.send(&News::Failed { lines });
            return Err(error);
        }
    }
    match line.send(&News::Reachable) {
        Err(_) if line.is_alone() => Ok(()),
        sent => sent,
    }
}

fn agree(line: &mut Line) -> Result<()> {
    line.send(&News::Serving)?;
    line.wait_at_most(STEP)?;
    let go: bool = line.receive()?;
    ensure!(go, "the running gateway goes on serving");
    Ok(())
}

/// The addresses that this configuration listens on, as Pingora writes them.
pub(in crate::app) fn addresses(config: &Config) -> Vec<String> {
    let clients = config
        .listen
        .iter()
        .map(|listen| listen.address.to_string());
    let admin = match &config.admin.address {
        crate::config::Address::Tcp(address) => address.to_string(),
        crate::config::Address::Unix(path) => path.display().to_string(),
    };
    clients.chain([admin]).collect()
}
