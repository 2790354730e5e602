//! The live state of one account: what its requests change while they run. It outlives a rebuild of
//! the table, so that a reload forgets nothing.
//!
//! Times are milliseconds since the pool began ([`super::Pool::ticks`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::breaker::{Breaker, Entry};
use super::share::Told;

/// Why an account takes no requests, as bits of [`Live::blocked`]. Being full and an open breaker
/// are no bits: they follow from the counters.
pub(super) mod reason {
    pub(in crate::pool) const DISABLED: u32 = 1;
    pub(in crate::pool) const DRAINING: u32 = 2;
    pub(in crate::pool) const UNHEALTHY: u32 = 4;
    pub(in crate::pool) const COOLING: u32 = 8;
    pub(in crate::pool) const NEEDS_LOGIN: u32 = 16;
    /// Its token has expired, and the next one is not there yet.
    pub(in crate::pool) const NO_TOKEN: u32 = 32;
    /// Its own program does not run, or has not said yet that it is ready.
    pub(in crate::pool) const NO_PROGRAM: u32 = 64;
    /// Its token endpoint refuses its login. [`NEEDS_LOGIN`] is the upstream's word, this is that of
    /// the renewal, and neither may take back the other's.
    pub(in crate::pool) const NO_LOGIN: u32 = 128;
    /// It has reached one of its own `rate_limits`.
    pub(in crate::pool) const LIMITED: u32 = 256;
    /// What the renewal of a token says. It means nothing to an account whose token is not renewed.
    pub(in crate::pool) const RENEWAL: u32 = NO_TOKEN | NO_LOGIN;
}

/// How many times to first byte are kept for the percentiles.
const RECENT: usize = 128;

/// Expected times halve in so many milliseconds: an account ten times slower than another is asked again
/// within 24 seconds.
const FADES_MS: u64 = 7_000;

/// Aligned so that two accounts never share a cache line, and laid out as written: what a lease
/// touches lies in the first one, for with many accounts each line it touches is one missed in the cache.
#[repr(C, align(64))]
pub(super) struct Live {
    in_flight: AtomicU32,
    /// Most requests at a time here; `u32::MAX` = no limit. Here and not read from the configuration a
    /// lease began under, so that a reload changes it for requests under way too. Where gateways
    /// share the account it is this one's share.
    limit: AtomicU32,
    blocked: AtomicU32,
    /// Places that a predecessor's requests still hold.
    elsewhere: AtomicU32,
    pub(super) requests: AtomicU64,
    pub(super) last_used: AtomicU64,
    pub(super) breaker: Breaker,
    /// Moving average of the time to first byte, microseconds; 0 = none yet.
    first_byte_us: AtomicU64,
    first_byte_at: AtomicU64,
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) last_success: AtomicU64,
    pub(super) last_failure: AtomicU64,
    pub(super) last_heartbeat: AtomicU64,
    /// Refusals of the credential in a row: 1 cools, more need a login.
    pub(super) auth_refusals: AtomicU32,
    recent_next: AtomicU32,
    recent: Box<[AtomicU32; RECENT]>,
    pub(super) rare: Box<Mutex<Rare>>,
}

/// What changes so seldom that a short lock is no matter.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) last_error: Option<String>,
    /// When the reason for not serving last changed.
    pub(super) since: u64,
    pub(super) cooling_until: u64,
    /// The cooldown is that of a limit, not of a refused credential or a spent quota.
    pub(super) cooling_for_limit: bool,
    /// When the limit that it has reached lets the next request through, and which one that is.
    pub(super) limited_until: u64,
    pub(super) limited_by: Option<Arc<str>>,
    /// When the credential was last refused.
    pub(super) auth_refused_at: Option<u64>,
    /// When an account that needs a login is tried by one request.
    pub(super) login_probe_at: u64,
    /// A health probe has answered.
    pub(super) probed: bool,
    pub(super) probe_failures: u32,
    pub(super) probe_successes: u32,
    /// Failed probes, and ends of the account's program that nobody asked for.
    pub(super) mishaps: u64,
    /// Of its share, where gateways share the account.
    pub(super) told: Option<Told>,
    /// The id of the latest request that the account's program has in hand.
    pub(super) current_request: Option<Arc<str>>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            blocked: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            breaker: Breaker::default(),
            requests: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            last_success: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
            last_heartbeat: AtomicU64::new(0),
            auth_refusals: AtomicU32::new(0),
            first_byte_us: AtomicU64::new(0),
            first_byte_at: AtomicU64::new(0),
            recent: Box::new([const { AtomicU32::new(u32::MAX) }; RECENT]),
            recent_next: AtomicU32::new(0),
            rare: Box::default(),
        }
    }
}

impl Live {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn blocked(&self) -> u32 {
        self.blocked.load(Ordering::SeqCst)
    }

    pub(super) fn block(&self, reason: u32) {
        self.blocked.fetch_or(reason, Ordering::SeqCst);
    }

    pub(super) fn unblock(&self, reason: u32) {
        self.blocked.fetch_and(!reason, Ordering::SeqCst);
    }

    /// Whoever changes it publishes the account's bit afterwards.
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// It may have been lowered further meanwhile, and stays so.
    pub(super) fn lower_limit(&self, limit: u32) {
        self.limit.fetch_min(limit, Ordering::SeqCst);
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    /// Would one more than `in_flight` requests be too many?
    pub(super) fn is_full_with(&self, in_flight: u32) -> bool {
        in_flight.saturating_add(self.elsewhere()) >= self.limit()
    }

    /// Whoever changes it publishes the account's bit afterwards. False: it was so already.
    pub(super) fn hold_elsewhere(&self, places: u32) -> bool {
        self.elsewhere.swap(places, Ordering::SeqCst) != places
    }

    /// Places that a predecessor's requests hold, as far as it has said.
    pub(super) fn elsewhere(&self) -> u32 {
        self.elsewhere.load(Ordering::SeqCst)
    }

    /// Takes over what a predecessor expected of the account.
    pub(super) fn expect_us(&self, us: u64, now: u64) {
        self.first_byte_us.store(us, Ordering::Relaxed);
        self.first_byte_at.store(now, Ordering::Relaxed);
    }

    /// Could it take a request now?
    pub(super) fn is_ready(&self) -> bool {
        self.blocked() == 0 && self.breaker.admits() && !self.is_full_with(self.in_flight())
    }

    /// Takes a place, and a probe's place if the breaker is half open. `despite`: reasons that do not matter.
    pub(super) fn acquire(&self, despite: u32) -> Option<Entry> {
        if self.blocked() & !despite != 0 {
            return None;
        }
        let take = |n: u32| (!self.is_full_with(n)).then_some(n + 1);
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .ok()?;
        let entry = self.breaker.enter();
        if entry.is_none() {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
        entry
    }

    /// Gives the place back; returns how many were taken before.
    pub(super) fn release(&self, entry: Entry) -> u32 {
        self.breaker.leave(entry);
        self.in_flight.fetch_sub(1, Ordering::SeqCst)
    }

    /// A first byte came after `us` microseconds. The average follows a slower answer at once and
    /// a faster one by a quarter each time: slowness must be seen soon, luck may wait. It goes on
    /// from what was expected by now: else an account that was slow an hour ago and is fast again
    /// would need as many idle times as answers to show it.
    pub(super) fn saw_first_byte(&self, us: u64, now: u64) {
        let us = us.max(1);
        let before = self.expected_us(now);
        let after = if us >= before {
            us
        } else {
            before - (before - us).div_ceil(4)
        };
        self.first_byte_us.store(after, Ordering::Relaxed);
        self.first_byte_at.store(now, Ordering::Relaxed);
        let place = self.recent_next.fetch_add(1, Ordering::Relaxed) as usize % RECENT;
        self.recent[place].store(
            (us / 1000).min(u64::from(u32::MAX - 1)) as u32,
            Ordering::Relaxed,
        );
    }

    /// The expected time to first byte in microseconds. It halves with each seven seconds without an
    /// answer, so that a slow account is asked again one day.
    pub(super) fn expected_us(&self, now: u64) -> u64 {
        let us = self.first_byte_us.load(Ordering::Relaxed);
        let idle = now.saturating_sub(self.first_byte_at.load(Ordering::Relaxed));
        us >> (idle / FADES_MS).min(63)
    }

    /// (average, p50, p99) of the time to first byte in milliseconds.
    pub(super) fn response_ms(&self) -> Option<(f64, f64, f64)> {
        let mut recent: Vec<u32> = self
            .recent
            .iter()
            .map(|ms| ms.load(Ordering::Relaxed))
            .filter(|ms| *ms != u32::MAX)
            .collect();
        recent.sort_unstable();
        let rank = |share: usize| {
            recent.get((recent.len() * share / 100).min(recent.len().saturating_sub(1)))
        };
        let average = self.first_byte_us.load(Ordering::Relaxed) as f64 / 1000.0;
        Some((average, f64::from(*rank(50)?), f64::from(*rank(99)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_max_places_are_given() {
        let live = Live::default();
        live.set_limit(2);
        let entries: Vec<_> = (0..3).map_while(|_| live.acquire(0)).collect();
        assert_eq!(entries.len(), 2);
        assert!(!live.is_ready());
        assert_eq!(live.release(Entry::Normal), 2);
        assert!(live.is_ready());
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fades_without_new_ones() {
        let live = Live::default();
        live.saw_first_byte(1_000, 0);
        live.saw_first_byte(100_000, 0);
        assert_eq!(live.expected_us(0), 100_000);
        live.saw_first_byte(1_000, 0);
        assert_eq!(live.expected_us(0), 75_250);
        assert_eq!(live.expected_us(FADES_MS), 37_625);
        assert_eq!(live.response_ms().map(|(_, _, p99)| p99), Some(100.0));
    }
}
