//! `/api/v1/accounts`: what the accounts are and how they are, and what an operator orders of them.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{self, StrDeserializer};
use utoipa::ToSchema;

use super::account::{Account, Accounts};
use super::api::{Answer, Shared};
use super::auth::Actor;
use super::control::Control;
use super::instances;
use super::list::Page;
use super::reply::Problem;

/// All accounts, in the order of the file; then those that came by the API.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", params(Page),
    responses((status = 200, description = "`accounts` and `next`", body = Accounts)))]
pub(super) async fn list(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Result<Json<Accounts>, Problem> {
    let all = control.accounts();
    let (views, next) = page.cut(&all, |account| &account.id)?;
    Ok(Json(Accounts::of(&*control, views, next)))
}

/// One account.
#[utoipa::path(get, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, description = "The account", body = Account)))]
pub(super) async fn show(State(control): State<Shared>, Path(id): Path<String>) -> Answer<Account> {
    one(&*control, &id).map(Json)
}

/// What can be ordered of an account.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Enable,
    Disable,
    Reset,
    Refresh,
    Probe,
    Restart,
}

impl Action {
    fn named(word: &str) -> Result<Self, Problem> {
        let word: StrDeserializer<'_, value::Error> = word.into_deserializer();
        Action::deserialize(word).map_err(|_| {
            let message =
                "an account can be enabled, disabled, reset, refreshed, probed or restarted";
            Problem::new(StatusCode::NOT_FOUND, "not_found", message)
        })
    }
}

/// `enable`, `disable`, `reset`, `refresh`, `probe` or `restart`; answers with the account as it then is.
#[utoipa::path(post, path = "/api/v1/accounts/{id}/{action}", tag = "accounts",
    params(("id" = String, Path), ("action" = inline(Action), Path)),
    request_body(content = Value, description = "Nothing is read of it"),
    responses(
        (status = 200, description = "The account as it then is", body = Account),
        (status = 409, description = "It has no token to renew, or no program to restart"),
    ))]
pub(super) async fn act(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path((id, action)): Path<(String, String)>,
) -> Answer<Account> {
    let order = Action::named(&action)?;
    if matches!(order, Action::Enable | Action::Disable | Action::Reset) {
        Problem::if_alone(control.redis())?;
    }
    let mut warning = None;
    let found = match order {
        Action::Enable | Action::Disable => {
            warning = control.switch(&id, order == Action::Enable).await?;
            true
        }
        Action::Reset => control.reset(&id),
        Action::Probe => control.probe(Some(&id)).await,
        Action::Restart => instances::restart(&*control, &id)?,
        Action::Refresh => match control.refresh(&id).await {
            Some(Ok(())) => true,
            Some(Err(why)) => return Err(Problem::new(StatusCode::CONFLICT, "not_refreshed", why)),
            None => false,
        },
    };
    if found {
        tracing::info!(
            actor = &*actor.name,
            account = id,
            action,
            "account changed by its operator"
        );
    }
    let account = one(&*control, &id)?;
    Ok(Json(account.with(warning.map(|why| why.to_string()))))
}

/// The account as it is shown now.
pub(super) fn one(control: &dyn Control, id: &str) -> Result<Account, Problem> {
    let account = control.account(id).ok_or_else(|| Problem::no_account(id))?;
    Ok(Account::of(control, &account))
}
