//! `/api/v1/session`: the page's login. A token in, a cookie out.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Site;
use super::api::Shared;
use super::audit::{Noted, put};
use super::auth::{Actor, Auth};
use super::reply::{Problem, parse};
use super::session::{Known, LONGEST, NAME};
use crate::clock;
use crate::config::Role;
use crate::store::{AuditRecord, millis};

/// One of both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// An admin token.
    token: Option<String>,
    /// The code of the link that a first start prints.
    link: Option<String>,
}

/// Who one is.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Of the token.
    name: String,
    #[schema(example = "viewer")]
    role: &'static str,
    /// To be sent with each write, as `X-Poolgate-CSRF`. Null for a token that was sent itself.
    csrf: Option<String>,
    /// When the session ends if nothing is asked. Null for a token.
    expires_at: Option<String>,
}

fn shown(actor: &Actor, known: Option<&Known>) -> Session {
    Session {
        name: actor.name.to_string(),
        role: word(actor.role),
        csrf: known.map(|known| known.csrf.expose().to_owned()),
        expires_at: known.map(|known| clock::rfc3339(clock::wall() + known.left)),
    }
}

pub(super) fn word(role: Role) -> &'static str {
    match role {
        Role::Metrics => "metrics",
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// Opens a session.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", request_body = Login, security(()),
    responses(
        (status = 200, description = "The session, and its cookie", body = Session),
        (status = 429, description = "Too many failed"),
    ))]
pub(super) async fn open(
    State(control): State<Shared>,
    Extension(auth): Extension<Auth>,
    Extension(site): Extension<Site>,
    from: Option<Extension<IpAddr>>,
    body: Bytes,
) -> Result<Response, Problem> {
    let now = clock::now();
    let from = from.map(|Extension(from)| from);
    let login: Login = parse(&body)?;
    let actor = match (&login.token, &login.link) {
        (Some(token), None) => auth.actor(token.as_bytes()),
        (None, Some(code)) if auth.sessions().accept(code.as_bytes(), now) => auth.administrator(),
        (None, Some(_)) => None,
        _ => return Err(Problem::bad("token", "either it or `link` is needed")),
    };
    let Some(actor) = actor else {
        auth.sessions()
            .failed(from, now)
            .map_err(|wait| Problem::too_many("too many logins have failed", wait))?;
        tracing::warn!(client = ?from, "a login with a token that is not known");
        let message = "this token is not known, or the link was used";
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            message,
        ));
    };
    let opened = auth.open(&actor, now);
    let (cookie, known) = opened.map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
    })?;
    let at = millis(clock::wall());
    let record = AuditRecord {
        id: AuditRecord::id_at(at, fastrand::i64(..)),
        at,
        actor: actor.name.to_string(),
        action: "session.create".to_owned(),
        target: String::new(),
        source: from.map(|from| from.to_string()).unwrap_or_default(),
        detail: serde_json::Value::Null,
    };
    put(&control, &record).await;
    let session = Json(shown(&actor, Some(&known)));
    Ok((
        [(SET_COOKIE, line(site, cookie.expose(), LONGEST.as_secs())?)],
        session,
    )
        .into_response())
}

/// Who one is, and what writes need.
#[utoipa::path(get, path = "/api/v1/session", tag = "session",
    responses((status = 200, description = "Whose token or session this is", body = Session)))]
pub(super) async fn show(Extension(actor): Extension<Actor>) -> Json<Session> {
    Json(shown(&actor, actor.session.as_ref()))
}

/// Ends the session.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session",
    responses((status = 204, description = "It has ended")))]
pub(super) async fn close(
    Extension(auth): Extension<Auth>,
    Extension(site): Extension<Site>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    auth.sessions().close(&headers);
    let gone = [(SET_COOKIE, line(site, "", 0)?)];
    Ok((StatusCode::NO_CONTENT, Noted::default(), gone).into_response())
}

/// RFC 6265bis: no script reads it, no other site's page sends it.
fn line(site: Site, cookie: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let secure = if site.is_secure { "; Secure" } else { "" };
    let line =
        format!("{NAME}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut line = HeaderValue::from_str(&line)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no cookie"))?;
    line.set_sensitive(true);
    Ok(line)
}
