//! `POST /api/v1/route`: a dry run. A head and a key in; the account out, and for each other one
//! the reason why not.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
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

/// A dry run: which account a request would get, and why not each of the others. Nothing is sent.
#[utoipa::path(post, path = "/api/v1/route", tag = "pools", request_body = Question, responses(
    (status = 200, description = "`pool`, `account` and `others`", body = Value),
    (status = 422, description = "It would be refused before any account", body = Value),
))]
pub(super) async fn route(
    State(control): State<Shared>,
    body: Bytes,
) -> Result<(Noted, Json<Value>), Problem> {
    let question: Question = parse(&body)?;
    let explained = control.explain(&question);
    let explained = explained
        .map_err(|reason| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_routed", reason))?;
    let others = explained
        .others
        .iter()
        .map(|(id, reason)| json!({"account": id, "reason": reason}));
    let shown = json!({
        "pool": explained.pool,
        "account": explained.account,
        "others": others.collect::<Vec<_>>(),
    });
    Ok((Noted::nothing(), Json(shown)))
}
