//! A look into a JSON request body: the few fields that decide where it goes, borrowed, and the
//! one value that may be replaced. Everything else is skipped unread and passes byte for byte.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use serde::de::IgnoredAny;

use super::json::{parsed, text};
use super::outline::{members, members_so_far, part};

/// What a request body says about itself. A field of the wrong type is as good as absent; a body
/// that is no JSON object has none. A body that names `model` twice, if in other letters, has no fields either:
/// which of the two the upstream would read is not ours to guess.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    pub model: Option<Cow<'a, str>>,
    pub stream: Option<bool>,
    /// `max_tokens`, `max_completion_tokens` or `max_output_tokens`.
    pub max_tokens: Option<u64>,
    /// `stream_options.include_usage`.
    pub include_usage: Option<bool>,
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// `metadata.user_id`.
    pub user_id: Option<Cow<'a, str>>,
    /// Binding: only the account that gave this answer knows it.
    pub previous_response_id: Option<Cow<'a, str>>,
}

/// Headers that name a conversation, in the order in which they are tried.
const SESSIONS: [HeaderName; 3] = [
    HeaderName::from_static("x-claude-code-session-id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("conversation_id"),
];

/// Where in an object the fields of [`Peek`] are.
const FIELDS: [&str; 9] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream_options",
    "prompt_cache_key",
    "metadata",
    "previous_response_id",
];

impl<'a> Peek<'a> {
    /// Reads `body` in one pass, without a copy unless a text holds an escape.
    pub fn of(body: &'a [u8]) -> Peek<'a> {
        members(body, &FIELDS).map(Peek::from).unwrap_or_default()
    }

    /// The same of a body whose end is still to come. Nothing may be permitted for what is found: a
    /// `model` may follow that counts instead.
    pub fn of_beginning(body: &'a [u8]) -> Peek<'a> {
        Peek::from(members_so_far(body, &FIELDS))
    }

    fn from(fields: [Option<&'a [u8]>; FIELDS.len()]) -> Peek<'a> {
        // A field that is null is as good as absent.
        let fields = fields.map(|raw| raw.filter(|raw| raw != b"null"));
        let [
            model,
            stream,
            tokens,
            completion,
            output,
            options,
            cache_key,
            metadata,
            previous,
        ] = fields;
        let max_tokens = tokens.or(completion).or(output);
        Peek {
            model: model.and_then(text),
            stream: stream.and_then(parsed),
            max_tokens: max_tokens.and_then(parsed),
            include_usage: options
                .and_then(|options| part(options, "include_usage"))
                .and_then(parsed),
            prompt_cache_key: cache_key.and_then(text),
            user_id: metadata
                .and_then(|metadata| part(metadata, "user_id"))
                .and_then(text),
            previous_response_id: previous.and_then(text),
        }
    }

    /// What tells this conversation from others: the first session id found, headers before body.
    pub fn session<'s>(&'s self, headers: &'s HeaderMap) -> Option<&'s str> {
        SESSIONS
            .iter()
            .find_map(|name| headers.get(name)?.to_str().ok().filter(|id| !id.is_empty()))
            .or(self.prompt_cache_key.as_deref())
            .or(self.user_id.as_deref())
            .or(self.previous_response_id.as_deref())
    }
}

/// The body with another value of its top-level `model`, every other byte as it was. `None` when
/// the body names no model, or names it twice.
pub fn replace_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let [old] = members(body, &["model"])?;
    let old = old?;
    // `old` is borrowed from `body`, so that the distance of the two is its place.
    let start = (old.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, after) = (body.get(..start)?, body.get(start + old.len()..)?);
    let new = serde_json::to_string(model).ok()?;
    Some([before, new.as_bytes(), after].concat())
}

/// The text or number at a JSON pointer (RFC 6901) in `body`; `None` for anything else there.
pub fn json_value<'a>(body: &'a [u8], pointer: &str) -> Option<Cow<'a, str>> {
    // At most so many steps are taken, as each one reads the rest of the body again.
    const STEPS: usize = 8;
    let mut steps = pointer.strip_prefix('/')?.split('/');
    let mut json = body;
    for step in steps.by_ref().take(STEPS) {
        json = part(json, &step.replace("~1", "/").replace("~0", "~"))?;
    }
    if steps.next().is_some() {
        return None;
    }
    text(json).or_else(|| {
        parsed::<IgnoredAny>(json)?;
        let number = std::str::from_utf8(json).ok()?;
        number
            .starts_with(|c: char| c == '-' || c.is_ascii_digit())
            .then_some(Cow::Borrowed(number))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_a_beginning_what_is_whole_counts() {
        let body = br#"{"model":"m","stream":true,"max_tokens":7,"metadata":{"user_id":"u"},"messages":[{"content":"abc"#;
        let peek = Peek::of_beginning(body);
        assert_eq!(peek.model.as_deref(), Some("m"));
        assert_eq!((peek.stream, peek.max_tokens), (Some(true), Some(7)));
        assert_eq!(peek.user_id.as_deref(), Some("u"));
        for length in 0..body.len() {
            let model = Peek::of_beginning(&body[..length])
                .model
                .map(Cow::into_owned);
            assert_eq!(model, (length >= 12).then(|| "m".to_owned()), "{length}");
        }
        assert_eq!(Peek::of_beginning(b"[1,2"), Peek::default());
    }

    #[test]
    fn a_body_tells_model_streaming_and_sessions() {
        let body = br#"{ "messages":[{"model":"inner","stream":false}], "stream" : true, "model":"gpt-5",
            "max_completion_tokens": 100, "stream_options":{"include_usage":true},
            "prompt_cache_key":"c", "metadata":{"x":{"user_id":"no"},"user_id":"{\"session_id\":\"s\"}"}, "previous_response_id":"resp_1" }"#;
        let peek = Peek::of(body);
        assert_eq!(peek.model.as_deref(), Some("gpt-5"));
        assert!(matches!(peek.model, Some(Cow::Borrowed(_))));
        assert_eq!(
            (peek.stream, peek.max_tokens, peek.include_usage),
            (Some(true), Some(100), Some(true))
        );
        assert_eq!(peek.prompt_cache_key.as_deref(), Some("c"));
        assert_eq!(peek.user_id.as_deref(), Some(r#"{"session_id":"s"}"#));
        assert_eq!(peek.previous_response_id.as_deref(), Some("resp_1"));
    }

    #[test]
    fn what_is_no_json_object_has_no_model() {
        for body in [
            "",
            "null",
            "[]",
            r#"["m", true]"#,
            "{",
            "model=gpt-5",
            r#"{"model":"a"} {"model":"b"}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(Peek::of(body.as_bytes()), Peek::default(), "{body}");
        }
        assert_eq!(Peek::of(b"\xff\xfe"), Peek::default());
    }

    #[test]
    fn a_field_of_the_wrong_type_spoils_only_itself() {
        let peek = Peek::of(br#"{"model":"m","stream":"yes","max_tokens":-1,"metadata":[],"stream_options":7,"prompt_cache_key":null}"#);
        assert_eq!(
            peek,
            Peek {
                model: Some("m".into()),
                ..Peek::default()
            }
        );
        assert_eq!(
            Peek::of(br#"{"model":7,"stream":true}"#),
            Peek {
                stream: Some(true),
                ..Peek::default()
            }
        );
    }

    #[test]
    fn two_models_in_one_body_are_none() {
        for body in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","m\u006fdel":"b"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"MODEL":"b","model":"a"}"#,
        ] {
            assert_eq!(Peek::of(body.as_bytes()).model, None, "{body}");
            assert_eq!(replace_model(body.as_bytes(), "c"), None, "{body}");
        }
        let other = br#"{"Model":"b","stream":true}"#;
        assert_eq!(Peek::of(other).model, None);
        assert_eq!(Peek::of(other).stream, Some(true));
    }

    #[test]
    fn a_session_id_is_sought_in_headers_before_the_body() {
        let peek = Peek::of(br#"{"metadata":{"user_id":"u"},"previous_response_id":"r"}"#);
        let mut headers = HeaderMap::new();
        assert_eq!(peek.session(&headers), Some("u"));
        headers.insert("conversation_id", http::HeaderValue::from_static("c"));
        assert_eq!(peek.session(&headers), Some("c"));
        headers.insert(
            "x-claude-code-session-id",
            http::HeaderValue::from_static("x"),
        );
        assert_eq!(peek.session(&headers), Some("x"));
    }

    #[test]
    fn a_json_pointer_finds_texts_and_numbers() {
        let body = br#"{"a":{"b/c":[{"d":"x\ny"},12.5]},"a~":true}"#;
        assert_eq!(json_value(body, "/a/b~1c/0/d").as_deref(), Some("x\ny"));
        assert_eq!(json_value(body, "/a/b~1c/1").as_deref(), Some("12.5"));
        for absent in [
            "",
            "a",
            "/a",
            "/a~0",
            "/a/b",
            "/a/b~1c/2",
            "/a/b~1c/x",
            "/1/2/3/4/5/6/7/8/9",
        ] {
            assert_eq!(json_value(body, absent), None, "{absent}");
        }
    }

    #[test]
    fn only_the_models_own_bytes_are_replaced() {
        let body =
            br#"{"x" : 1.0e5, "model" :  "old" , "messages":[{"model":"old"}], "u":"\u00e9"}"#;
        let new = replace_model(body, "a \"b\"").unwrap();
        assert_eq!(
            new,
            br#"{"x" : 1.0e5, "model" :  "a \"b\"" , "messages":[{"model":"old"}], "u":"\u00e9"}"#
        );
        assert_eq!(replace_model(br#"{"messages":[]}"#, "m"), None);
        assert_eq!(replace_model(b"no json", "m"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(body in prop::collection::vec(any::<u8>(), 0..200), pointer in ".{0,20}") {
            Peek::of(&body);
            replace_model(&body, "m");
            json_value(&body, &pointer);
        }

        #[test]
        fn a_replaced_model_is_read_back(old in ".{0,20}", new in ".{0,20}", other in ".{0,40}") {
            let body = serde_json::json!({"a": other, "model": old, "z": [{"model": other}]}).to_string();
            let model = |body: &[u8]| Peek::of(body).model.map(Cow::into_owned);
            prop_assert_eq!(model(body.as_bytes()), Some(old.clone()));
            let replaced = replace_model(body.as_bytes(), &new).unwrap();
            prop_assert_eq!(model(&replaced), Some(new));
            let back = replace_model(&replaced, &old).unwrap();
            prop_assert_eq!(Peek::of(&back), Peek::of(body.as_bytes()));
        }
    }
}
