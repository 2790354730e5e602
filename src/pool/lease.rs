//! An account held for one attempt. Dropping the lease frees the account, whatever happened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::account::{Account, Taken};
use super::breaker::{Entry, State};
use super::marks::Trial;
use super::rates::Charge;
use super::{Outcome, Pool};
use crate::clock::{self, Instant};
use crate::dialect::Usage;

/// Holds one place of an account.
pub struct Lease {
    pub(super) account: Arc<Account>,
    pub(super) pool: Arc<Pool>,
    pub(super) entry: Entry,
    pub(super) began: Instant,
    /// The request it is for, where the account has a program of its own.
    pub(super) request: Option<Arc<str>>,
    /// What it holds of the account's limits.
    pub(super) charge: Option<Box<Charge>>,
    /// It tries whether the account serves its model again.
    trial: Option<Trial>,
}

impl Lease {
    pub(super) fn of(taken: Taken, pool: &Arc<Pool>, now: Instant) -> Self {
        Lease {
            account: taken.account,
            pool: pool.clone(),
            entry: taken.entry,
            began: now,
            request: None,
            charge: taken.charge,
            trial: taken.trial,
        }
    }

    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// When the attempt began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The answer's first byte is here.
    pub fn first_byte(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.began);
        self.account.metrics.first_byte(waited);
        self.account
            .live
            .saw_first_byte(waited.as_micros() as u64, self.pool.ticks(now));
    }

    /// What the attempt came to: moves breaker, cooldown and counters. `detail` is shown as the
    /// account's last error and must hold no secret. `counts` is false where the request failed
    /// alike elsewhere before, so that the account is not to blame for it.
    pub fn report(&mut self, outcome: &Outcome, about: &Report<'_>, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.account.metrics.request(outcome.index(), took);
        self.pool.report(self, outcome, about, now);
        self.settle(Some(outcome), now);
        self.forget_probe();
    }

    /// A good head is here: a half-open account has proved itself, however long the answer goes
    /// on. `wait`: the vendor said that nothing is left of a limit, and until when.
    pub fn answered(&mut self, wait: Option<Duration>, model: Option<&str>, now: Instant) {
        let trial = self.trial.take();
        let serves_again = self.pool.answered(&self.account, trial, wait, model, now);
        self.forget_probe();
        if serves_again {
            self.pool.serve_queue(now);
        }
    }

    /// Once the breaker has its answer, the place of a probe is no longer to be given back.
    fn forget_probe(&mut self) {
        if self.account.live.breaker.state() != State::HalfOpen {
            self.entry = Entry::Normal;
        }
    }

    /// The vendor answered, and said that it failed.
    pub fn error_answer(&self) {
        self.account.metrics.error_answer();
    }

    /// Tokens that the vendor stated for this attempt.
    pub fn add_tokens(&self, usage: &Usage) {
        let tokens = usage.input + usage.output;
        self.account
            .live
            .tokens
            .fetch_add(tokens, Ordering::Relaxed);
        self.account.metrics.tokens(usage);
    }
}

/// What is known beside the outcome.
pub struct Report<'a> {
    /// The model asked for.
    pub model: Option<&'a str>,
    /// In words, without a secret.
    pub detail: &'a str,
    /// Does a failure count against the account?
    pub counts: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.forget_request();
        if self.charge.is_some() {
            self.settle(None, clock::now());
        }
        self.trial = None;
        self.account.release(self.entry, &self.pool);
        self.pool.released(&self.account);
    }
}
