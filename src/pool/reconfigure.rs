//! New settings and accounts for a pool that is running.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account::{Account, host};
use super::live::{Live, reason};
use super::table::Table;
use super::{Outcome, Pool};
use crate::clock;
use crate::config;
use crate::credential::Credential;
use crate::net::PeerTls;

impl Pool {
    /// Puts new settings and accounts in place. Accounts that stay keep their live state; those
    /// that are gone take no new requests and end with their last lease.
    pub fn reconfigure(self: &Arc<Self>, config: &config::Pool) {
        let _writer = self.writer.lock();
        let old = self.table.load_full();
        let mut free: Vec<u32> = (0..old.slots.len() as u32)
            .rev()
            .filter(|slot| old.account(*slot).is_none())
            .collect();
        let mut slots: Vec<Option<Arc<Account>>> = vec![None; old.slots.len()];
        let (known, fresh): (Vec<_>, Vec<_>) = config
            .accounts
            .iter()
            .map(|account| (account, old.find(&account.id)))
            .partition(|(_, known)| known.is_some());
        for (account, known) in known {
            if let Some(known) = known {
                slots[known.slot as usize] = Some(self.account(account, known.slot, Some(known)));
            }
        }
        for (account, _) in fresh {
            let slot = free.pop().unwrap_or(slots.len() as u32);
            if slot as usize == slots.len() {
                slots.push(None);
            }
            slots[slot as usize] = Some(self.account(account, slot, None));
        }
        let stay: HashSet<&str> = config.accounts.iter().map(|a| a.id.as_str()).collect();
        for gone in old.accounts().filter(|a| !stay.contains(&*a.id)) {
            gone.live.block(reason::DRAINING);
            self.marks.clear(gone.slot);
            old.homes.clear(gone.slot);
            self.answers.clear(gone.slot);
        }
        let most = config.affinity.max_entries;
        let homes = match most == old.settings.affinity.max_entries {
            true => old.homes.clone(),
            false => Arc::new(old.homes.of_size(most)),
        };
        let table = Table::new(slots, config.clone(), homes);
        self.table.store(Arc::new(table));
        self.changes.fetch_add(1, Ordering::SeqCst);
        let now = clock::now();
        for account in self.table.load().accounts() {
            // Its limits may be others now.
            self.limits_due(account, self.ticks(now));
            // Whoever changed it while the table was built may have told the old one.
            self.publish(account);
        }
        drop(old);
        self.groups.tidy();
        self.serve_queue(now);
    }

    fn account(
        &self,
        config: &config::Account,
        slot: u32,
        known: Option<&Arc<Account>>,
    ) -> Arc<Account> {
        let live = known.map_or_else(Arc::default, |known| known.live.clone());
        // What an operator or an earlier file said is replaced by what the file says now.
        if known.is_none_or(|known| known.config.enabled != config.enabled) {
            match config.enabled {
                true => live.unblock(reason::DISABLED),
                false => live.block(reason::DISABLED),
            }
        }
        if config.health_check.is_none() {
            // Nobody would ever find it healthy again.
            live.unblock(reason::UNHEALTHY);
        }
        match (&config.instance, known) {
            (None, _) => live.unblock(reason::NO_PROGRAM),
            (Some(_), Some(known)) if known.config.instance.is_some() => {}
            (Some(_), _) => live.block(reason::NO_PROGRAM),
        }
        self.sharing.limit(&live, config.max_concurrent);
        let limits = self.groups.limits(config);
        let credential = credential(config, known, &live);
        let metrics = self
            .registry
            .account(&config.id, &self.name, &Outcome::LABELS);
        Arc::new(Account {
            id: config.id.as_str().into(),
            host: host(&config.upstream),
            tls: tls(config, known),
            config: Box::new(config.clone()),
            credential,
            metrics,
            slot,
            weight: config.weight.max(1),
            limits,
            live,
        })
    }
}

/// Those of an account that keeps its files stay, and with them its connections.
fn tls(config: &config::Account, known: Option<&Arc<Account>>) -> Option<Arc<PeerTls>> {
    let files = &config.tls;
    if let Some(known) = known
        && (&known.config.tls.ca, &known.config.tls.client) == (&files.ca, &files.client)
    {
        return known.tls.clone();
    }
    let client = files.client.as_ref();
    let client = client.map(|files| [&*files.cert, &*files.key]);
    let tls = PeerTls::open(files.ca.as_deref(), client)?;
    if let Some(problem) = tls.problem() {
        let account = &*config.id;
        tracing::error!(
            account,
            "no connection can be made to its upstream: {problem}"
        );
    }
    Some(Arc::new(tls))
}

/// Reads the account's secrets. What cannot be read leaves the secrets in use that were read
/// before, if they are for the same upstream; without any the account needs a login until its file
/// changes.
fn credential(
    config: &config::Account,
    known: Option<&Arc<Account>>,
    live: &Live,
) -> Arc<Credential> {
    if let Some(known) = known
        && known.credential.state().is_some()
        && known.config.credential == config.credential
        && known.config.headers == config.headers
    {
        // Its token goes on being renewed where it is.
        return known.credential.clone();
    }
    let credential = Credential::new(&config.credential, &config.headers);
    let here = known.filter(|known| known.config.upstream == config.upstream);
    match credential.reload() {
        Ok(_) if known.is_some_and(|known| credential.is_same(&known.credential)) => {}
        Ok(_) => {
            live.auth_refusals.store(0, Ordering::Relaxed);
            live.unblock(reason::NEEDS_LOGIN | reason::RENEWAL);
        }
        Err(error) if here.is_some_and(|known| credential.take_over(&known.credential)) => {
            tracing::error!(
                account = config.id,
                "the secret in use stays, as the new one cannot be read: {error}"
            );
        }
        Err(error) => {
            tracing::error!(
                account = config.id,
                "the account's secret cannot be used: {error}"
            );
            let mut rare = live.rare.lock();
            rare.last_error = Some(error.to_string());
            rare.login_probe_at = u64::MAX;
            live.unblock(reason::RENEWAL);
            live.block(reason::NEEDS_LOGIN);
        }
    }
    Arc::new(credential)
}
