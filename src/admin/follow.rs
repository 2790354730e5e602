//! The log of an account's program as it grows, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::Stream;
use serde_json::json;

use super::api::Shared;
use super::auth::{Actor, Auth};
use super::events::stream;
use super::pulse::{Place, message};
use super::reply::Problem;
use crate::clock::{self, Instant};
use crate::instance::LogPlace;

/// How often the log is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// A quiet stream says something so often, to find out who has gone.
const BREATH: u32 = 30;

/// So it ends after a while, and the browser comes back with a token that is looked at again.
const LONGEST: Duration = Duration::from_secs(15 * 60);

struct Following {
    control: Shared,
    id: String,
    actor: Actor,
    auth: Auth,
    headers: HeaderMap,
    /// Lines to begin with.
    tail: usize,
    /// Where the next look goes on; none before the first.
    at: Option<LogPlace>,
    quiet: u32,
    until: Instant,
    _place: Place,
}

/// The last lines, and then each new one, for as long as the actor may read them.
///
/// # Errors
/// Too many listen already.
pub(super) fn follow(
    control: &Shared,
    id: String,
    tail: usize,
    (actor, auth, headers): (Actor, Auth, HeaderMap),
) -> Result<Response, Problem> {
    let place = control.pulse().place(&actor.name);
    let place = place.ok_or_else(|| Problem::too_many("too many listen already", LONGEST))?;
    let following = Following {
        control: Arc::clone(control),
        id,
        actor,
        auth,
        headers,
        tail,
        at: None,
        quiet: 0,
        until: clock::now() + LONGEST,
        _place: place,
    };
    Ok(stream(Bytes::new(), following.told()))
}

impl Following {
    fn told(self) -> impl Stream<Item = Bytes> {
        futures::stream::unfold(self, |mut it| async move {
            loop {
                let is_first = it.at.is_none();
                if !is_first {
                    tokio::time::sleep(EVERY).await;
                }
                let now = clock::now();
                if now >= it.until || !it.auth.is_still(&it.actor, &it.headers, now) {
                    return None;
                }
                let lines = it.look().await?;
                it.quiet += 1;
                if !lines.is_empty() || is_first {
                    it.quiet = 0;
                    return Some((message("lines", &json!({"lines": lines})), it));
                }
                if it.quiet.is_multiple_of(BREATH) {
                    return Some((Bytes::from_static(b": \n\n"), it));
                }
            }
        })
    }

    /// The lines since the look before; `None` where the log cannot be read any more.
    async fn look(&mut self) -> Option<Vec<String>> {
        let (control, id) = (Arc::clone(&self.control), self.id.clone());
        let (at, tail) = (self.at, self.tail);
        let look = move || match at {
            None => control.instance_log(&id, tail),
            Some(at) => control.instance_log_after(&id, at),
        };
        let (lines, at) = tokio::task::spawn_blocking(look).await.ok()?.ok()?;
        self.at = Some(at);
        Some(lines)
    }
}
