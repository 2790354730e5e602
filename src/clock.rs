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

/// A time as people write it: RFC 3339, or a date, which begins at midnight in UTC.
pub fn parse(text: &str) -> Option<SystemTime> {
    let timestamp = text.parse::<jiff::Timestamp>().ok();
    let midnight = || {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(midnight.timestamp())
    };
    timestamp.or_else(midnight).map(SystemTime::from)
}

/// The date in UTC, as RFC 3339 writes it; empty for a time that has none.
pub fn date(at: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(at);
    timestamp.map_or_else(|_| String::new(), |at| at.strftime("%F").to_string())
}

/// RFC 3339 in UTC, to the millisecond; empty for a time that has no date.
pub fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}
