//! Requests that wait for an account: bounded, fair between keys, each with a deadline.
//!
//! Whoever frees an account serves the queue ([`super::Pool::serve_queue`]): the first whom the
//! account fits gets its lease handed over, and nobody else is woken. What time brings, one of those
//! who wait looks after for all of them. A waiter that leaves takes its entry along.

mod flow;
mod keys;
mod lines;
#[cfg(test)]
mod steps;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::account::{Account, Refused};
use super::lease::Lease;
use super::{Demand, Pool, Refusal, marks};
use crate::clock::{self, Instant};
use flow::Flow;
use keys::Who;
use lines::{Lines, Look, Ticket, Turn, Wish};

/// So often it is looked whether somebody waits in vain, and for what became due unexpectedly.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Queue {
    waiting: AtomicUsize,
    state: Mutex<State>,
    /// When somebody looked after what time brings, in the pool's time.
    looked_at: AtomicU64,
    /// Held by the one who looks after what time brings.
    watch: Semaphore,
    #[cfg(test)]
    pub(super) steps: steps::Steps,
}

#[derive(Default)]
struct State {
    lines: Lines<Waiter>,
    flow: Flow,
    /// What was known of accounts and models when all were lined up.
    known: Known,
}

/// Changes of the table, and of what accounts say of models.
type Known = (u64, u64);

struct Waiter {
    demand: Demand,
    deadline: Instant,
    /// Until then others may pass it whose requests are smaller; then they wait until it fits.
    patient_until: Instant,
    answer: oneshot::Sender<Result<Lease, Refusal>>,
}

/// A place in the queue; dropping it leaves the queue.
struct Waiting<'a> {
    pool: &'a Arc<Pool>,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Lease, Refusal>>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            looked_at: AtomicU64::new(0),
            watch: Semaphore::new(1),
            #[cfg(test)]
            steps: steps::Steps::default(),
        }
    }
}

impl Queue {
    /// Sequentially consistent, as [`super::ready::Ready`] explains.
    pub(super) fn waiting(&self) -> usize {
        #[cfg(test)]
        self.steps.step();
        let waiting = self.waiting.load(Ordering::SeqCst);
        #[cfg(test)]
        self.steps.step();
        waiting
    }

    /// So long it takes until one who joined now would be served, as things went lately.
    pub(super) fn expected_wait(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        state.flow.wait_behind(state.lines.waiting(), now)
    }

    /// Has somebody just looked after what time brings?
    fn was_looked_at(&self, now: u64) -> bool {
        let half = LOOK_EVERY.as_millis() as u64 / 2;
        now.saturating_sub(self.looked_at.load(Ordering::Relaxed)) < half
    }

    pub(super) fn is_looked_at(&self, now: u64) {
        self.looked_at.store(now, Ordering::Relaxed);
    }

    /// How many lines there are.
    #[cfg(test)]
    pub(super) fn lines(&self) -> usize {
        self.state.lock().lines.count()
    }

    fn changed(&self, state: &State) {
        self.waiting.store(state.lines.waiting(), Ordering::SeqCst);
    }
}

/// Whose turn a request waits for. One that had its turn, and got an account that did not serve it, goes
/// before the others of its priority: at the end of the line its time would be over before its turn.
fn who(demand: &Demand) -> Who {
    let rank = demand.priority.saturating_mul(2);
    (rank.saturating_add(i32::from(!demand.again)), demand.key)
}

impl Pool {
    /// Joins the queue, or is told that it is full. `now` is when the request came.
    fn join(
        self: &Arc<Self>,
        demand: &Demand,
        now: Instant,
        deadline: Instant,
    ) -> Option<Waiting<'_>> {
        let most = self.settings().queue.max_waiting;
        let (sender, answer) = oneshot::channel();
        let who = who(demand);
        // Who has no hope takes nobody's place.
        let is_full = self.queue.waiting() >= most;
        if is_full && !self.has_hope(demand, now, deadline) {
            return None;
        }
        let mut state = self.queue.state.lock();
        let mut displaced = None;
        if state.lines.waiting() >= most {
            displaced = Some(state.lines.displace(who)?);
        }
        self.line_up(&mut state);
        let State { lines, flow, .. } = &mut *state;
        if lines.waiting() == 0 {
            flow.begin(now);
        }
        let waiter = Waiter {
            demand: demand.clone(),
            deadline,
            patient_until: now + deadline.saturating_duration_since(now) / 2,
            answer: sender,
        };
        let ticket = lines.join(self.wish(demand), who, waiter);
        self.queue.changed(&state);
        drop(state);
        if let Some(Waiter { demand, answer, .. }) = displaced {
            self.metrics.queue_rejected("full");
            let refusal = self.refusal(&demand, now).queue_full();
            drop(answer.send(Err(refusal)));
        }
        Some(Waiting {
            pool: self,
            ticket,
            answer,
        })
    }

    fn has_hope(&self, demand: &Demand, now: Instant, deadline: Instant) -> bool {
        let refusal = self.refusal_of(demand, now);
        refusal.is_worth_waiting(&self.settings().queue, deadline)
    }

    /// Waits for an account, until `deadline` at the latest.
    pub(super) async fn wait(
        self: &Arc<Self>,
        demand: &Demand,
        began: Instant,
        deadline: Instant,
    ) -> Result<Lease, Refusal> {
        let Some(mut place) = self.join(demand, began, deadline) else {
            // Those who fill the queue may all wait for another model.
            if let Some(lease) = self.try_lease(demand, began) {
                return Ok(lease);
            }
            let refusal = self.refusal(demand, began);
            if !refusal.is_worth_waiting(&self.settings().queue, deadline) {
                return Err(refusal);
            }
            self.metrics.queue_rejected("full");
            return Err(refusal.queue_full());
        };
        self.sharing.want();
        // A place may have become free between the look and the joining.
        self.serve(&Look::Joined(&place.ticket), began);
        let mut answer = place.answer.try_recv().ok();
        if answer.is_none() {
            let refusal = self.refusal(demand, began);
            if !refusal.is_worth_waiting(&self.settings().queue, deadline) {
                return place.answer.try_recv().unwrap_or(Err(refusal));
            }
            answer = tokio::select! {
                biased;
                answer = &mut place.answer => answer.ok(),
                () = tokio::time::sleep_until(deadline.into()) => None,
                never = self.keep_watch() => match never {},
            };
        }
        let now = clock::now();
        let answer = answer.or_else(|| {
            self.serve_queue(now);
            place.answer.try_recv().ok()
        });
        match answer {
            Some(Ok(lease)) => {
                let waited = now.saturating_duration_since(began);
                self.metrics.queued(waited);
                Ok(lease)
            }
            Some(Err(refusal)) => Err(refusal),
            None => {
                self.metrics.queue_rejected("timeout");
                Err(self.refusal(demand, now).timed_out())
            }
        }
    }

    /// One of those who wait looks after what time brings; when it goes, another one does.
    async fn keep_watch(self: &Arc<Self>) -> Infallible {
        let _watch = self.queue.watch.acquire().await;
        loop {
            let look = clock::now() + LOOK_EVERY;
            let wake = self.next_due().map_or(look, |due| due.min(look));
            tokio::time::sleep_until(wake.into()).await;
            let now = clock::now();
            let is_due = self.next_due().is_some_and(|due| due <= now);
            if is_due || !self.queue.was_looked_at(self.ticks(now)) {
                self.tick(now);
            }
        }
    }

    /// Whom the same accounts serve, as far as is known now.
    fn wish(&self, demand: &Demand) -> Wish {
        let table = self.table.load();
        let model = demand.model.as_ref();
        let view = table.with_view(demand.lane(), demand.model.as_deref(), |view| {
            std::ptr::from_ref(view).addr()
        });
        let is_marked = |model: &&Arc<str>| self.marks.knows(marks::model_id(model));
        Wish {
            only: demand.only.clone(),
            view,
            model: model.filter(is_marked).cloned(),
            tried: demand.tried.clone(),
            counts: demand.tokens.is_some(),
        }
    }

    /// Where something has changed, those who wait stand with others now. It is seldom, and asked before each look.
    fn line_up(&self, state: &mut State) {
        let known = (self.changes.load(Ordering::SeqCst), self.marks.changes());
        if state.known != known {
            state.known = known;
            state.lines.line_up(|waiter| self.wish(&waiter.demand));
        }
    }

    /// Hands ready accounts to those who wait.
    pub(super) fn serve_queue(self: &Arc<Self>, now: Instant) {
        self.serve(&Look::All, now);
    }

    /// The same where nothing but a place of this account has come free.
    pub(super) fn serve_freed(self: &Arc<Self>, account: &Account, now: Instant) {
        // A place of the pool goes to whichever account.
        if self.settings().max_concurrent != 0 {
            self.serve(&Look::All, now);
        } else if account.is_ready() {
            self.serve(&Look::Freed(&account.id), now);
        }
    }

    fn serve(self: &Arc<Self>, look: &Look<'_>, now: Instant) {
        if self.queue.waiting() == 0 {
            return;
        }
        let table = self.table.load();
        let freed = match look {
            Look::Freed(id) => table.find(id),
            Look::All | Look::Joined(_) => None,
        };
        let is_over = || self.is_full() || freed.is_some_and(|account| !account.is_ready());
        let mut state = self.queue.state.lock();
        self.line_up(&mut state);
        let State { lines, flow, .. } = &mut *state;
        let lease = |waiter: &Waiter| match self.take(&waiter.demand, now) {
            Ok(lease) => Turn::Leased(lease),
            Err(Refused::TooLarge) if now < waiter.patient_until => Turn::NotThis,
            Err(_) => Turn::Nobody,
        };
        let served = lines.serve(look, lease, is_over);
        served.iter().for_each(|_| flow.departed(now));
        self.queue.changed(&state);
        drop(state);
        // Leases are handed over after the lock is gone: a receiver that has left drops its lease,
        // which serves the queue again.
        for (waiter, lease) in served {
            drop(waiter.answer.send(Ok(lease)));
        }
    }

    /// Tells those who wait in vain: nobody can serve them by their deadline.
    pub(super) fn dismiss(self: &Arc<Self>, now: Instant) {
        if self.queue.waiting() == 0 {
            return;
        }
        let settings = self.settings();
        let is_in_vain = |waiter: &Waiter, refusal: &Refusal| {
            !refusal.is_worth_waiting(&settings.queue, waiter.deadline)
        };
        let mut state = self.queue.state.lock();
        self.line_up(&mut state);
        let why = |waiter: &Waiter| {
            let refusal = self.refusal_of(&waiter.demand, now);
            Some(refusal).filter(Refusal::may_be_in_vain)
        };
        let dismissed = state.lines.dismiss(why, is_in_vain);
        self.queue.changed(&state);
        drop(state);
        for (waiter, refusal) in dismissed {
            let retry_after = self.retry_after(now);
            let refusal = Refusal {
                retry_after,
                ..refusal
            };
            drop(waiter.answer.send(Err(refusal)));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let queue = &self.pool.queue;
        let mut state = queue.state.lock();
        if state.lines.leave(&self.ticket).is_some() {
            queue.changed(&state);
        }
    }
}
