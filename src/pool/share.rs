//! The part of an account's `max_concurrent` that this gateway may use, where many gateways share it.
//!
//! A request takes a place of the share as it takes one of a limit: at once, here. One task asks for
//! more when a share is spent, or nearly so, and gives back what others need ([`Pool::share_asks`],
//! [`Pool::take_share`]); meanwhile requests wait in the queue, or go where a route sends those that
//! find no place, and count as asking all the same. A share ends with its time: a gateway
//! that was stopped for a while has none when it goes on, as others may have taken it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::Pool;
use super::account::Account;
use super::live::Live;
use crate::clock::Instant;
use crate::store::shared::{Ask, Given};

/// In the list of what is due: no account has this slot.
pub(super) const SLOT: u32 = u32::MAX;

/// What has not changed is told again so often: Redis may have been restored from an old copy.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// Beside what is in use a gateway keeps one place of each account, and one for so many that are in use:
/// the next requests find a place while more are asked for.
const USED_PER_ROOM: u32 = 4;

/// Whether a pool shares its accounts with other gateways.
pub(super) struct Sharing {
    /// Woken when a place is wanted; there once the pool shares.
    wanted: OnceLock<Arc<Notify>>,
    /// Requests that found no place since the others were last asked, and did not wait.
    missed: AtomicU32,
    /// When the shares end, in the pool's time.
    until: AtomicU64,
    /// Of this gateway in the row of all, and how many they are.
    row: AtomicU64,
}

impl Default for Sharing {
    fn default() -> Self {
        Sharing {
            wanted: OnceLock::new(),
            missed: AtomicU32::new(0),
            until: AtomicU64::new(u64::MAX),
            row: AtomicU64::new(1),
        }
    }
}

impl Sharing {
    pub(super) fn is_on(&self) -> bool {
        self.wanted.get().is_some()
    }

    /// A request waits.
    pub(super) fn want(&self) {
        if let Some(wanted) = self.wanted.get() {
            wanted.notify_one();
        }
    }

    /// A request found no place. It may not wait for one, and those after it are to find one.
    pub(super) fn miss(&self) {
        if self.is_on() {
            self.missed.fetch_add(1, Ordering::Relaxed);
            self.want();
        }
    }

    /// A request took a place: that of the share's last one, where the account has more, makes it ask.
    pub(super) fn took(&self, account: &Account) {
        if self.is_on() {
            let (live, most) = (&account.live, account.config.max_concurrent);
            if live.limit() < most && live.is_full_with(live.in_flight()) {
                self.want();
            }
        }
    }

    /// What of an amount is this gateway's part.
    pub(super) fn part(&self) -> impl Fn(u64) -> u64 + use<> {
        let row = self.row.load(Ordering::Relaxed);
        let (rank, gateways) = (row >> 32, row & u64::from(u32::MAX));
        move |amount| part(amount, rank, gateways)
    }

    /// Puts the account's `max` (0 = none) in force. One that is shared has its share, and as long as
    /// nobody has been asked none.
    pub(super) fn limit(&self, live: &Live, max: u32) {
        match max {
            0 => live.set_limit(u32::MAX),
            max if !self.is_on() => live.set_limit(max),
            _ if live.limit() == u32::MAX => live.set_limit(0),
            max => live.lower_limit(max),
        }
    }
}

/// What was last told of an account.
#[derive(Clone, Copy)]
pub(super) struct Told {
    need: u32,
    room: u32,
    at: u64,
}

/// The part of `max` places that is this gateway's where nobody can be asked: its `rank` among so many.
/// All parts together are `max`.
fn part(max: u64, rank: u64, gateways: u64) -> u64 {
    if gateways <= 1 {
        return max;
    }
    max / gateways + u64::from(rank < max % gateways)
}

impl Pool {
    /// From now on accounts with a limit have no places but those of their share. `wanted` is woken
    /// when a request waits.
    pub fn share_with_others(&self, wanted: &Arc<Notify>) {
        // A reload may be building accounts.
        let _writer = self.writer.lock();
        if self.sharing.wanted.set(wanted.clone()).is_ok() {
            self.limit_each(|_, _| 0);
        }
    }

    /// What is to be told and asked of accounts now. `lacking`: accounts of which some gateway lacks a
    /// place. `leaving`: no new requests come here.
    pub fn share_asks(&self, lacking: &HashSet<String>, leaving: bool, now: Instant) -> Vec<Ask> {
        let ticks = self.ticks(now);
        let waiting = u32::try_from(self.queue.waiting()).unwrap_or(u32::MAX);
        let missed = self.sharing.missed.swap(0, Ordering::Relaxed);
        let waiting = waiting.saturating_add(missed);
        let table = self.table.load();
        let shared = table.accounts().filter(|a| a.config.max_concurrent != 0);
        shared
            .filter_map(|account| {
                let ask = ask(account, waiting, leaving);
                let is_short = ask.using > account.live.limit() || ask.need > account.live.limit();
                let mut rare = account.live.rare.lock();
                let is_same = rare.told.is_some_and(|told| {
                    (told.need, told.room) == (ask.need, ask.room)
                        && ticks.saturating_sub(told.at) < TELL_AGAIN.as_millis() as u64
                });
                if is_same && !is_short && !lacking.contains(&ask.account) {
                    return None;
                }
                rare.told = Some(Told {
                    need: ask.need,
                    room: ask.room,
                    at: ticks,
                });
                Some(ask)
            })
            .collect()
    }

    /// What was told last may not have been heard.
    pub fn forget_told(&self) {
        for account in self.table.load().accounts() {
            account.live.rare.lock().told = None;
        }
    }

    /// The answer to what was asked. Returns whether it is less than what is needed or held.
    pub fn take_share(&self, ask: &Ask, given: Given) -> bool {
        let table = self.table.load();
        let Some(account) = table.find(&ask.account) else {
            return false;
        };
        // A reload may have lowered the limit meanwhile.
        let most = account.config.max_concurrent;
        account
            .live
            .set_limit(given.share.min(given.target).min(most));
        self.publish(account);
        given.share < ask.need || given.target < given.share
    }

    /// The shares may be used until then, unless they are made to last longer; who waits is served.
    pub fn shares_last(self: &Arc<Self>, until: Instant, now: Instant) {
        let until = self.ticks(until);
        self.sharing.until.store(until, Ordering::SeqCst);
        self.due.add(SLOT, until);
        self.serve_queue(now);
    }

    /// This is the gateway with this rank among so many: of `rate_limits` each keeps to its part.
    pub fn is_one_of(self: &Arc<Self>, rank: u32, gateways: u32, now: Instant) {
        let row = u64::from(rank) << 32 | u64::from(gateways.max(1));
        if self.sharing.row.swap(row, Ordering::Relaxed) == row {
            return;
        }
        let ticks = self.ticks(now);
        for account in self.table.load().accounts() {
            self.limits_due(account, ticks);
        }
        self.serve_queue(now);
    }

    /// Nobody can be asked: the share is this gateway's part by the last known number of gateways. It
    /// becomes larger only once what others held has run out for them, too (`rises`).
    pub fn go_alone(self: &Arc<Self>, rank: u32, gateways: u32, rises: bool, now: Instant) {
        self.sharing.until.store(u64::MAX, Ordering::SeqCst);
        self.limit_each(|max, limit| {
            let part = part(max.into(), rank.into(), gateways.into());
            let part = u32::try_from(part).unwrap_or(max);
            if rises { part } else { part.min(limit) }
        });
        self.serve_queue(now);
    }

    /// The end of the shares may have come.
    pub(super) fn end_shares(&self, ticks: u64) {
        let until = self.sharing.until.load(Ordering::SeqCst);
        if until == u64::MAX {
            return;
        }
        let ends = |until| (until <= ticks).then_some(u64::MAX);
        let ended = self
            .sharing
            .until
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, ends);
        if let Err(until) = ended {
            // They were made to last longer meanwhile, or for as long as nobody can be asked.
            if until != u64::MAX {
                self.due.add(SLOT, until);
            }
            return;
        }
        tracing::warn!(
            pool = &*self.name,
            "this gateway has not said for a while that it lives: it asks anew for its places"
        );
        self.limit_each(|_, _| 0);
        // An account of which nothing has changed would have to wait until it is told again.
        self.forget_told();
        self.sharing.want();
    }

    /// Sets the limit of each account that has one, by its `max_concurrent` and what it was.
    fn limit_each(&self, limit: impl Fn(u32, u32) -> u32) {
        let table = self.table.load();
        let limited = table.accounts().filter(|a| a.config.max_concurrent != 0);
        for account in limited {
            let live = &account.live;
            live.set_limit(limit(account.config.max_concurrent, live.limit()));
            self.publish(account);
        }
    }
}

fn ask(account: &Account, waiting: u32, leaving: bool) -> Ask {
    let live = &account.live;
    let most = account.config.max_concurrent;
    // Read after the limit was set, so that no more than these are in use by the limit of before.
    let using = live.in_flight();
    let serves = live.blocked() == 0 && !leaving;
    let waiting = if serves { waiting } else { 0 };
    Ask {
        account: account.config.id.clone(),
        most,
        using,
        hold: if leaving {
            using
        } else {
            live.limit().max(using)
        },
        need: using.saturating_add(waiting).min(most.max(using)),
        room: match serves {
            true => 1 + using / USED_PER_ROOM,
            false => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_of_all_gateways_together_are_the_whole(max in 1u64..1000, gateways in 1u64..50) {
            let parts: Vec<u64> = (0..gateways).map(|rank| part(max, rank, gateways)).collect();
            prop_assert_eq!(parts.iter().sum::<u64>(), max);
            let (least, most) = (parts.iter().min(), parts.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1, "{parts:?}");
        }
    }
}
