//! What an account's own program does to it: without one that runs and is ready it takes no request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Pool;
use super::account::Account;
use super::lease::Lease;
use super::live::reason;

impl Pool {
    /// The account's program answers as it should: the account serves.
    pub fn program_up(self: &Arc<Self>, id: &str) {
        self.with_account(id, |account, ticks| {
            let live = &account.live;
            live.last_heartbeat.store(ticks.max(1), Ordering::Relaxed);
            // What the program before it did says nothing of this one.
            live.breaker.reset();
            let mut rare = live.rare.lock();
            rare.probed = true;
            (rare.probe_failures, rare.probe_successes) = (0, 1);
            drop(rare);
            live.unblock(reason::UNHEALTHY);
            self.changed(account, ticks, Some((reason::NO_PROGRAM, false)));
        });
    }

    /// The account's program is gone, or about to be: the account serves no more. `failure`: it
    /// was not meant to be, and why.
    pub fn program_down(self: &Arc<Self>, id: &str, failure: Option<&str>) {
        self.with_account(id, |account, ticks| {
            let mut rare = account.live.rare.lock();
            rare.probed = failure.is_some();
            if let Some(why) = failure {
                rare.mishaps += 1;
                rare.last_error = Some(why.to_owned());
            }
            drop(rare);
            self.changed(account, ticks, Some((reason::NO_PROGRAM, true)));
        });
    }
}

impl Account {
    /// Does it wait for its program?
    pub fn awaits_program(&self) -> bool {
        self.live.blocked() & reason::NO_PROGRAM != 0
    }

    /// Why its health check says that it cannot serve, if it does.
    pub fn health_failure(&self) -> Option<String> {
        let unhealthy = self.live.blocked() & reason::UNHEALTHY != 0;
        unhealthy.then(|| self.live.rare.lock().last_error.clone().unwrap_or_default())
    }

    /// Requests that it has in hand: those of tables before this one, and those of a gateway before
    /// this one that still finishes its own.
    pub fn places_held(&self) -> u32 {
        let elsewhere = self.live.elsewhere();
        self.live.in_flight().saturating_add(elsewhere)
    }
}

impl Lease {
    /// Says which request it is for, where somebody may ask what a program is doing.
    pub fn serves(&mut self, request_id: &str) {
        if self.account.config.instance.is_some() {
            let id: Arc<str> = request_id.into();
            self.account.live.rare.lock().current_request = Some(id.clone());
            self.request = Some(id);
        }
    }

    /// The request is over: unless another one came meanwhile, the program does nothing now.
    pub(super) fn forget_request(&mut self) {
        if let Some(mine) = self.request.take() {
            let current = &mut self.account.live.rare.lock().current_request;
            if current.as_ref().is_some_and(|id| Arc::ptr_eq(id, &mine)) {
                *current = None;
            }
        }
    }
}
