//! Requests that wait for an account: bounded, fair between keys, each with a deadline.
//!
//! Whoever frees an account serves the queue ([`super::Pool::serve_queue`]): the first whom the
//! account fits gets its lease handed over, and nobody else is woken. What time brings, one of those
//! who wait looks after for all of them. A waiter that leaves takes its entry along.

mod flow;
mod keys;
mod lines;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::account::Account;
use super::lease::Lease;
use super::{Demand, Pool, Refusal};
use crate::clock::{self, Instant};
use flow::Flow;
use keys::Who;
use lines::{Lines, Look, Ticket, Wish};

/// So often it is looked whether somebody waits in vain, and for what became due unexpectedly.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Queue {
    waiting: AtomicUsize,
    state: Mutex<State>,
    /// Held by the one who looks after what time brings.
    watch: Semaphore,
}

#[derive(Default)]
struct State {
    lines: Lines<Waiter>,
    flow: Flow,
}

struct Waiter {
    demand: Demand,
    deadline: Instant,
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
            watch: Semaphore::new(1),
        }
    }
}

impl Queue {
    /// Sequentially consistent, as [`super::ready::Ready`] explains.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// So long it takes until one who joined now would be served, as things went lately.
    pub(super) fn expected_wait(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        state.flow.wait_behind(state.lines.waiting(), now)
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
        let most = self.settings.load().queue.max_waiting;
        let (sender, answer) = oneshot::channel();
        let who = who(demand);
        let mut state = self.queue.state.lock();
        let mut displaced = None;
        if state.lines.waiting() >= most {
            displaced = Some(state.lines.displace(who)?);
        }
        let State { lines, flow } = &mut *state;
        if lines.waiting() == 0 {
            flow.begin(now);
        }
        let waiter = Waiter {
            demand: demand.clone(),
            deadline,
            answer: sender,
        };
        let ticket = lines.join(Wish::of(demand), who, waiter);
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
            self.metrics.queue_rejected("full");
            return Err(self.refusal(demand, began).queue_full());
        };
        self.sharing.want();
        // A place may have become free between the look and the joining.
        self.serve(&Look::Joined(&place.ticket), began);
        let mut answer = place.answer.try_recv().ok();
        if answer.is_none() {
            let refusal = self.refusal(demand, began);
            if !refusal.is_worth_waiting(&self.settings.load().queue, deadline) {
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
            self.tick(clock::now());
        }
    }

    /// Hands ready accounts to those who wait.
    pub(super) fn serve_queue(self: &Arc<Self>, now: Instant) {
        self.serve(&Look::All, now);
    }

    /// The same where nothing but a place of this account has come free.
    pub(super) fn serve_freed(self: &Arc<Self>, account: &Account, now: Instant) {
        // A place of the pool goes to whichever account.
        if self.settings.load().max_concurrent != 0 {
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
        let State { lines, flow } = &mut *state;
        let lease = |waiter: &Waiter| self.take(&waiter.demand, now);
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
        let settings = self.settings.load();
        let is_in_vain = |waiter: &Waiter, refusal: &Refusal| {
            !refusal.is_worth_waiting(&settings.queue, waiter.deadline)
        };
        let mut state = self.queue.state.lock();
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
