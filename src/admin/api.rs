//! `/api/v1`: which call needs which role. One table: the router and its description come from it.

use std::sync::Arc;

use axum::{Extension, Json, middleware};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Auth, Gate, Writes, door, gate};
use super::control::Control;
use super::reply::Problem;
use super::{
    Site, accounts, audit, config, events, instances, keys, login, notices, overview, pools,
    requests, roster, route, slots, usage,
};
use crate::config::Role;

pub(super) type Shared = Arc<dyn Control>;
pub(super) type Answer<T = Value> = Result<Json<T>, Problem>;

type Routes = OpenApiRouter<Shared>;

/// All of them, behind their gates.
pub(super) fn routes(control: &Shared, auth: &Auth, site: Site) -> Routes {
    let role = |routes: Routes, role| {
        let noted = middleware::from_fn_with_state(control.clone(), audit::note);
        let gate = middleware::from_fn_with_state(Gate::new(auth, role), gate);
        routes.route_layer(noted).route_layer(gate)
    };
    let routes = OpenApiRouter::new()
        .merge(login().route_layer(middleware::from_fn_with_state(auth.clone(), door)))
        .merge(role(of_everybody(), Role::Metrics))
        .merge(role(of_viewers(), Role::Viewer))
        .merge(role(of_operators(), Role::Operator))
        .merge(role(of_administrators(), Role::Admin));
    let writes = Writes::of(routes.get_openapi());
    routes
        .layer(Extension(writes))
        .layer(Extension(auth.clone()))
        .layer(Extension(site))
}

/// Whoever shows a token has none yet that a gate could look at.
fn login() -> Routes {
    OpenApiRouter::new().routes(routes!(login::open))
}

fn of_everybody() -> Routes {
    OpenApiRouter::new().routes(routes!(login::show, login::close))
}

fn of_viewers() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(overview::overview))
        .routes(routes!(overview::history))
        .routes(routes!(events::events))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show))
        .routes(routes!(pools::pools))
        .routes(routes!(instances::list))
        .routes(routes!(slots::show))
        .routes(routes!(keys::list))
        .routes(routes!(keys::one))
        .routes(routes!(requests::list))
        .routes(routes!(usage::list))
        .routes(routes!(config::show))
        .routes(routes!(route::route))
}

fn of_operators() -> Routes {
    OpenApiRouter::new()
        // What a program says may hold what it should not.
        .routes(routes!(instances::logs))
        .routes(routes!(accounts::act))
        .routes(routes!(roster::change))
        .routes(routes!(pools::strategy))
        .routes(routes!(notices::test))
        .routes(routes!(config::reload))
}

fn of_administrators() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(roster::add))
        .routes(routes!(roster::remove))
        .routes(routes!(roster::restore))
        .routes(routes!(keys::create))
        .routes(routes!(keys::change, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(audit::list))
}
