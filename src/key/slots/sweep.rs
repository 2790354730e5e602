//! What is done with slots beside requests: the book is read when it has changed, it is told which
//! keys are used, and keys that are gone, expired or idle give their slots back.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::seat::Held;
use super::{Slots, due, span};
use crate::clock::{Moment, SystemTime};
use crate::config::{Config, Tier};
use crate::key::{Client, Keys};
use crate::store::{Assignment, LedgerError, millis};

/// So many slots are freed in one sweep; the next one goes on.
const MOST: usize = 100;

/// The longest that a use stays untold, and the shortest.
const TELL_EVERY: [Duration; 2] = [Duration::from_secs(30), Duration::from_millis(500)];

/// Of a tier that the configuration no longer has.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whose keys the sweep may take for gone when it does not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No slot is freed at all: a successor looks after them.
    None,
    /// Nobody's: the keys were not all read yet.
    Nobody,
    /// Those that are kept in the records: another gateway's file may name others. A key that the
    /// records call revoked is gone, whoever asks.
    Records,
    /// Everybody's: no other gateway uses this book.
    All,
}

/// Another gateway may know a key, or a change of it, a moment before this one does: only a slot that was
/// not used for a while is surely free.
fn settled(scope: Scope, at: Moment) -> Option<i64> {
    const A_WHILE: Duration = Duration::from_secs(10);
    (scope != Scope::All).then(|| millis(at.wall).saturating_sub(span(A_WHILE)))
}

impl Slots {
    /// Brings memory and book together, and frees what nobody holds any more. Called again and
    /// again.
    ///
    /// # Errors
    /// The book cannot be read or written; what is in memory stays.
    pub async fn sweep(
        &self,
        keys: &Keys,
        config: &Config,
        scope: Scope,
        at: Moment,
    ) -> Result<(), LedgerError> {
        self.refresh(keys, config, at).await?;
        self.tell_uses(keys, config, at).await?;
        if scope == Scope::None {
            return Ok(());
        }
        let book = self.book.load_full();
        let over = book.iter().filter_map(|assignment| {
            let client = keys.client(&assignment.key);
            let why = self.why_over(assignment, (keys, client.as_deref()), config, scope, at)?;
            Some((assignment, client, why))
        });
        let mut freed = false;
        for (assignment, client, (why, unused_since)) in over.take(MOST) {
            let (key, account) = (&*assignment.key, &*assignment.account);
            if self.ledger.release(key, account, unused_since).await? {
                let name = client.as_ref().map_or(key, |client| &*client.name);
                tracing::info!(key = name, account, why, "the key's slot is free");
                freed = true;
            } else {
                // It was used elsewhere meanwhile.
                self.version.store(u64::MAX, Ordering::SeqCst);
            }
            if let Some(client) = client {
                client.seat.show(self.look(), |_| None);
            }
        }
        if freed {
            self.refresh(keys, config, at).await?;
        }
        Ok(())
    }

    /// The next sweep is to be now.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Returns when a sweep is wanted.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Reads the book if it has changed.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn refresh(
        &self,
        keys: &Keys,
        config: &Config,
        at: Moment,
    ) -> Result<(), LedgerError> {
        let look = self.look();
        let version = self.ledger.version().await?;
        if self.version.load(Ordering::SeqCst) == version {
            return Ok(());
        }
        let book = self.ledger.all().await?;
        let by_key: HashMap<&str, &Assignment> =
            book.iter().map(|held| (&*held.key, held)).collect();
        let mut all_shown = true;
        for client in keys.clients() {
            let found = by_key.get(&*client.id);
            let found = found.filter(|found| client.takes_slot_in(&found.tier));
            let tier = config.tiers.get(&*client.tier);
            let held = found.zip(tier);
            if held.is_none() && client.seat.last_held().is_none() {
                continue;
            }
            all_shown &= client.seat.show(look, |before| {
                held.map(|(found, tier)| shown(found, tier, before, at))
            });
        }
        self.book.store(book.into());
        // What has changed may be a slot that is free now.
        self.freed.store(self.ticks(at.now), Ordering::SeqCst);
        // Where a later look is shown, this one is not the last.
        let version = if all_shown { version } else { u64::MAX };
        self.version.store(version, Ordering::SeqCst);
        Ok(())
    }

    /// The book as it was read last.
    pub fn book(&self) -> std::sync::Arc<Vec<Assignment>> {
        self.book.load_full()
    }

    /// When the slot's key was used last, in milliseconds since 1970: as the book says, or since then
    /// here.
    pub fn last_used(&self, held: &Assignment, client: Option<&Client>, at: Moment) -> i64 {
        let ticks = self.ticks(at.now);
        let here = client.and_then(|client| client.seat.last_used(ticks));
        let here = here.map(|last| since_1970(last, ticks, at));
        here.map_or(held.last_used, |here| here.max(held.last_used))
    }

    /// Tells the book when this process' keys were used last.
    ///
    /// # Errors
    /// It cannot be written; the next time tells it.
    pub async fn tell_uses(
        &self,
        keys: &Keys,
        config: &Config,
        at: Moment,
    ) -> Result<(), LedgerError> {
        let [longest, shortest] = TELL_EVERY;
        let idle = config.tiers.values().map(|tier| tier.idle_release / 10);
        let every = idle.min().unwrap_or(longest).clamp(shortest, longest);
        let ticks = self.ticks(at.now);
        let told = self.told_uses.load(Ordering::SeqCst);
        if ticks < told + every.as_millis() as u64 {
            return Ok(());
        }
        self.tell_uses_now(keys, at).await
    }

    /// The same at once, for it is the last time.
    ///
    /// # Errors
    /// The book cannot be written.
    pub async fn tell_uses_now(&self, keys: &Keys, at: Moment) -> Result<(), LedgerError> {
        let ticks = self.ticks(at.now);
        self.told_uses.store(ticks, Ordering::SeqCst);
        let mut uses = Vec::new();
        let book = self.book.load();
        let clients = book.iter().filter_map(|held| keys.client(&held.key));
        let used: Vec<_> = clients
            .filter_map(|client| {
                let last = client.seat.last_used(ticks)?;
                (last > client.seat.told_use.load(Ordering::SeqCst)).then_some((client, last))
            })
            .collect();
        for (client, last) in &used {
            uses.push((client.id.clone(), since_1970(*last, ticks, at)));
        }
        if !uses.is_empty() {
            self.ledger.touch(&uses).await?;
        }
        for (client, last) in used {
            client.seat.told_use.store(last, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Why the key's slot is free, and, where it was not used, since when; none while it is not.
    fn why_over(
        &self,
        held: &Assignment,
        (keys, client): (&Keys, Option<&Client>),
        config: &Config,
        scope: Scope,
        at: Moment,
    ) -> Option<(&'static str, Option<i64>)> {
        let is_record = !held.key.contains(':') && &*held.key != "-";
        match client {
            None if keys.is_revoked(&held.key) => return Some(("revoked", None)),
            None if scope == Scope::All || (scope == Scope::Records && is_record) => {
                return Some(("gone", settled(scope, at)));
            }
            Some(client) if !client.takes_slot_in(&held.tier) => {
                return Some(("changed", settled(scope, at)));
            }
            Some(client) if client.expires_at.is_some_and(|end| end <= at.wall) => {
                return Some(("expired", None));
            }
            _ => {}
        }
        let tier = config.tiers.get(&*held.tier);
        let idle = tier.map_or(IDLE, |tier| tier.idle_release);
        let ticks = self.ticks(at.now);
        let here = client.and_then(|client| client.seat.last_used(ticks));
        if here.is_some_and(|last| ticks.saturating_sub(last) < idle.as_millis() as u64) {
            return None;
        }
        let (idle, now) = (span(idle), millis(at.wall));
        // A use in the future is one before the clock was set back.
        let unused_since = match held.last_used {
            last if last <= now.saturating_sub(idle) => Some(now.saturating_sub(idle)),
            last if last > now.saturating_add(idle) => None,
            _ => return None,
        };
        Some(("idle", unused_since))
    }

    /// When the first key that holds a slot of this tier expires.
    pub fn first_expiry(&self, keys: &Keys, tier: &str) -> Option<SystemTime> {
        let book = self.book.load();
        let holders = book.iter().filter(|held| *held.tier == *tier);
        holders
            .filter_map(|held| keys.client(&held.key)?.expires_at)
            .min()
    }
}

/// The moment of `last`, where `ticks` is now.
fn since_1970(last: u64, ticks: u64, at: Moment) -> i64 {
    let ago = i64::try_from(ticks.saturating_sub(last)).unwrap_or(i64::MAX);
    millis(at.wall).saturating_sub(ago)
}

/// What the book shows of a key. One that it showed before is due when it was.
fn shown(found: &Assignment, tier: &Tier, before: Option<&Held>, at: Moment) -> Held {
    let same = before.filter(|before| {
        let known = &before.assignment;
        (&known.account, known.last_rotation) == (&found.account, found.last_rotation)
    });
    let fresh = due(found, tier.rotate_every, at);
    Held {
        assignment: found.clone(),
        due: same.map_or(fresh, |same| same.due.min(at.now + tier.rotate_every)),
    }
}
