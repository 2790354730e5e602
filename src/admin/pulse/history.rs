//! The last hour in numbers: of the gateway each ten seconds, of each account each two minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::Percentiles;
use crate::clock::{self, Instant, SystemTime};
use crate::pool::AccountView;
use crate::telemetry::Counts;

/// Between two points of the history, and how many there are.
const POINT: Duration = Duration::from_secs(10);
const POINTS: usize = 360;

/// The seconds that rates are made of.
const SECONDS: usize = 61;

/// Between two points of an account, and how many there are.
const SPARK: Duration = Duration::from_secs(120);
const SPARKS: usize = 30;

/// How the gateway stood at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: SystemTime,
    pub(super) counts: Counts,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
    pub(super) available: usize,
    pub(super) first_byte_ms: Option<Percentiles>,
}

#[derive(Default)]
pub(in crate::admin) struct History {
    /// The latest last.
    seconds: VecDeque<(Instant, Counts)>,
    points: VecDeque<Point>,
    /// When the last point was made, and the counts then.
    last: Option<(Instant, Counts)>,
}

struct Point {
    sample: Sample,
    /// Since the point before.
    done: Counts,
}

/// The last hour, the oldest point first.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(in crate::admin) struct Hour {
    /// Between two points.
    every_s: u64,
    points: Vec<HourPoint>,
}

/// `requests`, `errors` and `tokens` are of the span before it.
#[derive(Serialize, ToSchema)]
struct HourPoint {
    at: String,
    requests: u64,
    errors: u64,
    tokens: u64,
    first_byte_ms: Option<Percentiles>,
    in_flight: u64,
    waiting: u64,
    available: usize,
}

fn since(before: Counts, now: Counts) -> Counts {
    Counts {
        requests: now.requests.saturating_sub(before.requests),
        errors: now.errors.saturating_sub(before.errors),
        tokens: now.tokens.saturating_sub(before.tokens),
    }
}

impl History {
    pub(super) fn add(&mut self, now: Instant, sample: Sample) {
        if self.seconds.len() >= SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back((now, sample.counts));
        let (last, before) = *self.last.get_or_insert((now, sample.counts));
        if now.saturating_duration_since(last) < POINT {
            return;
        }
        self.last = Some((now, sample.counts));
        if self.points.len() >= POINTS {
            self.points.pop_front();
        }
        let done = since(before, sample.counts);
        self.points.push_back(Point { sample, done });
    }

    /// Nothing was known before the last look.
    pub(super) fn is_first(&self) -> bool {
        self.seconds.len() <= 1
    }

    /// Requests and errors a second over the last `span`.
    pub(super) fn per_second(&self, span: Duration) -> (f64, f64) {
        let (done, seconds) = self.done_in(span);
        (per(done.requests, seconds), per(done.errors, seconds))
    }

    pub(super) fn tokens_per_minute(&self) -> f64 {
        let (done, seconds) = self.done_in(Duration::from_secs(60));
        per(done.tokens, seconds / 60.0)
    }

    fn done_in(&self, span: Duration) -> (Counts, f64) {
        let Some((now, counts)) = self.seconds.back() else {
            return (Counts::default(), 0.0);
        };
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let mut known = self.seconds.iter();
        // A look comes a little early or late.
        let most = span + Duration::from_millis(500);
        let from = known.find(|(at, _)| age(at) <= most);
        let (at, before) = from.unwrap_or(&self.seconds[0]);
        (since(*before, *counts), age(at).as_secs_f64())
    }

    pub(super) fn shown(&self) -> Hour {
        let point = |Point { sample, done }: &Point| HourPoint {
            at: clock::rfc3339(sample.at),
            requests: done.requests,
            errors: done.errors,
            tokens: done.tokens,
            first_byte_ms: sample.first_byte_ms,
            in_flight: sample.in_flight,
            waiting: sample.waiting,
            available: sample.available,
        };
        Hour {
            every_s: POINT.as_secs(),
            points: self.points.iter().map(point).collect(),
        }
    }
}

/// To the hundredth: more digits say nothing.
fn per(count: u64, span: f64) -> f64 {
    match span > 0.0 {
        true => (count as f64 / span * 100.0).round() / 100.0,
        false => 0.0,
    }
}

/// What became of each account's attempts.
#[derive(Default)]
pub(super) struct Sparks {
    last: Option<Instant>,
    accounts: HashMap<String, Spark>,
}

#[derive(Default)]
struct Spark {
    seen: (u64, u64),
    /// Successes and failures; the latest last.
    points: VecDeque<(u32, u32)>,
}

/// An account's last hour, the oldest first.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(in crate::admin) struct Recent {
    every_s: u64,
    successes: Vec<u32>,
    failures: Vec<u32>,
}

impl Spark {
    /// (successes, failures) since the last step.
    fn since(&self, view: &AccountView) -> (u32, u32) {
        let less = |now: u64, seen: u64| now.saturating_sub(seen).min(u32::MAX.into()) as u32;
        let (successes, failures) = self.seen;
        (
            less(view.successes, successes),
            less(view.failures, failures),
        )
    }
}

impl Sparks {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let age = |last| now.saturating_duration_since(last);
        self.last.is_none_or(|last| age(last) >= SPARK)
    }

    pub(super) fn add(&mut self, now: Instant, views: &[AccountView]) {
        self.last = Some(now);
        let mut before = std::mem::take(&mut self.accounts);
        for view in views {
            let known = before.remove(&view.id);
            let is_new = known.is_none();
            let mut spark = known.unwrap_or_default();
            if !is_new {
                spark.points.push_back(spark.since(view));
            }
            // With the step under way they are an hour.
            if spark.points.len() >= SPARKS {
                spark.points.pop_front();
            }
            spark.seen = (view.successes, view.failures);
            self.accounts.insert(view.id.clone(), spark);
        }
    }

    /// The last step is the one under way.
    pub(super) fn of(&self, view: &AccountView) -> Option<Recent> {
        let spark = self.accounts.get(&view.id)?;
        let points = spark.points.iter().copied();
        let points = points.chain([spark.since(view)]);
        let (successes, failures) = points.unzip();
        Some(Recent {
            every_s: SPARK.as_secs(),
            successes,
            failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{History, POINT, Sample};
    use crate::clock;
    use crate::telemetry::Counts;
    use std::time::Duration;

    #[test]
    fn rates_are_those_of_late_and_each_ten_seconds_are_a_point() {
        let (mut history, began) = (History::default(), clock::moment());
        for second in 0..=30 {
            let counts = Counts {
                requests: second * 20,
                errors: second.saturating_sub(25) * 5,
                tokens: second * 100,
            };
            let sample = Sample {
                at: began.wall,
                counts,
                in_flight: 3,
                waiting: 0,
                available: 2,
                first_byte_ms: None,
            };
            history.add(began.now + Duration::from_secs(second), sample);
        }
        assert_eq!(history.per_second(Duration::from_secs(5)), (20.0, 5.0));
        assert_eq!(history.tokens_per_minute(), 6_000.0);
        let json = serde_json::json!(history.shown());
        assert_eq!(json["every_s"], POINT.as_secs());
        let requests: Vec<u64> = json["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["requests"].as_u64().unwrap())
            .collect();
        assert_eq!(requests, [200, 200, 200]);
    }
}
