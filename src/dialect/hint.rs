//! How long vendors ask us to wait: headers and error details, in the order in which they are
//! believed (`contract/http.md` §2, the row RateLimited). A stated wait is never shortened.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::{Dialect, VendorError};

/// A wait after a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    pub wait: Duration,
    /// The limit is of the whole account, not of one model.
    pub whole_account: bool,
}

/// The wait when nothing was stated.
const UNSTATED: Duration = Duration::from_secs(60);
/// A longer wait is a mistaken unit or a time of day, and not believed.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

const ANTHROPIC_FAMILIES: [(&str, &str); 4] = [
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];
/// What the windows of a subscription come to for this request.
const UNIFIED: [(&str, &str); 1] = [(
    "anthropic-ratelimit-unified-status",
    "anthropic-ratelimit-unified-reset",
)];
/// The windows themselves. They hold together: the account serves when all let it.
const UNIFIED_WINDOWS: [(&str, &str); 2] = [
    (
        "anthropic-ratelimit-unified-5h-status",
        "anthropic-ratelimit-unified-5h-reset",
    ),
    (
        "anthropic-ratelimit-unified-7d-status",
        "anthropic-ratelimit-unified-7d-reset",
    ),
];
/// Windows of one family of models; the account serves the others.
const FAMILY_WINDOWS: [(&str, &str); 2] = [
    (
        "anthropic-ratelimit-unified-7d_opus-status",
        "anthropic-ratelimit-unified-7d_opus-reset",
    ),
    (
        "anthropic-ratelimit-unified-7d_sonnet-status",
        "anthropic-ratelimit-unified-7d_sonnet-reset",
    ),
];
/// Which of the windows decided: `five_hour`, `seven_day`, `seven_day_opus` …
const DECIDED: &str = "anthropic-ratelimit-unified-representative-claim";

/// How long to leave an account that answered 429.
pub fn rate_limit_wait(headers: &HeaderMap, error: &VendorError<'_>, now: SystemTime) -> Stated {
    let wait = stated_reset(headers, error, now)
        .or_else(|| full_refill(headers))
        .unwrap_or(UNSTATED);
    Stated {
        wait,
        whole_account: is_of_whole_account(headers),
    }
}

/// When an exhausted account will be good again, where the vendor states it.
pub fn stated_reset(
    headers: &HeaderMap,
    error: &VendorError<'_>,
    now: SystemTime,
) -> Option<Duration> {
    retry_after(headers, now)
        .or_else(|| error.retry_delay.as_deref().and_then(go_duration))
        .or_else(|| {
            latest_reset(
                exhausted_families(headers).chain(rejected_windows(headers)),
                now,
            )
        })
        .or_else(|| {
            error
                .message
                .as_deref()
                .and_then(|message| regain_access(message, now))
        })
}

/// The wait that a success asks for: only Anthropic says that nothing `remains` and means it.
pub fn success_hint(dialect: Dialect, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if dialect != Dialect::Anthropic {
        return None;
    }
    latest_reset(exhausted_families(headers), now)
}

/// Resets of the Anthropic families of which nothing remains.
fn exhausted_families(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    resets(headers, &ANTHROPIC_FAMILIES, |remaining| {
        remaining.trim() == "0"
    })
}

/// Resets of the subscription's windows that refuse.
fn rejected_windows(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let rejected = |windows| resets(headers, windows, is_rejected);
    let windows = rejected(&UNIFIED[..]).chain(rejected(&UNIFIED_WINDOWS));
    windows.chain(rejected(&FAMILY_WINDOWS))
}

fn is_rejected(status: &str) -> bool {
    status == "rejected"
}

/// Does one of the subscription's windows refuse, and not only that of one family of models?
fn is_of_whole_account(headers: &HeaderMap) -> bool {
    let is_rejected = |windows| resets(headers, windows, is_rejected).next().is_some();
    let decided = headers.get(DECIDED).and_then(|it| it.to_str().ok());
    let names_family = decided.is_some_and(|claim| claim.starts_with("seven_day_"));
    let is_of_family = names_family || is_rejected(&FAMILY_WINDOWS);
    is_rejected(&UNIFIED_WINDOWS) || (is_rejected(&UNIFIED) && !is_of_family)
}

/// The second header of each pair whose first one is `spent`.
fn resets<'h>(
    headers: &'h HeaderMap,
    pairs: &'static [(&'static str, &'static str)],
    spent: fn(&str) -> bool,
) -> impl Iterator<Item = &'h str> {
    let header = |name| headers.get(name)?.to_str().ok();
    pairs.iter().filter_map(move |(state, reset)| {
        header(*state)
            .filter(|state| spent(state))
            .and_then(|_| header(*reset))
    })
}

fn latest_reset<'h>(resets: impl Iterator<Item = &'h str>, now: SystemTime) -> Option<Duration> {
    resets
        .filter_map(time)
        .filter_map(|at| until(at, now))
        .max()
}

/// OpenAI's `x-ratelimit-reset-*`: the time to a full refill, so an upper bound. The families that
/// have nothing left decide; when each has something, the request was larger than what is left.
fn full_refill(headers: &HeaderMap) -> Option<Duration> {
    let mut spent = None;
    let mut any = None;
    for (name, value) in headers {
        let Some(family) = name.as_str().strip_prefix("x-ratelimit-reset-") else {
            continue;
        };
        let Some(wait) = value.to_str().ok().and_then(go_duration) else {
            continue;
        };
        any = any.max(Some(wait));
        let remaining = headers.get(format!("x-ratelimit-remaining-{family}"));
        if remaining.is_some_and(|remaining| remaining.as_bytes() == b"0") {
            spent = spent.max(Some(wait));
        }
    }
    spent.or(any)
}

/// `Retry-After`: seconds, also with a fraction, or an HTTP date (RFC 9110 §10.2.3); before it
/// `Retry-After-Ms`, which some vendors send beside it.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok();
    let seconds_or_date = |text: &str| {
        number_of(text, Duration::from_secs(1))
            .or_else(|| until(httpdate::parse_http_date(text.trim()).ok()?, now))
    };
    header("retry-after-ms")
        .and_then(|text| number_of(text, Duration::from_millis(1)))
        .or_else(|| header("retry-after").and_then(seconds_or_date))
}

/// RFC 3339, or seconds since 1970.
fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(seconds) => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
        }
        Err(_) => text.parse::<jiff::Timestamp>().ok().map(SystemTime::from),
    }
}

/// The time from `now` to `at`; nothing when it is past or beyond belief.
fn until(at: SystemTime, now: SystemTime) -> Option<Duration> {
    believed(at.duration_since(now).ok()?)
}

fn believed(wait: Duration) -> Option<Duration> {
    (wait > Duration::ZERO && wait <= LONGEST).then_some(wait)
}

/// A decimal number of `unit`s.
fn number_of(text: &str, unit: Duration) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    believed(Duration::try_from_secs_f64(number * unit.as_secs_f64()).ok()?)
}

/// Go's durations (`6m0s`, `12ms`, `1h2m3.5s`), those of protocol buffers (`10.7s`), or plain
/// seconds.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Some(wait) = number_of(rest, Duration::from_secs(1)) {
        return Some(wait);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    believed(Duration::try_from_secs_f64(seconds).ok()?)
}

/// Anthropic states the end of a spend limit in words only: "… You will regain access on
/// 2026-12-01 at 00:00 UTC."
fn regain_access(message: &str, now: SystemTime) -> Option<Duration> {
    let (_, stated) = message.split_once("You will regain access on ")?;
    let (day, clock) = (
        stated.get(..10)?,
        stated.get(10..)?.strip_prefix(" at ")?.get(..5)?,
    );
    until(time(&format!("{day}T{clock}:00Z"))?, now)
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21T12:00:00Z, a Saturday.
    fn noon() -> SystemTime {
        time("2026-11-21T12:00:00Z").unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn wait(pairs: &[(&'static str, &str)]) -> f64 {
        rate_limit_wait(&headers(pairs), &VendorError::default(), noon())
            .wait
            .as_secs_f64()
    }

    #[test]
    fn retry_after_may_be_milliseconds_seconds_or_a_date() {
        assert_eq!(
            wait(&[("retry-after-ms", "1500"), ("retry-after", "7")]),
            1.5
        );
        assert_eq!(wait(&[("retry-after", "7")]), 7.0);
        assert_eq!(wait(&[("retry-after", " 0.25 ")]), 0.25);
        assert_eq!(wait(&[("retry-after", "7999")]), 7999.0);
        assert_eq!(
            wait(&[("retry-after", "Sat, 21 Nov 2026 12:01:30 GMT")]),
            90.0
        );
    }

    #[test]
    fn past_and_nonsense_are_ignored_and_a_minute_is_the_default() {
        for text in [
            "0",
            "-5",
            "soon",
            "",
            "nan",
            "inf",
            "1e300",
            "1795262400",
            "Sat, 21 Nov 2026 11:59:00 GMT",
        ] {
            assert_eq!(wait(&[("retry-after", text)]), 60.0, "{text}");
        }
        assert_eq!(wait(&[("retry-after-ms", "x"), ("retry-after", "9")]), 9.0);
        assert_eq!(wait(&[]), 60.0);
    }

    #[test]
    fn googles_retry_delay_comes_after_the_headers() {
        let error = VendorError {
            retry_delay: Some("10.7s".into()),
            ..VendorError::default()
        };
        let of = |pairs| {
            rate_limit_wait(&headers(pairs), &error, noon())
                .wait
                .as_secs_f64()
        };
        assert_eq!(of(&[]), 10.7);
        assert_eq!(of(&[("retry-after", "3")]), 3.0);
        assert_eq!(of(&[("x-ratelimit-reset-requests", "1s")]), 10.7);
    }

    #[test]
    fn the_latest_reset_of_the_exhausted_families_counts() {
        let stated = [
            ("anthropic-ratelimit-requests-remaining", "4"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T13:00:00Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-11-21T12:00:20Z",
            ),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            (
                "anthropic-ratelimit-output-tokens-reset",
                "2026-11-21T13:00:40+01:00",
            ),
        ];
        assert_eq!(wait(&stated), 40.0 - 20.0 * 0.0);
        assert_eq!(
            success_hint(Dialect::Anthropic, &headers(&stated), noon()),
            Some(Duration::from_secs(40))
        );
        assert_eq!(
            success_hint(Dialect::OpenAi, &headers(&stated), noon()),
            None
        );
        assert_eq!(
            success_hint(Dialect::Anthropic, &headers(&stated[..2]), noon()),
            None
        );
    }

    #[test]
    fn of_a_subscriptions_windows_the_rejected_ones_hold_together() {
        let in_an_hour = "1795266000";
        assert_eq!(
            time(in_an_hour).unwrap(),
            noon() + Duration::from_secs(3600)
        );
        let pairs = [
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", in_an_hour),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", in_an_hour),
            ("anthropic-ratelimit-unified-7d-status", "rejected"),
            (
                "anthropic-ratelimit-unified-7d-reset",
                "2026-11-23T12:00:00Z",
            ),
        ];
        let stated = rate_limit_wait(&headers(&pairs), &VendorError::default(), noon());
        assert_eq!(
            stated,
            Stated {
                wait: Duration::from_secs(48 * 3600),
                whole_account: true
            }
        );
        let mut allowed = pairs;
        allowed[4].1 = "allowed_warning";
        assert_eq!(wait(&allowed), 3600.0);
        assert_eq!(
            success_hint(Dialect::Anthropic, &headers(&pairs), noon()),
            None
        );
    }

    #[test]
    fn the_window_of_one_family_of_models_leaves_the_account_the_others() {
        let of = |pairs: &[(&'static str, &str)]| {
            rate_limit_wait(&headers(pairs), &VendorError::default(), noon())
        };
        let spent = [
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-reset", "1795266000"),
            (DECIDED, "seven_day_opus"),
            ("anthropic-ratelimit-unified-7d_opus-status", "rejected"),
            (
                "anthropic-ratelimit-unified-7d_opus-reset",
                "2026-11-23T12:00:00Z",
            ),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1795266000"),
        ];
        let two_days = Duration::from_secs(48 * 3600);
        for (pairs, wait, whole_account) in [
            (&spent[..2], Duration::from_secs(3600), true),
            (&spent[..3], Duration::from_secs(3600), false),
            (&spent[..5], two_days, false),
            (&spent[..], two_days, true),
        ] {
            let stated = Stated {
                wait,
                whole_account,
            };
            assert_eq!(of(pairs), stated, "{pairs:?}");
        }
        // Whether money may take over says nothing about the windows.
        let overage = ("anthropic-ratelimit-unified-overage-status", "rejected");
        assert!(!of(&[overage, ("retry-after", "7")]).whole_account);
    }

    #[test]
    fn of_openais_families_the_spent_ones_decide() {
        let tokens = [
            ("x-ratelimit-reset-requests", "8.64s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-remaining-requests", "0"),
        ];
        assert_eq!(wait(&tokens), 8.64);
        assert_eq!(wait(&tokens[..2]), 360.0);
        assert_eq!(wait(&[("x-ratelimit-reset-tokens", "12ms")]), 0.012);
        assert_eq!(
            wait(&[("x-ratelimit-reset-requests-day", "33011.4")]),
            33011.4
        );
        for text in ["-1", "0", "0s", "1x", "s", "1", "m1"] {
            let expected = if text == "1" { 1.0 } else { 60.0 };
            assert_eq!(
                wait(&[("x-ratelimit-reset-tokens", text)]),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_spend_limits_end_is_read_from_its_sentence() {
        let message = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.";
        let error = VendorError {
            message: Some(message.into()),
            ..VendorError::default()
        };
        let days = Duration::from_secs(9 * 86_400 + 43_200);
        assert_eq!(stated_reset(&HeaderMap::new(), &error, noon()), Some(days));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "\\PC{0,30}", number in "[0-9.eE+-]{0,12}(ms|s|m|h)?") {
            for text in [text, number] {
                go_duration(&text);
                if let Ok(value) = text.parse() {
                    retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), noon());
                }
                time(&text);
                regain_access(&format!("You will regain access on {text}"), noon());
            }
        }
    }
}
