//! `/api/v1/instances`: the local programs of accounts, and what they said last.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::account::Program;
use super::api::Shared;
use super::auth::{Actor, Auth};
use super::control::Control;
use super::follow;
use super::list::Page;
use super::reply::Problem;
use crate::clock;
use crate::instance::{InstanceView, Phase};
use crate::pool::AccountView;

/// Lines of a log that are shown unless another number is asked for, and at most.
const LINES: usize = 200;
const MOST_LINES: usize = 10_000;

/// The local programs of accounts.
#[utoipa::path(get, path = "/api/v1/instances", tag = "instances", params(Page),
    responses((status = 200, description = "`instances` and `next`", body = Programs)))]
pub(super) async fn list(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Result<Json<Programs>, Problem> {
    let mut accounts = control.accounts();
    accounts.retain(|account| account.has_instance);
    let (accounts, next) = page.cut(&accounts, |account| &account.id)?;
    let shown = accounts.iter().map(|account| Shown::of(&*control, account));
    Ok(Json(Programs {
        instances: shown.collect(),
        next,
    }))
}

/// A page of local programs.
#[derive(Serialize, ToSchema)]
pub(super) struct Programs {
    instances: Vec<Shown>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// The local program of an account, and since when it is in this state.
#[derive(Serialize, ToSchema)]
#[schema(as = Instance)]
struct Shown {
    account: String,
    #[serde(flatten)]
    program: Program,
    since: String,
    last_error: Option<String>,
}

impl Shown {
    fn of(control: &dyn Control, account: &AccountView) -> Self {
        let instance = control.instance(&account.id);
        let program = instance.as_ref().map(|it| program(account, it));
        let since = instance.as_ref().map_or(account.since, |it| it.since);
        Shown {
            account: account.id.clone(),
            // The gateway has only just heard of the account.
            program: program.unwrap_or(Program {
                pid: None,
                port: None,
                state: Phase::Stopped.name(),
                restarts: 0,
            }),
            since: clock::rfc3339(since),
            last_error: instance.and_then(|instance| instance.last_error),
        }
    }
}

/// What one account shows of its program.
pub(super) fn of_account(control: &dyn Control, account: &AccountView) -> Option<Program> {
    let instance = control.instance(&account.id)?;
    Some(program(account, &instance))
}

fn program(account: &AccountView, instance: &InstanceView) -> Program {
    Program {
        pid: instance.pid,
        port: instance.port,
        state: state(account, instance),
        restarts: instance.restarts,
    }
}

fn state(account: &AccountView, instance: &InstanceView) -> &'static str {
    match instance.phase {
        Phase::Ready if account.in_flight > 0 => "busy",
        Phase::Ready if !account.enabled => Phase::Disabled.name(),
        phase => phase.name(),
    }
}

/// The last lines of a program, the oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Lines {
    account: String,
    lines: Vec<String>,
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
        (status = 200, description = "`account` and `lines`; or events", content(
            (Lines = "application/json"), (String = "text/event-stream"))),
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
        Ok(Ok((lines, _))) => Ok(Json(Lines { account: id, lines }).into_response()),
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
