//! `/api/v1/instances`: the local programs of accounts, and what they said last.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::api::Shared;
use super::auth::{Actor, Auth};
use super::control::Control;
use super::follow;
use super::list::Page;
use super::reply::Problem;
use crate::clock;
use crate::instance::{InstanceView, Phase};
use crate::pool::AccountView;

type Answer = Result<Json<Value>, Problem>;

/// Lines of a log that are shown unless another number is asked for, and at most.
const LINES: usize = 200;
const MOST_LINES: usize = 10_000;

/// The local programs of accounts.
#[utoipa::path(get, path = "/api/v1/instances", tag = "instances", params(Page),
    responses((status = 200, description = "`instances` and `next`", body = Value)))]
pub(super) async fn list(State(control): State<Shared>, Query(page): Query<Page>) -> Answer {
    let mut accounts = control.accounts();
    accounts.retain(|account| account.has_instance);
    let show = |account: &AccountView| match control.instance(&account.id) {
        Some(instance) => json!({
            "account": account.id,
            "pid": instance.pid,
            "port": instance.port,
            "state": state(account, &instance),
            "restarts": instance.restarts,
            "since": clock::rfc3339(instance.since),
            "last_error": instance.last_error,
        }),
        // The gateway has only just heard of the account.
        None => json!({
            "account": account.id, "pid": null, "port": null, "state": "stopped",
            "restarts": 0, "since": clock::rfc3339(account.since), "last_error": null,
        }),
    };
    page.of("instances", &accounts, |a| &a.id, show).map(Json)
}

/// What one account shows of its program.
pub(super) fn of_account(control: &dyn Control, account: &AccountView) -> Option<Value> {
    let instance = control.instance(&account.id)?;
    Some(json!({
        "pid": instance.pid,
        "port": instance.port,
        "state": state(account, &instance),
        "restarts": instance.restarts,
    }))
}

fn state(account: &AccountView, instance: &InstanceView) -> &'static str {
    match instance.phase {
        Phase::Ready if account.in_flight > 0 => "busy",
        Phase::Ready if !account.enabled => Phase::Disabled.name(),
        phase => phase.name(),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Tail {
    /// Lines that are shown at first.
    #[param(minimum = 1, maximum = 10000, default = 200)]
    tail: Option<usize>,
    /// Go on with new ones, as server-sent events `lines`.
    #[serde(default)]
    follow: bool,
}

/// What an account's program said last.
#[utoipa::path(get, path = "/api/v1/instances/{id}/logs", tag = "instances",
    params(("id" = String, Path), Tail), responses(
        (status = 200, description = "`account` and `lines`; or events", body = Value),
        (status = 409, description = "The account has no program"),
        (status = 429, description = "Too many listen already"),
    ))]
pub(super) async fn logs(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Extension(auth): Extension<Auth>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(Tail { tail, follow }): Query<Tail>,
) -> Result<Response, Problem> {
    let lines = tail.unwrap_or(LINES);
    if !(1..=MOST_LINES).contains(&lines) {
        return Err(Problem::bad("tail", "must be 1 to 10000"));
    }
    with_program(&*control, &id)?;
    if follow {
        return follow::follow(&control, id, lines, (actor, auth, headers));
    }
    let name = id.clone();
    let read = tokio::task::spawn_blocking(move || control.instance_log(&name, lines)).await;
    match read {
        Ok(Ok((lines, _))) => Ok(Json(json!({"account": id, "lines": lines})).into_response()),
        Ok(Err(error)) => Err(internal(format!("the log cannot be read: {error}"))),
        Err(_) => Err(internal("see the log of the gateway".to_owned())),
    }
}

/// Starts the account's program anew.
pub(super) fn restart(control: &dyn Control, id: &str) -> Result<bool, Problem> {
    with_program(control, id)?;
    Ok(control.restart(id))
}

fn with_program(control: &dyn Control, id: &str) -> Result<(), Problem> {
    let account = control.account(id).ok_or_else(|| Problem::no_account(id))?;
    match account.has_instance {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::CONFLICT,
            "no_instance",
            format!("the account {id:?} has no local program"),
        )),
    }
}

fn internal(message: String) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}
