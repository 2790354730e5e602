//! An account as the management API shows it, and how that is described.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::control::Control;
use super::instances;
use super::pulse::Recent;
use crate::clock::{self, SystemTime};
use crate::config::LimitUnit;
use crate::limit::Level;
use crate::pool::{self, AccountView, BreakerView};

/// An account: what it is, and how it is. Times are RFC 3339.
#[derive(Serialize, ToSchema)]
pub(super) struct Account {
    id: String,
    pool: String,
    /// healthy, unhealthy, cooling, open, half_open, needs_login, full, disabled, draining or unknown.
    status: &'static str,
    /// When `status` began.
    since: String,
    /// When `status` ends by itself.
    until: Option<String>,
    last_error: Option<String>,
    enabled: bool,
    available: bool,
    weight: u32,
    priority: i32,
    in_flight: u32,
    /// 0: no limit.
    max_concurrent: u32,
    requests: u64,
    successes: u64,
    failures: u64,
    /// Failures in a row.
    consecutive_failures: u32,
    tokens: u64,
    breaker: Breaker,
    cooling_until: Option<String>,
    /// Models that it does not serve now, whatever its `status`.
    cooling_models: Vec<CoolingModel>,
    /// The limit that it has reached, in words.
    limited_by: Option<String>,
    /// Each `{requests|tokens|cost, window, used, held}`.
    rate_limits: Vec<Map<String, Value>>,
    last_used: Option<String>,
    last_success: Option<String>,
    last_failure: Option<String>,
    last_heartbeat: Option<String>,
    response_ms: Option<ResponseMs>,
    upstream: Option<String>,
    credential: CredentialShown,
    instance: Option<Program>,
    dialects: Vec<&'static str>,
    models: Vec<String>,
    /// file, discovered or api.
    source: &'static str,
    /// Keys that the API has changed, of an account of the file.
    #[serde(rename = "override")]
    changed: Option<Vec<String>>,
    recent: Option<Recent>,
    /// What was done is in force; this is what an operator must know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// A model that the account does not serve for a while.
#[derive(Serialize, ToSchema)]
struct CoolingModel {
    model: String,
    until: String,
    /// rate_limited, or model_unavailable: the vendor says that the account does not have it.
    reason: &'static str,
}

#[derive(Serialize, ToSchema)]
struct Breaker {
    /// closed, open or half_open.
    state: &'static str,
    until: Option<String>,
}

/// Time to first byte.
#[derive(Serialize, ToSchema)]
struct ResponseMs {
    ewma: f64,
    p50: f64,
    p99: f64,
}

#[derive(Serialize, ToSchema)]
struct CredentialShown {
    kind: &'static str,
    expires_at: Option<String>,
    last_refresh: Option<String>,
}

/// The local program of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct Program {
    pub(super) pid: Option<u32>,
    pub(super) port: Option<u16>,
    /// ready, busy, starting, error, failed, stopped or disabled.
    pub(super) state: &'static str,
    pub(super) restarts: u32,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub(super) struct Accounts {
    accounts: Vec<Account>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

impl Accounts {
    pub(super) fn of(control: &dyn Control, views: &[AccountView], next: Option<String>) -> Self {
        Accounts {
            accounts: views
                .iter()
                .map(|view| Account::of(control, view))
                .collect(),
            next,
        }
    }
}

impl Account {
    pub(super) fn of(control: &dyn Control, account: &AccountView) -> Self {
        let time = |at: Option<SystemTime>| at.map(clock::rfc3339);
        let about = control.about(&account.id);
        Account {
            id: account.id.clone(),
            pool: account.pool.clone(),
            status: account.status.name(),
            since: clock::rfc3339(account.since),
            until: time(account.until),
            last_error: account.last_error.clone(),
            enabled: account.enabled,
            available: account.available,
            weight: account.weight,
            priority: account.priority,
            in_flight: account.in_flight,
            max_concurrent: account.max_concurrent,
            requests: account.requests,
            successes: account.successes,
            failures: account.failures,
            consecutive_failures: account.consecutive_failures,
            tokens: account.tokens,
            breaker: Breaker::of(account.breaker),
            cooling_until: time(account.cooling_until),
            cooling_models: account.cooling_models.iter().map(cooling).collect(),
            limited_by: account.limited_by.as_deref().map(str::to_owned),
            rate_limits: account.rate_limits.iter().map(level).collect(),
            last_used: time(account.last_used),
            last_success: time(account.last_success),
            last_failure: time(account.last_failure),
            last_heartbeat: time(account.last_heartbeat),
            response_ms: account.response_ms.map(|ms| ResponseMs {
                ewma: ms.ewma,
                p50: ms.p50,
                p99: ms.p99,
            }),
            upstream: control.upstream(&account.id),
            credential: CredentialShown {
                kind: account.credential,
                expires_at: time(account.token_expires_at),
                last_refresh: time(account.token_granted_at),
            },
            instance: instances::of_account(control, account),
            dialects: about.dialects,
            models: about.models,
            source: about.source,
            changed: about.changed,
            recent: control.pulse().recent(account),
            warning: None,
        }
    }

    /// The answer to what was done.
    pub(super) fn with(self, warning: Option<String>) -> Self {
        Account { warning, ..self }
    }
}

impl Breaker {
    fn of(view: BreakerView) -> Self {
        let (state, until) = match view {
            BreakerView::Closed => ("closed", None),
            BreakerView::HalfOpen => ("half_open", None),
            BreakerView::Open { until } => ("open", Some(clock::rfc3339(until))),
        };
        Breaker { state, until }
    }
}

fn cooling(cooling: &pool::CoolingModel) -> CoolingModel {
    CoolingModel {
        model: cooling.model.to_string(),
        until: clock::rfc3339(cooling.until),
        reason: match cooling.for_limit {
            true => "rate_limited",
            false => "model_unavailable",
        },
    }
}

/// A limit with what is used of it; `held`: by requests under way, as far as it is estimated.
fn level(level: &Level) -> Map<String, Value> {
    let unit = match level.unit {
        LimitUnit::Requests => "requests",
        LimitUnit::Tokens => "tokens",
        LimitUnit::Cost => "cost",
    };
    let window = humantime::format_duration(level.window).to_string();
    let said = [
        (unit, Value::from(level.most)),
        ("window", Value::from(window)),
        ("used", Value::from(level.used)),
        ("held", Value::from(level.held)),
    ];
    said.map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}
