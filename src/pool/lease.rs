//! An account held for one attempt. Dropping the lease frees the account, whatever happened.

use std::sync::Arc;

use super::account::Account;
use super::breaker::Entry;
use super::{Outcome, Pool};
use crate::clock::Instant;

/// Holds one place of an account.
pub struct Lease {
    pub(super) account: Arc<Account>,
    pub(super) pool: Arc<Pool>,
    pub(super) entry: Entry,
    pub(super) began: Instant,
}

impl Lease {
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
        self.account.metrics.time_to_first_byte_seconds.observe(waited.as_secs_f64());
        self.account.live.saw_first_byte(waited.as_micros() as u64, self.pool.ticks(now));
    }

    /// What the attempt came to: moves breaker, cooldown and counters. `detail` is shown as the
    /// account's last error and must hold no secret. `counts` is false where the request failed
    /// alike elsewhere before, so that the account is not to blame for it.
    pub fn report(&mut self, outcome: &Outcome, about: &Report<'_>, now: Instant) {
        self.pool.report(&self.account, outcome, about, now);
        if matches!(outcome, Outcome::Success | Outcome::Transient | Outcome::BrokenStream) {
            // The breaker has its answer; the place of a probe is no longer to be given back.
            self.entry = Entry::Normal;
            self.pool.publish(&self.account);
        }
    }

    /// Tokens that the vendor stated for this attempt.
    pub fn add_tokens(&self, tokens: u64) {
        self.account.live.tokens.fetch_add(tokens, std::sync::atomic::Ordering::Relaxed);
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
        self.account.release(self.entry, &self.pool);
        self.pool.released(self.began);
    }
}
