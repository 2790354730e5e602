//! `/api/v1`: accounts, pools and the overview, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Actor, Auth, Gate, gate};
use super::control::{Control, StrategyChange};
use super::instances;
use super::keys;
use super::list::Page;
use super::reply::{Problem, parse};
use super::requests;
use super::route::route;
use super::slots;
use super::status;
use super::usage;
use crate::clock;
use crate::config::{LimitUnit, Role};
use crate::limit::Level;
use crate::notify::Tested;
use crate::pool::{AccountView, BreakerView, PoolView};

pub(super) type Shared = Arc<dyn Control>;
type Answer = Result<Json<Value>, Problem>;

pub(super) fn routes(auth: &Auth) -> Router<Shared> {
    let layer = |role| middleware::from_fn_with_state(Gate::new(auth, role), gate);
    let reading = Router::new()
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/accounts", get(accounts))
        .route("/api/v1/accounts/{id}", get(account))
        .route("/api/v1/pools", get(pools))
        .route("/api/v1/instances", get(instances::list))
        .route("/api/v1/slots", get(slots::show))
        .route("/api/v1/route", post(route))
        .merge(keys::reading())
        .route("/api/v1/requests", get(requests::list))
        .route("/api/v1/usage", get(usage::list))
        .route_layer(layer(Role::Viewer));
    let writing = Router::new()
        // What a program says may hold what it should not.
        .route("/api/v1/instances/{id}/logs", get(instances::logs))
        .route("/api/v1/accounts/{id}/{action}", post(act))
        .route("/api/v1/pools/{name}/strategy", post(strategy))
        .route("/api/v1/notify/test", post(test_notices))
        .route("/api/v1/reload", post(reload))
        .route_layer(layer(Role::Operator));
    let issuing = keys::writing().route_layer(layer(Role::Admin));
    reading.merge(writing).merge(issuing)
}

async fn overview(State(control): State<Shared>) -> Json<Value> {
    let accounts = control.accounts();
    let sum = |count: fn(&AccountView) -> u64| accounts.iter().map(count).sum::<u64>();
    let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
    for account in &accounts {
        *by_status.entry(account.status.name()).or_default() += 1;
    }
    let health = status::health(&*control).body;
    let totals = json!({
        "requests": sum(|a| a.requests),
        "successes": sum(|a| a.successes),
        "failures": sum(|a| a.failures),
        "tokens": sum(|a| a.tokens),
        "in_flight": sum(|a| a.in_flight.into()),
    });
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "status": health["status"],
        "degraded": health["degraded"],
        "draining": control.draining(),
        "timestamp": health["timestamp"],
        "accounts": health["accounts"],
        "by_status": by_status,
        "totals": totals,
        "pools": control.pools().iter().map(pool_json).collect::<Vec<_>>(),
        "queue": control.queue().json(),
        "slots": slots::total(&control.slot_places()),
        "redis": control.redis(),
    }))
}

async fn accounts(State(control): State<Shared>, Query(page): Query<Page>) -> Answer {
    let show = |a: &AccountView| account_json(&*control, a);
    page.of("accounts", &control.accounts(), |a| &a.id, show)
        .map(Json)
}

async fn account(State(control): State<Shared>, Path(id): Path<String>) -> Answer {
    one(&*control, &id)
}

async fn pools(State(control): State<Shared>, Query(page): Query<Page>) -> Answer {
    page.of("pools", &control.pools(), |p| &p.name, pool_json)
        .map(Json)
}

/// What became of a notice to each webhook that nothing has happened.
async fn test_notices(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Json<Value> {
    tracing::info!(actor = &*actor.name, "the webhooks are tried");
    let tested = control.test_notices().await;
    let hook = |tested: &Tested| {
        json!({
            "host": tested.host,
            "delivered": tested.result.is_ok(),
            "error": tested.result.as_ref().err(),
        })
    };
    Json(json!({"hooks": tested.iter().map(hook).collect::<Vec<_>>()}))
}

/// `enable`, `disable`, `reset`, `refresh`, `probe` or `restart`; answers with the account as it then is.
async fn act(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((id, action)): Path<(String, String)>,
) -> Answer {
    if matches!(action.as_str(), "enable" | "disable" | "reset") {
        Problem::if_alone(control.redis())?;
    }
    let found = match action.as_str() {
        "enable" => control.enable(&id),
        "disable" => control.disable(&id),
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
    one(&*control, &id)
}

/// Says every mistake of a file that cannot be put in force.
async fn reload(State(control): State<Shared>, Extension(actor): Extension<Actor>) -> Response {
    tracing::info!(actor = &*actor.name, "reload asked for by an operator");
    let reloaded = tokio::task::spawn_blocking(move || control.reload()).await;
    let problems = match reloaded {
        Ok(Ok(reloaded)) => {
            let answer = json!({"reloaded": true, "needs_upgrade": reloaded.needs_upgrade});
            return Json(answer).into_response();
        }
        Ok(Err(problems)) => problems,
        Err(error) => vec![error.to_string()],
    };
    let error = json!({"code": "invalid_configuration", "message": problems.join("\n")});
    let answer = json!({"error": error, "problems": problems});
    (StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response()
}

#[derive(Deserialize)]
struct NewStrategy {
    strategy: String,
}

async fn strategy(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let NewStrategy { strategy } = parse(&body)?;
    Problem::if_alone(control.redis())?;
    match control.set_strategy(Some(&name), &strategy) {
        StrategyChange::Done => {
            tracing::info!(
                actor = &*actor.name,
                pool = name,
                strategy,
                "strategy changed"
            );
            let pool = control.pools().into_iter().find(|p| p.name == name);
            Ok(Json(pool.as_ref().map_or(Value::Null, pool_json)))
        }
        StrategyChange::UnknownPool => {
            let message = format!("there is no pool {name:?}");
            Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message))
        }
        StrategyChange::UnknownStrategy => Err(unknown_strategy()),
    }
}

pub(super) fn unknown_strategy() -> Problem {
    Problem::bad(
        "strategy",
        "is not one of round_robin, weighted, least_connections, least_used, response_time, hash, random",
    )
}

fn one(control: &dyn Control, id: &str) -> Answer {
    let account = control.account(id).ok_or_else(|| Problem::no_account(id))?;
    Ok(Json(account_json(control, &account)))
}

fn pool_json(pool: &PoolView) -> Value {
    json!({
        "name": pool.name,
        "strategy": pool.strategy,
        "breaker_enabled": pool.breaker_enabled,
        "accounts": pool.accounts,
        "available": pool.available,
        "in_flight": pool.in_flight,
        "waiting": pool.waiting,
        "max_waiting": pool.max_waiting,
    })
}

/// A limit with what is used of it; `held`: by requests under way, as far as it is estimated.
fn level_json(level: &Level) -> Value {
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

fn account_json(control: &dyn Control, account: &AccountView) -> Value {
    let time = |at: Option<SystemTime>| at.map(clock::rfc3339);
    let breaker = match account.breaker {
        BreakerView::Closed => json!({"state": "closed", "until": null}),
        BreakerView::HalfOpen => json!({"state": "half_open", "until": null}),
        BreakerView::Open { until } => json!({"state": "open", "until": clock::rfc3339(until)}),
    };
    let response = account
        .response_ms
        .map(|ms| json!({"ewma": ms.ewma, "p50": ms.p50, "p99": ms.p99}));
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
        "rate_limits": account.rate_limits.iter().map(level_json).collect::<Vec<_>>(),
        "last_used": time(account.last_used),
        "last_success": time(account.last_success),
        "last_failure": time(account.last_failure),
        "last_heartbeat": time(account.last_heartbeat),
        "response_ms": response,
        "upstream": control.upstream(&account.id),
        "credential": {
            "kind": account.credential,
            "expires_at": time(account.token_expires_at),
            "last_refresh": time(account.token_granted_at),
        },
        "instance": instances::of_account(control, account),
    })
}
