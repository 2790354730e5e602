//! `/api/v1/accounts`: what the accounts are and how they are, and what an operator orders of them.

use std::time::SystemTime;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::api::{Answer, Shared};
use super::auth::Actor;
use super::control::Control;
use super::instances;
use super::list::Page;
use super::reply::Problem;
use crate::clock;
use crate::config::LimitUnit;
use crate::limit::Level;
use crate::pool::{AccountView, BreakerView};

/// All accounts, in the order of the file; then those that came by the API.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", params(Page),
    responses((status = 200, description = "`accounts` and `next`", body = Value)))]
pub(super) async fn list(State(control): State<Shared>, Query(page): Query<Page>) -> Answer {
    let show = |a: &AccountView| shown(&*control, a);
    page.of("accounts", &control.accounts(), |a| &a.id, show)
        .map(Json)
}

/// One account.
#[utoipa::path(get, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, description = "The account", body = Value)))]
pub(super) async fn show(State(control): State<Shared>, Path(id): Path<String>) -> Answer {
    one(&*control, &id).map(Json)
}

/// `enable`, `disable`, `reset`, `refresh`, `probe` or `restart`; answers with the account as it then is.
#[utoipa::path(post, path = "/api/v1/accounts/{id}/{action}", tag = "accounts",
    params(("id" = String, Path), ("action" = String, Path, description = "enable, disable, reset, refresh, probe or restart")),
    responses(
        (status = 200, description = "The account as it then is", body = Value),
        (status = 409, description = "It has no token to renew, or no program to restart"),
    ))]
pub(super) async fn act(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((id, action)): Path<(String, String)>,
) -> Answer {
    if matches!(action.as_str(), "enable" | "disable" | "reset") {
        Problem::if_alone(control.redis())?;
    }
    let found = match action.as_str() {
        "enable" | "disable" => {
            control.switch(&id, action == "enable").await?;
            true
        }
        "reset" => control.reset(&id),
        "probe" => control.probe(Some(&id)).await,
        "restart" => instances::restart(&*control, &id)?,
        "refresh" => match control.refresh(&id).await {
            Some(Ok(())) => true,
            Some(Err(why)) => return Err(Problem::new(StatusCode::CONFLICT, "not_refreshed", why)),
            None => false,
        },
        _ => {
            let message =
                "an account can be enabled, disabled, reset, refreshed, probed or restarted";
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message));
        }
    };
    if found {
        tracing::info!(
            actor = &*actor.name,
            account = id,
            action,
            "account changed by its operator"
        );
    }
    one(&*control, &id).map(Json)
}

/// The account as it is shown now.
pub(super) fn one(control: &dyn Control, id: &str) -> Result<Value, Problem> {
    let account = control.account(id).ok_or_else(|| Problem::no_account(id))?;
    Ok(shown(control, &account))
}

/// A limit with what is used of it; `held`: by requests under way, as far as it is estimated.
fn level(level: &Level) -> Value {
    let unit = match level.unit {
        LimitUnit::Requests => "requests",
        LimitUnit::Tokens => "tokens",
        LimitUnit::Cost => "cost",
    };
    json!({
        unit: level.most,
        "window": humantime::format_duration(level.window).to_string(),
        "used": level.used,
        "held": level.held,
    })
}

fn shown(control: &dyn Control, account: &AccountView) -> Value {
    let time = |at: Option<SystemTime>| at.map(clock::rfc3339);
    let breaker = match account.breaker {
        BreakerView::Closed => json!({"state": "closed", "until": null}),
        BreakerView::HalfOpen => json!({"state": "half_open", "until": null}),
        BreakerView::Open { until } => json!({"state": "open", "until": clock::rfc3339(until)}),
    };
    let response = account
        .response_ms
        .map(|ms| json!({"ewma": ms.ewma, "p50": ms.p50, "p99": ms.p99}));
    let about = control.about(&account.id);
    json!({
        "id": account.id,
        "pool": account.pool,
        "status": account.status.name(),
        "since": clock::rfc3339(account.since),
        "until": time(account.until),
        "last_error": account.last_error,
        "enabled": account.enabled,
        "available": account.available,
        "weight": account.weight,
        "priority": account.priority,
        "in_flight": account.in_flight,
        "max_concurrent": account.max_concurrent,
        "requests": account.requests,
        "successes": account.successes,
        "failures": account.failures,
        "consecutive_failures": account.consecutive_failures,
        "tokens": account.tokens,
        "breaker": breaker,
        "cooling_until": time(account.cooling_until),
        "limited_by": account.limited_by.as_deref(),
        "rate_limits": account.rate_limits.iter().map(level).collect::<Vec<_>>(),
        "last_used": time(account.last_used),
        "last_success": time(account.last_success),
        "last_failure": time(account.last_failure),
        "last_heartbeat": time(account.last_heartbeat),
        "response_ms": response,
        "upstream": control.upstream(&account.id),
        "dialects": about.dialects,
        "models": about.models,
        "credential": {
            "kind": account.credential,
            "expires_at": time(account.token_expires_at),
            "last_refresh": time(account.token_granted_at),
        },
        "instance": instances::of_account(control, account),
        "source": about.source,
        "override": about.changed,
        "recent": control.pulse().recent(account),
    })
}
