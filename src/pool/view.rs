//! What may be shown of an account: a copy of its live state at one moment, without secrets.

use std::sync::Arc;
use std::time::SystemTime;

use crate::limit::Level;

/// The one word for an account's state (`contract/http.md` §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Healthy,
    Unhealthy,
    Cooling,
    Open,
    HalfOpen,
    NeedsLogin,
    Full,
    Disabled,
    Draining,
    /// A health check is configured and has not answered yet.
    Unknown,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
            Status::Cooling => "cooling",
            Status::Open => "open",
            Status::HalfOpen => "half_open",
            Status::NeedsLogin => "needs_login",
            Status::Full => "full",
            Status::Disabled => "disabled",
            Status::Draining => "draining",
            Status::Unknown => "unknown",
        }
    }
}

/// A copy of one account's state.
#[derive(Clone, Debug)]
pub struct AccountView {
    pub id: String,
    pub pool: String,
    pub status: Status,
    /// When `status` began.
    pub since: SystemTime,
    /// When `status` ends by itself.
    pub until: Option<SystemTime>,
    /// The last failure, in words, without a secret.
    pub last_error: Option<String>,
    pub enabled: bool,
    /// Could a request get this account right now, or once it is no longer full?
    pub available: bool,
    pub weight: u32,
    pub priority: i32,
    pub in_flight: u32,
    /// 0 = no limit.
    pub max_concurrent: u32,
    pub requests: u64,
    pub successes: u64,
    pub failures: u64,
    pub tokens: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    pub breaker: BreakerView,
    pub cooling_until: Option<SystemTime>,
    /// Models that it does not serve now, while it may serve others; those whose names are known, in order.
    pub cooling_models: Vec<CoolingModel>,
    /// Its own limit that it has reached, in words.
    pub limited_by: Option<Arc<str>>,
    /// All of them.
    pub rate_limits: Vec<Level>,
    pub last_used: Option<SystemTime>,
    pub last_success: Option<SystemTime>,
    pub last_failure: Option<SystemTime>,
    /// The last good health probe.
    pub last_heartbeat: Option<SystemTime>,
    /// Time to first byte, milliseconds.
    pub response_ms: Option<ResponseTimes>,
    pub upstream_port: u16,
    /// `api_key`, `bearer`, `oauth2` …
    pub credential: &'static str,
    /// Of a token that is renewed.
    pub token_expires_at: Option<SystemTime>,
    pub token_granted_at: Option<SystemTime>,
    /// Base name only.
    pub auth_file: Option<String>,
    /// Failed health probes, and ends of its program that nobody asked for.
    pub mishaps: u64,
    /// The id of a request that its program has in hand.
    pub current_request: Option<Arc<str>>,
    pub has_instance: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoolingModel {
    pub model: Arc<str>,
    pub until: SystemTime,
    /// The account is limited for it; else it does not have the model.
    pub for_limit: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseTimes {
    pub ewma: f64,
    pub p50: f64,
    pub p99: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerView {
    Closed,
    Open { until: SystemTime },
    HalfOpen,
}
