//! `/api/v1/keys`: issued keys. A key itself is shown once, to whoever made it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::api::{Answer, Shared};
use super::audit::Noted;
use super::auth::Actor;
use super::control::Control;
use super::list::Page;
use super::reply::{Problem, parse};
use crate::clock;
use crate::key::{Attributes, KeyError, KeyView};
use crate::secret::Secret;
use crate::store::{KeyRecord, StoreError};

type NotedAnswer<T> = Result<(Noted, Json<T>), Problem>;

/// How long the old key is good after a rotation, where nothing is said.
const GRACE: Duration = Duration::from_secs(86_400);

/// Who issues keys. Each change is in force here when it returns, and elsewhere within a second.
pub trait Issuer: Send + Sync {
    /// All of them, in the order of their ids.
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, KeyError>>;

    fn key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<KeyRecord, KeyError>>;

    fn create(&self, asked: Attributes) -> BoxFuture<'_, Result<(KeyRecord, Secret), KeyError>>;

    fn change<'a>(
        &'a self,
        id: &'a str,
        asked: Attributes,
    ) -> BoxFuture<'a, Result<KeyRecord, KeyError>>;

    fn rotate<'a>(
        &'a self,
        id: &'a str,
        grace: Duration,
    ) -> BoxFuture<'a, Result<(KeyRecord, Secret), KeyError>>;

    fn revoke<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<KeyRecord, KeyError>>;
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyPage {
    keys: Vec<KeyView>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKey {
    /// The key itself, which is shown this once.
    key: String,
    #[serde(flatten)]
    known: KeyView,
}

/// Issued and imported keys, in the order of their ids; the keys themselves are not kept.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(Page),
    responses((status = 200, description = "`keys` and `next`", body = KeyPage)))]
pub(super) async fn list(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Answer<KeyPage> {
    let keys = issuer(&*control)?.keys().await?;
    let now = clock::wall();
    let (keys, next) = page.cut(&keys, |key| &key.id)?;
    Ok(Json(KeyPage {
        keys: keys.iter().map(|key| KeyView::of(key, now)).collect(),
        next,
    }))
}

/// One key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    responses((status = 200, description = "What is known of the key", body = KeyView)))]
pub(super) async fn one(State(control): State<Shared>, Path(id): Path<String>) -> Answer<KeyView> {
    let key = issuer(&*control)?.key(&id).await?;
    Ok(Json(KeyView::of(&key, clock::wall())))
}

/// Issues a key. The key itself is shown this once.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys",
    request_body(content = Object, description = "`name`, `tier`, `account`, `days`, `models`, `limits`, `max_concurrent`, `allowed_ips`, `labels`, `notes`; all may be left out",
        example = json!({"name": "ci", "tier": "default", "days": 30})),
    responses(
        (status = 201, description = "The key, and what is known of it", body = NewKey),
        (status = 409, description = "The name is another key's"),
    ))]
pub(super) async fn create(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Result<(StatusCode, Noted, Json<NewKey>), Problem> {
    let asked: Attributes = parse(or_nothing(&body))?;
    let (record, key) = issuer(&*control)?.create(asked).await?;
    tell(&actor, &record, "a key was created");
    let noted = Noted::at(
        &record.id,
        json!({"name": record.name, "tier": record.tier}),
    );
    Ok((StatusCode::CREATED, noted, Json(NewKey::of(&record, &key))))
}

/// Changes what a key may do.
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    request_body(content = Object, description = "As for a new key; what is not said stays"),
    responses((status = 200, description = "What is known of the key", body = KeyView)))]
pub(super) async fn change(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    body: Bytes,
) -> NotedAnswer<KeyView> {
    let asked: Attributes = parse(&body)?;
    let record = issuer(&*control)?.change(&id, asked).await?;
    tell(&actor, &record, "a key was changed");
    Ok((named(&record), Json(KeyView::of(&record, clock::wall()))))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old key is good, such as `24h`.
    grace: Option<String>,
}

/// A new key in the place of this one, which is good for a while yet. The new one is shown this once.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", params(("id" = String, Path)),
    request_body = Rotation,
    responses((status = 200, description = "The key, and what is known of it", body = NewKey)))]
pub(super) async fn rotate(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    body: Bytes,
) -> NotedAnswer<NewKey> {
    let Rotation { grace } = parse(or_nothing(&body))?;
    let grace = grace.map_or(Ok(GRACE), |text| humantime::parse_duration(&text));
    let grace = grace.map_err(|_| Problem::bad("grace", "must be a duration such as 24h"))?;
    let (record, key) = issuer(&*control)?.rotate(&id, grace).await?;
    tell(&actor, &record, "a key was rotated");
    Ok((named(&record), Json(NewKey::of(&record, &key))))
}

/// Revokes a key: from now on nobody is let in with it.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)),
    responses((status = 200, description = "What is known of the key", body = KeyView)))]
pub(super) async fn revoke(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> NotedAnswer<KeyView> {
    let record = issuer(&*control)?.revoke(&id).await?;
    tell(&actor, &record, "a key was revoked");
    Ok((named(&record), Json(KeyView::of(&record, clock::wall()))))
}

/// An id says nothing to whoever reads the record of changes.
fn named(record: &KeyRecord) -> Noted {
    Noted::with(json!({"name": record.name}))
}

fn issuer(control: &dyn Control) -> Result<&dyn Issuer, Problem> {
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "no keys are issued here",
        )
    };
    control.issuer().ok_or_else(none)
}

/// A body that is not there says nothing.
fn or_nothing(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

impl NewKey {
    fn of(record: &KeyRecord, key: &Secret) -> Self {
        NewKey {
            key: key.expose().to_owned(),
            known: KeyView::of(record, clock::wall()),
        }
    }
}

fn tell(actor: &Actor, record: &KeyRecord, what: &str) {
    tracing::info!(
        actor = &*actor.name,
        key = record.name,
        id = record.id,
        "{what}"
    );
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let (status, code) = match &error {
            KeyError::Wrong(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            KeyError::NoSuchKey(_) => (StatusCode::NOT_FOUND, "not_found"),
            KeyError::Revoked(_)
            | KeyError::Several(..)
            | KeyError::Store(StoreError::NameTaken { .. } | StoreError::KeyKnown { .. }) => {
                (StatusCode::CONFLICT, "conflict")
            }
            KeyError::Store(_) | KeyError::Late => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable")
            }
            KeyError::Random(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Problem::new(status, code, error.to_string())
    }
}
