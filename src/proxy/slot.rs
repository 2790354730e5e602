//! The account of a request whose key has a slot: the one that the key holds; another one, taken
//! within the request, where that one cannot serve.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::context::{Context, Request, Retry};
use crate::clock::{self, Instant, SystemTime};
use crate::dialect::Reject;
use crate::key::{Client, NoSlot};
use crate::pool::{Cause, Lease, Refusal};

/// Accounts that go while a request asks for them: so many, then it gives up.
const MOVES: usize = 4;

/// Come again so soon where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request has no account.
pub(super) enum Unserved {
    /// The pool says so.
    Refused(Refusal),
    /// The client is told so.
    Told(Reject),
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Unserved::Refused(refusal)
    }
}

/// A request that looks for an account.
pub(super) struct Seeker<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) client: &'a Client,
    pub(super) request: &'a mut Request,
    pub(super) retry: &'a mut Retry,
    pub(super) deadline: Instant,
}

impl Seeker<'_> {
    /// The account that the strategy chooses; of a key with a slot the one that it holds.
    pub(super) async fn lease(mut self, now: Instant) -> Result<Lease, Unserved> {
        if !self.client.takes_slot() {
            return self.anywhere(now).await;
        }
        if let Some(account) = self.request.goes_on_at.clone() {
            return Box::pin(self.at_answer(account, now)).await;
        }
        let slots = &self.gateway.slots;
        let enters = || slots.enter(self.client, now);
        self.request.seated.get_or_insert_with(enters);
        self.request.demand.only = slots.held(self.client, now);
        let mut why = None;
        if self.request.demand.only.is_some() {
            match self.at_slot(now).await {
                Ok(lease) => {
                    slots.used(self.client, at(now));
                    return Ok(lease);
                }
                Err(refusal) if !self.may_leave(&refusal, now) => return Err(refusal.into()),
                Err(refusal) => why = Some(refusal),
            }
        }
        // In a box: this happens seldom, and each request would have room for it.
        Box::pin(self.elsewhere(why)).await
    }

    /// Where there is a fallback, it is asked as soon as nobody of the pool is free; and where nobody
    /// there is free either, when the pool gives the request up.
    async fn anywhere(self, now: Instant) -> Result<Lease, Unserved> {
        if self.request.fallback.is_some() {
            let Request { pool, demand, .. } = &*self.request;
            if let Some(lease) = pool.try_lease(demand, now) {
                return Ok(lease);
            }
            if let Some(lease) = self.request.lease_of_fallback(self.retry, now) {
                return Ok(lease);
            }
        }
        let Request { pool, demand, .. } = &*self.request;
        let leased = pool.lease(demand, now, self.deadline).await;
        if leased.is_err() && self.request.fall_back(self.retry, now) {
            let Request { pool, demand, .. } = &*self.request;
            return Ok(pool.lease(demand, clock::now(), self.deadline).await?);
        }
        Ok(leased?)
    }

    async fn at_slot(&mut self, now: Instant) -> Result<Lease, Refusal> {
        let Request { pool, demand, .. } = &*self.request;
        pool.lease(demand, now, self.deadline).await
    }

    /// The account whose answer the request goes on from: no other one knows it, wherever the key sits by
    /// now. A key that has no slot must get one all the same; which keys use the tier is what slots decide.
    async fn at_answer(mut self, account: Arc<str>, now: Instant) -> Result<Lease, Unserved> {
        let slots = &self.gateway.slots;
        let enters = || slots.enter(self.client, now);
        self.request.seated.get_or_insert_with(enters);
        if slots.held(self.client, now).is_none() {
            self.sit(&mut None, now).await?;
        }
        self.request.demand.only = Some(account);
        Ok(self.at_slot(clock::now()).await?)
    }

    /// Asks the book for the key's account.
    async fn sit(&mut self, why: &mut Option<Refusal>, now: Instant) -> Result<(), Unserved> {
        let Gateway { config, slots, .. } = self.gateway;
        let config = config.load_full();
        let Some(tier) = config.tiers.get(&*self.client.tier) else {
            return Err(Unserved::Told(Reject::no_account_available(RETRY_AFTER)));
        };
        let Request { pool, demand, .. } = &mut *self.request;
        demand.only = None;
        let candidates = pool.candidates(demand, now, self.deadline);
        if candidates.is_empty() {
            return Err(pool.why_none(demand, now).into());
        }
        let patience = self.deadline.saturating_duration_since(now);
        let placed = slots.place(self.client, tier, &candidates, at(now), patience);
        let placed = placed.await;
        let sits = placed.map_err(|no_slot| self.unplaced(no_slot, why.take()))?;
        self.request.demand.only = Some(sits.account.clone());
        if sits.is_new {
            self.request.new_slot = Some(sits.account);
        }
        Ok(())
    }

    /// Asks the book for an account, until one serves.
    async fn elsewhere(mut self, mut why: Option<Refusal>) -> Result<Lease, Unserved> {
        for _ in 0..MOVES {
            let now = clock::now();
            self.sit(&mut why, now).await?;
            match self.at_slot(now).await {
                Ok(lease) => return Ok(lease),
                Err(refusal) if !self.may_leave(&refusal, now) => return Err(refusal.into()),
                Err(refusal) => why = Some(refusal),
            }
        }
        let why = why.unwrap_or_else(|| {
            let Request { pool, demand, .. } = &*self.request;
            pool.why_none(demand, clock::now())
        });
        Err(why.into())
    }

    /// May the key leave its account, which did not take the request? Of an account that is out for
    /// long it may. Where just this request failed there it may too, if the account is to blame, but not
    /// again and again.
    fn may_leave(&mut self, refusal: &Refusal, now: Instant) -> bool {
        if refusal.cause != Cause::AllTried {
            return refusal.outlasts(self.deadline);
        }
        let Retry {
            blames_account,
            fled,
            ..
        } = self.retry;
        *fled = *blames_account && (*fled || self.gateway.slots.may_flee(self.client, now));
        *fled
    }

    /// What a request is told whose key gets no account. `why`: what the key's own one said, if it
    /// has one.
    fn unplaced(&self, no_slot: NoSlot, why: Option<Refusal>) -> Unserved {
        match (no_slot, why) {
            // The key keeps its slot.
            (_, Some(why)) if why.cause == Cause::AllTried || why.recovers_at.is_some() => {
                why.into()
            }
            (NoSlot::Full { next_release }, _) => {
                let Gateway { slots, keys, .. } = self.gateway;
                let expiry = slots.first_expiry(keys, &self.client.tier);
                let next = [next_release, expiry].into_iter().flatten().min();
                Unserved::Told(Reject::no_slot(wait(next, clock::wall())))
            }
            (NoSlot::Unknown, _) => Unserved::Told(Reject::no_account_available(RETRY_AFTER)),
        }
    }
}

/// Says in the log which account the request's key has got, once its token is ready.
pub(super) fn tell(gateway: &Gateway, ctx: &mut Context) {
    let Some(request) = &mut ctx.request else {
        return;
    };
    if let (Some(account), Some(client)) = (request.new_slot.take(), &ctx.client) {
        gateway.slots.first_used(client, &account);
    }
}

/// The tier's slots are all taken until then.
fn wait(next_release: Option<SystemTime>, now: SystemTime) -> Duration {
    let wait = next_release.map(|at| at.duration_since(now).unwrap_or_default());
    wait.unwrap_or(RETRY_AFTER).max(Duration::from_secs(1))
}

fn at(now: Instant) -> clock::Moment {
    let wall = clock::wall();
    clock::Moment { now, wall }
}
