//! Metrics, the log and the access log. Accounts and pools are only names here.

mod log;
mod metrics;

pub use self::log::{Access, AccessLine, Guard, InitError, RotatingFile, Try, count_panics, init};
pub use metrics::{
    AccountLive, AccountMetrics, BreakerLive, Counts, Family, Live, Metrics, PoolLive, PoolMetrics,
};
