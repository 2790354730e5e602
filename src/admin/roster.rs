//! Accounts by the API: added, changed, taken away. They are kept over restarts, and served at once.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::account::Account;
use super::accounts::one;
use super::api::Shared;
use super::audit::Noted;
use super::auth::Actor;
use super::control::Control;
use super::reply::{Problem, parse};
use crate::config::Role;
use crate::store::StoreError;

/// What an operator may change of an account; the rest is an administrator's.
const OPERATORS: [&str; 4] = ["weight", "priority", "max_concurrent", "enabled"];

/// Keys of an account and what they are to be.
pub type Keys = Map<String, Value>;

/// Who keeps accounts that are not in the file, and changes of those that are. Each change is in force
/// here when it returns, and elsewhere within a second.
pub trait Roster: Send + Sync {
    fn add(&self, pool: String, id: String, keys: Keys) -> BoxFuture<'_, Result<(), AccountError>>;

    /// `null` takes a key back.
    fn change<'a>(&'a self, id: &'a str, keys: Keys) -> BoxFuture<'a, Result<(), AccountError>>;

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), AccountError>>;

    /// Drops all changes of an account of the file.
    fn restore<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), AccountError>>;
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Key and what would be right.
    #[error("{0}: {1}")]
    Wrong(String, String),
    #[error("there is no account {0:?}")]
    NoSuchAccount(String),
    #[error("there is an account {0:?} already")]
    Taken(String),
    #[error("{0:?} is an account of the file: take it out there, or disable it")]
    InFile(String),
    #[error("nothing of the account {0:?} is overridden")]
    NotChanged(String),
    /// It cannot be sealed, or not be opened again.
    #[error("what is known of the account cannot be read: {0}")]
    Sealed(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was done is in force, but could not be written down: an operator must know, and it is no failure.
#[derive(Debug, thiserror::Error)]
#[error("it is in force, and forgotten with the next start: it cannot be written down: {0}")]
pub struct NotKept(pub String);

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let (status, code) = match &error {
            AccountError::Wrong(..) => (StatusCode::BAD_REQUEST, "bad_request"),
            AccountError::NoSuchAccount(_) | AccountError::NotChanged(_) => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            AccountError::Taken(_) | AccountError::InFile(_) => (StatusCode::CONFLICT, "conflict"),
            AccountError::Sealed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            AccountError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
        };
        Problem::new(status, code, error.to_string())
    }
}

type Done = Result<(Noted, Json<Seen>), Problem>;

/// The account as it now is; or, while it is not in force yet, what was said of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Seen {
    Account(Box<Account>),
    Said(Said),
}

/// What was done is done, and told so, where it is not in force yet.
#[derive(Serialize, ToSchema)]
pub(super) struct Said {
    id: String,
    /// The keys; `changed` where the value may be a secret.
    #[schema(value_type = Object)]
    said: Value,
}

/// An account that has been taken away.
#[derive(Serialize, ToSchema)]
pub(super) struct Removed {
    id: String,
    /// Its requests that finish.
    in_flight: u32,
}

fn roster(control: &dyn Control) -> Result<&dyn Roster, Problem> {
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "no accounts are kept here",
        )
    };
    control.roster().ok_or_else(none)
}

/// Adds an account: the keys of one in the file, but for `instance` and what names a file.
#[utoipa::path(post, path = "/api/v1/accounts", tag = "accounts",
    request_body(content = Object, description = "`pool`, `id`, `upstream`, `credential` and the other keys of an account",
        example = json!({"pool": "default", "id": "b", "upstream": "openai", "credential": {"api_key": "sk-…"}, "weight": 2})),
    responses(
        (status = 201, description = "The account", body = Seen),
        (status = 409, description = "There is one of this id already"),
    ))]
pub(super) async fn add(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Result<(StatusCode, Noted, Json<Seen>), Problem> {
    let mut keys: Keys = parse(&body)?;
    let mut text = |key: &str| match keys.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Problem::bad(key, "must be a text")),
        None => Err(Problem::bad(key, "is missing")),
    };
    let (pool, id) = (text("pool")?, text("id")?);
    let (said, shown) = (names(&keys), visible(&keys));
    roster(&*control)?
        .add(pool.clone(), id.clone(), keys)
        .await?;
    tracing::info!(
        actor = &*actor.name,
        account = id,
        pool,
        "account added by the API"
    );
    let noted = Noted::at(&id, json!({"pool": pool, "keys": said}));
    Ok((StatusCode::CREATED, noted, Json(seen(&*control, id, shown))))
}

/// Changes keys of an account; of one in the file that is an override.
#[utoipa::path(patch, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    request_body(content = Object, description = "The keys to change; `null` takes one back. Another `upstream` needs the `credential` anew.",
        example = json!({"weight": 5, "max_concurrent": 10})),
    responses((status = 200, description = "The account", body = Seen)))]
pub(super) async fn change(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    body: Bytes,
) -> Done {
    let keys: Keys = parse(&body)?;
    let is_operators = |key: &String| OPERATORS.contains(&&**key);
    if actor.role < Role::Admin && !keys.keys().all(is_operators) {
        let message = format!(
            "the role of this token may change {} only",
            OPERATORS.join(", ")
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let shown = visible(&keys);
    roster(&*control)?.change(&id, keys).await?;
    tracing::info!(actor = &*actor.name, account = id, changed = %shown, "account changed by the API");
    Ok((Noted::with(shown.clone()), Json(seen(&*control, id, shown))))
}

/// Takes away an account that came by the API; its requests finish.
#[utoipa::path(delete, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    responses(
        (status = 200, description = "`id` and `in_flight`: the requests that finish", body = Removed),
        (status = 409, description = "It is in the file"),
    ))]
pub(super) async fn remove(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<(Noted, Json<Removed>), Problem> {
    let in_flight = control.account(&id).map_or(0, |account| account.in_flight);
    roster(&*control)?.remove(&id).await?;
    tracing::info!(
        actor = &*actor.name,
        account = id,
        "account taken away by the API"
    );
    Ok((Noted::default(), Json(Removed { id, in_flight })))
}

/// Drops what was changed of an account of the file.
#[utoipa::path(delete, path = "/api/v1/accounts/{id}/override", tag = "accounts",
    params(("id" = String, Path)), responses((status = 200, description = "The account", body = Seen)))]
pub(super) async fn restore(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Done {
    roster(&*control)?.restore(&id).await?;
    tracing::info!(
        actor = &*actor.name,
        account = id,
        "account as the file says again"
    );
    Ok((Noted::default(), Json(seen(&*control, id, json!({})))))
}

fn seen(control: &dyn Control, id: String, said: Value) -> Seen {
    match one(control, &id) {
        Ok(account) => Seen::Account(Box::new(account)),
        Err(_) => Seen::Said(Said { id, said }),
    }
}

fn names(keys: &Keys) -> Vec<String> {
    keys.keys().cloned().collect()
}

/// What may be written down: plain values of keys that hold no secret, of others the names.
fn visible(keys: &Keys) -> Value {
    let shown = |(key, value): (&String, &Value)| {
        let value = match OPERATORS.contains(&&**key) {
            true => value.clone(),
            false => json!("changed"),
        };
        (key.clone(), value)
    };
    Value::Object(keys.iter().map(shown).collect())
}
