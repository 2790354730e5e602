//! A caller's home: the account that served it last and should serve it again, as long as it can.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use super::account::{Account, Taken};
use super::affinity::Kept;
use super::live::reason;
use super::table::{Group, Table};
use super::{Demand, Pool};
use crate::clock::Instant;

/// So many requests in flight are never too many for an account that others stay at home on.
const NEVER_CROWDED: u32 = 8;

/// Whose own limit lets the next request through within so many milliseconds only has no room.
const SOON_MS: u64 = 5_000;

/// So many answers are known with their accounts.
const ANSWERS: usize = 100_000;

fn answer_id(answer: &str) -> u64 {
    xxh3_64(answer.as_bytes())
}

impl Table {
    /// The slot of the account where this demand's caller is at home.
    pub(super) fn home(&self, demand: &Demand, now: u64) -> Option<u32> {
        let lifetime = self.settings.affinity.lifetime.as_secs();
        if lifetime == 0 {
            return None;
        }
        self.homes.get(demand.session?, lifetime, now)
    }
}

impl Pool {
    /// Takes the account where the caller is at home, if it is of this group and can serve.
    pub(super) fn take_home(
        &self,
        home: u32,
        group: &Group,
        table: &Table,
        demand: &Demand,
        now: u64,
    ) -> Option<Taken> {
        let account = table.account(home)?;
        if !group.members.contains(home)
            || demand.tried.contains(&home)
            || self.is_marked(account, demand, now)
            || self.is_crowded(account, group)
        {
            return None;
        }
        account.acquire(self, demand, now).ok()
    }

    /// An account took the request. Its caller is at home there from now on, unless its home only had
    /// no room: then it goes back.
    pub(super) fn settle_down(
        &self,
        home: Option<u32>,
        account: &Account,
        table: &Table,
        demand: &Demand,
        now: u64,
    ) {
        let Some(session) = demand.session else {
            return;
        };
        let stays = |home: &Arc<Account>| {
            let is_away = match home.live.blocked() {
                0 => !home.live.breaker.admits(),
                reason::LIMITED => home.live.rare.lock().limited_until > now + SOON_MS,
                _ => true,
            };
            !is_away && !self.is_marked(home, demand, now)
        };
        let home = home.and_then(|home| table.account(home));
        if !home.is_some_and(stays) {
            let most = table.settings.affinity.max_entries;
            table.homes.put(session, account.slot, most, now);
        }
    }

    /// The account that gave this answer, which alone can go on from it (`previous_response_id`).
    pub fn account_that_knows(&self, answer: &str, now: Instant) -> Option<Arc<str>> {
        let answer = answer_id(answer);
        let slot = self.answers.get(answer, u64::MAX, self.ticks(now))?;
        self.table
            .load()
            .account(slot)
            .map(|account| account.id.clone())
    }

    /// This account has given this answer.
    pub fn remember_answer(&self, answer: &str, account: &Account, now: Instant) {
        // The slot of an account that is gone may be another's by now.
        let table = self.table.load();
        if table.account(account.slot).is_some_and(|it| it.is(account)) {
            let answer = answer_id(answer);
            self.answers
                .put(answer, account.slot, ANSWERS, self.ticks(now));
        }
    }

    /// A predecessor's callers, and answers that were given to them, are at home here.
    pub(super) fn take_in(&self, account: &Account, callers: &[Kept], answers: &[Kept], now: u64) {
        let table = self.table.load();
        let most = table.settings.affinity.max_entries;
        let used = |away: u32| now.saturating_sub(u64::from(away) * 1000);
        for (caller, away) in callers.iter().take(most) {
            table.homes.put(*caller, account.slot, most, used(*away));
        }
        for (answer, away) in answers.iter().take(ANSWERS) {
            self.answers
                .put(*answer, account.slot, ANSWERS, used(*away));
        }
    }

    /// Has the account said that it does not know the model, or may not serve it now?
    pub(super) fn is_marked(&self, account: &Account, demand: &Demand, now: u64) -> bool {
        let marks = self.marks.of_model(demand.model.as_deref());
        marks.is_some_and(|marks| marks.until(account.slot, now).is_some())
    }

    /// Does it have a quarter more to do than the accounts of this group on average (bounded load,
    /// Mirrokni, Thorup and Zadimoghaddam, 2016)?
    fn is_crowded(&self, account: &Account, group: &Group) -> bool {
        let all = self.in_flight.load(Ordering::Relaxed) as usize;
        let most = all * 5 / (4 * group.members.len().max(1));
        account.live.in_flight() as usize >= most + NEVER_CROWDED as usize
    }
}
