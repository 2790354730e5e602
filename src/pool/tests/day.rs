//! A day of a busy pool, ten times as fast: vendors with windows, a dead account, a flapping one, and
//! bursts. Nothing fails that somebody who knows all would have served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{Rig, SECOND, anything, limited};
use crate::clock::{self, Instant};
use crate::pool::{Cause, Demand, Lease, Outcome, Pool, Report, Retrying};

const DAY: Duration = Duration::from_secs(86_400 / 10);

/// The vendors' hour.
const WINDOW: u64 = 360;

/// Places of each account.
const PLACES: usize = 3;

const QUEUE: Duration = Duration::from_secs(30);

/// A vendor's head takes so long.
const HEAD: Duration = Duration::from_millis(300);

/// Which requests each vendor takes in a window; none: it is dead.
const LIMITS: [Option<u32>; 8] = [
    Some(60),
    Some(50),
    Some(80),
    None,
    Some(130),
    Some(160),
    Some(140),
    Some(360),
];

/// So many of the accounts keep to limits of their own, so that their vendors need not refuse.
const OWN_LIMITS: usize = 1;

/// The account that works for a minute and fails for one.
const FLAPS: usize = 6;

/// One of the day's requests.
#[derive(Clone, Copy)]
struct Plan {
    at: Duration,
    takes: Duration,
    key: u64,
}

/// A day's requests: fewer at night, and each ten minutes a burst.
fn plans(rng: &mut Rng) -> Vec<Plan> {
    let mut plans = Vec::new();
    for second in 0..DAY.as_secs() {
        let hour = second as f64 / DAY.as_secs_f64();
        let daily = 1.0 - (hour * std::f64::consts::TAU).cos();
        let burst = if second % 600 < 15 { 4.0 } else { 0.0 };
        let expected = 0.2 + 0.8 * daily + burst;
        let count = expected as u32 + u32::from(rng.f64() < expected.fract());
        for _ in 0..count {
            plans.push(Plan {
                at: Duration::from_millis(second * 1000 + rng.u64(0..1000)),
                takes: Duration::from_millis(rng.u64(500..7_000)),
                key: rng.u64(0..20),
            });
        }
    }
    plans.sort_by_key(|plan| plan.at);
    plans
}

/// What an account's vendor has taken in the window that runs.
#[derive(Clone, Default)]
struct Vendor {
    window: u64,
    used: u32,
}

/// Windows begin at other times with each account.
fn window(account: usize, at: Duration) -> (u64, Duration) {
    let begun = at.as_secs_f64() + 47.0 * account as f64;
    let window = (begun / WINDOW as f64) as u64;
    let end = (window + 1) as f64 * WINDOW as f64;
    (window, Duration::from_secs_f64(end - begun))
}

fn is_down(account: usize, at: Duration) -> bool {
    LIMITS[account].is_none() || (account == FLAPS && at.as_secs() / 60 % 2 == 1)
}

impl Vendor {
    /// Takes a request, or says when it will.
    fn take(&mut self, account: usize, at: Duration) -> Result<(), Duration> {
        let (window, rest) = window(account, at);
        if self.window != window {
            *self = Vendor { window, used: 0 };
        }
        if Some(self.used) >= LIMITS[account] {
            return Err(rest);
        }
        self.used += 1;
        Ok(())
    }
}

/// The requests that are served by somebody who knows which vendor works and what each has left, and
/// has nothing but places and time.
fn knowing_all(plans: &[Plan]) -> Vec<bool> {
    const STEP: Duration = Duration::from_millis(100);
    let mut served = vec![false; plans.len()];
    let mut vendors = vec![Vendor::default(); LIMITS.len()];
    let mut busy: Vec<Vec<Duration>> = vec![Vec::new(); LIMITS.len()];
    let mut waiting = VecDeque::new();
    let (mut next, mut now) = (0, Duration::ZERO);
    while now < DAY + QUEUE {
        while plans.get(next).is_some_and(|plan| plan.at <= now) {
            waiting.push_back(next);
            next += 1;
        }
        for places in &mut busy {
            places.retain(|until| *until > now);
        }
        waiting.retain(|nth: &usize| plans[*nth].at + QUEUE > now);
        while let Some(nth) = waiting.front().copied() {
            let mut usable: Vec<usize> = (0..LIMITS.len()).collect();
            usable.retain(|it| !is_down(*it, now + HEAD) && busy[*it].len() < PLACES);
            // What a window has left is lost at its end.
            usable.sort_by_key(|it| window(*it, now).1);
            let taken = usable
                .into_iter()
                .find(|it| vendors[*it].take(*it, now).is_ok());
            let Some(account) = taken else {
                break;
            };
            busy[account].push(now + HEAD + plans[nth].takes);
            served[nth] = true;
            waiting.pop_front();
        }
        now += STEP;
    }
    served
}

/// An account as it is configured.
fn account((n, limit): (usize, &Option<u32>)) -> String {
    let own = limit.filter(|_| n < OWN_LIMITS);
    let own = own.map_or(String::new(), |limit| {
        format!(", rate_limits: [{{requests: {limit}, window: {WINDOW}s}}]")
    });
    format!("id: account_{n}, max_concurrent: {PLACES}{own}")
}

struct Day {
    pool: Arc<Pool>,
    began: Instant,
    vendors: Mutex<Vec<Vendor>>,
    /// How often each outcome was met.
    met: Mutex<BTreeMap<&'static str, u32>>,
}

fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::NoneServes => "none serves",
        Cause::NoneUsable => "none usable",
        Cause::RateLimited => "all limited",
        Cause::Full | Cause::QueueFull => "full",
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

    fn met(&self, what: &'static str) {
        *self.met.lock().entry(what).or_default() += 1;
    }

    /// What the account's vendor answers.
    async fn answer(&self, account: usize) -> Outcome {
        if is_down(account, self.at()) {
            tokio::time::sleep(HEAD / 10).await;
            return Outcome::Transient;
        }
        let taken = self.vendors.lock()[account].take(account, self.at());
        tokio::time::sleep(HEAD).await;
        match taken {
            Err(rest) => limited(rest.saturating_sub(HEAD)),
            Ok(()) if is_down(account, self.at()) => Outcome::Transient,
            Ok(()) => Outcome::Success,
        }
    }

    /// A request as `proxy` makes it: three attempts, and a budget for those that fail.
    async fn serve(&self, plan: Plan) -> bool {
        const ATTEMPTS: usize = 3;
        let mut demand = Demand {
            key: plan.key,
            tokens: Some(1_000),
            ..anything()
        };
        let mut retrying: Option<Retrying> = None;
        self.pool.count_request(clock::now());
        for attempt in 1..=ATTEMPTS {
            let now = clock::now();
            let leased = self.pool.lease(&demand, now, now + QUEUE).await;
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(refusal) => {
                    self.met(name(refusal.cause));
                    return false;
                }
            };
            let account = lease.slot() as usize;
            let outcome = self.answer(account).await;
            let now = clock::now();
            self.met(outcome.label());
            if outcome == Outcome::Success {
                lease.first_byte(now);
                lease.answered(None, None, now);
                tokio::time::sleep(plan.takes).await;
                report(&mut lease, &outcome, clock::now());
                return true;
            }
            report(&mut lease, &outcome, now);
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
        self.met("gave up");
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_windows_bursts_and_broken_accounts_costs_no_request_that_could_be_served() {
    let mut rng = Rng::with_seed(7);
    let plans = plans(&mut rng);
    let accounts: Vec<String> = LIMITS.iter().enumerate().map(account).collect();
    let day = Arc::new(Day {
        pool: Rig::new("", &accounts).pool,
        began: clock::now(),
        vendors: Mutex::new(vec![Vendor::default(); LIMITS.len()]),
        met: Mutex::default(),
    });
    fastrand::seed(7);
    let mut running = JoinSet::new();
    for (nth, plan) in plans.iter().copied().enumerate() {
        let day = day.clone();
        running.spawn(async move {
            tokio::time::sleep_until((day.began + plan.at).into()).await;
            (nth, day.serve(plan).await)
        });
    }
    let mut served = vec![false; plans.len()];
    while let Some(ended) = running.join_next().await {
        let (nth, is_served) = ended.unwrap();
        served[nth] = is_served;
    }
    let could: Vec<bool> = knowing_all(&plans);
    let possible = could.iter().filter(|could| **could).count();
    let lost = served
        .iter()
        .zip(&could)
        .filter(|(is, could)| **could && !**is);
    let (lost, all) = (lost.count(), plans.len());
    let met = day.met.lock();
    let what = format!("{lost} of {all} lost, {possible} possible; met {met:?}");
    assert!(possible * 100 >= all * 99, "the day is too hard: {what}");
    assert!(met.get("rate_limited") > Some(&40), "too easy: {what}");
    assert!(met.get("transient") > Some(&20), "too easy: {what}");
    assert!(lost * 1000 <= all * 5, "{what}");
    let summary = day.pool.summary();
    assert_eq!((summary.waiting, summary.in_flight), (0, 0));
    assert!(clock::now() - day.began < DAY + QUEUE + 20 * SECOND);
}
