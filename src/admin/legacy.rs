//! The older systems' paths with their own field names (`seed-checklist.md` rows 0-70 to 0-80,
//! 1-51 to 1-55, 2-26 to 2-34, 4-51 and 4-52), over the same accounts.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::audit::note;
use super::auth::{Actor, Auth, Gate, gate};
use super::control::{Control, StrategyChange};
use super::pools::unknown_strategy;
use super::reply::{Problem, parse};
use crate::clock;
use crate::config::Role;
use crate::pool::{AccountView, BreakerView, Status, instance_state, instances};

type Shared = Arc<dyn Control>;
type Answer = Result<Json<Value>, Problem>;

pub(super) fn routes(control: &Shared, auth: &Auth) -> Router<Shared> {
    let layer = |role| middleware::from_fn_with_state(Gate::older(auth, role), gate);
    let reading = Router::new()
        .route("/router/status", get(router_status))
        .route("/accounts/stats", get(stats))
        .route("/accounts/{id}", get(account))
        .route("/v1/instances", get(instance_list))
        .route("/api/workers", get(workers))
        .route("/api/queue/status", get(queue))
        .route_layer(layer(Role::Viewer));
    let writing = Router::new()
        .route("/router/health-check", post(probe))
        .route("/router/set-strategy", post(set_strategy))
        .route("/accounts/{id}/{action}", post(act))
        .route_layer(middleware::from_fn_with_state(control.clone(), note))
        .route_layer(layer(Role::Operator));
    reading.merge(writing)
}

/// Does this path belong here, whatever its method?
pub(super) fn owns(path: &str) -> bool {
    let known = matches!(
        path,
        "/router/status"
            | "/router/health-check"
            | "/router/set-strategy"
            | "/v1/instances"
            | "/api/workers"
            | "/api/queue/status"
    );
    known || path.starts_with("/accounts/")
}

/// The strategy of the first pool: the older systems had one.
fn strategy(control: &dyn Control) -> Option<&'static str> {
    control.pools().first().map(|pool| pool.strategy)
}

async fn router_status(State(control): State<Shared>) -> Json<Value> {
    let instance = |a: &AccountView| {
        json!({
            "id": a.id,
            "port": a.upstream_port,
            "weight": a.weight,
            "enabled": a.enabled,
            "status": router_word(a),
            "current_concurrent": a.in_flight,
            "max_concurrent": a.max_concurrent,
            "total_requests": a.requests,
            "failed_requests": a.failures,
            "last_heartbeat": a.last_heartbeat.map(clock::unix_seconds),
        })
    };
    let instances: Vec<Value> = control.accounts().iter().map(instance).collect();
    Json(json!({"strategy": strategy(&*control), "instances": instances}))
}

fn router_word(account: &AccountView) -> &'static str {
    match account.status {
        Status::Unknown => "unknown",
        Status::Healthy | Status::Full | Status::HalfOpen => "healthy",
        _ => "unhealthy",
    }
}

async fn probe(State(control): State<Shared>) -> Json<Value> {
    control.probe(None).await;
    Json(json!({"status": "completed"}))
}

#[derive(Deserialize)]
struct NewStrategy {
    strategy: String,
    #[serde(default)]
    pool: Option<String>,
}

async fn set_strategy(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Answer {
    let asked: NewStrategy = parse(&body).map_err(Problem::with_detail)?;
    Problem::if_alone(control.redis()).map_err(Problem::with_detail)?;
    match control.set_strategy(asked.pool.as_deref(), &asked.strategy) {
        StrategyChange::Done => {
            tracing::info!(
                actor = &*actor.name,
                strategy = asked.strategy,
                "strategy changed"
            );
            Ok(Json(
                json!({"status": "success", "strategy": strategy(&*control)}),
            ))
        }
        StrategyChange::UnknownPool => Err(Problem::bad("pool", "is not known").with_detail()),
        StrategyChange::UnknownStrategy => Err(unknown_strategy().with_detail()),
    }
}

async fn stats(State(control): State<Shared>) -> Json<Value> {
    let accounts = control.accounts();
    let sum = |count: fn(&AccountView) -> u64| accounts.iter().map(count).sum::<u64>();
    Json(json!({
        "total_accounts": accounts.len(),
        "available_accounts": accounts.iter().filter(|a| a.available).count(),
        "total_requests": sum(|a| a.requests),
        "total_errors": sum(|a| a.failures),
        "total_successes": sum(|a| a.successes),
        "strategy": strategy(&*control),
        "circuit_breaker_enabled": control.pools().iter().any(|p| p.breaker_enabled),
        "accounts": accounts.iter().map(account_json).collect::<Vec<_>>(),
    }))
}

async fn account(State(control): State<Shared>, Path(id): Path<String>) -> Answer {
    match control.account(&id) {
        Some(account) => Ok(Json(account_json(&account))),
        None => Err(Problem::no_account(&id).with_detail()),
    }
}

/// Times are ISO 8601, as the older pool wrote them.
fn account_json(account: &AccountView) -> Value {
    let time = |at: Option<SystemTime>| at.map(clock::rfc3339);
    let open_until = match account.breaker {
        BreakerView::Open { until } => Some(until),
        BreakerView::Closed | BreakerView::HalfOpen => None,
    };
    json!({
        "id": account.id,
        "enabled": account.enabled,
        "weight": account.weight,
        "request_count": account.requests,
        "error_count": account.failures,
        "success_count": account.successes,
        "last_used_at": time(account.last_used),
        "last_error_at": time(account.last_failure),
        "last_success_at": time(account.last_success),
        "token_expires_at": time(account.token_expires_at),
        "circuit_breaker_open": open_until.is_some(),
        "circuit_breaker_open_until": time(open_until),
        "is_available": account.available,
    })
}

async fn act(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((id, action)): Path<(String, String)>,
) -> Answer {
    Problem::if_alone(control.redis()).map_err(Problem::with_detail)?;
    let done = match action.as_str() {
        "enable" | "disable" => {
            let enabled = action == "enable";
            let switched = control.switch(&id, enabled).await;
            let warning = switched.map_err(|error| Problem::from(error).with_detail())?;
            let done = if enabled { "enabled" } else { "disabled" };
            warning.map_or(done.to_owned(), |why| format!("{done}; {why}"))
        }
        "reset" if !control.reset(&id) => return Err(Problem::no_account(&id).with_detail()),
        "reset" => "reset".to_owned(),
        _ => {
            let message = "an account can be enabled, disabled or reset";
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", message).with_detail());
        }
    };
    tracing::info!(
        actor = &*actor.name,
        account = id,
        action,
        "account changed by its operator"
    );
    Ok(Json(
        json!({"status": "success", "message": format!("Account {id} {done}")}),
    ))
}

async fn instance_list(State(control): State<Shared>) -> Json<Value> {
    let accounts = control.accounts();
    let shown: Vec<&AccountView> = instances(&accounts).collect();
    let in_state = |state| shown.iter().filter(|a| instance_state(a) == state).count();
    let instance = |a: &&AccountView| {
        json!({
            "id": a.id,
            "status": instance_state(a),
            "port": a.upstream_port,
            "auth_file": a.auth_file,
            "ws_endpoint": null,
            "last_used": a.last_used.map(clock::unix_seconds),
            "error_count": a.failures + a.mishaps,
            "current_request_id": a.current_request.as_deref(),
        })
    };
    Json(json!({
        "total_instances": shown.len(),
        "ready_instances": in_state("ready"),
        "busy_instances": in_state("busy"),
        "error_instances": in_state("error"),
        "instances": shown.iter().map(instance).collect::<Vec<_>>(),
    }))
}

async fn workers(State(control): State<Shared>) -> Json<Value> {
    let worker = |a: &AccountView| {
        json!({
            "id": a.id,
            "url": control.upstream(&a.id),
            "weight": a.weight,
            "stats": worker_stats(a),
        })
    };
    let workers: Vec<Value> = control.accounts().iter().map(worker).collect();
    Json(json!({"workers": workers}))
}

async fn queue(State(control): State<Shared>) -> Json<Value> {
    let mut body = control.queue().json();
    let accounts = control.accounts();
    let workers: Map<String, Value> = accounts
        .iter()
        .map(|a| (a.id.clone(), worker_stats(a)))
        .collect();
    body["workers"] = Value::Object(workers);
    Json(body)
}

/// Milliseconds. The total is what the mean says of all successes: only a moving mean is kept.
fn worker_stats(account: &AccountView) -> Value {
    let mean = account.response_ms.map_or(0.0, |ms| ms.ewma);
    json!({
        "requests": account.requests,
        "errors": account.failures,
        "totalResponseTime": mean * account.successes as f64,
        "averageResponseTime": mean,
        "lastUsed": account.last_used.map(clock::rfc3339),
        "healthy": account.available,
        "currentLoad": account.in_flight,
    })
}
