//! `/api/v1/notify/test`: do the webhooks hear us?

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Shared;
use super::auth::Actor;
use crate::notify::Tested;

/// What became of the try.
#[derive(Serialize, ToSchema)]
pub(super) struct Hooks {
    hooks: Vec<Hook>,
}

#[derive(Serialize, ToSchema)]
struct Hook {
    /// Of its address; the rest may be a secret.
    host: String,
    delivered: bool,
    error: Option<String>,
}

impl Hook {
    fn of(tested: Tested) -> Self {
        Hook {
            host: tested.host,
            delivered: tested.result.is_ok(),
            error: tested.result.err(),
        }
    }
}

/// Sends each webhook a notice that nothing has happened; says what became of it.
#[utoipa::path(post, path = "/api/v1/notify/test", tag = "operations",
    request_body(content = Value, description = "Nothing is read of it"),
    responses((status = 200, description = "`hooks`", body = Hooks)))]
pub(super) async fn test(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Json<Hooks> {
    tracing::info!(actor = &*actor.name, "the webhooks are tried");
    let tested = control.test_notices().await;
    Json(Hooks {
        hooks: tested.into_iter().map(Hook::of).collect(),
    })
}
