//! What outcomes, probes and operators do to an account, and how it comes back.
//!
//! ```text
//! failures in a row -> breaker open -> (time) half open -> one success -> slow start -> full share
//! limit, quota, 401 -> cooling      -> (time) half open -> …
//! 401 again         -> needs login  -> (1, 5, 30, 60 min) half open -> …
//! failed probes     -> unhealthy    -> good probes
//! ```

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::account::Account;
use super::lease::{Lease, Report};
use super::live::reason;
use super::rates::millis_up;
use super::{News, Outcome, Pool, marks, share};
use crate::clock::{self, Instant, SystemTime};
use crate::config::{self, Strategy};
use crate::credential::{self, Credential, Phase};

/// A first refused credential may be a passing fault of the vendor.
const AUTH_COOLDOWN: Duration = Duration::from_secs(60);

/// After further refusals one request tries again after these minutes, then after the last of them.
const LOGIN_RETRY_MINUTES: [u64; 4] = [1, 5, 30, 60];

/// A spent quota without a stated reset is tried by one request each hour.
const QUOTA_COOLDOWN: Duration = Duration::from_secs(3600);

/// How long an account is taken to lack a model that another account serves.
const MODEL_UNAVAILABLE: Duration = Duration::from_secs(3600);

/// Longest text kept as an account's last error.
const ERROR_LENGTH: usize = 300;

/// Does this outcome count as a failure of the account, in what people are shown?
fn is_failure(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Success
            | Outcome::ClientFault
            | Outcome::ClientGone
            | Outcome::Forbidden
            | Outcome::ModelUnavailable
    )
}

impl Pool {
    /// Applies one attempt's outcome to its account: the fourth column of `contract/http.md` §2.
    pub(super) fn report(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        about: &Report<'_>,
        now: Instant,
    ) {
        let ticks = self.ticks(now);
        let account = &lease.account;
        let live = &account.live;
        self.completed.fetch_add(1, Ordering::Relaxed);
        if *outcome == Outcome::Success {
            live.successes.fetch_add(1, Ordering::Relaxed);
            live.last_success.store(ticks.max(1), Ordering::Relaxed);
            live.breaker.success(ticks);
            return;
        }
        if is_failure(outcome) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            live.failures.fetch_add(1, Ordering::Relaxed);
            live.last_failure.store(ticks.max(1), Ordering::Relaxed);
            // Why there is no token says more than that there is none.
            let is_known =
                *outcome == Outcome::AuthExpired && live.blocked() & reason::RENEWAL != 0;
            if !is_known {
                let mut error = format!("{}: {}", outcome.label(), about.detail);
                error.truncate(error.floor_char_boundary(ERROR_LENGTH));
                live.rare.lock().last_error = Some(error);
            }
        }
        match outcome {
            Outcome::RateLimited {
                wait,
                whole_account,
            } => {
                self.limit(account, *wait, about.model.filter(|_| !whole_account), now);
            }
            Outcome::QuotaDead { wait } => {
                self.cool(account, wait.unwrap_or(QUOTA_COOLDOWN), false, now);
            }
            Outcome::AuthDead => self.auth_refused(account, lease.began, now),
            Outcome::Transient | Outcome::BrokenStream if about.counts => {
                self.failed(account, ticks)
            }
            _ => {}
        }
    }

    /// An account gave a good answer's head. Returns whether more requests may come now.
    pub(super) fn answered(
        &self,
        account: &Arc<Account>,
        trial: Option<marks::Trial>,
        wait: Option<Duration>,
        model: Option<&str>,
        now: Instant,
    ) -> bool {
        let ticks = self.ticks(now);
        account.live.auth_refusals.store(0, Ordering::Relaxed);
        let serves_again = account.live.breaker.answered(ticks);
        if serves_again {
            self.changed(account, ticks, None);
            tracing::info!(account = account.config.id, "the account serves again");
        }
        if let Some(wait) = wait {
            self.limit(account, wait, model, now);
        }
        if let Some(trial) = &trial {
            self.marks.lift(trial, ticks);
            let slow_start = self.settings().breaker.slow_start;
            self.due
                .add(account.slot, self.ticks_after(slow_start, now));
        }
        serves_again || trial.is_some()
    }

    fn failed(&self, account: &Arc<Account>, ticks: u64) {
        let settings = self.settings();
        let Some(until) = account.live.breaker.failure(&settings.breaker, ticks) else {
            return;
        };
        account.metrics.breaker_opened();
        self.tell(|| News::Opened {
            account: account.config.id.clone(),
            ms: until - ticks,
        });
        self.due.add(account.slot, until);
        self.changed(account, ticks, None);
        let seconds = (until - ticks) / 1000;
        tracing::warn!(
            account = account.config.id,
            seconds,
            "the account fails again and again; its breaker is open"
        );
    }

    /// A vendor's limit: of one model where it is stated so, and of all accounts that share it.
    fn limit(&self, account: &Arc<Account>, wait: Duration, model: Option<&str>, now: Instant) {
        let model = model.map(marks::Model::of);
        self.each_of_group(account, |pool, limited| {
            let (ticks, until) = (pool.ticks(now), pool.ticks_after(wait, now));
            let is_marked = |model: &&marks::Model| {
                let marks = &pool.marks;
                marks.mark(limited.slot, model, true, until, ticks)
            };
            if let Some(model) = model.as_ref().filter(is_marked) {
                pool.due.add(limited.slot, until);
                pool.tell_lack(limited, model, wait, true);
            } else {
                pool.cool(limited, wait, true, now);
            }
        });
    }

    fn cool(&self, account: &Arc<Account>, wait: Duration, for_limit: bool, now: Instant) {
        let (ticks, until) = (self.ticks(now), self.ticks_after(wait, now));
        self.cool_until(account, until, for_limit, ticks);
        self.tell(|| News::Cools {
            account: account.config.id.clone(),
            ms: until - ticks,
            for_limit,
        });
    }

    /// When such a wait is over: an account that comes back within the last millisecond is refused, and has
    /// to prove itself again.
    fn ticks_after(&self, wait: Duration, now: Instant) -> u64 {
        millis_up(
            now.saturating_duration_since(self.began)
                .saturating_add(wait),
        )
    }

    pub(super) fn cool_until(
        &self,
        account: &Arc<Account>,
        until: u64,
        for_limit: bool,
        ticks: u64,
    ) {
        let mut rare = account.live.rare.lock();
        if rare.cooling_until <= until {
            (rare.cooling_until, rare.cooling_for_limit) = (until, for_limit);
        }
        drop(rare);
        self.changed(account, ticks, Some((reason::COOLING, true)));
        self.due.add(account.slot, until);
    }

    fn tell_lack(&self, account: &Account, model: &marks::Model, wait: Duration, for_limit: bool) {
        self.tell(|| News::Lacks {
            account: account.config.id.clone(),
            model: model.id,
            name: model.name.as_deref().map(str::to_owned),
            ms: wait.as_millis() as u64,
            for_limit,
        });
    }

    fn auth_refused(&self, account: &Arc<Account>, began: Instant, now: Instant) {
        let (began, ticks) = (self.ticks(began), self.ticks(now));
        // Requests that were under way together are refused together; that is one refusal.
        let mut rare = account.live.rare.lock();
        let known = rare.auth_refused_at.is_some_and(|at| began <= at);
        rare.auth_refused_at = Some(ticks);
        drop(rare);
        if known {
            return;
        }
        let refusals = account.live.auth_refusals.fetch_add(1, Ordering::Relaxed) as usize;
        if refusals == 0 {
            return self.cool(account, AUTH_COOLDOWN, false, now);
        }
        let step = (refusals - 1).min(LOGIN_RETRY_MINUTES.len() - 1);
        let probe_at = ticks + LOGIN_RETRY_MINUTES[step] * 60_000;
        account.live.rare.lock().login_probe_at = probe_at;
        self.changed(account, ticks, Some((reason::NEEDS_LOGIN, true)));
        self.due.add(account.slot, probe_at);
        tracing::warn!(
            account = account.config.id,
            "the upstream refuses the account's credential; it needs a login"
        );
    }

    /// Another account served the model that this one does not know: it is not asked for it for
    /// an hour.
    pub fn lacks_model(&self, account: &Account, model: &str, now: Instant) {
        let ticks = self.ticks(now);
        let until = ticks + MODEL_UNAVAILABLE.as_millis() as u64;
        let table = self.table.load();
        if table
            .account(account.slot)
            .is_some_and(|current| current.is(account))
        {
            let model = marks::Model::of(model);
            if self.marks.mark(account.slot, &model, false, until, ticks) {
                self.tell_lack(account, &model, MODEL_UNAVAILABLE, false);
            }
        }
    }

    /// Lets the accounts come back whose time has come.
    pub(super) fn recover_due(&self, ticks: u64) {
        let slots = self.due.take(ticks);
        if slots.contains(&share::SLOT) {
            self.end_shares(ticks);
        }
        let table = self.table.load();
        let settings = self.settings();
        for account in slots.into_iter().filter_map(|slot| table.account(slot)) {
            let live = &account.live;
            let blocked = live.blocked();
            let rare = live.rare.lock();
            let waits = [
                (reason::COOLING, rare.cooling_until),
                (reason::NEEDS_LOGIN, rare.login_probe_at),
            ];
            drop(rare);
            for (reason, until) in waits
                .into_iter()
                .filter(|(reason, _)| blocked & reason != 0)
            {
                if until > ticks {
                    self.due.add(account.slot, until);
                } else {
                    live.breaker.probe_first(&settings.breaker);
                    self.changed(account, ticks, Some((reason, false)));
                }
            }
            let later = live.breaker.due(&settings.breaker, ticks);
            self.marks
                .forget_recovered(account.slot, &settings.breaker, ticks);
            let marked = self.marks.next(account.slot, ticks);
            self.limits_due(account, ticks);
            for later in later.into_iter().chain(marked) {
                self.due.add(account.slot, later);
            }
            self.publish(account);
        }
    }

    /// A state changed: remember when, tell the table.
    pub(super) fn changed(&self, account: &Account, ticks: u64, reason: Option<(u32, bool)>) {
        match reason {
            Some((reason, true)) => account.live.block(reason),
            Some((reason, false)) => account.live.unblock(reason),
            None => {}
        }
        account.live.rare.lock().since = ticks;
        self.publish(account);
    }

    /// A health probe answered well, or did not.
    pub fn probed(
        self: &Arc<Self>,
        account: &Account,
        check: &config::HealthCheck,
        result: Result<(), String>,
        now: Instant,
    ) {
        let ticks = self.ticks(now);
        let live = &account.live;
        let mut rare = live.rare.lock();
        rare.probed = true;
        let is_unhealthy = live.blocked() & reason::UNHEALTHY != 0;
        let flips = match result {
            Ok(()) => {
                live.last_heartbeat.store(ticks.max(1), Ordering::Relaxed);
                rare.probe_failures = 0;
                rare.probe_successes = rare.probe_successes.saturating_add(1);
                is_unhealthy && rare.probe_successes >= check.healthy_after
            }
            Err(error) => {
                rare.probe_successes = 0;
                rare.mishaps += 1;
                rare.probe_failures = rare.probe_failures.saturating_add(1);
                rare.last_error = Some(format!("health check: {error}"));
                !is_unhealthy && rare.probe_failures >= check.unhealthy_after
            }
        };
        drop(rare);
        if flips {
            tracing::info!(
                account = account.config.id,
                healthy = is_unhealthy,
                "the health check changed its mind"
            );
            self.changed(account, ticks, Some((reason::UNHEALTHY, !is_unhealthy)));
            self.serve_queue(now);
        }
    }

    /// An operator takes the account out, or puts it back. False: there is no such account.
    pub fn set_enabled(self: &Arc<Self>, id: &str, enabled: bool) -> bool {
        self.with_account(id, |account, ticks| {
            self.changed(account, ticks, Some((reason::DISABLED, !enabled)));
        })
    }

    /// An operator lets the account begin anew: breaker closed, no cooldown, no login needed.
    pub fn reset(self: &Arc<Self>, id: &str) -> bool {
        self.with_account(id, |account, ticks| {
            account.live.breaker.reset();
            account.live.auth_refusals.store(0, Ordering::Relaxed);
            account.live.failures.store(0, Ordering::Relaxed);
            self.marks.clear(account.slot);
            let mut rare = account.live.rare.lock();
            (rare.last_error, rare.cooling_until, rare.mishaps) = (None, 0, 0);
            drop(rare);
            account.credential.try_again();
            // Without a secret it still needs one.
            let login = match account.credential.is_usable() {
                true => reason::NEEDS_LOGIN,
                false => 0,
            };
            self.changed(account, ticks, Some((reason::COOLING | login, false)));
        })
    }

    /// The account's secret changed: an account that waited for a login serves again.
    pub fn secret_changed(self: &Arc<Self>, id: &str) {
        self.with_account(id, |account, ticks| {
            account.live.auth_refusals.store(0, Ordering::Relaxed);
            self.changed(account, ticks, Some((reason::NEEDS_LOGIN, false)));
        });
    }

    /// How the renewal of the account's token stands: it serves while there is a token that may be used.
    /// False: that is not the account's credential any more, and says nothing about it.
    pub fn token_state(
        self: &Arc<Self>,
        id: &str,
        credential: &Weak<Credential>,
        state: &credential::State,
        now: SystemTime,
    ) -> bool {
        let is_valid = state.is_valid(now);
        let (blocks, why) = match &state.phase {
            Phase::NeedsLogin(why) => (reason::NO_LOGIN, Some(why)),
            Phase::Transient(why) if is_valid => (0, Some(why)),
            Phase::Transient(why) => (reason::NO_TOKEN, Some(why)),
            Phase::Starting | Phase::Ok | Phase::Refreshing => (0, None),
        };
        // A reload that gives the account another credential is over, or comes after this.
        let _writer = self.writer.lock();
        let mut is_its_own = false;
        self.with_account(id, |account, ticks| {
            is_its_own = std::ptr::eq(credential.as_ptr(), Arc::as_ptr(&account.credential));
            if !is_its_own {
                return;
            }
            if let Some(why) = why {
                account.live.failures.fetch_add(1, Ordering::Relaxed);
                account.live.rare.lock().last_error = Some(why.clone());
            }
            account.live.unblock(reason::RENEWAL & !blocks);
            self.changed(account, ticks, Some((blocks, true)));
        });
        is_its_own
    }

    pub(super) fn with_account(
        self: &Arc<Self>,
        id: &str,
        change: impl FnOnce(&Arc<Account>, u64),
    ) -> bool {
        let table = self.table.load();
        let Some(account) = table.find(id) else {
            return false;
        };
        let now = clock::now();
        change(account, self.ticks(now));
        self.serve_queue(now);
        true
    }

    /// Another strategy, from the next request on.
    pub fn set_strategy(self: &Arc<Self>, strategy: Strategy) {
        let settings = config::Pool {
            strategy,
            ..config::Pool::clone(&self.settings())
        };
        self.reconfigure(&settings);
    }
}
