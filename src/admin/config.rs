//! `/api/v1/config`: what is in force, secrets masked; and `/api/v1/reload`, which can say first what
//! it would change.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::api::Shared;
use super::audit::Noted;
use super::auth::Actor;
use super::control::Reloaded;
use super::openapi::Why;
use crate::config::{Difference, Shown};

/// What is in force.
#[derive(Serialize, ToSchema)]
pub(super) struct Configuration {
    /// Of the file; null where there is none.
    path: Option<String>,
    #[schema(value_type = Object)]
    config: Shown,
}

/// What a reload did, or would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Reload {
    reloaded: bool,
    changes: Vec<Change>,
    /// Keys whose new values are in force only after an upgrade.
    needs_upgrade: Vec<String>,
}

/// One value that differs; secrets are masked.
#[derive(Serialize, ToSchema)]
struct Change {
    #[schema(example = "pools.default.accounts[a].weight")]
    path: String,
    /// Null: it is new.
    #[schema(value_type = Value)]
    before: Option<Shown>,
    /// Null: it is gone.
    #[schema(value_type = Value)]
    after: Option<Shown>,
}

/// Why a file is not put in force.
#[derive(Serialize, ToSchema)]
pub(super) struct WrongFile {
    error: Why,
    /// Each mistake, with its place.
    problems: Vec<String>,
}

/// The effective configuration, secrets masked.
#[utoipa::path(get, path = "/api/v1/config", tag = "operations",
    responses((status = 200, description = "`path` and `config`", body = Configuration)))]
pub(super) async fn show(State(control): State<Shared>) -> Json<Configuration> {
    let (path, config) = control.config();
    Json(Configuration { path, config })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
}

impl Change {
    fn of(difference: Difference) -> Self {
        Change {
            path: difference.path,
            before: difference.before,
            after: difference.after,
        }
    }
}

/// Reads the file again and puts it in force; says every mistake of one that cannot be.
#[utoipa::path(post, path = "/api/v1/reload", tag = "operations", params(How),
    request_body(content = Value, description = "Nothing is read of it"), responses(
    (status = 200, description = "`reloaded`, `changes` and `needs_upgrade`", body = Reload),
    (status = 422, description = "Each mistake of the file, as `problems`", body = WrongFile),
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
            let answer = Reload {
                reloaded: !dry_run,
                changes: changes.into_iter().map(Change::of).collect(),
                needs_upgrade,
            };
            return (noted, Json(answer)).into_response();
        }
        Ok(Err(problems)) => problems,
        Err(error) => vec![error.to_string()],
    };
    let answer = WrongFile {
        error: Why::of("invalid_configuration", problems.join("\n")),
        problems,
    };
    (StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response()
}
