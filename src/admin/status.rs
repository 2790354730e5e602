//! What monitors ask for: is it alive, is it ready, and the metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::{Value, json};

use super::auth::{Auth, Gate, gate};
use super::control::Control;
use super::reply::Problem;
use crate::clock;
use crate::config::Role;
use crate::pool::Health;

type Shared = Arc<dyn Control>;

/// `/livez`, `/readyz` and `/health`: no token, any Host, counts only. An orchestrator asks by
/// addresses of its own.
pub(super) fn probes() -> Router<Shared> {
    Router::new()
        .route("/livez", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(readyz))
        .route("/health", get(whole))
}

/// `GET /metrics`
pub(super) fn metrics(auth: &Auth) -> Router<Shared> {
    let gate_of = Gate::older(auth, Role::Metrics);
    Router::new()
        .route("/metrics", get(encode))
        .route_layer(middleware::from_fn_with_state(gate_of, gate))
}

pub(super) fn health(control: &dyn Control) -> Health {
    let (accounts, queue) = (control.accounts(), control.queue());
    Health::of(
        &accounts,
        queue,
        control.draining(),
        control.redis(),
        clock::wall(),
    )
}

async fn readyz(State(control): State<Shared>) -> (StatusCode, Json<Value>) {
    let ready = health(&*control).ready;
    let word = match (ready, control.draining()) {
        (true, _) => "ready",
        (false, true) => "draining",
        (false, false) => "not_ready",
    };
    (status_of(ready), Json(json!({"status": word})))
}

async fn whole(State(control): State<Shared>) -> (StatusCode, Json<Value>) {
    let health = health(&*control);
    (status_of(health.ready), Json(health.body))
}

fn status_of(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn encode(State(control): State<Shared>) -> Response {
    match tokio::task::spawn_blocking(move || control.encode_metrics()).await {
        Ok(text) => (
            [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(e) => {
            tracing::error!("metrics could not be written: {e}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "see the log")
                .into_response()
        }
    }
}
