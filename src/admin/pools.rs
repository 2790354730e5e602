//! `/api/v1/pools`: the pools and their strategies.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::api::{Answer, Shared};
use super::audit::Noted;
use super::auth::Actor;
use super::control::StrategyChange;
use super::list::Page;
use super::reply::{Problem, parse};
use crate::pool::PoolView;

/// A page of pools.
#[derive(Serialize, ToSchema)]
pub(super) struct Pools {
    pools: Vec<Pool>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// Interchangeable accounts with one strategy.
#[derive(Serialize, ToSchema)]
pub(super) struct Pool {
    name: String,
    #[schema(example = "round_robin")]
    strategy: &'static str,
    breaker_enabled: bool,
    accounts: usize,
    /// Accounts that may serve.
    available: usize,
    in_flight: u32,
    /// Requests that wait for an account, and how many may.
    waiting: usize,
    max_waiting: usize,
}

impl Pool {
    pub(super) fn of(view: &PoolView) -> Self {
        Pool {
            name: view.name.clone(),
            strategy: view.strategy,
            breaker_enabled: view.breaker_enabled,
            accounts: view.accounts,
            available: view.available,
            in_flight: view.in_flight,
            waiting: view.waiting,
            max_waiting: view.max_waiting,
        }
    }
}

/// All pools, in the order of the file.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools", params(Page),
    responses((status = 200, description = "`pools` and `next`", body = Pools)))]
pub(super) async fn pools(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Answer<Pools> {
    let all = control.pools();
    let (pools, next) = page.cut(&all, |pool| &pool.name)?;
    Ok(Json(Pools {
        pools: pools.iter().map(Pool::of).collect(),
        next,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStrategy {
    strategy: String,
}

/// Changes a pool's strategy until the next start or the next change of the file.
#[utoipa::path(post, path = "/api/v1/pools/{name}/strategy", tag = "pools",
    params(("name" = String, Path)), request_body = NewStrategy,
    responses((status = 200, description = "The pool", body = Pool)))]
pub(super) async fn strategy(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(Noted, Json<Pool>), Problem> {
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
            // A reload may have taken it away since.
            let shown = pool.as_ref().map(Pool::of).ok_or_else(|| no_pool(&name))?;
            Ok((Noted::with(json!({"strategy": strategy})), Json(shown)))
        }
        StrategyChange::UnknownPool => Err(no_pool(&name)),
        StrategyChange::UnknownStrategy => Err(unknown_strategy()),
    }
}

pub(super) fn unknown_strategy() -> Problem {
    Problem::bad(
        "strategy",
        "is not one of round_robin, weighted, least_connections, least_used, response_time, hash, random",
    )
}

fn no_pool(name: &str) -> Problem {
    let message = format!("there is no pool {name:?}");
    Problem::new(StatusCode::NOT_FOUND, "not_found", message)
}
