//! The circuit breaker of one account: closed (serving), open (refusing), half open (a few requests
//! try whether it works again), then a slow start during which its share of traffic grows back.
//!
//! Time is an argument, in milliseconds since the pool began.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config;

const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const HALF_OPEN: u32 = 2;

/// The least share of its traffic that a recovering account gets, so that it can prove itself.
const SMALLEST_SHARE: f32 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    Open,
    HalfOpen,
}

/// How a request got past the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Normal,
    /// One of the few that try a half-open account.
    Probe,
}

/// Laid out as written: what each request looks at comes first.
#[repr(C)]
#[derive(Default)]
pub(super) struct Breaker {
    mode: AtomicU32,
    /// Probes that may still enter while half open.
    permits: AtomicU32,
    consecutive_failures: AtomicU32,
    /// When the slow start began; 0 = none is running.
    slow_since: AtomicU64,
    /// What changes only when the breaker does. The short lock is never taken by a success of a
    /// closed breaker.
    opening: Mutex<Opening>,
}

#[derive(Default)]
struct Opening {
    until: u64,
    in_a_row: u32,
}

/// A breaker as it goes to another process; times are milliseconds from the moment of the copy.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Saved {
    is_open: bool,
    is_half_open: bool,
    failures: u32,
    in_a_row: u32,
    until: i64,
    slow_since: Option<i64>,
}

impl Breaker {
    pub(super) fn save(&self, now: u64) -> Saved {
        let opening = self.opening.lock();
        let from_now = |at: u64| at.cast_signed().saturating_sub(now.cast_signed());
        let state = self.state();
        let slow_since = self.slow_since.load(Ordering::Relaxed);
        Saved {
            is_open: state == State::Open,
            is_half_open: state == State::HalfOpen,
            failures: self.consecutive_failures(),
            in_a_row: opening.in_a_row,
            until: from_now(opening.until),
            slow_since: (slow_since != 0).then(|| from_now(slow_since)),
        }
    }

    /// One that was half open is open until the next look: who tried it does not report here.
    pub(super) fn restore(&self, saved: &Saved, now: u64) {
        let mut opening = self.opening.lock();
        let at = |from_now: i64| now.saturating_add_signed(from_now);
        *opening = Opening {
            until: if saved.is_open { at(saved.until) } else { now },
            in_a_row: saved.in_a_row,
        };
        self.consecutive_failures
            .store(saved.failures, Ordering::Relaxed);
        let slow_since = saved.slow_since.map_or(0, |since| at(since).max(1));
        self.slow_since.store(slow_since, Ordering::Relaxed);
        let mode = if saved.is_open || saved.is_half_open {
            OPEN
        } else {
            CLOSED
        };
        self.mode.store(mode, Ordering::SeqCst);
    }

    pub(super) fn state(&self) -> State {
        match self.mode.load(Ordering::SeqCst) {
            OPEN => State::Open,
            HALF_OPEN => State::HalfOpen,
            _ => State::Closed,
        }
    }

    /// Would a request be let in now?
    pub(super) fn admits(&self) -> bool {
        match self.state() {
            State::Closed => true,
            State::Open => false,
            State::HalfOpen => self.permits.load(Ordering::SeqCst) > 0,
        }
    }

    /// Lets a request in, or not. A [`Entry::Probe`] must be given back by [`Breaker::leave`].
    pub(super) fn enter(&self) -> Option<Entry> {
        match self.state() {
            State::Closed => Some(Entry::Normal),
            State::Open => None,
            State::HalfOpen => {
                let take = |permits: u32| permits.checked_sub(1);
                self.permits
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .ok()
                    .map(|_| Entry::Probe)
            }
        }
    }

    /// A probe ended without saying whether the account works.
    pub(super) fn leave(&self, entry: Entry) {
        if entry == Entry::Probe && self.state() == State::HalfOpen {
            self.permits.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// * -> Closed. Returns whether the state changed.
    pub(super) fn success(&self, now: u64) -> bool {
        if self.consecutive_failures.load(Ordering::Relaxed) != 0 {
            self.consecutive_failures.store(0, Ordering::Relaxed);
        }
        self.answered(now)
    }

    /// HalfOpen -> Closed: an answer has begun. It may still break off, and so it ends
    /// no row of failures of a closed one. Returns whether the state changed.
    pub(super) fn answered(&self, now: u64) -> bool {
        if self.mode.load(Ordering::SeqCst) != HALF_OPEN {
            // A success that was under way when the breaker opened closes nothing.
            return false;
        }
        let mut opening = self.opening.lock();
        if self.mode.load(Ordering::SeqCst) != HALF_OPEN {
            return false;
        }
        opening.in_a_row = 0;
        self.consecutive_failures.store(0, Ordering::Relaxed);
        self.slow_since.store(now.max(1), Ordering::Relaxed);
        self.mode.store(CLOSED, Ordering::SeqCst);
        true
    }

    /// Closed -> Open after enough failures in a row; HalfOpen -> Open at once.
    /// Returns until when it is open if this failure opened it.
    pub(super) fn failure(&self, settings: &config::Breaker, now: u64) -> Option<u64> {
        let failures = self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1;
        if !settings.enabled {
            return None;
        }
        match self.state() {
            State::Open => None,
            State::Closed if failures < settings.consecutive_failures => None,
            State::Closed | State::HalfOpen => self.open(settings, now),
        }
    }

    fn open(&self, settings: &config::Breaker, now: u64) -> Option<u64> {
        let mut opening = self.opening.lock();
        if self.mode.load(Ordering::SeqCst) == OPEN {
            return None;
        }
        let doubled = 1u32.checked_shl(opening.in_a_row).unwrap_or(u32::MAX);
        let open_for = settings
            .open_for
            .saturating_mul(doubled)
            .min(settings.open_for_max);
        opening.in_a_row = opening.in_a_row.saturating_add(1);
        opening.until = now + open_for.as_millis() as u64;
        self.mode.store(OPEN, Ordering::SeqCst);
        Some(opening.until)
    }

    /// * -> Open: it has opened at another gateway. Returns whether that changes anything here.
    pub(super) fn open_elsewhere(&self, until: u64) -> bool {
        let mut opening = self.opening.lock();
        if self.mode.load(Ordering::SeqCst) == OPEN && opening.until >= until {
            return false;
        }
        if self.mode.load(Ordering::SeqCst) != OPEN {
            opening.in_a_row = opening.in_a_row.saturating_add(1);
        }
        opening.until = until;
        self.mode.store(OPEN, Ordering::SeqCst);
        true
    }

    /// Open -> HalfOpen once its time has come. Returns when to ask again if it has not.
    pub(super) fn due(&self, settings: &config::Breaker, now: u64) -> Option<u64> {
        let opening = self.opening.lock();
        if self.mode.load(Ordering::SeqCst) != OPEN {
            return None;
        }
        if now < opening.until {
            return Some(opening.until);
        }
        self.permits
            .store(settings.half_open_requests.max(1), Ordering::SeqCst);
        self.mode.store(HALF_OPEN, Ordering::SeqCst);
        None
    }

    /// Closed -> HalfOpen: after a long absence one request goes first.
    pub(super) fn probe_first(&self, settings: &config::Breaker) {
        let _opening = self.opening.lock();
        if self.mode.load(Ordering::SeqCst) == CLOSED {
            self.permits
                .store(settings.half_open_requests.max(1), Ordering::SeqCst);
            self.mode.store(HALF_OPEN, Ordering::SeqCst);
        }
    }

    /// * -> Closed, as if nothing had ever happened.
    pub(super) fn reset(&self) {
        let mut opening = self.opening.lock();
        *opening = Opening::default();
        self.consecutive_failures.store(0, Ordering::Relaxed);
        self.slow_since.store(0, Ordering::Relaxed);
        self.mode.store(CLOSED, Ordering::SeqCst);
    }

    pub(super) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.load(Ordering::Relaxed)
    }

    /// When an open breaker lets the first probe in.
    pub(super) fn open_until(&self) -> Option<u64> {
        (self.state() == State::Open).then(|| self.opening.lock().until)
    }

    /// The share of its traffic an account takes during a slow start, 0.1 to 1.0.
    pub(super) fn share(&self, settings: &config::Breaker, now: u64) -> f32 {
        let since = self.slow_since.load(Ordering::Relaxed);
        if since == 0 {
            return 1.0;
        }
        let share = regained(since, settings, now);
        if share >= 1.0 {
            self.slow_since.store(0, Ordering::Relaxed);
        }
        share
    }
}

/// The share of its traffic that has grown back since then, 0.1 to 1.0.
pub(super) fn regained(since: u64, settings: &config::Breaker, now: u64) -> f32 {
    let whole = settings.slow_start.as_millis() as u64;
    let elapsed = now.saturating_sub(since);
    if elapsed >= whole {
        return 1.0;
    }
    (elapsed as f32 / whole as f32).max(SMALLEST_SHARE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> config::Breaker {
        config::Breaker {
            enabled: true,
            consecutive_failures: 5,
            open_for: Duration::from_secs(30),
            open_for_max: Duration::from_secs(300),
            half_open_requests: 1,
            slow_start: Duration::from_secs(30),
        }
    }

    fn opened(settings: &config::Breaker, now: u64) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..settings.consecutive_failures {
            breaker.failure(settings, now);
        }
        assert_eq!(breaker.state(), State::Open);
        breaker
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let (breaker, settings) = (Breaker::default(), settings());
        for _ in 0..4 {
            breaker.failure(&settings, 0);
        }
        breaker.success(0);
        for _ in 0..4 {
            breaker.failure(&settings, 0);
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.failure(&settings, 7), Some(30_007));
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn one_probe_enters_a_half_open_breaker_and_its_success_closes_it() {
        let settings = settings();
        let breaker = opened(&settings, 0);
        assert_eq!(breaker.enter(), None);
        assert_eq!(breaker.due(&settings, 29_999), Some(30_000));
        assert_eq!(breaker.due(&settings, 30_000), None);
        assert_eq!(breaker.enter(), Some(Entry::Probe));
        assert_eq!(breaker.enter(), None);
        breaker.leave(Entry::Probe);
        assert_eq!(breaker.enter(), Some(Entry::Probe));
        assert!(breaker.success(31_000));
        assert_eq!(breaker.enter(), Some(Entry::Normal));
        assert_eq!(breaker.share(&settings, 31_000), 0.1);
        assert_eq!(breaker.share(&settings, 46_000), 0.5);
        assert_eq!(breaker.share(&settings, 61_000), 1.0);
    }

    #[test]
    fn openings_in_a_row_double_up_to_the_maximum() {
        let settings = settings();
        let breaker = opened(&settings, 0);
        let mut now = 30_000;
        for open_for in [60_000, 120_000, 240_000, 300_000, 300_000] {
            assert_eq!(breaker.due(&settings, now), None);
            assert_eq!(breaker.enter(), Some(Entry::Probe));
            assert_eq!(breaker.failure(&settings, now), Some(now + open_for));
            now += open_for;
        }
    }

    #[test]
    fn a_disabled_breaker_counts_but_never_opens() {
        let settings = config::Breaker {
            enabled: false,
            ..settings()
        };
        let breaker = Breaker::default();
        (0..50).for_each(|_| assert_eq!(breaker.failure(&settings, 0), None));
        assert_eq!(
            (breaker.state(), breaker.consecutive_failures()),
            (State::Closed, 50)
        );
    }
}
