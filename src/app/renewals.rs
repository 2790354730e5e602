//! Keeps tokens renewed: one task for each account whose token is, started when the account appears.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinHandle;

use super::App;
use super::shared::Sharing;
use crate::clock;
use crate::config::{self, Config, SecretSource};
use crate::credential::cache::TokenCache;
use crate::credential::seal::Key;
use crate::credential::{
    Credential, Endpoints, Holder, Keeper, Kept, Others, Phase, Refresher, Renewed, State, Underway,
};
use crate::net::{Egress, Reach};
use crate::notify::{Event, Kind};
use crate::pool::{Account, Pool};
use crate::store::Store;
use crate::telemetry::Metrics;

/// The folder in `state.dir`.
const FOLDER: &str = "tokens";

/// Accounts come and go with the configuration.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// After so many failures in a row somebody should know before the token has expired.
const WORRYING: usize = 3;

/// Readiness waits no longer for tokens that are not there at the start.
const FIRST_TOKENS: Duration = Duration::from_secs(5);

/// What a renewal takes at most: the client's own limits, and the save.
pub(super) const LONGEST: Duration = Duration::from_secs(35);

/// The tasks.
pub(super) struct Renewals {
    metrics: Arc<Metrics>,
    keeper: Mutex<Option<Arc<Keeper>>>,
    /// Until there is a keeper.
    others: Mutex<Option<Others>>,
    tasks: Mutex<HashMap<Arc<str>, Task>>,
    /// Those that are asking a vendor or saving what it said.
    underway: Arc<Underway>,
}

struct Task {
    credential: Weak<Credential>,
    work: JoinHandle<()>,
}

impl Renewals {
    pub(super) fn new(metrics: Arc<Metrics>, sharing: Option<&Sharing>) -> Self {
        Renewals {
            metrics,
            keeper: Mutex::default(),
            others: Mutex::new(sharing.map(Sharing::others)),
            tasks: Mutex::default(),
            underway: Arc::default(),
        }
    }

    /// Makes sure that tokens can be kept, if there is an account that needs it.
    ///
    /// # Errors
    /// They cannot.
    pub(super) fn prepare(&self, config: &Config, store: &Arc<Store>) -> Result<()> {
        let accounts = config.pools.iter().flat_map(|pool| &pool.accounts);
        let mut credentials = accounts.map(|account| &account.credential);
        if credentials.any(Credential::is_renewed) {
            self.keeper(config, store)?;
        }
        Ok(())
    }

    fn keeper(&self, config: &Config, store: &Arc<Store>) -> Result<Arc<Keeper>> {
        let mut keeper = self.keeper.lock();
        if let Some(keeper) = &*keeper {
            return Ok(keeper.clone());
        }
        let cache = token_cache(&config.state)?;
        let egress =
            Egress::new(Reach::Anywhere, &super::proxies(config)).context("requests for tokens")?;
        let made = Keeper {
            egress,
            kept: Arc::new(Kept::new(cache, self.metrics.clone())),
            store: store.clone(),
            underway: self.underway.clone(),
            holder: Holder::in_folder(&config.state.dir),
            endpoints: Endpoints::default(),
            others: self.others.lock().take(),
        };
        Ok(keeper.insert(Arc::new(made)).clone())
    }

    /// Would a stop now lose a token that is on its way?
    pub(super) fn is_busy(&self) -> bool {
        self.underway.is_busy()
    }

    /// No renewal begins any more. Waits for those under way, which are not to be cut between a vendor's
    /// reply and its save, for at most so long; and saves once more what the disk refused.
    pub(super) fn end(&self, most: Duration) {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        self.underway.close();
        let deadline = clock::now() + most;
        while self.is_busy() && clock::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        if self.is_busy() {
            tracing::warn!("stopped while tokens are renewed: what comes now is lost");
        }
        let keeper = self.keeper.lock().clone();
        if let Some(keeper) = keeper {
            keeper.kept.settle_all();
        }
    }

    /// Starts the tasks of accounts that have none.
    fn start_missing(&self, app: &App) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|_, task| task.credential.strong_count() > 0 && !task.work.is_finished());
        for pool in app.pools.load().iter() {
            for account in pool.accounts() {
                let is_renewed = account.credential.state().is_some();
                let has_task = tasks.get(&account.id).is_some_and(|task| {
                    std::ptr::eq(task.credential.as_ptr(), Arc::as_ptr(&account.credential))
                });
                if is_renewed && !has_task {
                    match self.start(app, pool, &account) {
                        Ok(task) => drop(tasks.insert(account.id.clone(), task)),
                        Err(error) => stuck(pool, &account, &format!("{error:#}")),
                    }
                }
            }
        }
    }

    fn start(&self, app: &App, pool: &Arc<Pool>, account: &Arc<Account>) -> Result<Task> {
        // The folder stays that of the start, and so do the records.
        let keeper = self.keeper(&app.first, &app.store)?;
        let (pool, id) = (Arc::downgrade(pool), account.id.clone());
        let (metrics, notices) = (account.metrics.clone(), app.notices.clone());
        let told_of = Arc::downgrade(&account.credential);
        let failures = AtomicUsize::new(0);
        let told = Box::new(move |state: &State, renewed: Option<Renewed>| {
            let Some(pool) = pool.upgrade() else {
                return;
            };
            let now = clock::wall();
            if !pool.token_state(&id, &told_of, state, now) {
                return;
            }
            if let Some(renewed) = renewed {
                metrics.token_refresh(renewed == Renewed::Success);
            }
            let failures = match state.phase {
                Phase::Transient(_) => failures.fetch_add(1, Ordering::Relaxed) + 1,
                _ => {
                    failures.store(0, Ordering::Relaxed);
                    0
                }
            };
            // One that cannot be renewed any more is told as `needs_login`.
            if failures == WORRYING && state.is_valid(now) {
                notices.tell(&Event {
                    kind: Kind::TokenExpiring,
                    account: &id,
                    pool: &pool.name,
                    reason: "not_renewed",
                    at: now,
                });
            }
        });
        let credential = account.credential.clone();
        let refresher = Refresher::new(account.id.clone(), credential, keeper, told);
        let refresher = refresher.context("this credential is none that is renewed")?;
        Ok(Task {
            credential: Arc::downgrade(&account.credential),
            work: tokio::spawn(refresher.run()),
        })
    }
}

/// Tells that the account's token cannot be renewed, once: it is tried again and again.
fn stuck(pool: &Arc<Pool>, account: &Account, why: &str) {
    let phase = account.credential.state().map(|state| state.phase);
    if phase == Some(Phase::Transient(why.to_owned())) {
        return;
    }
    tracing::error!(account = &*account.id, "its token is not renewed: {why}");
    account.credential.is_stuck(why.to_owned());
    if let Some(state) = account.credential.state() {
        let credential = Arc::downgrade(&account.credential);
        pool.token_state(&account.id, &credential, &state, clock::wall());
    }
}

/// The tokens of this `state.dir`, under its key; both are made where there are none.
///
/// # Errors
/// They cannot be made, or are not ours alone.
pub fn token_cache(state: &config::State) -> Result<TokenCache> {
    super::state::prepare_dir(&state.dir)?;
    Ok(TokenCache::open(&state.dir.join(FOLDER), seal_key(state)?)?)
}

/// The key that seals what is kept; made where there is none.
///
/// # Errors
/// It cannot be made, or is not ours alone.
pub(super) fn seal_key(state: &config::State) -> Result<Key> {
    Ok(match &state.key {
        SecretSource::Value(text) => Key::of_text(text)?,
        SecretSource::File(path) => {
            let credentials = config::process_env("CREDENTIALS_DIRECTORY");
            Key::open(path, credentials.as_deref().map(std::path::Path::new))?
        }
    })
}

/// Looks after the tasks until the stop; a renewal that is under way then still ends.
pub(super) async fn keep(app: &App, mut stop: ShutdownWatch) {
    loop {
        app.renewals.start_missing(app);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Returns when each account's token was looked at once, and renewed if it was time.
pub(super) async fn first_tokens(app: &App) {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let is_settled = || {
        let pools = app.pools.load();
        let mut accounts = pools.iter().flat_map(|pool| pool.accounts());
        accounts.all(|account| {
            let phase = account.credential.state().map(|state| state.phase);
            !matches!(phase, Some(Phase::Starting | Phase::Refreshing))
        })
    };
    let settled = async {
        while !is_settled() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // Who comes before waits for the token that is on its way.
    let _ = tokio::time::timeout(FIRST_TOKENS, settled).await;
}
