//! The vendors' error answers, by a name that is the same for all of them (`x-mock-body`).
//!
//! Texts and codes are those seen from the vendors (openai.com and claude.com error pages,
//! ai.google.dev troubleshooting, Amazon Q's service model); figures in them are made up.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::dialect::Dialect;

/// One error of one vendor.
#[derive(Clone, Copy)]
pub(super) struct Case {
    name: &'static str,
    pub(super) status: u16,
    /// OpenAI and Anthropic: `type`. Gemini: `status`.
    kind: &'static str,
    /// OpenAI: `code`. Anthropic: `details.error_code`. Gemini: what is in `details`. Empty: none.
    code: &'static str,
    /// `{model}` is the model that was asked for.
    message: &'static str,
}

const fn case(
    name: &'static str,
    status: u16,
    kind: &'static str,
    code: &'static str,
    message: &'static str,
) -> Case {
    Case {
        name,
        status,
        kind,
        code,
        message,
    }
}

#[rustfmt::skip] // A table is read by its columns.
const OPENAI: &[Case] = &[
    case("invalid_request", 400, "invalid_request_error", "", "We could not parse the JSON body of your request."),
    case("context_length", 400, "invalid_request_error", "context_length_exceeded", "This model's maximum context length is 128000 tokens. However, your messages resulted in 130042 tokens. Please reduce the length of the messages."),
    case("content_policy", 400, "invalid_request_error", "content_policy_violation", "Your request was rejected as a result of our safety system."),
    case("billing_limit", 400, "invalid_request_error", "billing_hard_limit_reached", "Billing hard limit has been reached"),
    case("invalid_key", 401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-mock****. You can find your API key at https://platform.openai.com/account/api-keys."),
    case("account_disabled", 403, "invalid_request_error", "account_deactivated", "The OpenAI account associated with this API key has been deactivated. If you are an administrator for this account, please see your email for more information."),
    case("billing", 402, "billing_error", "billing_not_active", "Your account is not active, please check your billing details on our website."),
    case("permission", 403, "invalid_request_error", "", "You have insufficient permissions for this operation. Missing scopes: model.request."),
    case("region", 403, "request_forbidden", "unsupported_country_region_territory", "Country, region, or territory not supported"),
    case("model_forbidden", 403, "invalid_request_error", "model_not_found", "Project `proj_mock` does not have access to model `{model}`"),
    case("model_not_found", 404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist or you do not have access to it."),
    case("not_found", 404, "invalid_request_error", "unknown_url", "Unknown request URL. Please check the URL for typos, or see the docs at https://platform.openai.com/docs/api-reference/."),
    case("timeout", 408, "timeout", "", "Request timed out."),
    case("too_large", 413, "invalid_request_error", "", "Request body too large."),
    case("rate_limit", 429, "requests", "rate_limit_exceeded", "Rate limit reached for {model} in organization org-mock on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn more."),
    case("token_rate_limit", 429, "tokens", "rate_limit_exceeded", "Rate limit reached for {model} in organization org-mock on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s. Visit https://platform.openai.com/account/rate-limits to learn more."),
    case("insufficient_quota", 429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."),
    case("credit_balance", 429, "insufficient_quota", "credit_balance_exhausted", "Your credit balance is exhausted. Please add credits to continue."),
    case("spend_limit", 429, "insufficient_quota", "spend_limit_reached", "Your project has reached its monthly spend limit."),
    case("server_error", 500, "server_error", "", "The server had an error while processing your request. Sorry about that!"),
    case("bad_gateway", 502, "server_error", "", "Bad gateway."),
    case("overloaded", 503, "server_error", "", "The engine is currently overloaded, please try again later"),
    case("slow_down", 503, "server_error", "slow_down", "Slow Down: requests are increasing too fast. Please reduce your request rate to its original level."),
    case("gateway_timeout", 504, "server_error", "", "Gateway timeout."),
];

#[rustfmt::skip] // A table is read by its columns.
const ANTHROPIC: &[Case] = &[
    case("invalid_request", 400, "invalid_request_error", "", "messages: Field required"),
    case("context_length", 400, "invalid_request_error", "", "prompt is too long: 210000 tokens > 200000 maximum"),
    case("credit_balance", 400, "invalid_request_error", "", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."),
    case("usage_limit", 400, "invalid_request_error", "", "You have reached your specified API usage limits. You will regain access on 2099-01-01 at 00:00 UTC."),
    case("invalid_key", 401, "authentication_error", "", "invalid x-api-key"),
    case("token_expired", 401, "authentication_error", "", "OAuth token has expired. Please obtain a new token or refresh your existing token."),
    case("billing", 402, "billing_error", "", "There is an issue with your billing or payment information."),
    case("permission", 403, "permission_error", "", "Your API key does not have permission to use the specified resource."),
    case("account_disabled", 403, "permission_error", "", "This organization has been disabled."),
    case("model_forbidden", 403, "permission_error", "", "Your organization does not have access to model: {model}"),
    case("model_not_found", 404, "not_found_error", "", "model: {model}"),
    case("not_found", 404, "not_found_error", "", "Not Found"),
    case("too_large", 413, "request_too_large", "", "Request exceeds the maximum size"),
    case("rate_limit", 429, "rate_limit_error", "", "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current usage."),
    case("spend_limit", 429, "rate_limit_error", "enforced_spend_limit_reached", "This organization has reached its enforced monthly spend limit."),
    case("server_error", 500, "api_error", "", "Internal server error"),
    case("timeout", 504, "timeout_error", "", "Request timed out"),
    case("overloaded", 529, "overloaded_error", "", "Overloaded"),
];

#[rustfmt::skip] // A table is read by its columns.
const GEMINI: &[Case] = &[
    case("invalid_request", 400, "INVALID_ARGUMENT", "", "Invalid JSON payload received."),
    case("invalid_key", 400, "INVALID_ARGUMENT", r#"[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com","metadata":{"service":"generativelanguage.googleapis.com"}}]"#, "API key not valid. Please pass a valid API key."),
    case("context_length", 400, "INVALID_ARGUMENT", "", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    case("region", 400, "FAILED_PRECONDITION", "", "User location is not supported for the API use."),
    case("billing", 400, "FAILED_PRECONDITION", "", "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio."),
    case("token_expired", 401, "UNAUTHENTICATED", r#"[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED","domain":"googleapis.com"}]"#, "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."),
    case("permission", 403, "PERMISSION_DENIED", "", "The caller does not have permission"),
    case("account_disabled", 403, "PERMISSION_DENIED", r#"[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CONSUMER_SUSPENDED","domain":"googleapis.com"}]"#, "Permission denied: Consumer 'api_key:mock' has been suspended."),
    case("model_not_found", 404, "NOT_FOUND", "", "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods."),
    case("not_found", 404, "NOT_FOUND", "", "Requested entity was not found."),
    case("rate_limit", 429, "RESOURCE_EXHAUSTED", r#"[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests","quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaDimensions":{"location":"global","model":"mock"},"quotaValue":"5"}]}]"#, "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 5"),
    case("per_day_quota", 429, "RESOURCE_EXHAUSTED", r#"[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaDimensions":{"location":"global","model":"mock"},"quotaValue":"20"}]}]"#, "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 20"),
    case("spend_limit", 429, "RESOURCE_EXHAUSTED", "", "Your project has exceeded its monthly spending cap. Please go to AI Studio to manage your project spend cap."),
    case("server_error", 500, "INTERNAL", "", "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"),
    case("overloaded", 503, "UNAVAILABLE", "", "The model is overloaded. Please try again later."),
    case("timeout", 504, "DEADLINE_EXCEEDED", "", "Deadline expired before operation could complete."),
];

/// Names that mean the same trouble where a vendor does not tell them apart.
#[rustfmt::skip] // A table is read by its columns.
const SYNONYMS: &[&[&str]] = &[
    &["insufficient_quota", "credit_balance", "spend_limit", "billing_limit", "usage_limit", "per_day_quota", "billing"],
    &["model_not_found", "model_forbidden"],
    &["token_expired", "invalid_key"],
    &["rate_limit", "token_rate_limit"],
    &["overloaded", "slow_down"],
    &["server_error", "bad_gateway"],
    &["timeout", "gateway_timeout"],
    &["permission", "region"],
    &["invalid_request", "too_large", "content_policy"],
];

/// Bodies that are in no vendor's shape: name, status, content type, body.
#[rustfmt::skip] // A table is read by its columns.
const ODD: &[(&str, u16, &str, &str)] = &[
    ("empty", 500, "application/json", ""),
    ("html", 502, "text/html", "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"),
    ("garbage", 500, "application/json", "{\"error\":{\"message\":\"cut in the mid"),
    ("monthly_request_count", 429, "application/x-amz-json-1.0", r#"{"__type":"com.amazon.aws.codewhisperer#ThrottlingException","message":"You have reached the limit for requests this month.","reason":"MONTHLY_REQUEST_COUNT"}"#),
    ("model_capacity", 500, "application/x-amz-json-1.0", r#"{"__type":"com.amazon.aws.codewhisperer#ThrottlingException","message":"I am experiencing high traffic, please try again shortly.","reason":"INSUFFICIENT_MODEL_CAPACITY"}"#),
    ("input_too_long", 400, "application/x-amz-json-1.0", r#"{"__type":"com.amazon.aws.codewhisperer#ValidationException","message":"Input is too long."}"#),
];

/// An error body, ready to be sent.
pub(super) struct Body {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) bytes: Bytes,
    /// Code and message as JSON, for dialects that put them elsewhere within a stream.
    pub(super) parts: (String, String),
}

/// What the error's text mentions.
pub(super) struct Mentions<'a> {
    pub(super) model: &'a str,
    pub(super) request_id: &'a str,
    pub(super) retry_after: Option<&'a str>,
    /// The message grows to so many bytes.
    pub(super) size: usize,
}

/// The error of this name, or what the vendor calls it.
pub(super) fn named(dialect: Dialect, name: &str, mentions: &Mentions<'_>) -> Option<Body> {
    if let Some(odd) = ODD.iter().find(|odd| odd.0 == name) {
        return Some(Body {
            status: odd.1,
            kind: odd.2,
            bytes: Bytes::from_static(odd.3.as_bytes()),
            parts: ("\"server_error\"".to_owned(), "\"odd\"".to_owned()),
        });
    }
    let of_name = |name: &str| table(dialect).iter().find(|case| case.name == name);
    let synonyms = SYNONYMS.iter().filter(|group| group.contains(&name));
    let found = of_name(name).or_else(|| synonyms.flat_map(|g| g.iter()).find_map(|n| of_name(n)));
    Some(render(dialect, *found?, mentions))
}

/// The error that this vendor usually sends with this status.
pub(super) fn of_status(dialect: Dialect, status: u16, mentions: &Mentions<'_>) -> Body {
    let usual = match status {
        401 => "invalid_key",
        402 => "billing",
        403 => "permission",
        404 => "not_found",
        408 => "timeout",
        413 => "too_large",
        429 => "rate_limit",
        503 | 529 => "overloaded",
        504 => "timeout",
        500.. => "server_error",
        _ => "invalid_request",
    };
    let of_status = |case: &&Case| case.status == status && case.name == usual;
    let exact = table(dialect).iter().find(of_status).copied();
    let found = exact.unwrap_or_else(|| {
        let near = |case: &&Case| case.name == usual;
        let known = table(dialect).iter().find(near).copied();
        known.unwrap_or(case("unnamed", status, "api_error", "", "Error"))
    });
    render(dialect, Case { status, ..found }, mentions)
}

/// The names known for a dialect, for the answer to a wrong one.
pub(super) fn names(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    let odd = ODD.iter().map(|odd| odd.0);
    table(dialect).iter().map(|case| case.name).chain(odd)
}

fn table(dialect: Dialect) -> &'static [Case] {
    match dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini => GEMINI,
    }
}

fn render(dialect: Dialect, case: Case, mentions: &Mentions<'_>) -> Body {
    let mut message = case.message.replace("{model}", mentions.model);
    message.extend(std::iter::repeat_n(
        '.',
        mentions.size.saturating_sub(message.len()),
    ));
    let code = if case.code.is_empty() {
        Value::Null
    } else {
        Value::from(case.code)
    };
    let code_within_a_stream = if case.code.is_empty() {
        case.kind
    } else {
        case.code
    };
    let body = match dialect {
        Dialect::OpenAi => json!({"error": {
            "message": message, "type": case.kind, "param": null, "code": code,
        }}),
        Dialect::Anthropic if case.code.is_empty() => json!({
            "type": "error",
            "error": {"type": case.kind, "message": message},
            "request_id": mentions.request_id,
        }),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": {"type": case.kind, "message": message, "details": {"error_code": code}},
            "request_id": mentions.request_id,
        }),
        Dialect::Gemini => json!({"error": {
            "code": case.status, "message": message, "status": case.kind,
            "details": details(case.code, mentions.retry_after),
        }}),
    };
    Body {
        status: case.status,
        kind: "application/json",
        bytes: body.to_string().into(),
        parts: (
            Value::from(code_within_a_stream).to_string(),
            Value::from(message).to_string(),
        ),
    }
}

/// Gemini states a wait in the body, not in a header.
fn details(known: &str, retry_after: Option<&str>) -> Value {
    let mut details: Vec<Value> = serde_json::from_str(known).unwrap_or_default();
    if let Some(wait) = retry_after {
        let milliseconds = wait.strip_suffix("ms").and_then(|n| n.parse::<f64>().ok());
        let seconds = wait.parse::<f64>().ok();
        let delay = match milliseconds.map(|ms| ms / 1000.0).or(seconds) {
            Some(seconds) => format!("{seconds}s"),
            None => wait.to_owned(),
        };
        details.push(
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}),
        );
    }
    Value::from(details)
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Mentions, SYNONYMS, named, names, of_status, table};
    use serde_json::Value;

    const MENTIONS: Mentions<'static> = Mentions {
        model: "m\"1",
        request_id: "req_1",
        retry_after: Some("1500ms"),
        size: 0,
    };

    #[test]
    fn every_error_is_json_in_its_vendors_shape() {
        for dialect in Dialect::ALL {
            for case in table(dialect) {
                let body = named(dialect, case.name, &MENTIONS).unwrap();
                let json: Value = serde_json::from_slice(&body.bytes).unwrap();
                assert!(json["error"]["message"].is_string());
                let kind = if dialect == Dialect::Gemini {
                    "status"
                } else {
                    "type"
                };
                assert_eq!(json["error"][kind], case.kind);
            }
        }
    }

    #[test]
    fn a_name_of_one_vendor_means_something_at_the_others_too() {
        for dialect in Dialect::ALL {
            for name in SYNONYMS.iter().flat_map(|group| group.iter()) {
                assert!(named(dialect, name, &MENTIONS).is_some(), "{name}");
            }
        }
        assert!(named(Dialect::OpenAi, "no_such_error", &MENTIONS).is_none());
        assert!(names(Dialect::OpenAi).any(|name| name == "html"));
    }

    #[test]
    fn every_status_has_a_body_that_states_it() {
        for status in 400..600 {
            let body = of_status(Dialect::Gemini, status, &MENTIONS);
            let json: Value = serde_json::from_slice(&body.bytes).unwrap();
            assert_eq!(json["error"]["code"], status);
        }
    }

    #[test]
    fn gemini_states_the_wait_in_its_body() {
        let body = named(Dialect::Gemini, "rate_limit", &MENTIONS).unwrap();
        let json: Value = serde_json::from_slice(&body.bytes).unwrap();
        let details = json["error"]["details"].as_array().unwrap();
        assert_eq!(details.last().unwrap()["retryDelay"], "1.5s");
    }
}
