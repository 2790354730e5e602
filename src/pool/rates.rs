//! An account's own `rate_limits`: what a request takes of them, and how an account that has reached one
//! is left alone until it lets the next request through.
//!
//! Nobody looks at windows to choose an account. One that has reached a limit is blocked as one that
//! cools is; only the windows of the account that was chosen are touched, and where they refuse the
//! request goes on to the next one. What a request takes is an estimate until its answer has ended: where only
//! the estimates of others are in its way it goes elsewhere or waits, and smaller ones pass it.

use std::sync::Arc;
use std::time::Duration;

use super::account::{Account, Taken};
use super::lease::Lease;
use super::live::reason;
use super::refusal::LOOKED_AT;
use super::table::{Table, View};
use super::{Demand, Outcome, Pool};
use crate::clock::Instant;
use crate::limit::{Ask, Exceeded, Hold, Limits, Spent};

/// What one attempt holds of its account's limits.
pub(super) struct Charge {
    hold: Hold,
    /// What it comes to, once that is known: until then what is held counts.
    tokens: Option<u64>,
    /// The request is on its way, and counts whatever becomes of it.
    is_sent: bool,
}

/// Why the limits of the chosen account do not let the request through.
pub(super) enum Reached {
    /// One is used up.
    Limit,
    /// What others hold leaves too little for this one; it may be enough for another.
    Room,
}

impl Demand {
    /// Reasons that do not keep this request away: what makes no model work counts for no limit.
    pub(super) fn despite(&self) -> u32 {
        match self.tokens {
            None => reason::LIMITED,
            Some(_) => 0,
        }
    }
}

impl Pool {
    /// An account that has reached its own limit serves what no limit counts, where no other one is ready.
    pub(super) fn take_at_limit(
        &self,
        view: &View,
        table: &Table,
        demand: &Demand,
        now: u64,
    ) -> Option<Taken> {
        if demand.despite() == 0 {
            return None;
        }
        let slots = view.groups.iter().flat_map(|group| group.members.iter());
        let accounts = slots.filter_map(|slot| table.account(slot)).take(LOOKED_AT);
        let mut at_limit = accounts.filter(|account| {
            account.live.blocked() == reason::LIMITED
                && !demand.tried.contains(&account.slot)
                && !self.is_marked(account, demand, now)
        });
        at_limit.find_map(|account| account.acquire(self, demand, now).ok())
    }

    /// Takes what the request may come to of the account's limits.
    ///
    /// # Errors
    /// One is reached, and the account is blocked until it is not; or there is no room for this one.
    pub(super) fn charge(
        &self,
        account: &Account,
        demand: &Demand,
        now: u64,
    ) -> Result<Option<Box<Charge>>, Reached> {
        let (Some(limits), Some(tokens)) = (&account.limits, demand.tokens) else {
            return Ok(None);
        };
        let ask = Ask {
            model: demand.model.as_deref(),
            tokens,
            cost: 0,
        };
        match limits.admit_part(&ask, self.at(now), &self.sharing.part()) {
            Ok(hold) => {
                if hold.is_last() {
                    self.look_at_limits(account, limits, None, now);
                }
                let (tokens, is_sent) = (None, false);
                Ok(Some(Box::new(Charge {
                    hold,
                    tokens,
                    is_sent,
                })))
            }
            Err(exceeded) if exceeded.is_held => Err(Reached::Room),
            Err(exceeded) => {
                self.look_at_limits(account, limits, Some(exceeded), now);
                Err(Reached::Limit)
            }
        }
    }

    /// Sets right whether the account waits for a limit. Called when nothing is left of one, and when something
    /// may be left again. `refused`: a request was.
    fn look_at_limits(
        &self,
        account: &Account,
        limits: &Limits,
        refused: Option<Exceeded>,
        now: u64,
    ) {
        let live = &account.live;
        // Of two that look at the same time the later one sees what both have used.
        let mut rare = live.rare.lock();
        let spent = limits.spent(self.at(now), &self.sharing.part());
        let reached = spent.into_iter().chain(refused).max_by_key(|it| it.wait);
        let was_limited = live.blocked() & reason::LIMITED != 0;
        if reached.is_none() && !was_limited {
            return;
        }
        let until = reached
            .as_ref()
            .map_or(0, |it| now.saturating_add(millis_up(it.wait)));
        let is_limited = reached.is_some();
        rare.limited_until = until;
        rare.limited_by = reached.map(|it| it.limit);
        match is_limited {
            true => live.block(reason::LIMITED),
            false => live.unblock(reason::LIMITED),
        }
        if is_limited != was_limited {
            rare.since = now;
        }
        drop(rare);
        if is_limited {
            self.due.add(account.slot, until);
        }
        self.publish(account);
    }

    /// The time may have come at which a limit lets the next request through.
    pub(super) fn limits_due(&self, account: &Account, now: u64) {
        if let Some(limits) = &account.limits {
            self.look_at_limits(account, limits, None, now);
        } else if account.live.blocked() & reason::LIMITED != 0 {
            // A reload took its limits away.
            account.live.unblock(reason::LIMITED);
            self.publish(account);
        }
    }

    /// `has_worked`: the account has, so that what it used counts.
    fn settle_charge(&self, account: &Arc<Account>, charge: Charge, has_worked: bool, now: u64) {
        let at = self.at(now);
        let tokens = if has_worked { charge.tokens } else { Some(0) };
        let nothing_left = match tokens {
            _ if !charge.is_sent => {
                drop(charge.hold);
                // Others of its group may have waited for what is given back.
                let waits = |it: &Account| it.live.blocked() & reason::LIMITED != 0;
                self.each_of_group(account, |pool, other| {
                    if waits(other) {
                        pool.limits_due(other, pool.ticks(at));
                    }
                });
                // Whoever is about to say that nothing is left may not have seen this.
                true
            }
            Some(tokens) => charge.hold.settle(Spent { tokens, cost: 0 }, at),
            None => charge.hold.settle_as_held(at),
        };
        if nothing_left || account.live.blocked() & reason::LIMITED != 0 {
            // A reload may have given it other limits than those that the request came under.
            let table = self.table.load();
            if let Some(current) = table.account(account.slot).filter(|it| it.is(account)) {
                self.limits_due(current, now);
            }
        }
    }
}

impl Lease {
    /// The request is about to go out: it counts, whatever becomes of it.
    pub fn sent(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.is_sent = true;
        }
    }

    /// It went into a connection that was closed already, and nobody has seen it.
    pub fn unsent(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.is_sent = false;
        }
    }

    /// So many tokens the attempt came to.
    pub fn came_to(&mut self, tokens: u64) {
        if let Some(charge) = &mut self.charge {
            charge.tokens = Some(tokens);
        }
    }

    /// What was held for the attempt becomes what it has used. No work was done where the answer is an
    /// error.
    pub(super) fn settle(&mut self, outcome: Option<&Outcome>, now: Instant) {
        let Some(charge) = self.charge.take() else {
            return;
        };
        let has_worked = outcome.is_none_or(|outcome| {
            matches!(
                outcome,
                Outcome::Success | Outcome::BrokenStream | Outcome::ClientGone
            )
        });
        let pool: &Arc<Pool> = &self.pool;
        pool.settle_charge(&self.account, *charge, has_worked, pool.ticks(now));
    }
}

/// An account never comes back before its time.
pub(super) fn millis_up(wait: Duration) -> u64 {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX / 2).max(1)
}
