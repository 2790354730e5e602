//! What each answer in `tests/fixtures/tokens` means, and what any other can mean at all.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

/// Who answers, the file, and what it means: `granted ACCESS REFRESH SECONDS`, `dead ERROR`, or why
/// to come again and after how many seconds.
const MEANINGS: &str = "
    oauth2 200-rotated                  granted 2YotnFZFEjr1zCsicMWpAA tGzv3JOkF0XG5Qx2TlKWIA 3600
    oauth2 200-azure                    granted eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiIifQ.c2ln - 3599
    oauth2 200-salesforce               granted 00DB0000000TfcR!AQQAQ - -
    aws    200-aws                      granted aoaAAAAAGtest aorAAAAAGtest 3600
    aws    200-aws-not-rotated          granted aoaAAAAAGtest - 28800
    google 200-google                   granted ya29.c.b0Aaekm1K - 3599
    oauth2 200-github-bad-refresh-token not_a_token -
    oauth2 200-login-page               not_a_token -
    oauth2 302-login-page               not_a_token -
    oauth2 400-invalid-grant            dead invalid_grant
    google 400-invalid-grant            dead invalid_grant
    aws    400-aws-invalid-grant        dead invalid_grant
    aws    400-aws-expired-token        dead expired_token
    aws    400-aws-typed                dead unauthorized_client
    aws    400-aws-slow-down            slow_down -
    aws    401-aws-invalid-client       dead invalid_client
    oauth2 401-azure-secret-expired     dead invalid_client
    google 400-google-no-such-account   dead invalid_grant
    google 400-google-clock             clock -
    oauth2 400-google-clock             dead invalid_grant
    google 403-google-object            refused 300
    oauth2 400-better-auth-session      refused:invalid_request 300
    oauth2 403-gateway-in-front         refused 300
    aws    403-gateway-in-front         dead access_denied
    oauth2 403-cloudfront-page          refused 300
    oauth2 429-retry-after              slow_down 17
    aws    500-aws-server-error         unavailable -
    oauth2 500-quoting-invalid-grant    unavailable -
    oauth2 503-retry-after-date         unavailable 90
";

fn exchange(kind: &str) -> Exchange {
    match kind {
        "oauth2" => Exchange::oauth2(&oauth2()),
        "aws" => Exchange::aws(&aws()),
        "google" => google(),
        other => panic!("{other}"),
    }
}

/// The meaning in the words of [`MEANINGS`].
fn described(reply: &Reply) -> String {
    let seconds =
        |wait: Option<Duration>| wait.map_or("-".to_owned(), |wait| wait.as_secs().to_string());
    match reply {
        Reply::Granted(granted) => {
            let refresh = granted.refresh.as_ref().map_or("-", Secret::expose);
            let life = granted
                .expires_at
                .map(|at| at.duration_since(noon()).unwrap());
            format!(
                "granted {} {refresh} {}",
                granted.access.expose(),
                seconds(life)
            )
        }
        Reply::Dead(reason) => format!("dead {reason}"),
        Reply::Transient { wait, why, .. } => {
            let why = match why {
                Why::SlowDown => "slow_down".to_owned(),
                Why::Unavailable => "unavailable".to_owned(),
                Why::NotAToken => "not_a_token".to_owned(),
                Why::Refused(None) => "refused".to_owned(),
                Why::Refused(Some(error)) => format!("refused:{error}"),
                Why::Clock => "clock".to_owned(),
            };
            format!("{why} {}", seconds(*wait))
        }
    }
}

fn recorded(name: &str) -> (u16, HeaderMap, Vec<u8>) {
    let text = std::fs::read_to_string(fixtures().join(format!("{name}.http"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            name.parse::<HeaderName>().unwrap(),
            value.parse::<HeaderValue>().unwrap(),
        )
    };
    (
        status.parse().unwrap(),
        lines.map(header).collect(),
        body.into(),
    )
}

fn table() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    MEANINGS.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((
            words.next()?,
            words.next()?,
            words.collect::<Vec<_>>().join(" "),
        ))
    })
}

#[test]
fn every_recorded_reply_means_what_the_table_says() {
    for (kind, name, expected) in table() {
        let (status, headers, body) = recorded(name);
        let reply = exchange(kind).read(status, &headers, &body, noon());
        assert_eq!(described(&reply), expected, "{kind} {name}");
    }
}

#[test]
fn no_recorded_reply_is_left_out_of_the_table() {
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_reply = path.extension().unwrap() == "http";
        assert!(
            !is_reply || table().any(|(_, listed, _)| listed == name),
            "{name}"
        );
    }
}

fn said(status: u16, body: &str) -> String {
    let reply = exchange("oauth2").read(status, &HeaderMap::new(), body.as_bytes(), noon());
    described(&reply)
}

#[test]
fn a_life_is_a_number_of_seconds_however_it_is_written() {
    for (expires_in, expected) in [
        ("3600", "3600"),
        ("3600.9", "3600"),
        ("\"3600\"", "3600"),
        ("\" 60 \"", "60"),
        ("1", "1"),
        ("0", "-"),
        ("0.5", "-"),
        ("-1", "-"),
        ("\"-5\"", "-"),
        ("-1e300", "-"),
        ("1e300", "316224000"),
        ("315360000000", "316224000"),
        ("null", "-"),
        ("\"\"", "-"),
        ("\"soon\"", "-"),
        ("\"NaN\"", "-"),
        ("\"inf\"", "-"),
        ("[3600]", "-"),
        ("true", "-"),
    ] {
        let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
        assert_eq!(said(200, &body), format!("granted a - {expected}"));
    }
    assert_eq!(said(201, r#"{"access_token":"a"}"#), "granted a - -");
}

#[test]
fn an_access_token_that_cannot_stand_in_a_header_is_none() {
    for token in [
        "\"\"",
        "\"a\\nb\"",
        "\"a\\u0000\"",
        "\" a\"",
        "\"a\\n\"",
        "\"ä\"",
        "7",
        "null",
        "{}",
    ] {
        let body = format!(r#"{{"access_token":{token},"refresh_token":"r"}}"#);
        assert_eq!(said(200, &body), "not_a_token -", "{token}");
    }
    for body in [
        "",
        "null",
        "[]",
        "\"a\"",
        "{",
        r#"{"refresh_token":"r"}"#,
        "access_token=a",
    ] {
        assert_eq!(said(200, body), "not_a_token -", "{body}");
    }
    // The body of the next request takes any refresh token, and it may be the only one that lives.
    let odd = r#"{"access_token":"a","refresh_token":"r \u00e4"}"#;
    assert_eq!(said(200, odd), "granted a r ä -");
    for none in ["null", "\"\"", "7"] {
        let body = format!(r#"{{"access_token":"a","refresh_token":{none}}}"#);
        assert_eq!(said(200, &body), "granted a - -");
    }
}

#[test]
fn only_errors_with_a_name_end_a_login() {
    for (status, body, expected) in [
        (400, "", "refused 300"),
        (401, "", "refused 300"),
        (401, "<html>", "refused 300"),
        (400, r#"{"error":"Invalid_Grant"}"#, "refused 300"),
        (400, r#"{"error":["invalid_grant"]}"#, "refused 300"),
        (
            400,
            r#"{"error_description":"invalid_grant"}"#,
            "refused 300",
        ),
        (400, r#"{"__type":"InvalidGrantException"}"#, "refused 300"),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            "refused:invalid_scope 300",
        ),
        (
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            "refused:unsupported_grant_type 300",
        ),
        (
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            "unavailable -",
        ),
        (400, r#"{"error":"server_error"}"#, "unavailable -"),
        (400, r#"{"error":"slow_down"}"#, "slow_down -"),
        (408, r#"{"error":"invalid_grant"}"#, "unavailable -"),
        (403, r#"{"error":"access_denied"}"#, "dead access_denied"),
        (
            401,
            r#"{"error":"unauthorized_client"}"#,
            "dead unauthorized_client",
        ),
        (400, r#"{"error":"expired_token"}"#, "dead expired_token"),
        (
            400,
            r#"{"error":"InvalidGrantException"}"#,
            "dead invalid_grant",
        ),
        (200, r#"{"error":"invalid_grant"}"#, "dead invalid_grant"),
        (529, r#"{"error":"invalid_client"}"#, "unavailable -"),
    ] {
        assert_eq!(said(status, body), expected, "{status} {body}");
    }
}

#[test]
fn a_stated_wait_counts_where_it_is_longer_than_ours() {
    let wait = |status: u16, seconds: &str| {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, seconds.parse().unwrap())]);
        described(&exchange("oauth2").read(status, &headers, b"", noon()))
    };
    assert_eq!(wait(403, "3600"), "refused 3600");
    assert_eq!(wait(403, "5"), "refused 300");
    assert_eq!(wait(500, "5"), "unavailable 5");
    assert_eq!(wait(500, "soon"), "unavailable -");
}

#[test]
fn nothing_that_the_vendor_wrote_is_said_on() {
    let body = r#"{"error":"invalid_grant canary","error_description":"canary"}"#;
    for status in [200, 400, 429, 500] {
        let reply = exchange("aws").read(status, &HeaderMap::new(), body.as_bytes(), noon());
        let Reply::Transient { why, .. } = reply else {
            panic!("{status}: not transient");
        };
        assert!(!format!("{why} {why:?}").contains("canary"));
    }
}

proptest! {
    #[test]
    fn any_bytes_mean_something(status in 100..1000u16, body: Vec<u8>, retry in "[ -~]{0,12}") {
        let headers: HeaderMap = [("retry-after", &retry), ("x-amzn-errortype", &retry), ("date", &retry)]
            .iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
            .collect();
        for kind in ["oauth2", "aws"] {
            let reply = exchange(kind).read(status, &headers, &body, noon());
            let is_transient = matches!(reply, Reply::Transient { .. });
            prop_assert!(is_transient);
        }
    }
}
