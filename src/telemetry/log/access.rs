//! One line for each request: who asked, which accounts were tried, what came of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use super::escape::CLIENT_TEXT;
use super::fields::Line;
use crate::config::LogFormat;
use crate::dialect::Usage;

/// What is known of a request at its end. It is filled in as the request goes.
#[derive(Clone, Debug)]
pub struct AccessLine {
    /// When the request arrived.
    pub time: SystemTime,
    pub request_id: String,
    /// The trace id of `traceparent`, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    pub client: Option<IpAddr>,
    /// Name of the client's key, never the key.
    pub key: Option<Arc<str>>,
    pub method: http::Method,
    /// The kind of path, such as `messages`: a path itself may hold a client's text.
    pub path: &'static str,
    /// As the client wrote it.
    pub model: Option<String>,
    pub pool: Option<Arc<str>>,
    /// The account whose answer the client got.
    pub account: Option<Arc<str>>,
    pub tries: SmallVec<[Try; 2]>,
    /// Status sent to the client; 0 when none was.
    pub status: u16,
    pub first_byte: Option<Duration>,
    pub duration: Duration,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    pub usage: Option<Usage>,
    /// Code of an error that poolgate itself wrote.
    pub error: Option<&'static str>,
}

/// One account that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    pub account: Arc<str>,
    /// Label of what came of it.
    pub outcome: &'static str,
}

impl AccessLine {
    /// A line of which only the beginning is known.
    pub fn new(time: SystemTime, request_id: String, method: http::Method) -> Self {
        AccessLine {
            time,
            request_id,
            trace_id: None,
            client: None,
            key: None,
            method,
            path: "other",
            model: None,
            pool: None,
            account: None,
            tries: SmallVec::new(),
            status: 0,
            first_byte: None,
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            usage: None,
            error: None,
        }
    }

    /// Appends this line to `out`; a field that is not known is left out.
    pub(super) fn write(&self, out: &mut String, format: LogFormat) {
        let mut line = Line::begin(out, format, self.time);
        line.word("kind", "access");
        line.text("request_id", &self.request_id, CLIENT_TEXT);
        if let Some(trace_id) = &self.trace_id {
            line.text("trace_id", trace_id, CLIENT_TEXT);
        }
        if let Some(client) = self.client {
            line.address("client", client);
        }
        if let Some(key) = &self.key {
            line.text("key", key, CLIENT_TEXT);
        }
        line.plain("method", named(&self.method));
        line.plain("path", self.path);
        let mut text = |key, value: Option<&str>| {
            if let Some(value) = value {
                line.text(key, value, CLIENT_TEXT);
            }
        };
        text("model", self.model.as_deref());
        text("pool", self.pool.as_deref());
        text("account", self.account.as_deref());
        if !self.tries.is_empty() {
            let tries = self.tries.iter().map(|t| (&*t.account, t.outcome));
            line.pairs("tries", ("account", "outcome"), tries);
        }
        line.count("status", self.status.into());
        if let Some(first_byte) = self.first_byte {
            line.millis("first_byte_ms", first_byte);
        }
        line.millis("duration_ms", self.duration);
        line.count("bytes_in", self.bytes_in);
        line.count("bytes_out", self.bytes_out);
        if let Some(usage) = self.usage {
            line.count("input_tokens", usage.input);
            line.count("output_tokens", usage.output);
            line.count("cached_tokens", usage.cached);
        }
        if let Some(error) = self.error {
            line.plain("error", error);
        }
        line.end();
    }
}

/// A method by its name if it is one of the standard's (RFC 9110 §9): of a request that is none, the
/// first word may be anything, a secret too.
fn named(method: &http::Method) -> &'static str {
    use http::Method;
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessLine, Try};
    use crate::config::LogFormat;
    use crate::dialect::Usage;
    use std::time::{Duration, SystemTime};

    fn line() -> AccessLine {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_719_200_123);
        let mut line = AccessLine::new(time, "req-1".into(), http::Method::POST);
        line.client = Some("192.0.2.7".parse().unwrap());
        line.key = Some("ci".into());
        line.path = "messages";
        line.model = Some("claude opus".into());
        line.pool = Some("default".into());
        line.account = Some("b".into());
        line.tries.push(Try {
            account: "a".into(),
            outcome: "rate_limited",
        });
        line.tries.push(Try {
            account: "b".into(),
            outcome: "success",
        });
        line.status = 200;
        line.first_byte = Some(Duration::from_micros(120_450));
        line.duration = Duration::from_secs(2);
        line.bytes_in = 10;
        line.bytes_out = 20;
        line.usage = Some(Usage {
            input: 5,
            output: 7,
            cached: 3,
        });
        line
    }

    fn written(line: &AccessLine, format: LogFormat) -> String {
        let mut out = String::new();
        line.write(&mut out, format);
        out
    }

    #[test]
    fn a_text_line_says_what_happened_in_the_order_of_the_request() {
        assert_eq!(
            written(&line(), LogFormat::Text),
            "2025-11-21T10:00:00.123Z access request_id=req-1 client=192.0.2.7 key=ci method=POST \
             path=messages model=\"claude opus\" pool=default account=b \
             tries=a:rate_limited,b:success status=200 first_byte_ms=120.4 duration_ms=2000.0 \
             bytes_in=10 bytes_out=20 input_tokens=5 output_tokens=7 cached_tokens=3\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object_with_the_same_fields() {
        let json: serde_json::Value =
            serde_json::from_str(&written(&line(), LogFormat::Json)).unwrap();
        assert_eq!(json["kind"], "access");
        assert_eq!(json["time"], "2025-11-21T10:00:00.123Z");
        assert_eq!(json["model"], "claude opus");
        assert_eq!(
            json["tries"][0],
            serde_json::json!({"account": "a", "outcome": "rate_limited"})
        );
        assert_eq!(json["first_byte_ms"], 120.4);
        assert_eq!(json["cached_tokens"], 3);
        assert!(json.get("error").is_none());
    }

    #[test]
    fn a_clients_text_is_cut_and_cannot_forge_a_line() {
        let mut line = line();
        line.model = Some(format!("x\n2025 access status=200{}", "y".repeat(500)));
        line.request_id = "\u{1b}[2J".into();
        let text = written(&line, LogFormat::Text);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains("model=\"x\\n2025 access"));
        assert!(text.len() < 600, "{text}");
    }
}
