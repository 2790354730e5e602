//! Copies of live state for those who look on: the API, `status`, metrics, health.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account::Account;
use super::breaker::State;
use super::live::{Live, Rare, reason};
use super::view::{AccountView, BreakerView, CoolingModel, ResponseTimes, Status};
use super::{Pool, PoolView, QueueView};
use crate::clock::{Instant, Moment, SystemTime};
use crate::config::{self, Host};
use crate::credential;

impl Pool {
    /// All accounts, in the order of the configuration.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let table = self.table.load();
        table
            .settings
            .accounts
            .iter()
            .filter_map(|a| table.find(&a.id).cloned())
            .collect()
    }

    pub fn account_named(&self, id: &str) -> Option<Arc<Account>> {
        self.table.load().find(id).cloned()
    }

    /// The one word for the account's state, and since when it holds.
    pub fn status(&self, account: &Account, at: Moment) -> (Status, SystemTime) {
        let rare = account.live.rare.lock();
        (status(account, &rare), wall(self.at(rare.since), at))
    }

    pub fn view(&self, account: &Account, at: Moment) -> AccountView {
        let live = &account.live;
        let ticks = self.ticks(at.now);
        let time = |ticks: u64| wall(self.at(ticks), at);
        let counted = |value: &std::sync::atomic::AtomicU64| match value.load(Ordering::Relaxed) {
            0 => None,
            ticks => Some(time(ticks)),
        };
        let token = account.credential.state();
        let instance = account.config.instance.as_ref();
        let rare = live.rare.lock();
        let status = status(account, &rare);
        let waits = |why: u32, until: u64| (live.blocked() & why != 0).then_some(until);
        let cooling = waits(reason::COOLING, rare.cooling_until);
        let cooling = cooling.max(waits(reason::LIMITED, rare.limited_until));
        let is_limited = live.blocked() & reason::LIMITED != 0;
        let limited_by = rare.limited_by.clone().filter(|_| is_limited);
        let (since, last_error) = (rare.since, rare.last_error.clone());
        let (mishaps, current_request) = (rare.mishaps, rare.current_request.clone());
        drop(rare);
        let breaker = match live.breaker.state() {
            State::Closed => BreakerView::Closed,
            State::HalfOpen => BreakerView::HalfOpen,
            State::Open => BreakerView::Open {
                until: time(live.breaker.open_until().unwrap_or(ticks)),
            },
        };
        AccountView {
            id: account.config.id.clone(),
            pool: self.name.to_string(),
            status,
            since: time(since),
            until: account.recovers_at().filter(|at| *at != u64::MAX).map(time),
            last_error,
            enabled: live.blocked() & reason::DISABLED == 0,
            available: account.is_ready() || account.is_only_full(),
            weight: account.config.weight,
            priority: account.config.priority,
            in_flight: live.in_flight(),
            max_concurrent: account.config.max_concurrent,
            requests: live.requests.load(Ordering::Relaxed),
            successes: live.successes.load(Ordering::Relaxed),
            failures: live.failures.load(Ordering::Relaxed),
            tokens: live.tokens.load(Ordering::Relaxed),
            consecutive_failures: live.breaker.consecutive_failures(),
            breaker,
            cooling_until: cooling.map(time),
            cooling_models: self.cooling_models(account, at),
            limited_by,
            rate_limits: account
                .limits
                .iter()
                .flat_map(|it| it.levels(at.now))
                .collect(),
            last_used: counted(&live.last_used),
            last_success: counted(&live.last_success),
            last_failure: counted(&live.last_failure),
            last_heartbeat: counted(&live.last_heartbeat),
            response_ms: response_times(live),
            upstream_port: match account.config.upstream.host {
                Host::Tcp(_, port) => port,
                Host::Unix(_) => 0,
            },
            credential: credential::kind_name(&account.config.credential),
            token_expires_at: token.as_ref().and_then(|token| token.expires_at),
            token_granted_at: token.and_then(|token| token.granted_at),
            auth_file: instance.and_then(config::Instance::auth_file_name),
            mishaps,
            current_request,
            has_instance: instance.is_some(),
        }
    }

    fn cooling_models(&self, account: &Account, at: Moment) -> Vec<CoolingModel> {
        let ticks = self.ticks(at.now);
        let said = self.marks.of(account.slot).into_iter();
        let cooling = said.filter(|said| said.until > ticks).filter_map(|said| {
            Some(CoolingModel {
                model: said.model.name?,
                until: wall(self.at(said.until), at),
                for_limit: said.is_limit,
            })
        });
        let mut cooling: Vec<_> = cooling.collect();
        cooling.sort_by(|one, other| one.model.cmp(&other.model));
        cooling
    }

    pub fn summary(&self) -> PoolView {
        let table = self.table.load();
        let settings = &table.settings;
        PoolView {
            name: self.name.to_string(),
            strategy: settings.strategy.name(),
            breaker_enabled: settings.breaker.enabled,
            accounts: table.accounts().count(),
            available: table
                .accounts()
                .filter(|a| a.is_ready() || a.is_only_full())
                .count(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: self.queue.waiting(),
            max_waiting: settings.queue.max_waiting,
        }
    }

    /// Adds this pool's requests to those of others.
    pub fn add_to(&self, queue: &mut QueueView) {
        queue.waiting += self.queue.waiting() as u64;
        queue.active += u64::from(self.in_flight.load(Ordering::Relaxed));
        queue.completed += self.completed.load(Ordering::Relaxed);
        queue.failed += self.failed.load(Ordering::Relaxed);
    }

    /// Could some account serve, now or as soon as it is no longer full, limited or open?
    pub fn could_serve(&self) -> bool {
        const HOPELESS: u32 = reason::DISABLED
            | reason::DRAINING
            | reason::UNHEALTHY
            | reason::NEEDS_LOGIN
            | reason::RENEWAL
            | reason::NO_PROGRAM;
        self.table
            .load()
            .accounts()
            .any(|account| account.live.blocked() & HOPELESS == 0)
    }
}

pub(super) fn wall(at: Instant, moment: Moment) -> SystemTime {
    let ahead = at.saturating_duration_since(moment.now);
    let behind = moment.now.saturating_duration_since(at);
    (moment.wall + ahead)
        .checked_sub(behind)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The one word, the strongest reason first.
fn status(account: &Account, rare: &Rare) -> Status {
    let blocked = account.live.blocked();
    let has = |reason: u32| blocked & reason != 0;
    match account.live.breaker.state() {
        _ if has(reason::DRAINING) => Status::Draining,
        _ if has(reason::DISABLED) => Status::Disabled,
        _ if has(reason::NEEDS_LOGIN | reason::NO_LOGIN) => Status::NeedsLogin,
        // One that has not failed yet is on its way.
        _ if has(reason::NO_PROGRAM) && !rare.probed => Status::Unknown,
        _ if has(reason::UNHEALTHY | reason::NO_TOKEN | reason::NO_PROGRAM) => Status::Unhealthy,
        _ if has(reason::COOLING | reason::LIMITED) => Status::Cooling,
        State::Open => Status::Open,
        State::HalfOpen => Status::HalfOpen,
        State::Closed if account.is_only_full() => Status::Full,
        State::Closed if account.config.health_check.is_some() && !rare.probed => Status::Unknown,
        State::Closed => Status::Healthy,
    }
}

fn response_times(live: &Live) -> Option<ResponseTimes> {
    let (ewma, p50, p99) = live.response_ms()?;
    Some(ResponseTimes { ewma, p50, p99 })
}
