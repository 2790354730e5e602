//! The only file that asks the operating system for the time. Everything else is handed an
//! [`Instant`] or a [`SystemTime`], so that its tests can move time as they like.

pub use std::time::{Instant, SystemTime};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Goes on evenly, whatever becomes of the other one.
    pub now: Instant,
    /// May be set right at any time.
    pub wall: SystemTime,
}

/// Both clocks now.
pub fn moment() -> Moment {
    Moment {
        now: now(),
        wall: wall(),
    }
}

/// Monotonic now. Read through tokio, so that a test under its paused clock moves this one too.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock now.
#[allow(clippy::disallowed_methods, reason = "the one place that asks")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970, as the older systems' answers state times; 0 before that.
pub fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// RFC 3339 in UTC, to the millisecond; empty for a time that has no date.
pub fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}
