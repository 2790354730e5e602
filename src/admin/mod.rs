//! The management API: what an operator or a monitor may see and change, over HTTP.
//!
//! [`router`] is what `admin` serves and [`legacy_router`] what `listen` serves for the older
//! systems; both see the gateway through [`Control`] only. [`AdminApp`] serves them under Pingora.

mod api;
mod auth;
mod control;
mod instances;
mod keys;
mod legacy;
mod list;
mod reply;
mod requests;
mod route;
mod serve;
mod slots;
mod status;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

pub use auth::{Auth, Hosts};
pub use control::{Control, Records, Reloaded, StrategyChange};
pub use keys::Issuer;
pub use route::Question;
pub use serve::{AdminApp, answer};
pub use slots::{SlotKey, SlotPlace, SlotsView};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Everything that `admin` serves.
pub fn router(control: Arc<dyn Control>, auth: &Auth) -> Router {
    let routes = Router::new()
        .merge(status::probes())
        .merge(status::metrics(auth))
        .merge(api::routes(auth))
        .merge(legacy::routes(auth));
    finish(routes, control)
}

/// The older systems' paths, for `listen`. [`is_legacy_path`] tells which requests to bring here.
pub fn legacy_router(control: Arc<dyn Control>, auth: &Auth) -> Router {
    finish(
        Router::new()
            .merge(status::metrics(auth))
            .merge(legacy::routes(auth)),
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
