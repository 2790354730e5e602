//! One account that alone may serve a request, and those that a key's slot may be of.

use std::sync::Arc;

use super::account::{Refused, Taken};
use super::refusal::why_not;
use super::table::Table;
use super::{Cause, Demand, Pool, Refusal, marks};
use crate::clock::Instant;
use crate::store::Candidate;

/// Accounts that will serve soon, but not now, are taken after all others.
const LATER: u32 = 1 << 31;

impl Pool {
    /// Takes this account if it is ready. Nobody else could take the request, so that an account
    /// which recovers gets all of its own.
    pub(super) fn take_named(
        &self,
        id: &str,
        table: &Table,
        demand: &Demand,
        now: u64,
    ) -> Result<Taken, Refused> {
        let account = table.find(id).ok_or(Refused::Out)?;
        let serves = demand.lane().takes(account)
            && table.serves(account.slot, demand.model.as_deref())
            && !demand.tried.contains(&account.slot)
            && !self.is_marked(account, demand, now);
        if !serves {
            return Err(Refused::Out);
        }
        let taken = account.acquire(self, demand, now);
        if taken.is_err() {
            table.ready.publish(account.slot, || account.is_ready());
        }
        taken
    }

    /// The accounts that could serve this demand, now or by the deadline, and were not tried. Full ones
    /// count: they will have room again.
    pub fn candidates(&self, demand: &Demand, now: Instant, deadline: Instant) -> Vec<Candidate> {
        let table = self.table.load();
        let ticks = self.ticks(now);
        let model = demand.model.as_deref().map(marks::model_id);
        let waits = self.settings().queue.wait_for_recovery;
        let mut candidates = Vec::new();
        table.with_view(demand.lane(), demand.model.as_deref(), |view| {
            for (rank, group) in (0..).zip(&view.groups) {
                let accounts = group.members.iter().filter_map(|slot| table.account(slot));
                for account in accounts {
                    let marked = model.and_then(|it| self.marks.until(account.slot, it, ticks));
                    let (cause, at) = why_not(account, demand, marked);
                    let soon = waits && at.is_some_and(|at| self.at(at) < deadline);
                    let later = match cause {
                        Cause::Full => 0,
                        Cause::RateLimited if soon => LATER,
                        _ => continue,
                    };
                    candidates.push(Candidate {
                        account: account.id.clone(),
                        rank: rank | later,
                    });
                }
            }
        });
        candidates
    }

    /// Why nobody takes this demand.
    pub fn why_none(self: &Arc<Self>, demand: &Demand, now: Instant) -> Refusal {
        self.refusal(demand, now)
    }
}

impl Refusal {
    /// Is the account out for so long that a key which sits there gets another one?
    pub fn outlasts(&self, deadline: Instant) -> bool {
        match self.cause {
            Cause::NoneServes | Cause::NoneUsable | Cause::AllTried => true,
            Cause::RateLimited => self.recovers_at.is_none_or(|at| at >= deadline),
            Cause::Full | Cause::QueueFull | Cause::QueueTimeout => false,
        }
    }
}
