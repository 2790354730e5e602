//! What a vendor's error body says, in one form for all vendors: OpenAI, Anthropic, Google, Amazon,
//! OAuth servers (RFC 6749 §5.2) and those that answer a bare message.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, is_object};

/// An error as stated; what the vendor left out is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendorError<'a> {
    /// OpenAI `error.code`, OAuth `error`.
    pub code: Option<Cow<'a, str>>,
    /// `error.code` as a number: Google's copy of the HTTP status, LiteLLM's as a text.
    pub number: Option<u16>,
    /// OpenAI and Anthropic `error.type`; Amazon's exception without its namespace.
    pub kind: Option<Cow<'a, str>>,
    /// Google `error.status`.
    pub status: Option<Cow<'a, str>>,
    /// Amazon `reason`, the `reason` of Google's `ErrorInfo`.
    pub reason: Option<Cow<'a, str>>,
    /// Anthropic `error.details.error_code`.
    pub detail: Option<Cow<'a, str>>,
    pub message: Option<Cow<'a, str>>,
    /// The `retryDelay` of Google's `RetryInfo`, as written.
    pub retry_delay: Option<Cow<'a, str>>,
    /// The limits that Google's `QuotaFailure` names; the first few of them.
    pub quotas: Vec<Quota<'a>>,
}

/// A limit that was overstepped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    pub id: Cow<'a, str>,
    /// The limit is zero: this account may not use the model at all.
    pub is_zero: bool,
}

/// No vendor's error is longer; what is longer is not read.
const LONGEST: usize = 64 * 1024;
/// Entries read of any list.
const MOST: usize = 16;

impl<'a> VendorError<'a> {
    /// Reads a whole body, or the `error` object alone as streams carry it. A body that is not
    /// JSON says nothing.
    pub fn read(body: &'a [u8]) -> VendorError<'a> {
        Self::try_read(body).unwrap_or_default()
    }

    /// All machine-readable words of the error.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        [
            &self.code,
            &self.kind,
            &self.status,
            &self.reason,
            &self.detail,
        ]
        .into_iter()
        .filter_map(|word| word.as_deref())
    }

    /// Whether one of [`VendorError::words`] is this one.
    pub fn says(&self, word: &str) -> bool {
        self.words().any(|said| said == word)
    }

    fn try_read(body: &'a [u8]) -> Option<VendorError<'a>> {
        let body = body.get(..LONGEST).map_or(Some(body), |_| None)?;
        if is_object(body) {
            return Self::of_object(serde_json::from_slice(body).ok()?);
        }
        // Google wraps the error of a stream into an array of one; others send it as a mere text.
        let outer: &RawValue = serde_json::from_slice(body).ok()?;
        match parsed::<Vec<&RawValue>>(outer) {
            Some(items) => items
                .first()
                .filter(|item| is_object(item.get().as_bytes()))
                .and_then(|item| Self::of_object(parsed(item)?)),
            None => Some(VendorError {
                message: text(outer),
                ..VendorError::default()
            }),
        }
    }

    fn of_object(outer: Fields<'a>) -> Option<VendorError<'a>> {
        let Some(error) = outer.error else {
            return Some(Self::of_fields(&outer));
        };
        if let Some(word) = text(error) {
            // Some say a word here and the sentence beside it, some the sentence.
            let message = outer
                .error_description
                .or(outer.message)
                .and_then(text)
                .or_else(|| Some(word.clone()));
            return Some(VendorError {
                code: Some(word),
                message,
                ..VendorError::default()
            });
        }
        if !is_object(error.get().as_bytes()) {
            return Some(Self::of_fields(&outer));
        }
        Some(Self::of_fields(&parsed(error)?))
    }

    fn of_fields(fields: &Fields<'a>) -> VendorError<'a> {
        let mut error = VendorError {
            code: fields.code.and_then(text),
            number: fields.code.and_then(number),
            kind: fields
                .kind
                .or(fields.exception)
                .and_then(text)
                .map(without_namespace),
            status: fields.status.and_then(text),
            reason: fields.reason.and_then(text),
            message: fields
                .message
                .or(fields.message_upper)
                .or(fields.detail)
                .and_then(text),
            ..VendorError::default()
        };
        let Some(details) = fields.details else {
            return error;
        };
        if let Some(list) = parsed::<Vec<&RawValue>>(details) {
            list.into_iter()
                .take(MOST)
                .filter_map(parsed::<Detail<'a>>)
                .for_each(|detail| error.add(detail));
        } else if let Some(detail) = parsed::<Detail<'a>>(details) {
            error.add(detail);
        }
        error
    }

    fn add(&mut self, detail: Detail<'a>) {
        self.detail = self.detail.take().or(detail.error_code);
        self.reason = self.reason.take().or(detail.reason);
        self.retry_delay = self.retry_delay.take().or(detail.retry_delay);
        for violation in detail.violations.into_iter().flatten().take(MOST) {
            let is_zero = violation.quota_value.as_deref() == Some("0");
            self.quotas
                .extend(violation.quota_id.map(|id| Quota { id, is_zero }));
        }
    }
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::text(raw.get().as_bytes())
}

fn parsed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    json::parsed(raw.get().as_bytes())
}

fn number(code: &RawValue) -> Option<u16> {
    parsed(code).or_else(|| text(code)?.parse().ok())
}

/// `com.amazon.coral.service#ThrottlingException` -> `ThrottlingException`.
fn without_namespace(kind: Cow<'_, str>) -> Cow<'_, str> {
    match kind {
        Cow::Borrowed(kind) => Cow::Borrowed(kind.rsplit('#').next().unwrap_or(kind)),
        Cow::Owned(kind) => Cow::Owned(kind.rsplit('#').next().unwrap_or(&kind).to_owned()),
    }
}

/// The members of an error object of any vendor, as they are written.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    error_description: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, rename = "__type")]
    exception: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "Message")]
    message_upper: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "error_code")]
    error_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    retry_delay: Option<Cow<'a, str>>,
    #[serde(borrow)]
    violations: Option<Vec<Violation<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Violation<'a> {
    #[serde(borrow)]
    quota_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    quota_value: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(body: &str) -> Vec<String> {
        VendorError::read(body.as_bytes())
            .words()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_vendors_shape_is_understood() {
        for (body, words, message) in [
            (
                r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#,
                &["c", "t"][..],
                "m",
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"d"}},"request_id":"r"}"#,
                &["rate_limit_error", "d"],
                "m",
            ),
            (
                r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT","details":[{"@type":"x","reason":"API_KEY_INVALID"}]}}"#,
                &["INVALID_ARGUMENT", "API_KEY_INVALID"],
                "m",
            ),
            (
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                &["RESOURCE_EXHAUSTED"],
                "m",
            ),
            (
                r#"{"__type":"com.amazon#ThrottlingException","message":"m","reason":"R"}"#,
                &["ThrottlingException", "R"],
                "m",
            ),
            (
                r#"{"__type":"ServiceUnavailable","Message":"m"}"#,
                &["ServiceUnavailable"],
                "m",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"m"}"#,
                &["invalid_grant"],
                "m",
            ),
            (r#"{"error":"m"}"#, &["m"], "m"),
            (r#"{"code":"c","message":"m","error":null}"#, &["c"], "m"),
            (r#"{"detail":"m"}"#, &[], "m"),
            (r#""m""#, &[], "m"),
        ] {
            assert_eq!(said(body), words, "{body}");
            assert_eq!(
                VendorError::read(body.as_bytes()).message.as_deref(),
                Some(message),
                "{body}"
            );
        }
    }

    #[test]
    fn googles_details_tell_delay_and_quota() {
        let body = br#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
                {"quotaMetric":"q","quotaId":"PerDay","quotaDimensions":{"model":"g"},"quotaValue":"20"},{"quotaId":"PerMinute","quotaValue":"0"}]},
            {"@type":"type.googleapis.com/google.rpc.Help","links":[]}, 7,
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"10.7s"}]}}"#;
        let error = VendorError::read(body);
        assert_eq!(
            (error.number, error.retry_delay.as_deref()),
            (Some(429), Some("10.7s"))
        );
        let quotas: Vec<_> = error
            .quotas
            .iter()
            .map(|quota| (quota.id.as_ref(), quota.is_zero))
            .collect();
        assert_eq!(quotas, [("PerDay", false), ("PerMinute", true)]);
    }

    #[test]
    fn a_status_is_read_from_a_number_and_from_a_text() {
        let number = |code: &str| {
            let body = format!(r#"{{"error":{{"message":"m","code":{code}}}}}"#);
            VendorError::read(body.as_bytes()).number
        };
        assert_eq!(number("429"), Some(429));
        assert_eq!(number(r#""429""#), Some(429));
        assert_eq!(number(r#""rate_limit_exceeded""#), None);
    }

    #[test]
    fn what_is_no_error_says_nothing() {
        for body in [
            "",
            "<html>",
            "{",
            "[]",
            "[1]",
            "null",
            "7",
            "{}",
            r#"{"error":{}}"#,
            r#"{"error":[{"code":"c"}]}"#,
            r#"{"error":{"code":[],"type":7}}"#,
        ] {
            assert_eq!(
                VendorError::read(body.as_bytes()),
                VendorError::default(),
                "{body}"
            );
        }
        let long = format!(
            r#"{{"error":{{"code":"c","message":"{}"}}}}"#,
            "x".repeat(LONGEST)
        );
        assert_eq!(VendorError::read(long.as_bytes()), VendorError::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(body in prop::collection::vec(any::<u8>(), 0..300)) {
            VendorError::read(&body);
        }
    }
}
