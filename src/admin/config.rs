//! `/api/v1/config`: what is in force, secrets masked; and `/api/v1/reload`, which can say first what
//! it would change.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::api::Shared;
use super::audit::Noted;
use super::auth::Actor;
use super::control::Reloaded;

/// The effective configuration, secrets masked.
#[utoipa::path(get, path = "/api/v1/config", tag = "operations",
    responses((status = 200, description = "`path` and `config`", body = Value)))]
pub(super) async fn show(State(control): State<Shared>) -> Json<Value> {
    let (path, config) = control.config();
    Json(json!({"path": path, "config": config}))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

/// Reads the file again and puts it in force; says every mistake of one that cannot be.
#[utoipa::path(post, path = "/api/v1/reload", tag = "operations", params(How), responses(
    (status = 200, description = "`reloaded`, `changes` and `needs_upgrade`", body = Value),
    (status = 422, description = "Each mistake of the file, as `problems`", body = Value),
))]
pub(super) async fn reload(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Query(How { dry_run }): Query<How>,
) -> Response {
    if !dry_run {
        tracing::info!(actor = &*actor.name, "reload asked for by an operator");
    }
    let read = move || match dry_run {
        true => control.rehearse(),
        false => control.reload(),
    };
    let problems = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(Reloaded {
            needs_upgrade,
            changes,
        })) => {
            let paths: Vec<&String> = changes.iter().map(|change| &change.path).collect();
            let noted = match dry_run {
                true => Noted::nothing(),
                false => Noted::with(json!({"changes": paths})),
            };
            let shown = |change: &crate::config::Difference| json!({"path": change.path, "before": change.before, "after": change.after});
            let answer = json!({
                "reloaded": !dry_run,
                "changes": changes.iter().map(shown).collect::<Vec<_>>(),
                "needs_upgrade": needs_upgrade,
            });
            return (noted, Json(answer)).into_response();
        }
        Ok(Err(problems)) => problems,
        Err(error) => vec![error.to_string()],
    };
    let error = json!({"code": "invalid_configuration", "message": problems.join("\n")});
    let answer = json!({"error": error, "problems": problems});
    (StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response()
}
