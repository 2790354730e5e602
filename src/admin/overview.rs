//! `/api/v1/overview` and `/api/v1/history`: what an operator looks at first.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::api::Shared;
use super::pools::pool_json;
use super::{slots, status};
use crate::clock;
use crate::pool::AccountView;

/// Events that are shown.
const EVENTS: usize = 50;

/// Totals, rates, pools, the queue and the latest events.
#[utoipa::path(get, path = "/api/v1/overview", tag = "live",
    responses((status = 200, description = "How all stands", body = Value)))]
pub(super) async fn overview(State(control): State<Shared>) -> Json<Value> {
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
    let pulse = control.pulse();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "status": health["status"],
        "degraded": health["degraded"],
        "draining": control.draining(),
        "timestamp": health["timestamp"],
        "started_at": clock::rfc3339(control.started_at()),
        "accounts": health["accounts"],
        "by_status": by_status,
        "totals": totals,
        "rates": pulse.numbers(),
        "pools": control.pools().iter().map(pool_json).collect::<Vec<_>>(),
        "nodes": {"gateways": control.gateways(), "redis": control.redis()},
        "queue": control.queue().json(),
        "slots": slots::total(&control.slot_places()),
        "redis": control.redis(),
        "events": pulse.events(EVENTS),
    }))
}

/// The last hour in points of ten seconds.
#[utoipa::path(get, path = "/api/v1/history", tag = "live",
    responses((status = 200, description = "The points, the oldest first", body = Value)))]
pub(super) async fn history(State(control): State<Shared>) -> Json<Value> {
    Json(control.pulse().history())
}
