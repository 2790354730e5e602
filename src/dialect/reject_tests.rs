//! How each error of our own is said in each dialect.

use super::*;

fn rendered(reject: &Reject, dialect: Dialect) -> (HeaderMap, Value) {
    let response = reject.render(dialect, "req_1");
    assert_eq!(response.status(), reject.status);
    (
        response.headers().clone(),
        serde_json::from_slice(response.body()).unwrap(),
    )
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// Every row of the table in `contract/http.md` §1.
fn table() -> Vec<(Reject, u16, &'static str)> {
    let second = Duration::from_secs(1);
    vec![
        (Reject::bad_request("x"), 400, "bad_request"),
        (Reject::forbidden_origin(), 403, "forbidden_origin"),
        (Reject::invalid_api_key(), 401, "invalid_api_key"),
        (
            Reject::permission_denied("the model `m`"),
            403,
            "permission_denied",
        ),
        (Reject::not_found(), 404, "not_found"),
        (Reject::request_timeout(), 408, "request_timeout"),
        (Reject::request_too_large(1024), 413, "request_too_large"),
        (Reject::cannot_rename(1024), 413, "request_too_large"),
        (Reject::upgrade_required(), 426, "upgrade_required"),
        (Reject::websocket_uncounted(), 426, "upgrade_required"),
        (Reject::websocket_version(), 426, "websocket_version"),
        (Reject::header_too_large(1024), 431, "header_too_large"),
        (
            Reject::key_limit("10 requests in 5h", second),
            429,
            "rate_limit_exceeded",
        ),
        (Reject::all_rate_limited(second), 429, "rate_limit_exceeded"),
        (Reject::overloaded(second), 503, "overloaded"),
        (Reject::no_slot(second), 503, "capacity_error"),
        (
            Reject::no_account_available(second),
            503,
            "no_account_available",
        ),
        (Reject::upstream_unreachable(), 502, "upstream_unreachable"),
        (Reject::upstream_timeout(), 504, "upstream_timeout"),
        (Reject::draining(), 503, "draining"),
    ]
}

#[test]
fn every_row_has_its_status_and_code_in_every_dialect() {
    for (reject, status, code) in table() {
        assert_eq!(reject.status.as_u16(), status);
        let (headers, openai) = rendered(&reject, Dialect::OpenAi);
        assert_eq!(openai["error"]["code"], code);
        assert_eq!(openai["error"]["param"], Value::Null);
        assert_eq!(openai["error"]["message"], reject.message.as_ref());
        assert!(openai["error"]["type"].is_string());
        assert_eq!(header(&headers, "content-type"), Some("application/json"));
        assert_eq!(header(&headers, "x-request-id"), Some("req_1"));

        let (headers, anthropic) = rendered(&reject, Dialect::Anthropic);
        assert_eq!(
            (anthropic["type"].as_str(), anthropic["request_id"].as_str()),
            (Some("error"), Some("req_1"))
        );
        assert_eq!(anthropic["error"]["message"], reject.message.as_ref());
        assert_eq!(header(&headers, "request-id"), Some("req_1"));

        let (_, gemini) = rendered(&reject, Dialect::Gemini);
        assert_eq!(gemini["error"]["code"], status);
        assert!(gemini["error"]["status"].is_string());
    }
}

#[test]
fn each_vendors_words_fit_the_status() {
    let words = |reject: &Reject| {
        let of = |dialect, field: &str| {
            rendered(reject, dialect).1["error"][field]
                .as_str()
                .unwrap()
                .to_owned()
        };
        [
            of(Dialect::Anthropic, "type"),
            of(Dialect::OpenAi, "type"),
            of(Dialect::Gemini, "status"),
        ]
    };
    let wait = Duration::from_secs(1);
    assert_eq!(
        words(&Reject::invalid_api_key()),
        [
            "authentication_error",
            "invalid_request_error",
            "UNAUTHENTICATED"
        ]
    );
    assert_eq!(
        words(&Reject::all_rate_limited(wait)),
        ["rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"]
    );
    assert_eq!(
        words(&Reject::overloaded(wait)),
        ["overloaded_error", "server_error", "UNAVAILABLE"]
    );
    assert_eq!(
        words(&Reject::no_slot(wait)),
        ["capacity_error", "server_error", "UNAVAILABLE"]
    );
    assert_eq!(
        words(&Reject::upstream_unreachable()),
        ["api_error", "server_error", "UNAVAILABLE"]
    );
    assert_eq!(
        words(&Reject::upstream_timeout()),
        ["timeout_error", "server_error", "DEADLINE_EXCEEDED"]
    );
    assert_eq!(
        words(&Reject::request_too_large(1)),
        [
            "request_too_large",
            "invalid_request_error",
            "INVALID_ARGUMENT"
        ]
    );
}

#[test]
fn a_wait_is_rounded_up_to_whole_seconds_and_a_long_one_is_not_worth_a_retry() {
    for (wait, seconds, retry) in [
        (0, "1", None),
        (1, "1", None),
        (1_001, "2", None),
        (60_000, "60", None),
        (60_001, "61", Some("false")),
    ] {
        let (headers, _) = rendered(
            &Reject::all_rate_limited(Duration::from_millis(wait)),
            Dialect::OpenAi,
        );
        assert_eq!(header(&headers, "retry-after"), Some(seconds), "{wait}");
        assert_eq!(header(&headers, "x-should-retry"), retry, "{wait}");
    }
}

#[test]
fn every_429_and_503_says_when_to_come_back() {
    for (reject, status, code) in table() {
        let (headers, _) = rendered(&reject, Dialect::OpenAi);
        assert_eq!(
            header(&headers, "retry-after").is_some(),
            matches!(status, 429 | 503),
            "{code}"
        );
        assert_eq!(
            header(&headers, "www-authenticate"),
            (status == 401).then_some("Bearer"),
            "{code}"
        );
        let closes = matches!(
            code,
            "bad_request"
                | "request_timeout"
                | "request_too_large"
                | "header_too_large"
                | "draining"
        );
        assert_eq!(
            header(&headers, "connection"),
            closes.then_some("close"),
            "{code}"
        );
    }
}

#[test]
fn a_stream_is_ended_by_the_error_event_of_its_dialect() {
    let begun = Begun {
        id: Some(br#""resp_1""#.to_vec()),
        sequence: Some(7),
    };
    let event = |dialect, kind| {
        let event = Reject::broken_stream().stream_event(dialect, kind, &begun);
        String::from_utf8(event.to_vec()).unwrap()
    };
    let data = |event: &str| -> Value {
        serde_json::from_str(
            event
                .lines()
                .find_map(|line| line.strip_prefix("data: "))
                .unwrap(),
        )
        .unwrap()
    };

    let anthropic = event(Dialect::Anthropic, Kind::Messages);
    assert!(anthropic.starts_with("event: error\ndata: "), "{anthropic}");
    assert_eq!(
        (
            data(&anthropic)["type"].as_str(),
            data(&anthropic)["error"]["type"].as_str()
        ),
        (Some("error"), Some("api_error"))
    );

    let chat = event(Dialect::OpenAi, Kind::Chat);
    assert!(chat.starts_with("data: "), "{chat}");
    assert_eq!(data(&chat)["error"]["code"], "upstream_unreachable");

    let responses = event(Dialect::OpenAi, Kind::Responses);
    assert!(
        responses.starts_with("event: response.failed\ndata: "),
        "{responses}"
    );
    assert_eq!(data(&responses)["type"], "response.failed");
    assert_eq!(
        data(&responses)["response"]["error"]["code"],
        "upstream_unreachable"
    );

    // It fits into its stream, and the vendor's own client raises what stands beside.
    assert_eq!(data(&responses)["response"]["id"], "resp_1");
    assert_eq!(data(&responses)["sequence_number"], 8);
    assert_eq!(data(&responses)["error"], data(&chat)["error"]);

    let gemini = event(Dialect::Gemini, Kind::Generate);
    assert_eq!(data(&gemini)["error"]["status"], "UNAVAILABLE");

    for event in [anthropic, chat, responses, gemini] {
        assert!(event.ends_with("}\n\n"), "{event}");
    }
}
