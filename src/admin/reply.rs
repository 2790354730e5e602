//! How the management API answers: JSON, never cached, errors in one shape.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Why a call was not done.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Also say it in `detail`, where the older pool's clients look.
    detail: bool,
    /// Seconds after which it may be tried again.
    after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Problem {
            status,
            code,
            message: message.into(),
            detail: false,
            after: None,
        }
    }

    pub(super) fn no_account(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no account {id:?}"),
        )
    }

    /// `field` is wrong; `message` says what would be right.
    pub(super) fn bad(field: &str, message: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("{field}: {message}"),
        )
    }

    /// What is ordered here would not reach the other gateways.
    pub(super) fn if_alone(redis: Option<bool>) -> Result<(), Self> {
        match redis {
            Some(false) => Err(Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "Redis does not answer, and the other gateways would not hear of this; try again later",
            )),
            _ => Ok(()),
        }
    }

    /// It may be tried again after this.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.after = Some(wait.as_secs().max(1));
        self
    }

    pub(super) fn with_detail(mut self) -> Self {
        self.detail = true;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({"error": {"code": self.code, "message": self.message}});
        if self.detail {
            body["detail"] = self.message.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Reads a JSON object, whatever its Content-Type says.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde takes the fields of a struct from a list, too, in an order that nobody knows.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::bad("body", "must be an object"));
    }
    serde_json::from_slice(body).map_err(|e| Problem::bad("body", &without_value(e.to_string())))
}

/// The parser quotes a text that stands where none belongs, and that may be a key or a token.
fn without_value(mut message: String) -> String {
    if let (Some(first), Some(last)) = (message.find('"'), message.rfind('"'))
        && first < last
    {
        message.replace_range(first + 1..last, "****");
    }
    message
}

/// Gives every answer its headers, and a refusal of the router or of an extractor our shape.
pub(super) async fn finish(response: Response) -> Response {
    let is_ours = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    let status = response.status();
    let mut response = if (status.is_client_error() || status.is_server_error()) && !is_ours {
        let (mut head, body) = response.into_parts();
        let problem = wrong_query(body).await.unwrap_or_else(|| refusal(status));
        let (inner, body) = problem.into_response().into_parts();
        head.headers.extend(inner.headers);
        Response::from_parts(head, body)
    } else {
        response
    };
    for (name, value) in SAFE {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Nothing is cached, framed, guessed or told to another site. A page brings its own policy.
const SAFE: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
];

/// The parameter that an extractor of the query could not read, out of the words of its refusal.
async fn wrong_query(body: Body) -> Option<Problem> {
    const LONGEST: usize = 1_024;
    let said = axum::body::to_bytes(body, LONGEST).await.ok()?;
    let said = str::from_utf8(&said).ok()?;
    let said = said.strip_prefix("Failed to deserialize query string: ")?;
    let (field, why) = said.split_once(": ")?;
    Some(Problem::bad(field, &without_value(why.to_owned())))
}

fn refusal(status: StatusCode) -> Problem {
    let (code, message) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is no such path"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path has other methods"),
        StatusCode::PAYLOAD_TOO_LARGE => ("request_too_large", "the body may have 1 MiB"),
        StatusCode::REQUEST_TIMEOUT => ("request_timeout", "the request did not come in time"),
        s if s.is_server_error() => ("internal", "this failed inside poolgate; see its log"),
        _ => ("bad_request", "this request cannot be understood"),
    };
    Problem::new(status, code, message)
}

/// An answer made outside the router, such as for a body that is too long.
pub(super) async fn refuse(status: StatusCode) -> Response<Body> {
    finish(refusal(status).into_response()).await
}
