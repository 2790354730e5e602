//! `/api/v1/events`: what happens, as it happens (server-sent events of the HTML standard).

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;

use super::api::Shared;
use super::auth::{Actor, Auth};
use super::pulse::Listener;
use super::reply::Problem;
use crate::clock::{self, Instant};

/// A stream ends by itself after so long, so that nobody keeps a place for ever; a browser comes back.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// State changes, and once a second the live numbers.
#[utoipa::path(get, path = "/api/v1/events", tag = "live", responses(
    (status = 200, description = "Events `numbers`, `accounts`, `state` and `missed`", body = String, content_type = "text/event-stream"),
    (status = 429, description = "Too many listen already"),
))]
pub(super) async fn events(
    State(control): State<Shared>,
    Extension(actor): Extension<Actor>,
    Extension(auth): Extension<Auth>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let listening = control.pulse().listen(&*control, &actor.name);
    let (first, listener) =
        listening.ok_or_else(|| Problem::too_many("too many listen already", LONGEST))?;
    let listening = Listening {
        listener,
        actor,
        auth,
        headers,
        until: clock::now() + LONGEST,
    };
    Ok(stream(first, listening.told()))
}

/// A stream of events that begins with `first`.
pub(super) fn stream(first: Bytes, rest: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures::StreamExt;
    // A browser whose stream ends comes back after this.
    let first = [&b"retry: 1000\n\n"[..], &first].concat();
    let all = futures::stream::once(std::future::ready(Bytes::from(first))).chain(rest);
    let body = Body::from_stream(all.map(Ok::<_, Infallible>));
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    // A proxy in between would hold events back until it has a buffer full of them.
    let at_once = HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", at_once);
    response
}

struct Listening {
    listener: Listener,
    actor: Actor,
    auth: Auth,
    headers: HeaderMap,
    until: Instant,
}

impl Listening {
    fn told(self) -> impl Stream<Item = Bytes> {
        futures::stream::unfold(self, |mut it| async move {
            let told = match it.listener.told.recv().await {
                Ok(told) => told,
                Err(RecvError::Lagged(_)) => Bytes::from_static(b"event: missed\ndata: {}\n\n"),
                Err(RecvError::Closed) => return None,
            };
            let now = clock::now();
            let may = now < it.until && it.auth.is_still(&it.actor, &it.headers, now);
            may.then_some((told, it))
        })
    }
}

impl Problem {
    /// It may be tried again after so long.
    pub(super) fn too_many(message: &str, after: Duration) -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message).after(after)
    }
}
