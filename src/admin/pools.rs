//! `/api/v1/pools`: the pools and their strategies.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::api::{Answer, Shared};
use super::audit::Noted;
use super::auth::Actor;
use super::control::StrategyChange;
use super::list::Page;
use super::reply::{Problem, parse};
use crate::pool::PoolView;

/// All pools, in the order of the file.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools", params(Page),
    responses((status = 200, description = "`pools` and `next`", body = Value)))]
pub(super) async fn pools(State(control): State<Shared>, Query(page): Query<Page>) -> Answer {
    page.of("pools", &control.pools(), |p| &p.name, pool_json)
        .map(Json)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStrategy {
    strategy: String,
}

/// Changes a pool's strategy until the next start or the next change of the file.
#[utoipa::path(post, path = "/api/v1/pools/{name}/strategy", tag = "pools",
    params(("name" = String, Path)), request_body = NewStrategy,
    responses((status = 200, description = "The pool", body = Value)))]
pub(super) async fn strategy(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(Noted, Json<Value>), Problem> {
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
            let shown = Json(pool.as_ref().map_or(Value::Null, pool_json));
            Ok((Noted::with(json!({"strategy": strategy})), shown))
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

pub(super) fn pool_json(pool: &PoolView) -> Value {
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
