//! The counters of this process, in a registry of its own, and their text for Prometheus.
//!
//! A request holds an [`AccountMetrics`] and a [`PoolMetrics`]: what it counts there costs a few
//! atomic additions. Series come into being with their first value, so that a thousand idle
//! accounts do not make a scrape long.

mod families;
mod live;
mod old_names;
mod process;
mod series;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

pub use families::Family;
pub use live::{AccountLive, BreakerLive, Live, PoolLive};
pub use series::{AccountMetrics, PoolMetrics};
pub use traffic::Counts;
use traffic::Traffic;

use families::gauge;
use series::{Series, outcome};

/// The values of `poolgate_responses_total{class}`.
const CLASSES: [&str; 7] = ["1xx", "2xx", "3xx", "4xx", "429", "5xx", "none"];

/// All metrics of this process.
pub struct Metrics {
    /// For whoever looks on; what Prometheus reads is in `series`.
    pub traffic: Traffic,
    registry: Registry,
    series: Arc<Series>,
    responses: [IntCounter; CLASSES.len()],
    last_reload: IntGauge,
    panics: IntCounter,
    usage_lost: IntCounter,
    request_rows_skipped: IntCounter,
    accounts: Mutex<HashMap<String, Arc<AccountMetrics>>>,
    pools: Mutex<HashMap<String, Arc<PoolMetrics>>>,
    version: String,
    started: SystemTime,
}

impl Metrics {
    /// Name, help and labels of each metric (without `process_*` and the older pool's names).
    pub const NAMES: &'static [Family] = families::ALL;

    /// Fails only if the table of names is wrong.
    pub fn new(version: &str, started: SystemTime) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |family: &Family| {
            let vec = IntCounterVec::new(Opts::new(family.name, family.help), family.labels)?;
            register(&registry, vec)
        };
        let histogram = |family: &Family, buckets: &[f64]| {
            let opts = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(opts, family.labels)?)
        };
        let series = Series {
            requests: counter(&families::REQUESTS)?,
            durations: histogram(&families::DURATIONS, families::DURATION)?,
            first_bytes: histogram(&families::FIRST_BYTES, families::FIRST_BYTE)?,
            error_answers: counter(&families::ERROR_ANSWERS)?,
            breaker_opened: counter(&families::BREAKER_OPENED)?,
            retries: counter(&families::RETRIES)?,
            budget_exhausted: counter(&families::BUDGET_EXHAUSTED)?,
            queue_waited: histogram(&families::QUEUE_WAITED, families::QUEUE_WAIT)?,
            queue_rejected: counter(&families::QUEUE_REJECTED)?,
            token_refreshes: counter(&families::TOKEN_REFRESHES)?,
            probes: counter(&families::PROBES)?,
            instance_restarts: counter(&families::INSTANCE_RESTARTS)?,
            key_rejections: counter(&families::KEY_REJECTIONS)?,
            slot_rotations: counter(&families::SLOT_ROTATIONS)?,
            tokens: counter(&families::TOKENS)?,
            reloads: counter(&families::RELOADS)?,
            store_errors: counter(&families::STORE_ERRORS)?,
            notices_dropped: counter(&families::NOTICES_DROPPED)?,
        };
        let responses = counter(&families::RESPONSES)?;
        let last_reload = IntGauge::new(families::LAST_RELOAD.name, families::LAST_RELOAD.help)?;
        last_reload.set(1);
        let panics = IntCounter::new(families::PANICS.name, families::PANICS.help)?;
        let lost = IntCounter::new(families::USAGE_LOST.name, families::USAGE_LOST.help)?;
        let skipped = &families::REQUEST_ROWS_SKIPPED;
        let skipped = IntCounter::new(skipped.name, skipped.help)?;
        Ok(Metrics {
            traffic: Traffic::default(),
            responses: CLASSES.map(|class| responses.with_label_values(&[class])),
            usage_lost: register(&registry, lost)?,
            request_rows_skipped: register(&registry, skipped)?,
            panics: register(&registry, panics)?,
            last_reload: register(&registry, last_reload)?,
            registry,
            series: Arc::new(series),
            accounts: Mutex::default(),
            pools: Mutex::default(),
            version: version.to_owned(),
            started,
        })
    }

    /// The counters of one account, the same for each call. `outcomes` names what
    /// [`AccountMetrics::request`] is told by index. An account that moved to another pool is
    /// forgotten first.
    pub fn account(
        &self,
        id: &str,
        pool: &str,
        outcomes: &'static [&'static str],
    ) -> Arc<AccountMetrics> {
        let mut accounts = self.accounts.lock();
        if let Some(known) = accounts.get(id) {
            if known.is_of(pool) {
                return known.clone();
            }
            known.forget();
        }
        let made = Arc::new(AccountMetrics::new(id, pool, outcomes, self.series.clone()));
        accounts.insert(id.to_owned(), made.clone());
        made
    }

    /// The counters of one pool, the same for each call.
    pub fn pool(&self, name: &str, outcomes: &'static [&'static str]) -> Arc<PoolMetrics> {
        let mut pools = self.pools.lock();
        if let Some(known) = pools.get(name) {
            return known.clone();
        }
        let made = Arc::new(PoolMetrics::new(name, outcomes, self.series.clone()));
        pools.insert(name.to_owned(), made.clone());
        made
    }

    /// Takes an account's series out, for good: what requests still in flight count is not shown.
    pub fn forget_account(&self, id: &str) {
        if let Some(known) = self.accounts.lock().remove(id) {
            known.forget();
        }
    }

    /// A client got an answer of this status; 0: none.
    pub fn responded(&self, status: u16) {
        let class = match status {
            429 => 4,
            100..400 => usize::from(status / 100) - 1,
            400..500 => 3,
            500..600 => 5,
            _ => 6,
        };
        self.responses[class].inc();
    }

    /// A request was refused because of its key. `reason` is one of a few fixed words.
    pub fn key_rejected(&self, reason: &'static str) {
        self.series
            .key_rejections
            .with_label_values(&[reason])
            .inc();
    }

    /// A key of this tier gave its account up and got one, perhaps the same.
    pub fn slot_rotated(&self, tier: &str) {
        self.series.slot_rotations.with_label_values(&[tier]).inc();
    }

    /// The configuration was read anew, and taken over or not.
    pub fn config_reloaded(&self, taken: bool) {
        self.series
            .reloads
            .with_label_values(&[outcome(taken)])
            .inc();
        self.last_reload.set(i64::from(taken));
    }

    /// Something kept could not be read or written. Both are of a few fixed words.
    pub fn store_error(&self, store: &'static str, operation: &'static str) {
        self.series
            .store_errors
            .with_label_values(&[store, operation])
            .inc();
    }

    /// So many requests are missing in the records of usage.
    pub fn usage_lost(&self, requests: u64) {
        self.usage_lost.inc_by(requests);
    }

    /// A request counts, and will not be among those that are shown later.
    pub fn request_row_skipped(&self) {
        self.request_rows_skipped.inc();
    }

    /// A webhook was not told of something. `reason` is one of a few fixed words.
    pub fn notice_dropped(&self, reason: &'static str) {
        self.series
            .notices_dropped
            .with_label_values(&[reason])
            .inc();
    }

    /// Something panicked.
    pub(in crate::telemetry) fn panicked(&self) {
        self.panics.inc();
    }

    /// The text for Prometheus (exposition format 0.0.4), with the state that is true just now.
    /// `old_names` adds the ten metrics of the older pool.
    pub fn encode(&self, live: &Live, old_names: bool) -> String {
        let mut all = self.registry.gather();
        all.extend(live.families());
        all.extend(gauge(&families::BUILD, [([self.version.as_str()], 1.0)]));
        if old_names {
            all.extend(old_names::derive(&all));
        }
        all.extend(process::collect(self.started));
        all.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = String::new();
        if let Err(e) = TextEncoder::new().encode_utf8(&all, &mut text) {
            tracing::error!("metrics could not be written whole: {e}");
        }
        text
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
