//! A day of a busy pool, ten times as fast: vendors with windows, a dead account, a flapping one, and
//! bursts. Nothing fails that somebody who knows all would have served.

mod knowing;
mod plan;
mod vendors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{Rig, SECOND, anything, limited};
use crate::clock::{self, Instant};
use crate::pool::{Cause, Demand, Lease, Moment, Outcome, Pool, Report, Retrying};
use plan::Plan;
use vendors::{HEAD, HOUR, LAWS, Law, Vendor};

const DAY: Duration = Duration::from_secs(86_400 / 10);

/// Places of each account.
const PLACES: usize = 3;

/// The pool's `queue.timeout` and `retry.attempts`, as they are by default.
const QUEUE: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 3;

/// An account as it is configured.
fn account((n, (law, weight)): (usize, &(Law, u32))) -> String {
    let limit =
        |what: &str, most: u64| format!(", rate_limits: [{{{what}: {most}, window: {HOUR}s}}]");
    let own = match law {
        Law::Requests(most) => limit("requests", *most),
        Law::Tokens(most) => limit("tokens", *most),
        Law::Unsaid(_) | Law::Said(_) | Law::Dead => String::new(),
    };
    format!("id: account_{n}, weight: {weight}, max_concurrent: {PLACES}{own}")
}

struct Day {
    pool: Arc<Pool>,
    began: Instant,
    vendors: Mutex<Vec<Vendor>>,
    seen: Mutex<Seen>,
}

/// What was seen of the day.
#[derive(Default)]
struct Seen {
    /// How often each outcome was met.
    outcomes: BTreeMap<&'static str, u32>,
    /// In the seconds in which somebody waited, the states of accounts that could have served.
    could: BTreeMap<&'static str, u32>,
    /// Most who waited.
    waiting: usize,
}

fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::NoneServes => "none serves",
        Cause::NoneUsable => "none usable",
        Cause::RateLimited => "all limited",
        Cause::Full => "full",
        Cause::QueueFull => "the queue is full",
        Cause::QueueTimeout => "waited too long",
        Cause::AllTried => "all tried",
    }
}

fn report(lease: &mut Lease, outcome: &Outcome, now: Instant) {
    let about = Report {
        model: None,
        detail: "a test",
        counts: true,
    };
    lease.report(outcome, &about, now);
}

impl Day {
    fn at(&self) -> Duration {
        clock::now() - self.began
    }

    /// What the account's vendor answers, and how long it says that it takes no more.
    async fn answer(&self, account: usize, plan: &Plan) -> (Outcome, Option<Duration>) {
        let vendor = || parking_lot::MutexGuard::map(self.vendors.lock(), |all| &mut all[account]);
        if vendor().is_down(self.at()) {
            tokio::time::sleep(HEAD / 10).await;
            return (Outcome::Transient, None);
        }
        let taken = vendor().take(plan, self.at());
        tokio::time::sleep(HEAD).await;
        match taken {
            Err(rest) => (limited(rest.saturating_sub(HEAD)), None),
            Ok(_) if vendor().is_down(self.at()) => {
                vendor().ended(plan, self.at());
                (Outcome::Transient, None)
            }
            Ok(rest) => (Outcome::Success, rest.map(|rest| rest.saturating_sub(HEAD))),
        }
    }

    /// A request as `proxy` makes it: three attempts, and a budget for those that fail. Returns what it met
    /// if it is not served.
    async fn serve(&self, plan: Plan) -> Option<String> {
        let mut demand = Demand {
            key: plan.key,
            tokens: Some(plan.estimate),
            ..anything()
        };
        let mut retrying: Option<Retrying> = None;
        let mut met = Vec::new();
        self.pool.count_request(clock::now());
        let deadline = clock::now() + QUEUE;
        for attempt in 1..=ATTEMPTS {
            let leased = self.pool.lease(&demand, clock::now(), deadline).await;
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(refusal) => {
                    met.push(name(refusal.cause));
                    return Some(met.join(", "));
                }
            };
            lease.sent();
            let account = lease.slot() as usize;
            let (outcome, rest) = self.answer(account, &plan).await;
            let now = clock::now();
            *self
                .seen
                .lock()
                .outcomes
                .entry(outcome.label())
                .or_default() += 1;
            if outcome == Outcome::Success {
                lease.first_byte(now);
                lease.answered(rest, None, now);
                tokio::time::sleep(plan.takes).await;
                lease.came_to(plan.tokens);
                self.vendors.lock()[account].ended(&plan, self.at());
                report(&mut lease, &outcome, clock::now());
                return None;
            }
            report(&mut lease, &outcome, now);
            met.push(outcome.label());
            demand.again = true;
            let failed = outcome == Outcome::Transient;
            if let Some(retrying) = retrying.take().filter(|_| failed) {
                retrying.failed(now);
            }
            if failed {
                demand.tried.push(lease.slot());
                retrying = self.pool.retry(now);
                if retrying.is_none() || attempt == ATTEMPTS {
                    break;
                }
            }
        }
        met.push("gave up");
        Some(met.join(", "))
    }

    /// Looks at the accounts, where somebody waits for one.
    fn look(&self) {
        let waiting = self.pool.summary().waiting;
        if waiting == 0 {
            return;
        }
        let any = Plan {
            at: self.at(),
            takes: SECOND,
            key: 0,
            tokens: 1_000,
            estimate: 1_000,
        };
        let at = Moment {
            now: clock::now(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let mut seen = self.seen.lock();
        seen.waiting = seen.waiting.max(waiting);
        for (n, vendor) in self.vendors.lock().iter_mut().enumerate() {
            if vendor.is_down(any.at) || vendor.used(&any, any.at) > 1.0 {
                continue;
            }
            let account = self.pool.account_named(&format!("account_{n}")).unwrap();
            let view = self.pool.view(&account, at);
            let limited = view.limited_by.map(|_| "at its own limit");
            *seen
                .could
                .entry(limited.unwrap_or(view.status.name()))
                .or_default() += 1;
        }
    }
}

/// Lives through a day. Returns what each request met that was not served.
async fn live(keys: &str, plans: &[Plan], seed: u64) -> (Arc<Day>, Vec<Option<String>>) {
    let accounts: Vec<String> = LAWS.iter().enumerate().map(account).collect();
    let began = clock::now();
    let day = Arc::new(Day {
        pool: Rig::new(keys, &accounts).pool,
        began,
        vendors: Mutex::new(Vendor::all(began)),
        seen: Mutex::default(),
    });
    fastrand::seed(seed);
    let mut running = JoinSet::new();
    for (nth, plan) in plans.iter().copied().enumerate() {
        let day = day.clone();
        running.spawn(async move {
            tokio::time::sleep_until((day.began + plan.at).into()).await;
            (nth, day.serve(plan).await)
        });
    }
    let mut looks = tokio::time::interval(SECOND);
    let mut failed = vec![None; plans.len()];
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(ended) => {
                    let (nth, why) = ended.unwrap();
                    failed[nth] = why;
                }
                None => return (day, failed),
            },
            _ = looks.tick() => day.look(),
        }
    }
}

/// Lives through some days with so many requests a second at noon. Of those that somebody who knows all
/// would have served, at most one in 200 may be lost.
async fn assert_nothing_is_lost(keys: &str, noon: f64, seeds: &[u64]) {
    for seed in seeds.iter().copied() {
        let plans = plan::plans(&mut Rng::with_seed(seed), noon);
        let (day, failed) = live(keys, &plans, seed).await;
        let could = knowing::served(&plans);
        let mut why: BTreeMap<&str, u32> = BTreeMap::new();
        let lost = failed.iter().zip(&could).filter(|(_, could)| **could);
        for met in lost.filter_map(|(met, _)| met.as_deref()) {
            *why.entry(met).or_default() += 1;
        }
        let (lost, all) = (why.values().sum::<u32>() as usize, plans.len());
        let possible = could.iter().filter(|could| **could).count();
        let seen = day.seen.lock();
        let met = |outcome| seen.outcomes.get(outcome).copied().unwrap_or_default();
        let what = format!(
            "seed {seed}, {noon} a second: {lost} of {all} lost, {possible} were possible; {why:?}; {:?}; \
             at most {} waited, when somebody did, accounts could have served that were {:?}",
            seen.outcomes, seen.waiting, seen.could
        );
        println!("{what}");
        assert!(possible * 1000 >= all * 999, "the day is too hard: {what}");
        assert!(met("rate_limited") >= 10, "too easy: {what}");
        assert!(met("transient") >= 100, "too easy: {what}");
        assert!(seen.waiting >= 40, "too easy: {what}");
        assert!(lost * 1000 <= all * 5, "{what}");
        let summary = day.pool.summary();
        assert_eq!((summary.waiting, summary.in_flight), (0, 0));
        assert!(day.at() < DAY + QUEUE + 20 * SECOND);
    }
}

/// The accounts let 2.35 requests a second through. At noon 2.0 come, and 6.0 in each burst; up to 60 wait.
///
/// At most 0.14 % are lost, all of them in the queue. What the pool does not know is when the flapping
/// account works again: by the breaker's defaults it is asked 30 s, and then 60 s, after it began to fail, and
/// by then half of its next good minute is over. With 2.1 a second that loses 0.4 %, with 2.2 1.3 %, with
/// 2.4 3.3 %; the next test shows that nearly all of it is the breaker's.
#[tokio::test(start_paused = true)]
async fn a_day_of_windows_bursts_and_broken_accounts_costs_no_request_that_could_be_served() {
    assert_nothing_is_lost("", 2.0, &[7, 8, 9]).await;
}

/// The same where the breaker tries again each second: 2.2 a second at noon, which with the bursts is 98 %
/// of all that the accounts let through. Up to 2.1 nothing is lost, with 2.2 at most 0.38 %.
///
/// The rest is what the pool is not told: when a vendor's hour ends and what it has left. So it cannot
/// save an account whose hour goes on for long and use up one whose hour ends soon; with 2.4 a second, more
/// than the accounts let through, that loses 1.4 %.
#[tokio::test(start_paused = true)]
async fn nearly_all_that_accounts_let_through_is_used_where_breakers_look_often() {
    let keys = "breaker: {open_for: 1s, open_for_max: 1s},";
    assert_nothing_is_lost(keys, 2.2, &[7, 8]).await;
}
