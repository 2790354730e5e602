//! The management API: what an operator or a monitor may see and change, over HTTP.
//!
//! [`router`] is what `admin` serves and [`legacy_router`] what `listen` serves for the older
//! systems; both see the gateway through [`Control`] only. [`AdminApp`] serves them under Pingora.

mod account;
mod accounts;
mod api;
mod audit;
mod auth;
mod config;
mod control;
mod csv;
mod dashboard;
mod events;
mod follow;
mod instances;
mod keys;
mod legacy;
mod list;
mod login;
mod notices;
mod openapi;
mod overview;
mod pools;
mod pulse;
mod reply;
mod requests;
mod roster;
mod route;
mod serve;
mod session;
mod slots;
mod status;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use auth::{Auth, Hosts};
pub use control::{About, Control, Records, Reloaded, StrategyChange};
pub use keys::Issuer;
pub use pulse::Pulse;
pub use roster::{AccountError, Keys, NotKept, Roster};
pub use route::Question;
pub use serve::{AdminApp, answer};
pub use slots::{SlotKey, SlotPlace, SlotsView};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// How browsers come here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    /// Over TLS.
    pub is_secure: bool,
}

/// Everything that `admin` serves.
pub fn router(control: Arc<dyn Control>, auth: &Auth, site: Site) -> Router {
    let described = OpenApiRouter::with_openapi(openapi::Document::openapi());
    let described = described.merge(api::routes(&control, auth, site));
    let (api, document) = described.split_for_parts();
    let document: Bytes = openapi::finished(document).into();
    let routes = api
        .merge(openapi::routes(document, auth))
        .merge(dashboard::routes(auth))
        .merge(status::probes())
        .merge(status::metrics(auth))
        .merge(legacy::routes(&control, auth));
    finish(routes, control)
}

/// The older systems' paths, for `listen`. [`is_legacy_path`] tells which requests to bring here.
pub fn legacy_router(control: Arc<dyn Control>, auth: &Auth) -> Router {
    finish(
        Router::new()
            .merge(status::metrics(auth))
            .merge(legacy::routes(&control, auth)),
        control,
    )
}

/// Is this a path of [`legacy_router`]?
pub fn is_legacy_path(path: &str) -> bool {
    path == "/metrics" || legacy::owns(path)
}

fn finish(routes: Router<Arc<dyn Control>>, control: Arc<dyn Control>) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::map_response(reply::finish))
        .with_state(control)
}
