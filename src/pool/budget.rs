//! How many retries may fail: a share of the requests of the last ten seconds. Where all accounts fail,
//! sending each request to each of them makes a bad minute a worse one; where only some do, retries
//! succeed, and cost nothing of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Pool;
use crate::clock::Instant;

/// The time that counts, in seconds.
const WINDOW: usize = 10;

/// So many within the window may always fail: of few requests a share says little.
const ALWAYS: u64 = 10;

/// Requests and failed retries of the last seconds. Requests are counted without a lock; a second's
/// count is begun anew by the first request that sees it, which may lose a few others'.
#[derive(Default)]
pub(super) struct Budget {
    /// The second in the upper half, its requests in the lower.
    requests: [AtomicU64; WINDOW],
    /// Second and retries that failed. Taken by failures only.
    failed: Mutex<[(u64, u64); WINDOW]>,
    /// Retries under way.
    open: AtomicU64,
}

const COUNT: u64 = u32::MAX as u64;

impl Budget {
    /// A request comes; `now` in milliseconds.
    pub(super) fn request(&self, now: u64) {
        let second = (now / 1000) & COUNT;
        let cell = &self.requests[(second as usize) % WINDOW];
        if cell.fetch_add(1, Ordering::Relaxed) >> 32 != second {
            cell.store(second << 32 | 1, Ordering::Relaxed);
        }
    }

    /// Begins a retry, if not too many failed. One under way counts half: what will become of it is
    /// not known. `share`: of the requests, 0.0 to 1.0.
    fn begin(&self, share: f64, now: u64) -> bool {
        let second = (now / 1000) & COUNT;
        let requests = self.requests.iter().map(|cell| {
            let cell = cell.load(Ordering::Relaxed);
            (cell >> 32, cell & COUNT)
        });
        let requests = recent(requests, second);
        let failed = recent(self.failed.lock().iter().copied(), second);
        let most = ALWAYS.max((requests as f64 * share) as u64);
        let room = |open: u64| (failed + open / 2 < most).then_some(open + 1);
        let begun = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        begun.is_ok()
    }

    fn end(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn fail(&self, now: u64) {
        let second = (now / 1000) & COUNT;
        let mut failed = self.failed.lock();
        let cell = &mut failed[(second as usize) % WINDOW];
        if cell.0 != second {
            *cell = (second, 0);
        }
        cell.1 += 1;
    }
}

/// How many of the counts of seconds fall into the window.
fn recent(counts: impl Iterator<Item = (u64, u64)>, second: u64) -> u64 {
    let in_window = counts.filter(|(other, _)| second.wrapping_sub(*other) < WINDOW as u64);
    in_window.map(|(_, count)| count).sum()
}

/// A retry under way, made because an upstream failed.
pub struct Retrying {
    pool: Arc<Pool>,
}

impl Retrying {
    /// The upstream that it went to failed as well.
    pub fn failed(self, now: Instant) {
        self.pool.budget.fail(self.pool.ticks(now));
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.pool.budget.end();
    }
}

impl Pool {
    /// A request comes, which may have to be sent again.
    pub fn count_request(&self, now: Instant) {
        self.budget.request(self.ticks(now));
    }

    /// May another account be asked because an upstream failed?
    pub fn retry(self: &Arc<Self>, now: Instant) -> Option<Retrying> {
        let share = self.settings().retry.budget;
        if !self.budget.begin(share, self.ticks(now)) {
            self.metrics.retry_budget_exhausted();
            return None;
        }
        Some(Retrying { pool: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many retries in a row fail before no more is begun.
    fn failures(budget: &Budget, now: u64) -> usize {
        let begun = |_: &usize| budget.begin(0.2, now);
        let fail = |_| {
            budget.fail(now);
            budget.end();
        };
        (0..10_000).take_while(begun).map(fail).count()
    }

    #[test]
    fn a_fifth_of_the_last_ten_seconds_may_fail_and_always_ten() {
        let budget = Budget::default();
        assert_eq!(failures(&budget, 0), 10, "always");
        for request in 0..1_000 {
            budget.request(10_000 + request * 9);
        }
        assert_eq!(failures(&budget, 19_000), 200);
        assert_eq!(failures(&budget, 19_999), 0);
        // Some of the requests are too long ago by now, and what failed is not.
        assert_eq!(failures(&budget, 21_000), 0);
        assert_eq!(failures(&budget, 60_000), 10, "long after");
    }

    #[test]
    fn what_succeeds_costs_nothing_and_what_is_under_way_counts_half() {
        let budget = Budget::default();
        for _ in 0..1_000 {
            assert!(budget.begin(0.2, 0));
            budget.end();
        }
        let open = (0..1_000).take_while(|_| budget.begin(0.2, 0)).count();
        assert_eq!(open, 20);
    }

    #[test]
    fn requests_of_many_threads_are_counted() {
        let budget = Budget::default();
        budget.request(5_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| budget.request(5_500)));
            }
        });
        assert_eq!(failures(&budget, 5_999), 800);
    }
}
