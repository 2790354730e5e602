//! Error answers: any of them has a meaning, its wait is believable, and what a client made the
//! vendor quote takes no account out of service.

use std::time::{Duration, SystemTime};

use poolgate::dialect::{Dialect, VendorError, rate_limit_wait, success_hint};
use poolgate::pool::{Answer, Outcome};
use serde_json::{Value, json};

use super::recorded::taken_apart;

/// 2026-11-21T12:00:00Z.
const NOON: u64 = 1_795_262_400;
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// `bytes` are an answer as in `tests/fixtures/*/*.http`, more or less.
pub(crate) fn check(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOON);
    let (status, headers, body) = taken_apart(bytes, 429);
    let judge = |status, body: &[u8], renewable| {
        Outcome::of(&Answer {
            status,
            headers: &headers,
            body,
            model: Some("gpt-5"),
            renewable,
            now,
        })
    };
    let outcome = judge(status, body, false);
    assert_eq!(
        outcome == Outcome::Success,
        status < 400,
        "{outcome:?} of {status}"
    );
    believable(&outcome);
    assert_ne!(
        outcome,
        Outcome::AuthExpired,
        "there is nothing to renew it with"
    );
    assert_eq!(
        outcome,
        judge(status, body, false),
        "it depends on nothing else"
    );
    let renewable = judge(status, body, true);
    assert!(
        renewable == outcome || renewable == Outcome::AuthExpired,
        "{renewable:?}"
    );
    let error = VendorError::read(body);
    let stated = rate_limit_wait(&headers, &error, now);
    assert!(
        stated.wait > Duration::ZERO && stated.wait <= YEAR,
        "{stated:?}"
    );
    for dialect in Dialect::ALL {
        success_hint(dialect, &headers, now);
    }
    written_anew(body, &error);
    quoted(&String::from_utf8_lossy(body), judge);
}

fn believable(outcome: &Outcome) {
    if let Outcome::RateLimited { wait, .. } | Outcome::QuotaDead { wait: Some(wait) } = outcome {
        assert!(*wait > Duration::ZERO && *wait <= YEAR, "{outcome:?}");
    }
}

/// White space, escapes and the order of members mean nothing. A name that is there twice does.
fn written_anew(body: &[u8], error: &VendorError<'_>) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let anew = value.to_string();
    let names = |text: &str| text.matches(':').count();
    if anew.len() > 64 * 1024 || names(&anew) != names(&String::from_utf8_lossy(body)) {
        return;
    }
    assert_eq!(VendorError::read(anew.as_bytes()), *error, "{anew}");
}

/// A client can make a vendor say anything, but only within its sentence.
fn quoted(text: &str, judge: impl Fn(u16, &[u8], bool) -> Outcome) {
    let message = format!("Invalid value: '{text}'.");
    let body = json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
    if body.len() < 64 * 1024 {
        let outcome = judge(400, body.as_bytes(), false);
        let harmless = [Outcome::ClientFault, Outcome::ModelUnavailable];
        let by_head = judge(400, b"", false);
        assert!(
            harmless.contains(&outcome) || outcome == by_head,
            "{outcome:?}: {message}"
        );
    }
}
