//! The issued keys: read from the records at the start and whenever those change, and changed here.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use pingora_core::server::ShutdownWatch;
use tokio::sync::Mutex;

use super::App;
use super::upgrade::follow_predecessor;
use crate::admin::Issuer;
use crate::clock::{self, Moment, SystemTime};
use crate::config::{Config, Open};
use crate::key::{self, Attributes, KeyError, Keys, Place, Register};
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::{Before, KeyRecord, SpentRecord, Store, StoreError, millis};

/// How often the records are asked whether a key has changed: a revocation is in force within a second.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A start waits no longer for the records.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name of the key that a first start beyond loopback issues.
const FIRST: &str = "first";

/// In `state.dir` once there was a key: records that cannot be read do not open the gate then.
const ISSUED: &str = "keys_were_issued";

/// What is known of the records.
pub(super) struct Issued {
    /// The number of the last change that the index has; none before they were read. Whoever reads
    /// them holds it, so that nothing older is put in place of what is newer.
    seen: Mutex<Option<i64>>,
    /// What keys have used before this process counts in their limits.
    is_remembered: AtomicBool,
}

impl Issued {
    /// Were the records read?
    pub(super) fn is_read(&self) -> bool {
        self.seen.try_lock().is_ok_and(|seen| seen.is_some())
    }

    /// The keys of the configuration and of the records, before the first request comes. Records that
    /// cannot be read now are read as soon as they can be.
    ///
    /// # Errors
    /// There is no time for anything to happen in.
    pub(super) fn read(config: &Config) -> Result<(Issued, Arc<Keys>)> {
        let read = at_once(async {
            let store = Store::of(&config.state)?;
            let (version, keys) = read(&store, config).await?;
            store.keep_keys(&keys).await;
            Ok((version, keys))
        })?;
        let (seen, records) = match read {
            Ok((seen, records)) => (Some(seen), Some(records)),
            Err(error) => {
                let kept = Store::of(&config.state).map(|store| store.kept_keys());
                let kept = kept.ok().filter(|keys| !keys.is_empty());
                match &kept {
                    Some(_) => tracing::warn!("the issued keys are as they were last: {error}"),
                    None => tracing::error!("the issued keys cannot be read yet: {error}"),
                }
                // A file of which no key is known to have been in it keeps nobody out.
                let is_ours = config.state.postgres.is_none();
                let none = || (is_ours && !has_issued(config)).then(Vec::new);
                (None, kept.or_else(none))
            }
        };
        let issued = Issued {
            seen: Mutex::new(seen),
            is_remembered: AtomicBool::new(false),
        };
        Ok((issued, Arc::new(Keys::new(config, records))))
    }
}

/// The records, for a command that works with nothing running too.
///
/// # Errors
/// They cannot be had.
pub async fn records(config: &Config) -> Result<Store> {
    super::state::prepare_dir(&config.state.dir)?;
    keys_may_be_issued(&config.state.dir)?;
    let store = Store::of(&config.state)?;
    store.ready().await?;
    let older = key::Issued::in_state(&config.state.dir);
    older.become_records(&store, clock::wall()).await?;
    Ok(store)
}

/// The number of the last change, and all keys; those of an older poolgate are made records before.
async fn read(store: &Store, config: &Config) -> Result<(i64, Vec<KeyRecord>), KeyError> {
    let older = key::Issued::in_state(&config.state.dir);
    older.become_records(store, clock::wall()).await?;
    let (version, keys) = store.keys_now().await?;
    if !keys.is_empty() {
        keys_may_be_issued(&config.state.dir)?;
    }
    Ok((version, keys))
}

/// Have there ever been keys in these records? What cannot be looked at may say so.
fn has_issued(config: &Config) -> bool {
    let dir = &config.state.dir;
    let is_there = |path: std::path::PathBuf| path.try_exists().unwrap_or(true);
    is_there(dir.join(ISSUED)) || is_there(key::Issued::in_state(dir).path().to_owned())
}

/// Records that cannot be read do not open the gate from now on.
///
/// # Errors
/// The state folder cannot be written.
pub fn keys_may_be_issued(state: &std::path::Path) -> std::io::Result<()> {
    let marker = state.join(ISSUED);
    match marker.try_exists() {
        Ok(true) => Ok(()),
        _ => std::fs::write(marker, ""),
    }
}

/// Does something that needs the records where there is no runtime yet. Connections do not outlive the
/// runtime that they were made in, so that it needs a [`Store`] of its own.
pub(super) fn at_once<T>(
    work: impl Future<Output = Result<T, KeyError>>,
) -> Result<Result<T, KeyError>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("a start's runtime")?;
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    runtime.shutdown_background();
    Ok(done.unwrap_or_else(|_| Err(KeyError::Late)))
}

/// Beyond loopback nobody is let in without a key; where none exists, one is made and shown once.
pub(super) fn issue_first(app: &App) -> Result<()> {
    let config = app.config.load_full();
    if !lacks_key(app, &config) || app.keys.is_partial() {
        return Ok(());
    }
    let places = places(&app.pools.load());
    let issued = at_once(async {
        let store = Store::of(&config.state)?;
        make_first(&store, &config, &places).await?;
        read(&store, &config).await
    })?;
    let (version, records) = issued.context("no first client key can be made")?;
    app.keys.set_records(&config, records);
    if let Ok(mut seen) = app.issued.seen.try_lock() {
        *seen = Some(version);
    }
    Ok(())
}

/// Is there no key, where one is asked for?
fn lacks_key(app: &App, config: &Config) -> bool {
    let mut listens = config.listen.iter();
    let beyond_loopback = listens.any(|listen| !listen.address.ip().is_loopback());
    app.keys.count() == 0 && config.clients.open == Open::Auto && beyond_loopback
}

async fn make_first(store: &Store, config: &Config, accounts: &[Place]) -> Result<(), KeyError> {
    let register = Register {
        store,
        config,
        accounts,
    };
    let asked = Attributes {
        name: Some(FIRST.to_owned()),
        ..Attributes::default()
    };
    match register.create(&asked, clock::wall()).await {
        Ok((_, key)) => Ok(show(&key)?),
        // Another gateway of these records was faster, and has shown it.
        Err(KeyError::Store(StoreError::NameTaken { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

/// To the terminal, not to the log: the key is shown this once and kept nowhere.
fn show(key: &Secret) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "clients need a key; this one is shown only now: {}",
        key.expose()
    )
}

/// What other processes left in a file is in the records so soon, where those can be reached.
const LEFT_WITHIN: Duration = Duration::from_secs(2);

/// Takes what keys have used before this process into their limits; what cannot be read now, soon.
///
/// # Errors
/// There is no time for anything to happen in.
pub(super) fn remember(app: &App) -> Result<()> {
    let config = app.config.load_full();
    let known = at_once(async {
        // Of keys that are not known yet nobody knows the limits.
        if app.keys.is_partial() {
            return Err(KeyError::Late);
        }
        let store = Store::of(&config.state)?;
        if !app.usage.flushed(LEFT_WITHIN).await {
            return Err(KeyError::Late);
        }
        Ok(app.remember_spent(&store).await?)
    })?;
    if let Err(error) = known {
        tracing::warn!("limits may let through more than they should for now: {error}");
    }
    Ok(())
}

fn places(pools: &[Arc<Pool>]) -> Vec<Place> {
    let of_pool = |pool: &Arc<Pool>| {
        let name = pool.name.to_string();
        let accounts = pool.accounts().into_iter();
        let place = move |account: Arc<crate::pool::Account>| Place {
            account: account.id.to_string(),
            pool: name.clone(),
        };
        accounts.map(place).collect::<Vec<_>>()
    };
    pools.iter().flat_map(of_pool).collect()
}

/// Keeps the index as the records are, until the stop.
pub(super) async fn follow(app: &Arc<App>, mut stop: ShutdownWatch) {
    let for_ever = async { tokio::join!(look(app), remember_later(app), follow_predecessor(app)) };
    tokio::select! {
        _ = for_ever => {}
        _ = stop.changed() => {}
    }
}

async fn look(app: &App) {
    let mut is_away = false;
    loop {
        match app.look_at_keys().await {
            Ok(()) if is_away => {
                tracing::info!("the issued keys can be read again");
                is_away = false;
            }
            Err(error) if !is_away => {
                tracing::error!("the issued keys stay as they are known: {error}");
                is_away = true;
            }
            Ok(()) | Err(_) => {}
        }
        // Of keys that are not known nobody knows the limits: nothing that they used is forgotten yet.
        if !app.keys.is_partial() {
            let longest = app.keys.longest_window();
            app.usage.counts_for(longest.unwrap_or_default());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the start could not read; no change of a key waits for that.
async fn remember_later(app: &App) {
    while !app.issued.is_remembered.load(Ordering::SeqCst) {
        tokio::time::sleep(LOOK_EVERY).await;
        // What is still in a file counts as well.
        if app.keys.is_partial() || !app.usage.flushed(LEFT_WITHIN).await {
            continue;
        }
        match app.remember_spent(&app.store).await {
            Ok(()) => tracing::info!("limits go on where they were before this start"),
            Err(error) => tracing::debug!("limits do not know yet what was used: {error}"),
        }
    }
}

impl App {
    /// Takes what has changed in the records into the index.
    async fn look_at_keys(self: &App) -> Result<(), KeyError> {
        let mut seen = self.issued.seen.lock().await;
        if *seen == Some(self.store.keys_version().await?) {
            return Ok(());
        }
        let config = self.config.load_full();
        let (mut version, mut records) = read(&self.store, &config).await?;
        if seen.is_none() && records.is_empty() && lacks_key(self, &config) {
            let places = places(&self.pools.load());
            make_first(&self.store, &config, &places).await?;
            (version, records) = read(&self.store, &config).await?;
        }
        // A successor follows, and may have kept what is newer.
        if !self.leaving() {
            self.store.keep_keys(&records).await;
        }
        self.put_in_force(records);
        *seen = Some(version);
        Ok(())
    }

    /// All of it at once, or nothing: what was counted once must not be counted again.
    async fn remember_spent(&self, store: &Store) -> Result<(), StoreError> {
        let at = clock::moment();
        // Where Redis counts for all, each gateway knows its own part, should that be lost.
        let before = self.usage.before(self.sharing.is_none());
        let spent = self.spent(store, before, at.wall).await?;
        if !self.issued.is_remembered.swap(true, Ordering::SeqCst) {
            self.count_spent(spent, at);
        }
        Ok(())
    }

    /// The same of what a process beside this one writes, as often as one likes.
    ///
    /// # Errors
    /// The records cannot be read, or were not yet.
    pub(super) async fn remember_spent_by(&self, writer: i64) -> Result<(), KeyError> {
        if !self.issued.is_remembered.load(Ordering::SeqCst) {
            return Err(KeyError::Late);
        }
        let at = clock::moment();
        let beside = self.usage.beside(writer);
        let spent = self.spent(&self.store, beside, at.wall).await?;
        self.count_spent(spent, at);
        Ok(())
    }

    async fn spent(
        &self,
        store: &Store,
        before: Before<'_>,
        now: SystemTime,
    ) -> Result<Vec<SpentRecord>, StoreError> {
        /// The latest come first, so that what is left out, should it be more, matters least.
        const MOST: u32 = 500_000;
        let Some(longest) = self.keys.longest_window() else {
            return Ok(Vec::new());
        };
        let from = now.checked_sub(longest);
        let from = millis(from.unwrap_or(SystemTime::UNIX_EPOCH));
        store.spent(before, from, MOST).await
    }

    fn count_spent(&self, spent: Vec<SpentRecord>, at: Moment) {
        let news = self.handing.heritage.news(spent);
        news.iter().for_each(|spent| self.keys.remember(spent, at));
    }

    fn put_in_force(&self, records: Vec<KeyRecord>) {
        // Not between what a reload reads and what it puts in force.
        let _one_at_a_time = self.changes_accounts.lock();
        self.keys.set_records(&self.config.load(), records);
        // A revoked key's slot is another one's at once.
        self.slots.wake();
    }

    /// Changes keys, and returns when requests see it.
    async fn with_register<T, F>(&self, change: F) -> Result<T, KeyError>
    where
        F: AsyncFnOnce(&Register<'_>) -> Result<T, KeyError>,
    {
        let config = self.config.load_full();
        let accounts = places(&self.pools.load());
        let register = Register {
            store: &self.store,
            config: &config,
            accounts: &accounts,
        };
        let changed = change(&register).await?;
        // It is done, and of a new key nobody else knows: what is not seen at once is seen soon.
        if let Err(error) = self.look_at_keys().await {
            tracing::warn!("a change of keys is in force with a delay: {error}");
        }
        Ok(changed)
    }
}

impl Issuer for App {
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, KeyError>> {
        Box::pin(async { Ok(self.store.keys().await?) })
    }

    fn key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<KeyRecord, KeyError>> {
        Box::pin(async move {
            let found = self.store.key(id).await?;
            found.ok_or_else(|| KeyError::NoSuchKey(id.to_owned()))
        })
    }

    fn create(&self, asked: Attributes) -> BoxFuture<'_, Result<(KeyRecord, Secret), KeyError>> {
        Box::pin(self.with_register(async move |register: &Register<'_>| {
            register.create(&asked, clock::wall()).await
        }))
    }

    fn change<'a>(
        &'a self,
        id: &'a str,
        asked: Attributes,
    ) -> BoxFuture<'a, Result<KeyRecord, KeyError>> {
        Box::pin(self.with_register(async move |register: &Register<'_>| {
            register.change(id, &asked, clock::wall()).await
        }))
    }

    fn rotate<'a>(
        &'a self,
        id: &'a str,
        grace: Duration,
    ) -> BoxFuture<'a, Result<(KeyRecord, Secret), KeyError>> {
        Box::pin(self.with_register(async move |register: &Register<'_>| {
            register.rotate(id, grace, clock::wall()).await
        }))
    }

    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<KeyRecord, KeyError>> {
        Box::pin(self.with_register(async move |register: &Register<'_>| {
            register.revoke(id, clock::wall()).await
        }))
    }
}
