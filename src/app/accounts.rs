//! Which accounts there are: those of the configuration, those made from files, those of the API, and
//! where the programs of the first two listen. The one place that changes them, whatever the reason.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use pingora_core::server::ShutdownWatch;

use super::App;
use super::roster::Book;
use crate::clock;
use crate::config::{self, Config};
use crate::health::Health;
use crate::instance::{Discovery, Instances, Owner};
use crate::notify::{Event, Kind};
use crate::pool::Pool;

/// How often folders are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The pools of this configuration with all their accounts.
pub(super) fn settings(
    config: &Config,
    discovery: &Discovery,
    instances: &Instances,
    book: &Book,
) -> Vec<config::Pool> {
    let mut pools = discovery.pools(config);
    book.write_into(&mut pools);
    instances.fill_ports(&mut pools);
    pools
}

/// # Errors
/// All accounts are programs for files, and there is no file.
pub(super) fn check_some(config: &Config, discovery: &Discovery) -> Result<()> {
    let found = discovery.pools(config);
    if found.iter().any(|pool| !pool.accounts.is_empty()) {
        return Ok(());
    }
    let mut discovers = config
        .pools
        .iter()
        .filter_map(|pool| pool.discover.as_ref());
    match discovers.next() {
        Some(discover) if discover.account.instance.is_some() => bail!(
            "there is no account: no file of {} is like {}",
            discover.dir.display(),
            discover.glob
        ),
        _ => Ok(()),
    }
}

impl App {
    /// Puts another configuration in force, with its accounts as they are now; `meanwhile` does the
    /// rest of it, keys included. Accounts that stay keep their live state.
    ///
    /// For a request it is one step: whom the new keys let in meets no account of the old file, as those
    /// went before; whom the old ones let in is as one that came before, and finds its pool.
    pub(super) fn apply_accounts(&self, config: Arc<Config>, meanwhile: impl FnOnce()) {
        let _one_at_a_time = self.changes_accounts.lock();
        // No look by the configuration before this one may come between.
        self.discovery.look(&config);
        let pools = settings(&config, &self.discovery, &self.instances, &self.book);
        self.change_accounts(&pools, meanwhile);
        self.config.store(config);
    }

    /// The configuration is the same, and what is made of it is not: files came or went, an account was
    /// changed by the API, or a program has got its port.
    pub(super) fn refresh_accounts(&self) {
        let _one_at_a_time = self.changes_accounts.lock();
        self.make_accounts_anew();
    }

    /// Looks at the folders, and takes what came or went into account.
    fn look_at_folders(&self) {
        let _one_at_a_time = self.changes_accounts.lock();
        if self.discovery.look(&self.config.load()) {
            self.make_accounts_anew();
        }
    }

    /// Whoever calls it holds `changes_accounts`.
    fn make_accounts_anew(&self) {
        let config = self.config.load();
        let mut pools = settings(&config, &self.discovery, &self.instances, &self.book);
        for settings in &mut pools {
            let known = self.pools.load();
            if let Some(pool) = known.iter().find(|pool| *pool.name == *settings.name) {
                // An operator may have chosen another one.
                settings.strategy = pool.settings().strategy;
            }
        }
        self.change_accounts(&pools, || ());
    }

    fn change_accounts(&self, pools: &[config::Pool], meanwhile: impl FnOnce()) {
        let known = self.pools.load_full();
        let before = ids(&known);
        let now = clock::now();
        let pools = pools.iter().map(|settings| {
            match known.iter().find(|pool| *pool.name == *settings.name) {
                Some(pool) => {
                    pool.reconfigure(settings);
                    pool.clone()
                }
                None => {
                    let pool = Pool::among(&self.groups, settings, &self.metrics, now);
                    if let Some(sharing) = &self.sharing {
                        sharing.take_part(&pool);
                    }
                    pool
                }
            }
        });
        let pools: Vec<Arc<Pool>> = pools.collect();
        // Keys that still name a pool which is going find it until they are exchanged, too.
        let going = known.iter().filter(|pool| {
            let stays = |other: &Arc<Pool>| Arc::ptr_eq(other, pool);
            !pools.iter().any(stays)
        });
        let all = pools.iter().chain(going).cloned().collect();
        self.pools.store(Arc::new(all));
        meanwhile();
        let after = ids(&pools);
        self.pools.store(Arc::new(pools));
        for gone in before.difference(&after) {
            self.metrics.forget_account(gone);
        }
        for id in after.difference(&before) {
            tracing::info!(account = &**id, "a new account");
        }
    }

    /// Files come and go, and accounts with them.
    pub(super) async fn watch_folders(self: &Arc<Self>, mut stop: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => return,
            }
            let is_discovered = |pool: &config::Pool| pool.discover.is_some();
            if !self.config.load().pools.iter().any(is_discovered) {
                continue;
            }
            let app = self.clone();
            let looked = tokio::task::spawn_blocking(move || app.look_at_folders());
            // It ends early only with the process.
            let _ = looked.await;
        }
    }
}

fn ids(pools: &[Arc<Pool>]) -> HashSet<Arc<str>> {
    let accounts = pools.iter().flat_map(|pool| pool.accounts());
    accounts.map(|account| account.id.clone()).collect()
}

impl Owner for App {
    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn pools(&self) -> Arc<Vec<Arc<Pool>>> {
        self.pools.load_full()
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn listens(&self, id: &str, port: u16) {
        let at = self
            .pools
            .load()
            .iter()
            .find_map(|pool| pool.account_named(id));
        let is_known = at.is_some_and(|account| match account.config.upstream.host {
            config::Host::Tcp(_, known) => known == port,
            config::Host::Unix(_) => true,
        });
        if !is_known {
            self.refresh_accounts();
        }
    }

    fn gave_up(&self, pool: &Pool, id: &str) {
        self.notices.tell(&Event {
            kind: Kind::InstanceGaveUp,
            account: id,
            pool: &pool.name,
            reason: "failed",
            at: clock::wall(),
        });
    }
}
