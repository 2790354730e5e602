//! The log of an account's program as it grows, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use futures::Stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::api::Shared;
use super::events::stream;
use super::pulse::message;
use super::reply::Problem;
use crate::clock::{self, Instant};

/// How often the log is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// A quiet stream says something so often, to find out who has gone.
const BREATH: u32 = 30;

/// So it ends after a while, and the browser comes back with a token that is looked at again.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Lines of one look; more are passed over.
const AT_ONCE: usize = 2_000;

struct Following {
    control: Shared,
    id: String,
    /// Lines to begin with.
    tail: usize,
    /// The last lines of the look before: where the next one goes on.
    seen: Vec<String>,
    quiet: u32,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

/// The last lines, and then each new one.
///
/// # Errors
/// Too many listen already.
pub(super) fn follow(control: &Shared, id: String, tail: usize) -> Result<Response, Problem> {
    let place = control.pulse().place();
    let place = place.ok_or_else(|| Problem::too_many("too many listen already", LONGEST))?;
    let following = Following {
        control: Arc::clone(control),
        id,
        tail,
        seen: Vec::new(),
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
                if clock::now() >= it.until {
                    return None;
                }
                let is_first = it.seen.is_empty() && it.quiet == 0;
                if !is_first {
                    tokio::time::sleep(EVERY).await;
                }
                let lines = it.look(is_first).await?;
                it.quiet += 1;
                if !lines.is_empty() || is_first {
                    it.quiet = 1;
                    return Some((message("lines", &json!({"lines": lines})), it));
                }
                if it.quiet.is_multiple_of(BREATH) {
                    return Some((Bytes::from_static(b": \n\n"), it));
                }
            }
        })
    }

    /// The lines since the look before; `None` where the log cannot be read any more.
    async fn look(&mut self, is_first: bool) -> Option<Vec<String>> {
        let (control, id) = (Arc::clone(&self.control), self.id.clone());
        let most = if is_first { self.tail } else { AT_ONCE };
        let read = tokio::task::spawn_blocking(move || control.instance_log(&id, most)).await;
        let lines = read.ok()?.ok()?;
        let new = after(&self.seen, &lines);
        let new = lines[new..].to_vec();
        if !lines.is_empty() {
            let from = lines.len().saturating_sub(MARK);
            self.seen = lines[from..].to_vec();
        }
        Some(new)
    }
}

/// So many lines tell where one was.
const MARK: usize = 50;

/// Where in `lines` the new ones begin, after the last time that `seen` stands there as a whole.
fn after(seen: &[String], lines: &[String]) -> usize {
    if seen.is_empty() || lines.is_empty() {
        return 0;
    }
    let found = lines.windows(seen.len()).rposition(|part| part == seen);
    found.map_or(0, |at| at + seen.len())
}

#[cfg(test)]
mod tests {
    use super::after;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_was_seen_is_not_told_again() {
        assert_eq!(after(&[], &lines("a b")), 0);
        assert_eq!(after(&lines("a b"), &lines("a b")), 2);
        assert_eq!(after(&lines("b c"), &lines("a b c d e")), 3);
        assert_eq!(after(&lines("x x"), &lines("x x x y")), 3, "the last time");
        assert_eq!(
            after(&lines("old"), &lines("a b")),
            0,
            "the log was rotated"
        );
    }
}
