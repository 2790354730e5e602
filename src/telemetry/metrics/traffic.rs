//! Requests that are over, counted for whoever looks on: how many, how many went wrong, how soon the
//! latest answered.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::telemetry::AccessLine;

/// How many times to first byte are kept.
const RECENT: usize = 512;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    /// Answers 429 or from 500 on, and requests without an answer.
    pub errors: u64,
    /// Of both directions.
    pub tokens: u64,
}

/// The counters. A request adds to them once, at its end.
pub struct Traffic {
    requests: AtomicU64,
    errors: AtomicU64,
    tokens: AtomicU64,
    /// Each the second of 1970 in the upper half, and milliseconds in the lower one; 0: none yet.
    first_bytes: [AtomicU64; RECENT],
    next: AtomicU32,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            first_bytes: [const { AtomicU64::new(0) }; RECENT],
            next: AtomicU32::new(0),
        }
    }
}

impl Traffic {
    /// A request is over that used so many tokens.
    pub fn count(&self, line: &AccessLine, tokens: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if matches!(line.status, 0 | 429 | 500..) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if tokens > 0 {
            self.tokens.fetch_add(tokens, Ordering::Relaxed);
        }
        if let Some(first_byte) = line.first_byte {
            let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % RECENT;
            let ms = first_byte.as_millis().min(u32::MAX.into()) as u64;
            let kept = seconds(line.time + first_byte) << 32 | ms;
            self.first_bytes[place].store(kept, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }

    /// (p50, p95) of the times to first byte since `after`, in milliseconds; of the latest 512, if
    /// there were more.
    pub fn first_byte_ms(&self, after: SystemTime) -> Option<(u32, u32)> {
        let after = seconds(after);
        let kept = self.first_bytes.iter().map(|at| at.load(Ordering::Relaxed));
        let recent = kept.filter(|kept| *kept != 0 && kept >> 32 >= after);
        let mut recent: Vec<u32> = recent.map(|kept| kept as u32).collect();
        recent.sort_unstable();
        let rank = |share: usize| recent.get(recent.len() * share / 100).copied();
        Some((rank(50)?, rank(95)?))
    }
}

fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::{Counts, Traffic};
    use crate::telemetry::AccessLine;
    use std::time::{Duration, SystemTime};

    fn line(second: u64, status: u16, first_byte: Option<u64>) -> AccessLine {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        AccessLine {
            status,
            first_byte: first_byte.map(Duration::from_millis),
            ..AccessLine::new(time, String::new(), http::Method::POST)
        }
    }

    #[test]
    fn requests_errors_and_tokens_are_counted() {
        let traffic = Traffic::default();
        for (status, tokens) in [(200, 10), (404, 0), (429, 0), (503, 0), (0, 5)] {
            traffic.count(&line(100, status, None), tokens);
        }
        let counts = Counts {
            requests: 5,
            errors: 3,
            tokens: 15,
        };
        assert_eq!(traffic.counts(), counts);
    }

    #[test]
    fn first_bytes_are_those_of_late() {
        let traffic = Traffic::default();
        traffic.count(&line(100, 200, Some(9_000)), 0);
        for ms in 1..=100 {
            traffic.count(&line(200, 200, Some(ms)), 0);
        }
        let after =
            |second| traffic.first_byte_ms(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!(after(150), Some((51, 96)));
        assert_eq!(after(300), None);
    }
}
