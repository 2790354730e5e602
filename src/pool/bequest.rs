//! What a gateway leaves to its successor: the live state of accounts, and the places that its last
//! requests still hold. Times are milliseconds from the moment of the copy, negative for the past.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::breaker;
use super::live::reason;
use super::{Pool, affinity, marks};
use crate::clock::Instant;
use crate::limit::{Kept, More};

/// Reasons for not serving that go along whatever the successor has read. A login that is needed goes
/// along where it has the same secret.
const KEPT: u32 = reason::DISABLED | reason::UNHEALTHY | reason::COOLING;

/// One account's live state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bequest {
    id: String,
    in_flight: u32,
    /// As the file said.
    enabled: bool,
    blocked: u32,
    needs_login: Option<NeedsLogin>,
    /// It serves through a program of its own, which runs on.
    through_program: bool,
    breaker: breaker::Saved,
    requests: u64,
    successes: u64,
    failures: u64,
    tokens: u64,
    auth_refusals: u32,
    last_used: Option<i64>,
    last_success: Option<i64>,
    last_failure: Option<i64>,
    last_error: Option<String>,
    since: i64,
    cooling: i64,
    cooling_for_limit: bool,
    expected_us: u64,
    /// Hash of a model, whether it is limited, and until when the account cannot serve it.
    #[serde(default)]
    marked: Vec<(u64, bool, i64)>,
    /// The names of those models, by their hashes, as far as they are known.
    #[serde(default)]
    model_names: HashMap<u64, String>,
    /// What it has used of its own limits.
    #[serde(default)]
    limits: Vec<Kept>,
    /// Callers who are at home here.
    #[serde(default)]
    homes: Vec<affinity::Kept>,
    /// Answers that it alone knows.
    #[serde(default)]
    answers: Vec<affinity::Kept>,
}

/// Of an account whose secret is refused.
#[derive(Debug, Serialize, Deserialize)]
struct NeedsLogin {
    /// Of the secret.
    fingerprint: Option<String>,
    /// When one request tries it again, if ever.
    tried_at: Option<i64>,
}

/// Requests in flight, by account; those with none are left out.
pub type Places = HashMap<String, u32>;

impl Pool {
    /// The state of all accounts, with at most so many callers who are at home there, and answers that go on
    /// there: those of whom it was heard last.
    pub fn bequeath(&self, callers: usize, now: Instant) -> Vec<Bequest> {
        let ticks = self.ticks(now);
        let table = self.table.load();
        let mut homes = self.table.load().homes.by_slot(callers, ticks);
        let mut answers = self.answers.by_slot(callers, ticks);
        let bequests = table.accounts().map(|account| Bequest {
            homes: homes.remove(&account.slot).unwrap_or_default(),
            answers: answers.remove(&account.slot).unwrap_or_default(),
            ..self.bequest(account, ticks)
        });
        bequests.collect()
    }

    /// All but those who are at home there.
    fn bequest(&self, account: &Arc<Account>, now: u64) -> Bequest {
        let live = &account.live;
        let from_now = |at: u64| at.cast_signed().saturating_sub(now.cast_signed());
        let happened = |at: &std::sync::atomic::AtomicU64| match at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(from_now(at)),
        };
        let rare = live.rare.lock();
        // Of a token that is renewed its renewal tells, in each process by itself.
        let is_refused = live.blocked() & reason::NEEDS_LOGIN != 0;
        let is_marked = is_refused && account.credential.state().is_none();
        let login = is_marked.then(|| NeedsLogin {
            fingerprint: account.credential.fingerprint(),
            tried_at: (rare.login_probe_at != u64::MAX).then(|| from_now(rare.login_probe_at)),
        });
        let marks = self.marks.of(account.slot);
        let names = marks
            .iter()
            .filter_map(|said| Some((said.model.id, said.model.name.as_deref()?.to_owned())));
        Bequest {
            id: account.config.id.clone(),
            in_flight: live.in_flight(),
            enabled: account.config.enabled,
            blocked: live.blocked() & KEPT,
            needs_login: login,
            through_program: account.config.instance.is_some() && !account.awaits_program(),
            breaker: live.breaker.save(now),
            requests: live.requests.load(Ordering::Relaxed),
            successes: live.successes.load(Ordering::Relaxed),
            failures: live.failures.load(Ordering::Relaxed),
            tokens: live.tokens.load(Ordering::Relaxed),
            auth_refusals: live.auth_refusals.load(Ordering::Relaxed),
            last_used: happened(&live.last_used),
            last_success: happened(&live.last_success),
            last_failure: happened(&live.last_failure),
            last_error: rare.last_error.clone(),
            since: from_now(rare.since),
            cooling: from_now(rare.cooling_until),
            cooling_for_limit: rare.cooling_for_limit,
            expected_us: live.expected_us(now),
            model_names: names.collect(),
            marked: marks
                .iter()
                .map(|said| (said.model.id, said.is_limit, from_now(said.until)))
                .collect(),
            limits: account
                .limits
                .iter()
                .flat_map(|it| it.kept(self.at(now)))
                .collect(),
            homes: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Takes over what a predecessor leaves to the accounts of this pool; the others are passed over.
    pub fn inherit(self: &Arc<Self>, left: &[Bequest], now: Instant) {
        let ticks = self.ticks(now);
        let table = self.table.load();
        for bequest in left {
            if let Some(account) = table.find(&bequest.id) {
                self.take_over(account, bequest, ticks);
            }
        }
        let places = left.iter().map(|left| (left.id.clone(), left.in_flight));
        self.held_elsewhere(&places.collect());
    }

    fn take_over(&self, account: &Arc<Account>, left: &Bequest, now: u64) {
        let live = &account.live;
        // Never 0, which stands for never.
        let at = |from_now: i64| now.saturating_add_signed(from_now).max(1);
        for (counter, value) in [
            (&live.requests, left.requests),
            (&live.successes, left.successes),
            (&live.failures, left.failures),
            (&live.tokens, left.tokens),
            (&live.last_used, left.last_used.map_or(0, at)),
            (&live.last_success, left.last_success.map_or(0, at)),
            (&live.last_failure, left.last_failure.map_or(0, at)),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
        live.auth_refusals
            .store(left.auth_refusals, Ordering::Relaxed);
        live.expect_us(left.expected_us, now);
        let mut rare = live.rare.lock();
        rare.last_error.clone_from(&left.last_error);
        rare.since = at(left.since);
        rare.cooling_until = at(left.cooling);
        rare.cooling_for_limit = left.cooling_for_limit;
        if let Some(login) = &left.needs_login
            && account.credential.state().is_none()
            && account.credential.fingerprint() == login.fingerprint
        {
            rare.login_probe_at = login.tried_at.map_or(u64::MAX, at);
            live.block(reason::NEEDS_LOGIN);
        }
        if left.through_program && account.awaits_program() {
            // From the first request on, and not once it was asked whether it is ready.
            (rare.probed, rare.probe_successes) = (true, 1);
            live.unblock(reason::NO_PROGRAM);
        }
        drop(rare);
        let mut blocked = left.blocked & KEPT;
        if left.enabled != account.config.enabled {
            // The file says something new, and that counts.
            blocked &= !reason::DISABLED;
        } else if blocked & reason::DISABLED == 0 {
            live.unblock(reason::DISABLED);
        }
        if account.config.health_check.is_none() {
            blocked &= !reason::UNHEALTHY;
        }
        live.block(blocked);
        live.breaker.restore(&left.breaker, now);
        for (model, is_limit, until) in left.marked.iter().take(marks::MOST) {
            let name = left.model_names.get(model).map(String::as_str);
            let model = marks::Model::told(*model, name);
            let marks = &self.marks;
            marks.mark(account.slot, &model, *is_limit, at(*until), now);
        }
        if let Some(limits) = &account.limits {
            limits.go_on(&left.limits, self.at(now));
        }
        self.take_in(account, &left.homes, &left.answers, now);
        // Whatever has to be looked at again is found by a look now.
        self.due.add(account.slot, now);
        self.publish(account);
    }

    /// Adds what the accounts have used of their limits beyond what was left to a successor then.
    pub fn used_since(&self, left: &[Bequest], then: Instant, now: Instant, more: &mut More) {
        let told: HashMap<&str, &[Kept]> =
            left.iter().map(|left| (&*left.id, &*left.limits)).collect();
        let since = now.saturating_duration_since(then);
        for account in self.table.load().accounts() {
            if let Some(limits) = &account.limits {
                let told = told.get(account.config.id.as_str());
                limits.more_than(told.copied().unwrap_or_default(), since, now, more);
            }
        }
    }

    /// A predecessor has used so much more of these limits. Takes out what is counted here.
    pub fn used_elsewhere(&self, more: &mut More, now: Instant) {
        let ticks = self.ticks(now);
        for account in self.table.load().accounts() {
            if let Some(limits) = &account.limits {
                limits.count_more(more, now);
                self.limits_due(account, ticks);
            }
        }
    }

    /// Adds the requests in flight of each account that has some.
    pub fn places(&self, into: &mut Places) {
        let table = self.table.load();
        for account in table.accounts() {
            let in_flight = account.live.in_flight();
            if in_flight > 0 {
                into.insert(account.config.id.clone(), in_flight);
            }
        }
    }

    /// Places that another process's requests hold.
    pub fn places_elsewhere(&self) -> u32 {
        self.elsewhere.load(Ordering::SeqCst)
    }

    /// Does another process still serve a request through this account, also one of no pool?
    pub fn is_held_elsewhere(&self, id: &str) -> bool {
        let known = self.account_named(id);
        known.is_some_and(|account| account.live.elsewhere() > 0)
            || self.strays.lock().contains_key(id)
    }

    /// So many places of these accounts are held by another process; of all others none are.
    pub fn held_elsewhere(self: &Arc<Self>, places: &Places) {
        let table = self.table.load();
        let mut all = 0u32;
        let is_shared = self.sharing.is_on();
        for account in table.accounts() {
            let held = places.get(&account.config.id).copied().unwrap_or(0);
            all = all.saturating_add(held);
            // Where gateways share the account, the other process has a share of its own.
            let held = if is_shared { 0 } else { held };
            if account.live.hold_elsewhere(held) {
                self.publish(account);
            }
        }
        self.elsewhere.store(all, Ordering::SeqCst);
        let strays = places
            .iter()
            .filter(|(id, _)| is_shared || table.find(id).is_none());
        let strays = strays.map(|(id, held)| (id.clone(), *held));
        *self.strays.lock() = strays.filter(|(_, held)| *held > 0).collect();
        self.serve_queue(crate::clock::now());
    }
}
