//! `/api/v1/notify/test`: do the webhooks hear us?

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::api::Shared;
use super::auth::Actor;
use crate::notify::Tested;

/// Sends each webhook a notice that nothing has happened; says what became of it.
#[utoipa::path(post, path = "/api/v1/notify/test", tag = "operations",
    responses((status = 200, description = "`hooks`", body = Value)))]
pub(super) async fn test(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
) -> Json<Value> {
    tracing::info!(actor = &*actor.name, "the webhooks are tried");
    let tested = control.test_notices().await;
    let hook = |tested: &Tested| {
        json!({
            "host": tested.host,
            "delivered": tested.result.is_ok(),
            "error": tested.result.as_ref().err(),
        })
    };
    Json(json!({"hooks": tested.iter().map(hook).collect::<Vec<_>>()}))
}
