//! How fast those who wait are served: what a client that cannot wait here is told.

use std::time::Duration;

use crate::clock::Instant;

/// Of the average time between two, the latest one is so much.
const LATEST: f64 = 1.0 / 8.0;

/// The time between two who are served while others wait.
#[derive(Default)]
pub(super) struct Flow {
    /// When the last one was served, or the first one came.
    last: Option<Instant>,
    /// Moving average; none as long as nobody was served.
    between: Option<Duration>,
}

impl Flow {
    /// The first one waits: before, there was nothing to measure.
    pub(super) fn begin(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// One of those who wait is served.
    pub(super) fn departed(&mut self, now: Instant) {
        let since = self.since_last(now);
        let between = self.between.unwrap_or(since);
        self.between = Some(between.mul_f64(1.0 - LATEST) + since.mul_f64(LATEST));
        self.last = Some(now);
    }

    /// So long one waits behind so many others.
    pub(super) fn wait_behind(&self, others: usize, now: Instant) -> Duration {
        let usual = self.between.unwrap_or_default();
        // Where nobody was served for longer than usual, it goes slower by now.
        let between = usual.max(self.since_last(now));
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        between.saturating_mul(others.saturating_add(1))
    }

    fn since_last(&self, now: Instant) -> Duration {
        let last = self.last;
        last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_wait_follows_the_measured_rate() {
        let mut flow = Flow::default();
        let mut now = clock::now();
        assert_eq!(flow.wait_behind(9, now), Duration::ZERO);
        flow.begin(now);
        for _ in 0..100 {
            now += 2 * SECOND;
            flow.departed(now);
        }
        let wait = flow.wait_behind(9, now).as_secs_f64();
        assert!((wait - 20.0).abs() < 0.1, "{wait}");
        for _ in 0..100 {
            now += SECOND / 2;
            flow.departed(now);
        }
        let wait = flow.wait_behind(9, now).as_secs_f64();
        assert!((wait - 5.0).abs() < 0.1, "{wait}");
    }

    #[test]
    fn where_nobody_is_served_any_more_the_wait_grows() {
        let mut flow = Flow::default();
        let now = clock::now();
        flow.begin(now);
        flow.departed(now + SECOND);
        assert_eq!(flow.wait_behind(0, now + 8 * SECOND), 7 * SECOND);
        // A quiet hour in which nobody waited says nothing.
        flow.begin(now + 3600 * SECOND);
        assert_eq!(flow.wait_behind(0, now + 3600 * SECOND), SECOND);
    }
}
