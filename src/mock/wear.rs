//! The vendors' own headers on an answer: ids, limits, waits, a cookie.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::behaviour::Behaviour;
use super::settings::Settings;
use super::tally::Allowance;
use crate::clock::{Instant, SystemTime};
use crate::dialect::Dialect;

/// Limits that are stated while none is set: far from reached.
const AMPLE: u32 = 10_000;
const AMPLE_WINDOW: Duration = Duration::from_secs(60);

/// Both clocks, read once.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

/// Puts on what `dialect`'s vendor sends with every answer.
pub(super) fn identity(
    headers: &mut HeaderMap,
    dialect: Dialect,
    settings: &Settings,
    request_id: &str,
) {
    let organisation = ["org-", settings.name.as_str()].concat();
    match dialect {
        Dialect::OpenAi => {
            put(headers, "x-request-id", request_id);
            put(headers, "openai-organization", &organisation);
            put_static(headers, "openai-version", "2020-10-01");
            put_static(headers, "openai-processing-ms", "1");
        }
        Dialect::Anthropic => {
            put(headers, "request-id", request_id);
            put(headers, "anthropic-organization-id", &organisation);
        }
        Dialect::Gemini => put_static(headers, "server-timing", "gfet4t7; dur=1"),
    }
    if settings.cookie {
        put_static(
            headers,
            "set-cookie",
            "__cf_bm=mock; path=/; HttpOnly; Secure",
        );
    }
}

/// Puts on how the caller stands with its limits; Gemini does not say.
pub(super) fn limits(
    headers: &mut HeaderMap,
    dialect: Dialect,
    allowance: Option<Allowance>,
    now: Now,
) {
    let stands = allowance.unwrap_or(Allowance {
        limit: AMPLE,
        remaining: AMPLE - 1,
        resets: now.instant + AMPLE_WINDOW,
        allowed: true,
    });
    let left = stands.resets.saturating_duration_since(now.instant);
    match dialect {
        Dialect::OpenAi => {
            put_number(headers, "x-ratelimit-limit-requests", stands.limit);
            put_number(headers, "x-ratelimit-remaining-requests", stands.remaining);
            put(headers, "x-ratelimit-reset-requests", &go_duration(left));
            put_static(headers, "x-ratelimit-limit-tokens", "2000000");
            put_static(headers, "x-ratelimit-remaining-tokens", "1999000");
            put_static(headers, "x-ratelimit-reset-tokens", "30ms");
        }
        Dialect::Anthropic => {
            let reset = rfc3339(now.wall + left);
            put_number(headers, "anthropic-ratelimit-requests-limit", stands.limit);
            put_number(
                headers,
                "anthropic-ratelimit-requests-remaining",
                stands.remaining,
            );
            put(headers, "anthropic-ratelimit-requests-reset", &reset);
            put_static(headers, "anthropic-ratelimit-tokens-limit", "400000");
            put_static(headers, "anthropic-ratelimit-tokens-remaining", "399000");
            put(headers, "anthropic-ratelimit-tokens-reset", &reset);
        }
        Dialect::Gemini => {}
    }
}

/// Puts on a wait (`30`, `1500ms`, a date), in the header that carries it.
pub(super) fn wait(headers: &mut HeaderMap, dialect: Dialect, retry_after: &str) {
    let milliseconds = retry_after.strip_suffix("ms");
    match (dialect, milliseconds) {
        // Gemini states it in the body.
        (Dialect::Gemini, _) => {}
        (_, Some(number)) => put(headers, "retry-after-ms", number),
        (_, None) => put(headers, "retry-after", retry_after),
    }
}

/// Puts on the headers that the behaviour asks for, in place of those of the same name.
pub(super) fn asked(headers: &mut HeaderMap, behaviour: &Behaviour) {
    if let Some((name, _)) = &behaviour.trailer {
        put(headers, "trailer", name.as_str());
    }
    for (name, _) in &behaviour.headers {
        headers.remove(name);
    }
    for (name, value) in &behaviour.headers {
        headers.append(name, value.clone());
    }
}

fn put_static(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.insert(
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    );
}

fn put_number(headers: &mut HeaderMap, name: &'static str, value: u32) {
    headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
}

/// A value that is no header (a line break in it) is left out.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// As Go prints a duration: `12ms`, `1.5s`, `6m0s`.
fn go_duration(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0 => format!("{}ms", left.as_millis()),
        1..60 if left.subsec_millis() == 0 => format!("{seconds}s"),
        1..60 => format!("{:.3}s", left.as_secs_f64()),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Whole seconds, rounded up so that a limit is really over at the stated time.
fn rfc3339(at: SystemTime) -> String {
    let seconds = crate::clock::unix_seconds(at).ceil();
    jiff::Timestamp::from_second(seconds as i64).map_or_else(|_| String::new(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::{go_duration, rfc3339};
    use std::time::{Duration, SystemTime};

    #[test]
    fn times_are_written_as_the_vendors_write_them() {
        let go = |ms| go_duration(Duration::from_millis(ms));
        assert_eq!(go(12), "12ms");
        assert_eq!(go(1000), "1s");
        assert_eq!(go(1500), "1.500s");
        assert_eq!(go(360_000), "6m0s");
        assert_eq!(go(3_661_000), "1h1m1s");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_599_500);
        assert_eq!(rfc3339(at), "2026-01-01T00:00:00Z");
    }
}
