//! What each error answer in `tests/fixtures` means.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::dialect::{Dialect, Kind, Meter};

/// File, outcome, wait in seconds, whether it is of the whole account.
const OUTCOMES: &str = "
    openai/400-context-length               client_fault
    openai/400-unsupported-value            client_fault
    openai/401-invalid-key                  auth_dead
    openai/401-account-deactivated          auth_dead
    openai/403-country                      forbidden
    openai/403-model-access                 model_unavailable
    openai/404-model                        model_unavailable
    openai/404-model-quoting-a-sentence     model_unavailable
    openai/404-ollama-model                 model_unavailable
    openai/404-response                     client_fault
    openai/408-timeout                      transient
    openai/413-too-large                    client_fault
    openai/429-tokens                       rate_limited 2.876
    openai/429-full-refill                  rate_limited 58
    openai/429-spent-family                 rate_limited 8.64
    openai/429-bare                         rate_limited 60
    openai/429-insufficient-quota           quota_dead -
    openai/429-kimi-overloaded              overloaded
    openai/500-server-error                 transient
    openai/502-cloudflare-page              transient
    openai/503-overloaded                   overloaded
    openai/503-slow-down                    overloaded
    openai/503-plain                        transient
    anthropic/400-invalid                   client_fault
    anthropic/400-prompt-too-long           client_fault
    anthropic/400-credit-balance            quota_dead -
    anthropic/400-usage-limits              quota_dead 820800
    anthropic/400-organization-disabled     auth_dead
    anthropic/401-invalid-key               auth_dead
    anthropic/401-token-expired              auth_dead
    anthropic/402-billing                   quota_dead -
    anthropic/403-permission                forbidden
    anthropic/403-revoked                   auth_dead
    anthropic/404-model                     model_unavailable
    anthropic/404-path                      client_fault
    anthropic/413-too-large                 client_fault
    anthropic/429-families                  rate_limited 42
    anthropic/429-retry-after               rate_limited 17
    anthropic/429-unified                   rate_limited 7200 whole
    anthropic/429-unified-both-windows      rate_limited 345600 whole
    anthropic/429-unified-retry-after       rate_limited 7999 whole
    anthropic/429-spend-limit               quota_dead -
    anthropic/500-api-error                 transient
    anthropic/500-overloaded                overloaded
    anthropic/504-timeout                   transient
    anthropic/529-overloaded                overloaded
    gemini/400-key-invalid                  auth_dead
    gemini/400-invalid-argument             client_fault
    gemini/400-token-count                  client_fault
    gemini/400-location                     client_fault
    gemini/401-token-expired                auth_dead
    gemini/403-leaked                       auth_dead
    gemini/403-suspended                    auth_dead
    gemini/403-permission                   forbidden
    gemini/404-model                        model_unavailable
    gemini/429-per-minute                   rate_limited 22
    gemini/429-per-day                      quota_dead 10.7
    gemini/429-limit-zero                   model_unavailable
    gemini/429-bare                         rate_limited 60
    gemini/429-in-an-array                  rate_limited 60
    gemini/429-prepaid-credits              quota_dead -
    gemini/429-spending-cap                 quota_dead -
    gemini/500-internal                     transient
    gemini/503-unavailable                  overloaded
    gemini/503-in-an-array                  overloaded
    gemini/504-deadline                     transient
    aws/400-too-long                        client_fault
    aws/400-conversation-limit              client_fault
    aws/400-model-id                        model_unavailable
    aws/400-model-identifier                model_unavailable
    aws/400-service-quota                   rate_limited 60
    aws/400-throttling-in-the-head          rate_limited 60
    aws/400-quota-monthly                   quota_dead -
    aws/403-access-denied                   forbidden
    aws/403-bearer-token                    auth_dead
    aws/403-token-expired                   auth_dead
    aws/403-token-invalid                   auth_dead
    aws/403-model-access                    model_unavailable
    aws/403-suspended                       auth_dead
    aws/408-model-timeout                   transient
    aws/424-model-error                     transient
    aws/429-throttling                      rate_limited 60
    aws/429-model-capacity                  overloaded
    aws/429-model-not-ready                 overloaded
    aws/429-monthly                         quota_dead -
    aws/500-high-load                       overloaded
    aws/500-internal                        transient
    litellm/400-wrong-key                   auth_dead
    litellm/400-model                       model_unavailable
    litellm/400-no-messages                 client_fault
    litellm/403-model-access                model_unavailable
    litellm/422-budget                      quota_dead -
    litellm/429-rate-limit                  rate_limited 60
    litellm/500-unreachable                 transient
    aws/503-service-unavailable             transient
    azure/400-content-filter                client_fault
    azure/401-wrong-key                     auth_dead
    azure/404-deployment                    model_unavailable
    azure/429-tokens                        rate_limited 9
    azure/429-a-day                         rate_limited 86400
    gateways/400-litellm-budget             quota_dead -
    gateways/400-litellm-content-policy     client_fault
    gateways/400-litellm-model              model_unavailable
    gateways/400-openrouter-model           model_unavailable
    gateways/401-litellm-key                auth_dead
    gateways/402-openrouter-credits         quota_dead -
    gateways/402-opengateway-credits        quota_dead -
    gateways/429-litellm-budget             quota_dead -
    gateways/429-litellm-no-deployments     rate_limited 60
    gateways/429-litellm-throttled          rate_limited 60
";

/// What a stream's error event means.
const STREAM_OUTCOMES: [(&str, Kind, &str); 8] = [
    ("openai/chat-error.sse", Kind::Chat, "broken_stream"),
    (
        "openai/chat-error-rate-limit.sse",
        Kind::Chat,
        "rate_limited 60",
    ),
    (
        "openai/responses-failed.sse",
        Kind::Responses,
        "rate_limited 60",
    ),
    (
        "openai/responses-error.sse",
        Kind::Responses,
        "broken_stream",
    ),
    (
        "openai/responses-overloaded.sse",
        Kind::Responses,
        "overloaded",
    ),
    (
        "anthropic/messages-overloaded.sse",
        Kind::Messages,
        "overloaded",
    ),
    (
        "anthropic/messages-api-error.sse",
        Kind::Messages,
        "broken_stream",
    ),
    ("gemini/generate-error.sse", Kind::Generate, "overloaded"),
];

/// A whole answer as it stands in a file.
struct Recorded {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn recorded(name: &str) -> Recorded {
    let text = std::fs::read_to_string(folder().join(format!("{name}.http"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let (first, rest) = head.split_once('\n').unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            name.parse::<HeaderName>().unwrap(),
            value.parse::<HeaderValue>().unwrap(),
        )
    };
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    Recorded {
        status,
        headers: rest.lines().map(header).collect(),
        body: body.into(),
    }
}

/// 2026-11-21T12:00:00Z.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
}

fn judged(recorded: &Recorded, model: Option<&str>, renewable: bool) -> Outcome {
    let Recorded {
        status,
        headers,
        body,
    } = recorded;
    Outcome::of(&Answer {
        status: *status,
        headers,
        body,
        model,
        renewable,
        now: noon(),
    })
}

/// An outcome in the words of [`OUTCOMES`].
fn described(outcome: &Outcome) -> String {
    let mut words = vec![outcome.label().to_owned()];
    match outcome {
        Outcome::RateLimited {
            wait,
            whole_account,
        } => {
            words.push(wait.as_secs_f64().to_string());
            words.extend(whole_account.then(|| "whole".to_owned()));
        }
        Outcome::QuotaDead { wait } => {
            words.push(wait.map_or("-".to_owned(), |wait| wait.as_secs_f64().to_string()))
        }
        _ => {}
    }
    words.join(" ")
}

fn table() -> impl Iterator<Item = (&'static str, String)> {
    OUTCOMES.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.collect::<Vec<_>>().join(" ")))
    })
}

#[test]
fn every_recorded_answer_means_what_the_table_says() {
    for (name, expected) in table() {
        assert_eq!(
            described(&judged(&recorded(name), Some("gpt-5"), false)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn no_recorded_answer_is_left_out_of_the_table() {
    for vendor in [
        "openai",
        "anthropic",
        "gemini",
        "aws",
        "azure",
        "litellm",
        "gateways",
    ] {
        for entry in std::fs::read_dir(folder().join(vendor)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{vendor}/{}", path.file_stem().unwrap().to_str().unwrap());
            let is_answer = path.extension().unwrap() == "http";
            assert!(
                !is_answer || table().any(|(listed, _)| listed == name),
                "{name} is not in the table"
            );
        }
    }
}

#[test]
fn each_vendor_has_an_answer_for_each_outcome_that_an_answer_can_have() {
    for vendor in ["openai", "anthropic", "gemini", "aws"] {
        for outcome in [
            "client_fault",
            "auth_dead",
            "forbidden",
            "rate_limited",
            "quota_dead",
            "model_unavailable",
            "overloaded",
            "transient",
        ] {
            let is_it = |(name, expected): (&str, String)| {
                name.starts_with(vendor) && expected.split(' ').next() == Some(outcome)
            };
            assert!(table().any(is_it), "{vendor} has no {outcome}");
        }
    }
}

#[test]
fn a_renewable_token_that_is_refused_is_renewed_unless_the_account_itself_is_gone() {
    for (name, outcome) in [
        ("openai/401-invalid-key", Outcome::AuthExpired),
        ("anthropic/401-invalid-key", Outcome::AuthExpired),
        ("anthropic/401-token-expired", Outcome::AuthExpired),
        ("gemini/401-token-expired", Outcome::AuthExpired),
        ("azure/401-wrong-key", Outcome::AuthExpired),
        ("aws/403-bearer-token", Outcome::AuthExpired),
        ("aws/403-token-expired", Outcome::AuthExpired),
        ("aws/403-token-invalid", Outcome::AuthExpired),
        ("openai/401-account-deactivated", Outcome::AuthDead),
        ("gemini/400-key-invalid", Outcome::AuthDead),
        ("anthropic/403-permission", Outcome::Forbidden),
    ] {
        assert_eq!(judged(&recorded(name), None, true), outcome, "{name}");
    }
}

#[test]
fn what_a_request_makes_a_vendor_quote_costs_no_account() {
    for quoted in [
        "Your credit balance is too low",
        "This organization has been disabled",
        "insufficient_quota",
        "API_KEY_INVALID",
    ] {
        for message in [
            format!("Invalid value: '{quoted}'."),
            format!("messages.0.role: {quoted}"),
        ] {
            let body = serde_json::json!({"error": {"message": message, "type": "invalid_request_error", "code": null}}).to_string();
            let answer = Recorded {
                status: 400,
                headers: HeaderMap::new(),
                body: body.into(),
            };
            assert_eq!(
                judged(&answer, Some(quoted), false),
                Outcome::ClientFault,
                "{message}"
            );
        }
    }
}

#[test]
fn a_400_names_the_model_only_when_it_speaks_of_the_model() {
    let of = |message: &str| {
        let body = serde_json::json!({"error": {"message": message}}).to_string();
        judged(
            &Recorded {
                status: 400,
                headers: HeaderMap::new(),
                body: body.into(),
            },
            Some("deep-1"),
            false,
        )
    };
    assert_eq!(of("Model Not Exist"), Outcome::ModelUnavailable);
    assert_eq!(
        of("deep-1 is not available on your plan"),
        Outcome::ModelUnavailable
    );
    assert_eq!(of("The tool `x` does not exist"), Outcome::ClientFault);
    assert_eq!(
        of("Unsupported parameter: 'max_tokens' is not supported with this model."),
        Outcome::ClientFault
    );
}

#[test]
fn anything_below_400_is_a_success_whatever_it_holds() {
    let body = br#"{"error":{"type":"insufficient_quota"}}"#;
    for status in [200, 204, 304, 307] {
        let answer = Recorded {
            status,
            headers: HeaderMap::new(),
            body: body.to_vec(),
        };
        assert_eq!(judged(&answer, None, false), Outcome::Success);
    }
}

#[test]
fn a_streams_error_event_has_the_outcome_of_its_type() {
    for (name, kind, expected) in STREAM_OUTCOMES {
        let dialect = Dialect::ALL
            .into_iter()
            .find(|dialect| name.starts_with(dialect.name()))
            .unwrap();
        let sse = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        )]);
        let mut meter = Meter::new(dialect, kind, &sse);
        meter.pass(std::fs::read(folder().join(name)).unwrap().into());
        let error = meter.finish().error.unwrap();
        assert_eq!(
            described(&Outcome::of_stream_error(&error, None, false, noon())),
            expected,
            "{name}"
        );
    }
}

#[test]
fn each_outcome_decides_retry_breaker_and_delivery() {
    let wait = Duration::from_secs(1);
    let all = [
        (Outcome::Success, "- - deliver"),
        (Outcome::ClientFault, "- - deliver"),
        (Outcome::AuthExpired, "retry - -"),
        (Outcome::AuthDead, "retry - -"),
        (Outcome::Forbidden, "retry - deliver"),
        (
            Outcome::RateLimited {
                wait,
                whole_account: false,
            },
            "retry - -",
        ),
        (Outcome::QuotaDead { wait: None }, "retry - -"),
        (Outcome::ModelUnavailable, "retry - deliver"),
        (Outcome::Overloaded, "retry - deliver"),
        (Outcome::Transient, "retry breaker deliver"),
        (Outcome::BrokenStream, "- breaker -"),
        (Outcome::ClientGone, "- - -"),
    ];
    for (index, (outcome, expected)) in all.iter().enumerate() {
        let word = |yes, word| if yes { word } else { "-" };
        let words = [
            word(outcome.may_retry(), "retry"),
            word(outcome.counts_for_breaker(), "breaker"),
            word(outcome.delivers_last_answer(), "deliver"),
        ];
        assert_eq!(words.join(" "), *expected, "{outcome:?}");
        assert_eq!(outcome.index(), index);
    }
}
