//! The accounts of a pool, their live state, and which of them serves a request.
//!
//! [`Pool::lease`] is the whole story: candidates, strategy, breaker, place; else the queue until
//! the deadline. [`Lease::report`] is the way back.

mod account;
mod affinity;
mod bequest;
mod breaker;
mod budget;
mod due;
mod explain;
mod groups;
mod home;
mod lease;
mod live;
mod marks;
mod named;
mod news;
mod offers;
mod outcome;
mod program;
mod queue;
mod rates;
mod ready;
mod reconfigure;
mod recover;
mod refusal;
mod select;
mod share;
mod snapshot;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::mpsc;

pub use crate::clock::Moment;
pub use account::Account;
use account::{Refused, Taken};
pub use bequest::{Bequest, Places};
pub use budget::Retrying;
pub use explain::Explanation;
pub use groups::Groups;
pub use lease::{Lease, Report};
pub use news::News;
pub use offers::Offer;
pub use outcome::{Answer, Outcome};
pub use refusal::{Cause, Refusal};
pub use summary::{Health, PoolView, QueueView, instance_state, instances};
pub use view::*;

use crate::clock::{self, Instant};
use crate::config;
use crate::dialect::Dialect;
use crate::telemetry::{Metrics, PoolMetrics};
use select::Choice;
use table::{Group, Lane, Table};

/// Accounts whose limits others hold that one request asks, one after the other: what it costs must not grow with
/// their number. The next look begins with others.
const TOO_LARGE_FOR: usize = 32;

/// Of each two refusals one may come of a change that another request made; of few accounts some more.
const SURPRISES: usize = 64;

/// What a request asks of a pool.
#[derive(Clone, Debug)]
pub struct Demand {
    pub dialect: Dialect,
    /// Only accounts whose upstream takes WebSockets.
    pub websocket: bool,
    pub model: Option<Arc<str>>,
    /// Hash of what tells callers apart (`hash_on`); none = no place of its own.
    pub caller: Option<u64>,
    /// Hash of what tells callers apart who stay with their account (`affinity.on`); none = anybody.
    pub session: Option<u64>,
    /// How many tokens it may come to. None: it makes no model work, and no limit of an account counts it.
    pub tokens: Option<u64>,
    /// In the queue; lower goes first.
    pub priority: i32,
    /// Hash of whose request it is: in the queue one key has its turn after the other.
    pub key: u64,
    /// Accounts that this request has asked already.
    pub tried: Tried,
    /// It had an account before that did not serve it: in the queue it goes before those that had none.
    pub again: bool,
    /// The account that alone may serve: a key's slot, or the one that it is bound to.
    pub only: Option<Arc<str>>,
}

impl Demand {
    fn lane(&self) -> Lane {
        Lane::new(self.dialect, self.websocket)
    }
}

/// Slots of accounts already tried.
pub type Tried = SmallVec<[u32; 4]>;

/// The settings of a pool, without its accounts' live state, as they are now.
pub struct Settings(Guard<Arc<Table>>);

impl Deref for Settings {
    type Target = config::Pool;

    fn deref(&self) -> &config::Pool {
        &self.0.settings
    }
}

/// Interchangeable accounts with one strategy.
pub struct Pool {
    pub name: Arc<str>,
    table: ArcSwap<Table>,
    /// So often the table was changed.
    changes: AtomicU64,
    /// Who changes the table.
    writer: Mutex<()>,
    queue: queue::Queue,
    due: due::Due,
    marks: marks::Marks,
    sharing: share::Sharing,
    groups: Arc<Groups>,
    /// Where others are told of what happens to accounts here.
    outbox: OnceLock<mpsc::Sender<News>>,
    /// Of answers that others may go on from.
    answers: affinity::Homes,
    budget: budget::Budget,
    in_flight: AtomicU32,
    /// Places that a predecessor's requests still hold.
    elsewhere: AtomicU32,
    /// Those of accounts that this pool does not have.
    strays: Mutex<Places>,
    completed: AtomicU64,
    failed: AtomicU64,
    began: Instant,
    metrics: Arc<PoolMetrics>,
    registry: Arc<Metrics>,
}

impl Pool {
    /// A pool that shares nothing with others.
    pub fn new(config: &config::Pool, registry: &Arc<Metrics>, now: Instant) -> Arc<Self> {
        Pool::among(&Arc::default(), config, registry, now)
    }

    /// A pool whose accounts may be of the same organisations as those of others.
    pub fn among(
        groups: &Arc<Groups>,
        config: &config::Pool,
        registry: &Arc<Metrics>,
        now: Instant,
    ) -> Arc<Self> {
        let pool = Arc::new(Pool {
            name: config.name.as_str().into(),
            table: ArcSwap::from_pointee(Table::new(Vec::new(), config.clone(), Arc::default())),
            changes: AtomicU64::new(0),
            writer: Mutex::default(),
            queue: queue::Queue::default(),
            due: due::Due::default(),
            marks: marks::Marks::default(),
            sharing: share::Sharing::default(),
            groups: groups.clone(),
            outbox: OnceLock::new(),
            answers: affinity::Homes::default(),
            budget: budget::Budget::default(),
            in_flight: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            strays: Mutex::default(),
            completed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            began: now,
            metrics: registry.pool(&config.name, &Outcome::LABELS),
            registry: registry.clone(),
        });
        pool.reconfigure(config);
        groups.join(&pool);
        pool
    }

    /// The pool's settings, without its accounts' live state.
    pub fn settings(&self) -> Settings {
        Settings(self.table.load())
    }

    /// Takes an account for one attempt, `now` or after a wait in the queue that ends at `deadline`
    /// at the latest.
    ///
    /// # Errors
    /// No account can serve this demand in time; the refusal says why.
    pub async fn lease(
        self: &Arc<Self>,
        demand: &Demand,
        now: Instant,
        deadline: Instant,
    ) -> Result<Lease, Refusal> {
        // Whoever comes while others wait stands behind them.
        if self.queue.waiting() == 0 {
            match self.take(demand, now) {
                Ok(lease) => return Ok(lease),
                Err(_) => {
                    let refusal = self.refusal(demand, now);
                    if !refusal.is_worth_waiting(&self.settings().queue, deadline) {
                        self.sharing.miss();
                        return Err(refusal);
                    }
                }
            }
        }
        // In a box: most requests never wait, and each would have room for it.
        Box::pin(self.wait(demand, now, deadline)).await
    }

    /// Takes an account if one is ready. Where gateways share it and none is, more is asked for.
    pub fn try_lease(self: &Arc<Self>, demand: &Demand, now: Instant) -> Option<Lease> {
        let lease = self.take(demand, now);
        if lease.is_err() {
            self.sharing.miss();
        }
        lease.ok()
    }

    fn take(self: &Arc<Self>, demand: &Demand, now: Instant) -> Result<Lease, Refused> {
        let ticks = self.ticks(now);
        if ticks >= self.due.next() {
            self.recover_due(ticks);
        }
        // The one look at what is configured: all that follows goes by it.
        let table = self.table.load();
        if !self.enter(&table.settings) {
            return Err(Refused::Out);
        }
        let taken = match &demand.only {
            Some(id) => self.take_named(id, &table, demand, ticks),
            None => self.take_any(&table, demand, ticks),
        };
        match taken {
            Ok(taken) => {
                self.sharing.took(&taken.account);
                let last_used = &taken.account.live.last_used;
                last_used.store(ticks.max(1), Ordering::Relaxed);
                Ok(Lease::of(taken, self, now))
            }
            Err(refused) => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                Err(refused)
            }
        }
    }

    /// Takes the account where the caller is at home, or else the one that the strategy proposes; an
    /// account of a better priority before either.
    fn take_any(&self, table: &Table, demand: &Demand, now: u64) -> Result<Taken, Refused> {
        let home = table.home(demand, now);
        let taken = table.with_view(demand.lane(), demand.model.as_deref(), |view| {
            let mut why = Refused::Out;
            for group in &view.groups {
                let at_home = home.and_then(|home| self.take_home(home, group, table, demand, now));
                let taken = at_home.map_or_else(|| self.take_from(group, table, demand, now), Ok);
                match taken {
                    Ok(taken) => return Ok(taken),
                    Err(Refused::TooLarge) => why = Refused::TooLarge,
                    Err(Refused::Out) => {}
                }
            }
            self.take_at_limit(view, table, demand, now).ok_or(why)
        });
        if let Ok(Taken { account, .. }) = &taken
            && home != Some(account.slot)
        {
            self.settle_down(home, account, table, demand, now);
        }
        taken
    }

    fn take_from(
        &self,
        group: &Group,
        table: &Table,
        demand: &Demand,
        now: u64,
    ) -> Result<Taken, Refused> {
        let mut marks = self.marks.of_model(demand.model.as_deref());
        // Each one that refuses is out or gets its bit set right; however they change meanwhile, it has an end.
        let mut refusals = 2 * group.members.len() + SURPRISES;
        // Recovering accounts that let this request pass, because their share is small yet.
        let mut passed: SmallVec<[u32; 4]> = SmallVec::new();
        // Accounts of whose limits others hold too much for this request.
        let mut held: SmallVec<[u32; 4]> = SmallVec::new();
        let nobody = |held: &[u32]| match held {
            [] => Refused::Out,
            _ => Refused::TooLarge,
        };
        loop {
            let allows = |slot: u32| {
                !demand.tried.contains(&slot)
                    && !passed.contains(&slot)
                    && !held.contains(&slot)
                    && marks
                        .as_ref()
                        .is_none_or(|marks| marks.until(slot, now).is_none())
            };
            let ready = group.ready(table);
            let choice = Choice {
                table,
                ready,
                allows: &allows,
                // A caller's own order is the same at each look: half of them go on with others.
                caller: demand.caller.filter(|_| held.len() < TOO_LARGE_FOR / 2),
                now,
            };
            let (slot, must) = match group.picker.pick(&choice) {
                Some(slot) => (slot, false),
                // Nobody else is there: who let it pass must take it.
                None => (passed.pop().ok_or_else(|| nobody(&held))?, true),
            };
            let account = table.account(slot).ok_or(Refused::Out)?;
            let share = {
                let settings = &table.settings.breaker;
                let of_model = marks
                    .as_ref()
                    .map_or(1.0, |marks| marks.share(slot, settings, now));
                of_model.min(account.live.breaker.share(settings, now))
            };
            let in_turn =
                must || share >= 1.0 || !group.picker.shares_traffic() || fastrand::f32() < share;
            if !in_turn && passed.len() < passed.inline_size() {
                passed.push(slot);
                continue;
            }
            match account.acquire(self, demand, now) {
                Ok(taken) => return Ok(taken),
                Err(Refused::TooLarge) if held.len() == TOO_LARGE_FOR => {
                    return Err(Refused::TooLarge);
                }
                Err(Refused::TooLarge) => held.push(slot),
                // Another request was faster, or it has reached a limit, or has just been marked; the bit is set
                // right and somebody else is picked: in the table that was read, which may be an old one by now.
                Err(Refused::Out) => {
                    table.ready.publish(slot, || account.is_ready());
                    marks = self.marks.of_model(demand.model.as_deref());
                    refusals = refusals.checked_sub(1).ok_or(Refused::Out)?;
                }
            }
        }
    }

    /// Takes one of the pool's own places.
    fn enter(&self, settings: &config::Pool) -> bool {
        let most = settings.max_concurrent;
        let elsewhere = self.elsewhere.load(Ordering::SeqCst);
        let take = |n: u32| (most == 0 || n.saturating_add(elsewhere) < most).then_some(n + 1);
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
    }

    /// Are all of the pool's own places taken?
    fn is_full(&self) -> bool {
        let most = self.settings().max_concurrent;
        let places = [&self.in_flight, &self.elsewhere];
        let [here, elsewhere] = places.map(|places| places.load(Ordering::SeqCst));
        most != 0 && here.saturating_add(elsewhere) >= most
    }

    /// A lease of this account ended: its places are free again.
    fn released(self: &Arc<Self>, account: &Account) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.queue.waiting() > 0 {
            self.serve_freed(account, clock::now());
        }
    }

    /// Lets accounts come back whose time has come, serves those who wait for them, and tells those
    /// who wait in vain. Called from time to time, as on a quiet gateway no request does it.
    pub fn tick(self: &Arc<Self>, now: Instant) {
        let ticks = self.ticks(now);
        if ticks >= self.due.next() {
            self.recover_due(ticks);
        }
        self.queue.is_looked_at(ticks);
        self.serve_queue(now);
        self.dismiss(now);
    }

    /// Sets the account's bit in the table. Whoever changes an account's counters calls this.
    fn publish(&self, account: &Account) {
        let table = self.table.load();
        // The slot of a removed account may be another's by now: its state is what counts.
        if let Some(current) = table.account(account.slot) {
            table.ready.publish(current.slot, || current.is_ready());
        }
    }

    /// Milliseconds since the pool began: the time its parts count in.
    fn ticks(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    fn at(&self, ticks: u64) -> Instant {
        self.began + Duration::from_millis(ticks)
    }

    /// When the next account may come back by itself.
    fn next_due(&self) -> Option<Instant> {
        let next = self.due.next();
        (next != u64::MAX).then(|| self.at(next))
    }
}

impl Pool {
    /// Does any account of this dialect take WebSockets, whatever its state?
    pub fn takes_websockets(&self, dialect: Dialect) -> bool {
        let lane = Lane::new(dialect, true);
        let table = self.table.load();
        table.with_view(lane, None, |view| !view.groups.is_empty())
    }

    /// May a request's model have another name at one of the accounts?
    pub fn renames_models(&self) -> bool {
        self.table.load().renames
    }

    /// Another account is asked after this outcome.
    pub fn count_retry(&self, outcome: &Outcome) {
        self.metrics.retry(outcome.index());
    }

    /// When the first of the accounts that could serve this demand comes back by itself: now, where
    /// one was not even asked or is only full.
    pub fn recovery(self: &Arc<Self>, demand: &Demand, now: Instant) -> Option<Instant> {
        let refusal = self.refusal(demand, now);
        match refusal.cause {
            Cause::Full => Some(now),
            _ => refusal.recovers_at,
        }
    }
}

impl Lease {
    /// The account's place in its table, to be put among [`Demand::tried`].
    pub fn slot(&self) -> u32 {
        self.account.slot
    }
}
