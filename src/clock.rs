//! The only file that asks the operating system for the time. Everything else is handed an
//! [`Instant`] or a [`SystemTime`], so that its tests can move time as they like.

pub use std::time::{Instant, SystemTime};

/// Monotonic now.
#[allow(clippy::disallowed_methods, reason = "the one place that asks")]
pub fn now() -> Instant {
    Instant::now()
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

/// The wall-clock time of a monotonic instant, counted from a pair of simultaneous readings.
pub fn to_wall(at: Instant, now: Instant, wall_now: SystemTime) -> SystemTime {
    if at >= now {
        wall_now + (at - now)
    } else {
        wall_now - (now - at)
    }
}
