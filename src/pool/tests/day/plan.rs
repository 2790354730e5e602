//! Who asks, and when: a day of requests, few of them at night and many at noon, and bursts.

use std::time::Duration;

use fastrand::Rng;

use super::DAY;

/// A burst comes so often, goes on so long, and is so many requests more each second.
const BURST_EVERY: u64 = 600;
const BURST_SECONDS: u64 = 15;
const BURST: f64 = 4.0;

/// One of the day's requests.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) at: Duration,
    /// How long its answer goes on behind the head.
    pub(super) takes: Duration,
    pub(super) key: u64,
    pub(super) tokens: u64,
    /// What it is taken for before its tokens are known.
    pub(super) estimate: u64,
}

/// A day's requests. `noon`: so many a second come at noon, beside the bursts.
pub(super) fn plans(rng: &mut Rng, noon: f64) -> Vec<Plan> {
    const NIGHT: f64 = 0.2;
    let mut plans = Vec::new();
    for second in 0..DAY.as_secs() {
        let time = second as f64 / DAY.as_secs_f64();
        let daily = (1.0 - (time * std::f64::consts::TAU).cos()) / 2.0;
        let is_burst = second % BURST_EVERY < BURST_SECONDS;
        let burst = if is_burst { BURST } else { 0.0 };
        let expected = NIGHT + (noon - NIGHT) * daily + burst;
        let count = expected as u32 + u32::from(rng.f64() < expected.fract());
        for _ in 0..count {
            let tokens = rng.u64(900..=1_100);
            plans.push(Plan {
                at: Duration::from_millis(second * 1000 + rng.u64(0..1000)),
                takes: Duration::from_millis(rng.u64(500..7_000)),
                key: rng.u64(0..20),
                tokens,
                estimate: tokens * rng.u64(10..40) / 10,
            });
        }
    }
    plans.sort_by_key(|plan| plan.at);
    plans
}
