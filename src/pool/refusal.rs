//! Why no account took a request, and when to come again.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::table::Table;
use super::{Demand, Pool, live::reason, marks};
use crate::clock::Instant;
use crate::config;

/// So many accounts are looked at to find out why none is ready; with more of them the first ones
/// stand for the rest, so that a refusal costs the same in every pool.
pub(super) const LOOKED_AT: usize = 256;

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    /// When an account may serve again.
    pub recovers_at: Option<Instant>,
    /// A good time to come again, where the cause does not say it.
    pub retry_after: Duration,
}

/// The strongest reason: what would have to change for this request to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No account of the pool speaks this dialect, serves this model, or takes WebSockets where
    /// one is asked for.
    NoneServes,
    /// Down, disabled, or in need of a login.
    NoneUsable,
    /// At least one waits for a limit, its vendor's or its own.
    RateLimited,
    /// At least one would serve if it had fewer requests.
    Full,
    /// Nobody looked: the queue has no more places.
    QueueFull,
    /// The wait in the queue ended without an account.
    QueueTimeout,
    /// All that could serve were tried by this request.
    AllTried,
}

impl Refusal {
    /// Is there hope before the deadline?
    pub(super) fn is_worth_waiting(&self, queue: &config::Queue, deadline: Instant) -> bool {
        match self.cause {
            Cause::Full => true,
            Cause::RateLimited => {
                queue.wait_for_recovery && self.recovers_at.is_some_and(|at| at < deadline)
            }
            _ => false,
        }
    }

    /// Does it speak against waiting, at least with some deadline?
    pub(super) fn may_be_in_vain(&self) -> bool {
        self.cause != Cause::Full
    }

    pub(super) fn queue_full(self) -> Self {
        Refusal {
            cause: Cause::QueueFull,
            ..self
        }
    }

    /// A wait for a full account timed out; where accounts are limited or down, that is the reason.
    pub(super) fn timed_out(self) -> Self {
        match self.cause {
            Cause::Full => Refusal {
                cause: Cause::QueueTimeout,
                ..self
            },
            _ => self,
        }
    }
}

impl Pool {
    /// Looks at the accounts and says why none of them took the request.
    pub(super) fn refusal(self: &Arc<Self>, demand: &Demand, now: Instant) -> Refusal {
        Refusal {
            retry_after: self.retry_after(now),
            ..self.refusal_of(demand, now)
        }
    }

    /// The same without a good time to come again.
    pub(super) fn refusal_of(&self, demand: &Demand, now: Instant) -> Refusal {
        let table = self.table.load();
        let (mut cause, recovers) = match demand.only.as_deref() {
            Some(id) => {
                let named = table.find(id).into_iter();
                self.strongest(&table, named, demand, now)
            }
            None => self.strongest(&table, table.accounts(), demand, now),
        };
        if cause != Cause::NoneServes && self.is_full() {
            cause = Cause::Full;
        }
        Refusal {
            cause,
            recovers_at: recovers.map(|at| self.at(at)),
            retry_after: Duration::ZERO,
        }
    }

    /// The strongest reason that any of these accounts has, and when the first of them recovers.
    fn strongest<'a>(
        &self,
        table: &Table,
        accounts: impl Iterator<Item = &'a Arc<Account>>,
        demand: &Demand,
        now: Instant,
    ) -> (Cause, Option<u64>) {
        let ticks = self.ticks(now);
        let model = demand.model.as_deref().map(marks::model_id);
        let mut accounts = accounts.peekable();
        // A pool without any account is one whose accounts have yet to come.
        let mut cause = match accounts.peek() {
            Some(_) => Cause::NoneServes,
            None => Cause::NoneUsable,
        };
        let mut recovers: Option<u64> = None;
        let serving = accounts.filter(|account| {
            demand.lane().takes(account) && table.serves(account.slot, demand.model.as_deref())
        });
        for account in serving.take(LOOKED_AT) {
            let marked = model.and_then(|model| self.marks.until(account.slot, model, ticks));
            let (found, at) = why_not(account, demand, marked);
            cause = stronger(cause, found);
            recovers = [recovers, at].into_iter().flatten().min();
        }
        (cause, recovers)
    }

    /// When one who came now would be served, from the measured rate of departures. By the end of the
    /// queue's timeout all those who wait now are gone, one way or the other.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        const SOONEST: Duration = Duration::from_secs(1);
        let longest = self.settings().queue.timeout.max(SOONEST);
        self.queue.expected_wait(now).clamp(SOONEST, longest)
    }
}

pub(super) fn why_not(
    account: &Account,
    demand: &Demand,
    marked: Option<u64>,
) -> (Cause, Option<u64>) {
    let blocked = account.live.blocked() & !demand.despite();
    const OUT: u32 = reason::DISABLED
        | reason::DRAINING
        | reason::UNHEALTHY
        | reason::RENEWAL
        | reason::NO_PROGRAM;
    if blocked & OUT != 0 {
        return (Cause::NoneUsable, None);
    }
    let waits = blocked != 0 || !account.live.breaker.admits();
    if let Some(at) = account.recovers_at().filter(|_| waits) {
        let limited = match blocked & (reason::COOLING | reason::NEEDS_LOGIN) {
            0 => blocked & reason::LIMITED != 0,
            reason::COOLING => account.live.rare.lock().cooling_for_limit,
            _ => false,
        };
        let cause = if limited {
            Cause::RateLimited
        } else {
            Cause::NoneUsable
        };
        // Who needs a login and has no time of its own never comes back by itself.
        return (cause, (at != u64::MAX).then_some(at));
    }
    if let Some(until) = marked {
        return (Cause::RateLimited, Some(until));
    }
    if demand.tried.contains(&account.slot) {
        return (Cause::AllTried, None);
    }
    // Full, a half-open account with its probe under way, or one that became ready just now.
    (Cause::Full, None)
}

/// Hope is stronger than its absence: one full account means that waiting helps.
fn stronger(a: Cause, b: Cause) -> Cause {
    let rank = |cause: Cause| match cause {
        Cause::NoneServes => 0,
        Cause::NoneUsable => 1,
        Cause::AllTried => 2,
        Cause::RateLimited => 3,
        Cause::Full | Cause::QueueFull | Cause::QueueTimeout => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}
