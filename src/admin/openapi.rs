//! `GET /openapi.json`: the management API described for machines, made of the same table as the
//! router, so that neither has what the other has not.

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Router, middleware};
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::auth::{Auth, door};
use super::session;

/// What every refusal says.
#[derive(Serialize, ToSchema)]
struct Refusal {
    error: Why,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Why {
    /// Stable, for programs.
    code: &'static str,
    /// For people.
    message: String,
}

impl Why {
    pub(super) fn of(code: &'static str, message: String) -> Self {
        Why { code, message }
    }
}

/// The document without its paths, which the routes bring along.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "poolgate management API",
        description = "Lists have `limit` and `cursor`; times are RFC 3339 in UTC. Writes with a body need `Content-Type: application/json`; those of a session `X-Poolgate-CSRF`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Refusal)),
    security(("token" = []), ("session" = [])),
    modifiers(&Schemes),
)]
pub(super) struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Components::default);
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", token);
        let cookie = ApiKey::Cookie(ApiKeyValue::new(session::NAME));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    }
}

/// Whoever asks under one of our names may read it: it says nothing of this gateway.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(document: Bytes, auth: &Auth) -> Router<S> {
    let kind = [(CONTENT_TYPE, "application/json")];
    Router::new()
        .route("/openapi.json", get(async move || (kind, document)))
        .route_layer(middleware::from_fn_with_state(auth.clone(), door))
}

/// The document as it is served. Each call may be refused, always in the same shape.
pub(super) fn finished(mut document: utoipa::openapi::OpenApi) -> String {
    let refusal = ContentBuilder::new().schema(Some(Ref::from_schema_name("Refusal")));
    let refusal = refusal.build();
    let refused = ResponseBuilder::new()
        .description("Refused")
        .content("application/json", refusal.clone())
        .build();
    for (path, item) in &mut document.paths.paths {
        let operations: [(&str, &mut Option<Operation>); 5] = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            // Functions of several screens have the same name; programs that are made of this must not.
            operation.operation_id = Some(format!("{method}{}", words(path)));
            let responses = &mut operation.responses.responses;
            for (status, response) in responses.iter_mut() {
                if let RefOr::T(response) = response
                    && status.starts_with('4')
                    && response.content.is_empty()
                {
                    let kind = "application/json".to_owned();
                    response.content.insert(kind, RefOr::T(refusal.clone()));
                }
            }
            responses.insert("default".to_owned(), RefOr::T(refused.clone()));
        }
    }
    document.to_json().unwrap_or_default()
}

/// `_accounts_id` for `/api/v1/accounts/{id}`.
fn words(path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    path.replace('/', "_").replace(['{', '}'], "")
}
