//! `POST /api/v1/route`: a dry run. A head and a key in; the account out, and for each other one
//! the reason why not.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Shared;
use super::reply::{Problem, parse};

/// A request that is not made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    #[serde(default = "chat")]
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

pub(super) async fn route(
    State(control): State<Shared>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let question: Question = parse(&body)?;
    let explained = control.explain(&question);
    let explained = explained
        .map_err(|reason| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_routed", reason))?;
    let others = explained
        .others
        .iter()
        .map(|(id, reason)| json!({"account": id, "reason": reason}));
    Ok(Json(json!({
        "pool": explained.pool,
        "account": explained.account,
        "others": others.collect::<Vec<_>>(),
    })))
}
