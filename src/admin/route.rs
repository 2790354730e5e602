//! `POST /api/v1/route`: a dry run. A head and a key in; the account out, and for each other one
//! the reason why not.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::Shared;
use super::audit::Noted;
use super::reply::{Problem, parse};

/// A request that is not made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    #[serde(default = "chat")]
    /// `/v1/chat/completions` unless another is said.
    pub path: String,
    pub model: Option<String>,
    /// The client's key; none = as a client without one.
    pub key: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

fn chat() -> String {
    "/v1/chat/completions".to_owned()
}

/// Where a request would go.
#[derive(Serialize, ToSchema)]
pub(super) struct Routed {
    pool: String,
    /// Null: it would wait, or be refused.
    account: Option<String>,
    others: Vec<NotChosen>,
}

#[derive(Serialize, ToSchema)]
struct NotChosen {
    account: String,
    reason: String,
}

/// A dry run: which account a request would get, and why not each of the others. Nothing is sent.
#[utoipa::path(post, path = "/api/v1/route", tag = "pools", request_body = Question, responses(
    (status = 200, description = "`pool`, `account` and `others`", body = Routed),
    (status = 422, description = "It would be refused before any account"),
))]
pub(super) async fn route(
    State(control): State<Shared>,
    body: Bytes,
) -> Result<(Noted, Json<Routed>), Problem> {
    let question: Question = parse(&body)?;
    let explained = control.explain(&question);
    let explained = explained
        .map_err(|reason| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_routed", reason))?;
    let others = explained.others.into_iter();
    let routed = Routed {
        pool: explained.pool,
        account: explained.account,
        others: others
            .map(|(account, reason)| NotChosen { account, reason })
            .collect(),
    };
    Ok((Noted::nothing(), Json(routed)))
}
