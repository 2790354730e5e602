//! The errors that poolgate itself writes (`contract/http.md` §1): one constructor for each row of
//! the table, and their words in each dialect.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Begun, Dialect, Kind};

/// An answer of our own. `message` says what happened and what to do; no secret, no account and no
/// upstream address may be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// The connection cannot be used again.
    pub close: bool,
}

/// Beyond this wait a client's own retries are of no use.
const WORTH_RETRYING: Duration = Duration::from_secs(60);

/// Nothing is known to come back; asking now and then does no harm.
const GONE_FOR: Duration = Duration::from_secs(300);

/// The table. The waits are the true ones; rendering rounds them up to whole seconds.
impl Reject {
    /// Ambiguous or malformed framing; `problem` names it.
    pub fn bad_request(problem: impl Into<Cow<'static, str>>) -> Reject {
        Reject {
            close: true,
            ..Self::new(StatusCode::BAD_REQUEST, "bad_request", problem)
        }
    }

    pub fn forbidden_origin() -> Reject {
        let message = "This gateway asks for no key and so serves only its own machine: the Host or Origin of the request is foreign. Set `clients.open` or list the host in `listen.hosts`.";
        Self::new(StatusCode::FORBIDDEN, "forbidden_origin", message)
    }

    /// No key, or one that is unknown, expired, revoked or malformed: a caller is not told which.
    pub fn invalid_api_key() -> Reject {
        let message = "The API key is missing or not valid here. Send a key of this gateway as `Authorization: Bearer` or `x-api-key`.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// The records of keys cannot be read yet, and the key may be one of those.
    pub fn keys_unknown() -> Reject {
        let message = "This gateway cannot read its keys yet. Try again after the time in Retry-After, or tell its operator.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_account_available",
            message,
        )
        .after(Duration::from_secs(5))
    }

    /// `what` may not be used with this key: a model or a pool, by the name the client used, or the
    /// gateway from where the client is.
    pub fn permission_denied(what: &str) -> Reject {
        let message = format!(
            "This key may not use {what}. Ask the operator of the gateway for another tier."
        );
        Self::new(StatusCode::FORBIDDEN, "permission_denied", message)
    }

    pub fn not_found() -> Reject {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "Nothing is served at this path for this method or model. Check the base address and the model's name.",
        )
    }

    pub fn request_timeout() -> Reject {
        let message = "The request did not arrive in time. Send it again.";
        Reject {
            close: true,
            ..Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
        }
    }

    /// `limit` in bytes.
    pub fn request_too_large(limit: usize) -> Reject {
        let message = format!(
            "The request body is larger than {limit} bytes, the most this gateway takes. Send less."
        );
        Reject {
            close: true,
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        }
    }

    /// The model has another name at its vendor, which can be written only into a body that is all here.
    pub fn cannot_rename(limit: usize) -> Reject {
        let message = format!(
            "This model goes by another name at its vendor, which is put into bodies of at most {limit} \
             bytes that state their Content-Length. Send the body so, or ask for the vendor's name."
        );
        Reject {
            close: true,
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
        }
    }

    /// `limit` in bytes.
    pub fn header_too_large(limit: usize) -> Reject {
        let message = format!(
            "The request's head is larger than {limit} bytes, the most this gateway takes. Send less."
        );
        Reject {
            close: true,
            ..Self::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "header_too_large",
                message,
            )
        }
    }

    /// A WebSocket is asked for and no account has one; clients then use plain HTTP.
    pub fn upgrade_required() -> Reject {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "WebSockets are not served here. Use POST with `stream: true`.",
        )
    }

    /// The key's limits or models hold for requests, and nobody reads what a WebSocket's frames ask for.
    pub fn websocket_uncounted() -> Reject {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "This key has limits or a list of models, which nobody keeps within a WebSocket. Use POST \
             with `stream: true`.",
        )
    }

    /// A WebSocket of another version is asked for (RFC 6455 §4.2.2).
    pub fn websocket_version() -> Reject {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_version",
            "Only version 13 of the WebSocket protocol is served.",
        )
    }

    /// A limit of the key is reached; `limit` says which, e.g. `10 requests in 5h`.
    pub fn key_limit(limit: &str, wait: Duration) -> Reject {
        let message = format!(
            "This key's limit is reached: {limit}. Try again after the time in Retry-After."
        );
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            message,
        )
        .after(wait)
    }

    /// The key has as many requests under way as it may have; `most` of them.
    pub fn key_busy(most: u32) -> Reject {
        Self::key_limit(
            &format!("{most} requests at a time"),
            Duration::from_secs(1),
        )
    }

    /// Every account is rate limited; `wait` is the time to the earliest recovery.
    pub fn all_rate_limited(wait: Duration) -> Reject {
        let message = "Every account that could serve this is rate limited. Try again after the time in Retry-After.";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            message,
        )
        .after(wait)
    }

    /// Every account is full and so is the queue, or it took too long.
    pub fn overloaded(wait: Duration) -> Reject {
        let message =
            "Every account that could serve this is busy. Try again after the time in Retry-After.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).after(wait)
    }

    /// Every slot of the key's tier is taken.
    pub fn no_slot(wait: Duration) -> Reject {
        let message =
            "Every place of this key's tier is taken. Try again after the time in Retry-After.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "capacity_error", message).after(wait)
    }

    /// Accounts are down, disabled, logged out or out of quota.
    pub fn no_account_available(wait: Duration) -> Reject {
        let message = "No account can serve this now. Try again after the time in Retry-After, or tell the operator of the gateway.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_account_available",
            message,
        )
        .after(wait)
    }

    /// The account that the key is bound to is gone: waiting does not bring it back.
    pub fn account_gone() -> Reject {
        let message = "The one account that this key may use is gone. Ask the operator of the gateway for another key.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_account_available",
            message,
        )
        .after(GONE_FOR)
    }

    pub fn upstream_unreachable() -> Reject {
        let message = "The upstream could not be reached or broke off before it answered, on every try. Try again.";
        Self::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", message)
    }

    pub fn upstream_timeout() -> Reject {
        let message = "The upstream did not begin to answer in time, on every try. Try again.";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message)
    }

    /// The gateway is about to stop.
    pub fn draining() -> Reject {
        let message = "This gateway is stopping. Try again.";
        let reject = Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message)
            .after(Duration::from_secs(1));
        Reject {
            close: true,
            ..reject
        }
    }

    /// The upstream broke off within an answer: for [`Reject::stream_event`] alone.
    pub fn broken_stream() -> Reject {
        let message =
            "The upstream broke off within its answer, which is therefore not complete. Try again.";
        Self::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", message)
    }

    fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Reject {
        Reject {
            status,
            code,
            message: message.into(),
            retry_after: None,
            close: false,
        }
    }

    fn after(self, wait: Duration) -> Reject {
        Reject {
            retry_after: Some(wait),
            ..self
        }
    }
}

/// How it is said.
impl Reject {
    /// The whole answer in the client's dialect.
    pub fn render(&self, dialect: Dialect, request_id: &str) -> Response<Bytes> {
        let mut body = match dialect {
            Dialect::Anthropic => json!({"type": "error", "error": self.error(dialect)}),
            Dialect::OpenAi | Dialect::Gemini => json!({"error": self.error(dialect)}),
        };
        if dialect == Dialect::Anthropic {
            body["request_id"] = json!(request_id);
        }
        let body = Bytes::from(body.to_string());
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let length = response.body().len();
        self.put_headers(response.headers_mut(), dialect, request_id);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response
    }

    /// The event that ends a stream which has begun. It needs a blank line before it where the
    /// stream stands within an event.
    pub fn stream_event(&self, dialect: Dialect, kind: Kind, begun: &Begun) -> Bytes {
        let (event, data) = match (dialect, kind) {
            // Without the line `event:` Anthropic's own clients do not see it.
            (Dialect::Anthropic, _) => (
                "event: error\n",
                json!({"type": "error", "error": self.error(dialect)}),
            ),
            (Dialect::OpenAi, Kind::Responses) => {
                ("event: response.failed\n", self.failed_response(begun))
            }
            (Dialect::OpenAi | Dialect::Gemini, _) => ("", json!({"error": self.error(dialect)})),
        };
        Bytes::from(format!("{event}data: {data}\n\n"))
    }

    /// OpenAI's own clients pass `response.failed` on as one event of many, and who reads only the
    /// text would take its part for the whole. The `error` beside it makes them raise.
    fn failed_response(&self, begun: &Begun) -> Value {
        let mut response = json!({
            "object": "response",
            "status": "failed",
            "error": {"code": self.code, "message": self.message},
            "output": [],
        });
        let id = begun.id.as_deref();
        if let Some(id) = id.and_then(|id| serde_json::from_slice::<Value>(id).ok()) {
            response["id"] = id;
        }
        json!({
            "type": "response.failed",
            "sequence_number": begun.sequence.map_or(0, |last| last.saturating_add(1)),
            "response": response,
            "error": self.error(Dialect::OpenAi),
        })
    }

    fn error(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::Anthropic => json!({"type": self.anthropic_type(), "message": self.message}),
            Dialect::OpenAi => {
                json!({"message": self.message, "type": self.openai_type(), "param": null, "code": self.code})
            }
            Dialect::Gemini => {
                json!({"code": self.status.as_u16(), "message": self.message, "status": self.google_status()})
            }
        }
    }

    fn put_headers(&self, headers: &mut HeaderMap, dialect: Dialect, request_id: &str) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            if dialect == Dialect::Anthropic {
                headers.insert("request-id", id.clone());
            }
            headers.insert("x-request-id", id);
        }
        if let Some(wait) = self.retry_after {
            // Rounded down a client would come back too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
            if wait > WORTH_RETRYING {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == "websocket_version" {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The vendor's words for these statuses; `capacity_error` is our own.
    fn anthropic_type(&self) -> &'static str {
        match (self.status.as_u16(), self.code) {
            (_, "capacity_error") => "capacity_error",
            (401, _) => "authentication_error",
            (403, _) => "permission_error",
            (404, _) => "not_found_error",
            (408 | 504, _) => "timeout_error",
            (413, _) => "request_too_large",
            (429, _) => "rate_limit_error",
            (503, _) => "overloaded_error",
            (500.., _) => "api_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// `google.rpc.Code` as Google maps it to HTTP.
    fn google_status(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            408 | 504 => "DEADLINE_EXCEEDED",
            426 => "FAILED_PRECONDITION",
            429 => "RESOURCE_EXHAUSTED",
            500.. => "UNAVAILABLE",
            _ => "INVALID_ARGUMENT",
        }
    }
}

#[cfg(test)]
#[path = "reject_tests.rs"]
mod tests;
