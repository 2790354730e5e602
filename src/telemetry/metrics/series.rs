//! What one account and one pool count: handles to their series, found once and kept.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use crate::dialect::Usage;

/// The families that labels are looked up in.
pub(super) struct Series {
    pub(super) requests: IntCounterVec,
    pub(super) durations: HistogramVec,
    pub(super) first_bytes: HistogramVec,
    pub(super) error_answers: IntCounterVec,
    pub(super) breaker_opened: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) budget_exhausted: IntCounterVec,
    pub(super) queue_waited: HistogramVec,
    pub(super) queue_rejected: IntCounterVec,
    pub(super) token_refreshes: IntCounterVec,
    pub(super) probes: IntCounterVec,
    pub(super) instance_restarts: IntCounterVec,
    pub(super) key_rejections: IntCounterVec,
    pub(super) slot_rotations: IntCounterVec,
    pub(super) tokens: IntCounterVec,
    pub(super) reloads: IntCounterVec,
    pub(super) store_errors: IntCounterVec,
    pub(super) notices_dropped: IntCounterVec,
}

/// The series of one label set, found once.
type Cell<M> = OnceLock<M>;

/// Counters of one account.
pub struct AccountMetrics {
    id: String,
    pool: String,
    outcomes: &'static [&'static str],
    series: Arc<Series>,
    requests: Box<[Cell<IntCounter>]>,
    durations: Cell<Histogram>,
    first_bytes: Cell<Histogram>,
    tokens: [Cell<IntCounter>; 3],
    error_answers: Cell<IntCounter>,
    breaker_opened: Cell<IntCounter>,
    /// Held while a series is made, so that none is made once it is true.
    forgotten: Mutex<bool>,
}

const TOKEN_KINDS: [&str; 3] = ["input", "output", "cached"];

impl AccountMetrics {
    pub(super) fn new(
        id: &str,
        pool: &str,
        outcomes: &'static [&'static str],
        series: Arc<Series>,
    ) -> Self {
        AccountMetrics {
            id: id.to_owned(),
            pool: pool.to_owned(),
            outcomes,
            series,
            requests: outcomes.iter().map(|_| Cell::new()).collect(),
            durations: Cell::new(),
            first_bytes: Cell::new(),
            tokens: Default::default(),
            error_answers: Cell::new(),
            breaker_opened: Cell::new(),
            forgotten: Mutex::new(false),
        }
    }

    pub(super) fn is_of(&self, pool: &str) -> bool {
        self.pool == pool
    }

    /// A request is over. An `outcome` beyond the labels counts nothing.
    pub fn request(&self, outcome: usize, took: Duration) {
        let (Some(cell), Some(label)) = (self.requests.get(outcome), self.outcomes.get(outcome))
        else {
            return;
        };
        self.with(
            cell,
            &self.series.requests,
            &[&self.id, &self.pool, label],
            IntCounter::inc,
        );
        let seconds = took.as_secs_f64();
        self.with(&self.durations, &self.series.durations, &[&self.id], |h| {
            h.observe(seconds)
        });
    }

    /// The first byte of an answer arrived this long after the request.
    pub fn first_byte(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.with(
            &self.first_bytes,
            &self.series.first_bytes,
            &[&self.id],
            |h| h.observe(seconds),
        );
    }

    pub fn tokens(&self, usage: &Usage) {
        let amounts = [usage.input, usage.output, usage.cached];
        for ((cell, kind), amount) in self.tokens.iter().zip(TOKEN_KINDS).zip(amounts) {
            if amount > 0 {
                self.with(cell, &self.series.tokens, &[&self.id, kind], |c| {
                    c.inc_by(amount)
                });
            }
        }
    }

    /// The vendor itself said that it failed.
    pub fn error_answer(&self) {
        self.with(
            &self.error_answers,
            &self.series.error_answers,
            &[&self.id],
            IntCounter::inc,
        );
    }

    pub fn breaker_opened(&self) {
        self.with(
            &self.breaker_opened,
            &self.series.breaker_opened,
            &[&self.id],
            IntCounter::inc,
        );
    }

    /// A health probe was answered as expected, or not.
    pub fn probe(&self, good: bool) {
        self.with(
            &Cell::new(),
            &self.series.probes,
            &[&self.id, outcome(good)],
            IntCounter::inc,
        );
    }

    /// The account's program was started again.
    pub fn instance_restarted(&self) {
        self.with(
            &Cell::new(),
            &self.series.instance_restarts,
            &[&self.id],
            IntCounter::inc,
        );
    }

    /// The token was renewed, or not.
    pub fn token_refresh(&self, good: bool) {
        let labels = [self.id.as_str(), outcome(good)];
        self.with(
            &Cell::new(),
            &self.series.token_refreshes,
            &labels,
            IntCounter::inc,
        );
    }

    fn with<B: MetricVecBuilder>(
        &self,
        cell: &Cell<B::M>,
        vec: &MetricVec<B>,
        labels: &[&str],
        change: impl FnOnce(&B::M),
    ) {
        if let Some(series) = cell.get() {
            return change(series);
        }
        let forgotten = self.forgotten.lock();
        if !*forgotten {
            change(cell.get_or_init(|| vec.with_label_values(labels)));
        }
    }

    /// Takes the series out; none is made again.
    pub(super) fn forget(&self) {
        let mut forgotten = self.forgotten.lock();
        *forgotten = true;
        let (id, s) = (self.id.as_str(), &*self.series);
        for label in self.outcomes {
            // An error says that the series never came into being.
            let _ = s.requests.remove_label_values(&[id, &self.pool, label]);
        }
        for kind in TOKEN_KINDS {
            let _ = s.tokens.remove_label_values(&[id, kind]);
        }
        for label in [outcome(true), outcome(false)] {
            let _ = s.probes.remove_label_values(&[id, label]);
            let _ = s.token_refreshes.remove_label_values(&[id, label]);
        }
        let _ = s.durations.remove_label_values(&[id]);
        let _ = s.first_bytes.remove_label_values(&[id]);
        let _ = s.instance_restarts.remove_label_values(&[id]);
        let _ = s.error_answers.remove_label_values(&[id]);
        let _ = s.breaker_opened.remove_label_values(&[id]);
    }
}

/// Counters of one pool.
pub struct PoolMetrics {
    name: String,
    outcomes: &'static [&'static str],
    series: Arc<Series>,
    retries: Box<[Cell<IntCounter>]>,
    budget_exhausted: IntCounter,
    queue_waited: Histogram,
}

impl PoolMetrics {
    pub(super) fn new(name: &str, outcomes: &'static [&'static str], series: Arc<Series>) -> Self {
        // There from the start, so that the first one is seen as an increase.
        for reason in ["full", "timeout"] {
            series.queue_rejected.with_label_values(&[name, reason]);
        }
        PoolMetrics {
            name: name.to_owned(),
            outcomes,
            retries: outcomes.iter().map(|_| Cell::new()).collect(),
            budget_exhausted: series.budget_exhausted.with_label_values(&[name]),
            queue_waited: series.queue_waited.with_label_values(&[name]),
            series,
        }
    }

    /// Another account is tried because of this outcome of the last one.
    pub fn retry(&self, outcome: usize) {
        if let (Some(cell), Some(label)) = (self.retries.get(outcome), self.outcomes.get(outcome)) {
            cell.get_or_init(|| {
                self.series
                    .retries
                    .with_label_values(&[self.name.as_str(), label])
            })
            .inc();
        }
    }

    /// A retry was left out because too many failed.
    pub fn retry_budget_exhausted(&self) {
        self.budget_exhausted.inc();
    }

    /// A request got its account after waiting this long.
    pub fn queued(&self, waited: Duration) {
        self.queue_waited.observe(waited.as_secs_f64());
    }

    /// A request got no account. `reason` is one of a few fixed words.
    pub fn queue_rejected(&self, reason: &'static str) {
        self.series
            .queue_rejected
            .with_label_values(&[self.name.as_str(), reason])
            .inc();
    }
}

/// The word for what can only go well or not.
pub(super) fn outcome(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}
