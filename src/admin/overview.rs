//! `/api/v1/overview` and `/api/v1/history`: what an operator looks at first.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Shared;
use super::pools::Pool;
use super::pulse::{Event, Hour, Numbers};
use super::{slots, status};
use crate::clock;
use crate::pool::AccountView;

/// Events that are shown.
const EVENTS: usize = 50;

/// How all stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Overview {
    version: &'static str,
    /// healthy or unhealthy.
    status: &'static str,
    /// Some accounts cannot serve.
    degraded: bool,
    /// The process is about to stop.
    draining: bool,
    timestamp: String,
    started_at: String,
    accounts: Availability,
    /// How many accounts are in which state.
    by_status: BTreeMap<&'static str, usize>,
    totals: Totals,
    /// Null in the first second.
    rates: Option<Numbers>,
    pools: Vec<Pool>,
    nodes: Nodes,
    queue: Queue,
    slots: slots::Total,
    /// Does it answer? Null without one.
    redis: Option<bool>,
    /// The latest first.
    events: Vec<Event>,
}

#[derive(Serialize, ToSchema)]
struct Availability {
    total: usize,
    available: usize,
    unavailable: usize,
}

/// Since the start.
#[derive(Serialize, ToSchema)]
struct Totals {
    requests: u64,
    successes: u64,
    failures: u64,
    tokens: u64,
    /// Now.
    in_flight: u64,
}

/// Gateways that have the same accounts, this one included.
#[derive(Serialize, ToSchema)]
struct Nodes {
    gateways: u32,
    redis: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct Queue {
    waiting: u64,
    active: u64,
    completed: u64,
    failed: u64,
}

/// Totals, rates, pools, the queue and the latest events.
#[utoipa::path(get, path = "/api/v1/overview", tag = "live",
    responses((status = 200, description = "How all stands", body = Overview)))]
pub(super) async fn overview(State(control): State<Shared>) -> Json<Overview> {
    let accounts = control.accounts();
    let sum = |count: fn(&AccountView) -> u64| accounts.iter().map(count).sum::<u64>();
    let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
    for account in &accounts {
        *by_status.entry(account.status.name()).or_default() += 1;
    }
    let total = accounts.len();
    let available = accounts.iter().filter(|account| account.available).count();
    let (pulse, queue) = (control.pulse(), control.queue());
    Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        status: status::health(&*control).word(),
        degraded: available < total,
        draining: control.draining(),
        timestamp: clock::rfc3339(clock::wall()),
        started_at: clock::rfc3339(control.started_at()),
        accounts: Availability {
            total,
            available,
            unavailable: total - available,
        },
        by_status,
        totals: Totals {
            requests: sum(|a| a.requests),
            successes: sum(|a| a.successes),
            failures: sum(|a| a.failures),
            tokens: sum(|a| a.tokens),
            in_flight: sum(|a| a.in_flight.into()),
        },
        rates: pulse.numbers(),
        pools: control.pools().iter().map(Pool::of).collect(),
        nodes: Nodes {
            gateways: control.gateways(),
            redis: control.redis(),
        },
        queue: Queue {
            waiting: queue.waiting,
            active: queue.active,
            completed: queue.completed,
            failed: queue.failed,
        },
        slots: slots::total(&control.slot_places()),
        redis: control.redis(),
        events: pulse.events(EVENTS),
    })
}

/// The last hour in points of ten seconds.
#[utoipa::path(get, path = "/api/v1/history", tag = "live",
    responses((status = 200, description = "The points, the oldest first", body = Hour)))]
pub(super) async fn history(State(control): State<Shared>) -> Json<Hour> {
    Json(control.pulse().history())
}
