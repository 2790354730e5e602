//! Accounts by the API: those that are not in the file, and what was changed of those that are. They
//! are kept in the records, sealed under `state.key`, and put among the file's whenever accounts are
//! made.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use pingora_core::server::ShutdownWatch;
use serde_json::Value;
use tokio::sync::Mutex;

use super::App;
use super::keys::Issued;
use super::news::Order;
use super::renewals::seal_key;
use super::said::{Entry, Said, check_secrets};
use crate::admin::{AccountError, Keys, NotKept, Roster};
use crate::config::{self, Config, is_account_id, outside_account, overlaid};
use crate::credential::seal::Key;
use crate::key::Place;
use crate::store::{AccountRecord, Store};

/// How often the records are asked whether an account has changed.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// All that was said.
#[derive(Default)]
pub(super) struct Book {
    entries: ArcSwap<Vec<Entry>>,
    /// The number of the last change that is known; none before they were read.
    seen: Mutex<Option<i64>>,
}

/// How an account of the API stands to the file.
pub(super) enum Origin {
    File,
    Changed(Vec<String>),
    Added,
}

impl Book {
    /// Puts what was said into the pools of the file. What does not fit there any more is left out, and
    /// told.
    pub(super) fn write_into(&self, pools: &mut [config::Pool]) {
        let mut known: HashSet<String> = ids(pools);
        for entry in self.entries.load().iter() {
            if let Err(why) = entry.write_into(pools, &mut known) {
                tracing::error!(
                    account = entry.id,
                    "what the API said of it is left out: {why}"
                );
            }
        }
    }

    /// Where the account comes from, and what is changed of it.
    pub(super) fn origin(&self, id: &str) -> Origin {
        let entries = self.entries.load();
        let said = entries.iter().find(|entry| entry.id == id).map(Entry::said);
        match said {
            None => Origin::File,
            Some(said) if said.pool.is_some() => Origin::Added,
            Some(said) => Origin::Changed(said.keys.keys().cloned().collect()),
        }
    }

    fn replace(&self, key: &Key, records: &[AccountRecord]) {
        let open = |record: &AccountRecord| {
            let opened = Entry::open(key, record);
            let told = |error: &AccountError| tracing::error!(account = record.id, "{error}");
            opened.inspect_err(told).ok()
        };
        let opened: Vec<Entry> = records.iter().filter_map(open).collect();
        let lost = records.len() - opened.len();
        if lost > 0 {
            tracing::error!(
                "{lost} of {} accounts that the API added or changed are as if it never had: \
                 was state.key exchanged? Add, change or remove them anew",
                records.len()
            );
        }
        self.entries.store(Arc::new(opened));
    }

    /// What is known before the first request comes; what cannot be read now is read as soon as it
    /// can be, and is not waited for where the keys could not be read.
    pub(super) fn at_start(config: &Config, keys: &Issued) -> anyhow::Result<Self> {
        let book = Book::default();
        if keys.is_read() {
            book.read_first(config).context("the accounts of the API")?;
        }
        Ok(book)
    }

    fn read_first(&self, config: &Config) -> anyhow::Result<()> {
        let read = super::keys::at_once(async {
            let store = Store::of(&config.state)?;
            let version = store.accounts_version().await?;
            Ok((version, store.accounts().await?))
        })?;
        let (version, records) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!("the accounts of the API cannot be read yet: {error}");
                return Ok(());
            }
        };
        if !records.is_empty() {
            self.replace(&seal_key(&config.state)?, &records);
        }
        if let Ok(mut seen) = self.seen.try_lock() {
            *seen = Some(version);
        }
        Ok(())
    }
}

/// Where the accounts are that the API added, for commands that work with nothing running too; one that
/// cannot be opened here may be in every pool.
///
/// # Errors
/// The records cannot be read.
pub async fn added_accounts(config: &Config, store: &Store) -> anyhow::Result<Vec<Place>> {
    let is_there = config.state.key.file().is_none_or(|path| path.exists());
    let key = is_there.then(|| seal_key(&config.state).ok()).flatten();
    let place = |record: &AccountRecord, pool: &str| Place {
        account: record.id.clone(),
        pool: pool.to_owned(),
    };
    let places = |record: &AccountRecord| -> Vec<Place> {
        let entry = key.as_ref().and_then(|key| Entry::open(key, record).ok());
        match entry.map(|entry| entry.said().pool) {
            Some(pool) => pool.iter().map(|pool| place(record, pool)).collect(),
            None => {
                let pools = config.pools.iter();
                pools.map(|pool| place(record, &pool.name)).collect()
            }
        }
    };
    Ok(store.accounts().await?.iter().flat_map(places).collect())
}

fn ids(pools: &[config::Pool]) -> HashSet<String> {
    let accounts = pools.iter().flat_map(|pool| &pool.accounts);
    accounts.map(|account| account.id.clone()).collect()
}

/// Keeps the accounts as the records say, until the stop.
pub(super) async fn follow(app: &App, mut stop: ShutdownWatch) {
    let mut is_away = false;
    loop {
        let looked = app.look_at_accounts().await;
        if let (Err(error), false) = (&looked, is_away) {
            tracing::error!("the accounts of the API stay as they are known: {error}");
        }
        is_away = looked.is_err();
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

impl App {
    /// Takes what has changed in the records into account.
    async fn look_at_accounts(&self) -> Result<(), AccountError> {
        let mut seen = self.book.seen.lock().await;
        let version = self.store.accounts_version().await?;
        if *seen == Some(version) {
            return Ok(());
        }
        let records = self.store.accounts().await?;
        if !records.is_empty() || !self.book.entries.load().is_empty() {
            let sealed = |error: anyhow::Error| AccountError::Sealed(format!("{error:#}"));
            let key = seal_key(&self.first.state).map_err(sealed)?;
            self.book.replace(&key, &records);
            self.refresh_accounts();
        }
        *seen = Some(version);
        Ok(())
    }

    /// The pools without what the API said.
    fn pools_of_file(&self) -> Vec<config::Pool> {
        self.discovery.pools(&self.config.load())
    }

    /// Changes one account's entry, and returns when requests see it.
    async fn change_entry(
        &self,
        id: &str,
        change: impl FnOnce(Option<Said>) -> Result<Option<Said>, AccountError> + Send,
    ) -> Result<(), AccountError> {
        let told = |error: anyhow::Error| AccountError::Sealed(format!("{error:#}"));
        let key = seal_key(&self.first.state).map_err(told)?;
        let changed = self.store.change_account(id, |known| {
            let record = known.map(|sealed| AccountRecord {
                id: id.to_owned(),
                sealed,
            });
            // What was sealed under another key counts for nothing, and must not stand in the way.
            let known = record.map(|record| {
                let opened = Entry::open(&key, &record);
                opened.map_or_else(|_| Said::default(), |entry| entry.said())
            });
            let said = change(known)?;
            let sealed = said.map(|said| said.sealed(&key, id)).transpose()?;
            Ok::<_, AccountError>((sealed, ()))
        });
        changed.await??;
        // It is done: what is not seen at once is seen soon.
        if let Err(error) = self.look_at_accounts().await {
            tracing::warn!("a change of accounts is in force with a delay: {error}");
        }
        Ok(())
    }

    async fn add_account(&self, pool: String, id: String, keys: Keys) -> Result<(), AccountError> {
        let wrong = |(key, message): config::Wrong| AccountError::Wrong(key, message);
        if !is_account_id(&id) {
            let message = "must be 1 to 64 of letters, digits and . _ @ + -";
            return Err(AccountError::Wrong("id".to_owned(), message.to_owned()));
        }
        let pools = self.pools_of_file();
        if ids(&pools).contains(&id) {
            return Err(AccountError::Taken(id));
        }
        let Some(settings) = pools.iter().find(|it| it.name == pool) else {
            let message = format!("there is no pool {pool:?}");
            return Err(AccountError::Wrong("pool".to_owned(), message));
        };
        outside_account(&id, &keys, settings).map_err(wrong)?;
        let said = Said {
            pool: Some(pool),
            keys: keys
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .collect(),
        };
        let taken = id.clone();
        self.change_entry(&id, |known| match known {
            // An override is left of an account that the file had once.
            Some(known) if known.pool.is_some() => Err(AccountError::Taken(taken)),
            _ => Ok(Some(said)),
        })
        .await
    }

    async fn alter_account(&self, id: &str, keys: Keys) -> Result<(), AccountError> {
        let wrong = |(key, message): config::Wrong| AccountError::Wrong(key, message);
        let enabled = keys.get("enabled").and_then(Value::as_bool);
        let pools = self.pools_of_file();
        let of_file = pools.iter().find_map(|pool| {
            let account = pool.accounts.iter().find(|account| account.id == id);
            account.map(|account| (pool, account))
        });
        let unknown = || AccountError::NoSuchAccount(id.to_owned());
        self.change_entry(id, |known| match of_file {
            Some((pool, base)) => {
                let mut said = known.filter(|said| said.pool.is_none()).unwrap_or_default();
                if keys.contains_key("upstream")
                    && !base.headers.is_empty()
                    && !keys.contains_key("headers")
                {
                    let message = "are needed anew for another upstream";
                    return Err(AccountError::Wrong(
                        "headers".to_owned(),
                        message.to_owned(),
                    ));
                }
                said.change(keys)?;
                overlaid(base, &said.keys, pool).map_err(wrong)?;
                check_secrets(&said.keys, !base.headers.is_empty())?;
                Ok(Some(said).filter(|said| !said.keys.is_empty()))
            }
            None => {
                let mut said = known
                    .filter(|said| said.pool.is_some())
                    .ok_or_else(unknown)?;
                said.change(keys)?;
                let pool = pools
                    .iter()
                    .find(|pool| Some(&pool.name) == said.pool.as_ref());
                outside_account(id, &said.keys, pool.ok_or_else(unknown)?).map_err(wrong)?;
                Ok(Some(said))
            }
        })
        .await?;
        // An order of before goes no further than this one.
        if let Some(enabled) = enabled {
            self.order(switched(id, enabled));
        }
        Ok(())
    }

    /// Takes the account out, or puts it back, at once; then it is written down, so that a restart and a
    /// gateway that comes later know of it.
    pub(super) async fn switch_account(
        &self,
        id: &str,
        enabled: bool,
    ) -> Result<Option<NotKept>, AccountError> {
        if !self.order(switched(id, enabled)) {
            return Err(AccountError::NoSuchAccount(id.to_owned()));
        }
        self.keep_switched(id, enabled).await
    }

    /// Writes down that the account is taken out, or put back.
    pub(super) async fn keep_switched(
        &self,
        id: &str,
        enabled: bool,
    ) -> Result<Option<NotKept>, AccountError> {
        let pools = self.pools_of_file();
        let mut of_file = pools.iter().flat_map(|pool| &pool.accounts);
        let of_file = of_file.find(|account| account.id == id);
        let kept = self.change_entry(id, |known| {
            // An account of the file that is as the file says needs no override.
            let (mut said, value) = match of_file {
                Some(base) => (
                    known.filter(|said| said.pool.is_none()).unwrap_or_default(),
                    (base.enabled != enabled).then_some(enabled),
                ),
                None => (
                    known
                        .filter(|said| said.pool.is_some())
                        .ok_or_else(|| AccountError::NoSuchAccount(id.to_owned()))?,
                    Some(enabled),
                ),
            };
            match value {
                Some(value) => drop(said.keys.insert("enabled".to_owned(), value.into())),
                None => drop(said.keys.remove("enabled")),
            }
            Ok(Some(said).filter(|said| said.pool.is_some() || !said.keys.is_empty()))
        });
        match kept.await {
            Ok(()) => Ok(None),
            Err(error @ AccountError::NoSuchAccount(_)) => Err(error),
            Err(error) => {
                tracing::warn!(
                    account = id,
                    enabled,
                    "in force, and not written down: {error}"
                );
                Ok(Some(NotKept(error.to_string())))
            }
        }
    }
}

fn switched(id: &str, enabled: bool) -> Order {
    let account = id.to_owned();
    match enabled {
        true => Order::Enable { account },
        false => Order::Disable { account },
    }
}

impl Roster for App {
    fn add(&self, pool: String, id: String, keys: Keys) -> BoxFuture<'_, Result<(), AccountError>> {
        Box::pin(self.add_account(pool, id, keys))
    }

    fn change<'a>(&'a self, id: &'a str, keys: Keys) -> BoxFuture<'a, Result<(), AccountError>> {
        Box::pin(self.alter_account(id, keys))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), AccountError>> {
        let in_file = ids(&self.pools_of_file()).contains(id);
        Box::pin(self.change_entry(id, move |known| match known {
            // Also a change of an account that is gone, and what cannot be opened any more.
            Some(said) if said.pool.is_some() || !in_file => Ok(None),
            _ if in_file => Err(AccountError::InFile(id.to_owned())),
            _ => Err(AccountError::NoSuchAccount(id.to_owned())),
        }))
    }

    fn restore<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), AccountError>> {
        Box::pin(self.change_entry(id, move |known| match known {
            Some(said) if said.pool.is_none() => Ok(None),
            _ => Err(AccountError::NotChanged(id.to_owned())),
        }))
    }
}
