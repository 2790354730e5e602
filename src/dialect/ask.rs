//! Asks OpenAI's streams for the tokens they come to, where the client did not: the one option is put
//! into the body, and every other byte stays as it was.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::is_object;

const OPTIONS: &str = r#""stream_options":{"include_usage":true}"#;
const OPTION: &str = r#""include_usage":true"#;

/// The body with `stream_options.include_usage` set. `None`: it is set already, or the body is one into
/// which it cannot be put.
pub fn ask_for_usage(body: &[u8]) -> Option<Vec<u8>> {
    if !is_object(body) {
        return None;
    }
    // A name that stands there twice is an error here: which of the two counts is not ours to guess.
    let asked: Asked<'_> = serde_json::from_slice(body).ok()?;
    let Some(options) = asked.stream_options else {
        return with_member(body, 0, OPTIONS);
    };
    let start = place(body, options)?;
    match options.get() {
        "null" => replaced(body, start, "null", r#"{"include_usage":true}"#),
        object if is_object(object.as_bytes()) => {
            let options: Options<'_> = serde_json::from_str(object).ok()?;
            let Some(option) = options.include_usage else {
                return with_member(body, start, OPTION);
            };
            let is_no = matches!(option.get(), "false" | "null");
            is_no.then(|| replaced(body, place(body, option)?, option.get(), "true"))?
        }
        _ => None,
    }
}

/// Where in the body a part of it lies, which is borrowed from it.
fn place(body: &[u8], part: &RawValue) -> Option<usize> {
    (part.get().as_ptr() as usize).checked_sub(body.as_ptr() as usize)
}

fn replaced(body: &[u8], start: usize, old: &str, new: &str) -> Option<Vec<u8>> {
    let (before, after) = (body.get(..start)?, body.get(start + old.len()..)?);
    Some([before, new.as_bytes(), after].concat())
}

/// A further member, the first one, of the object that begins at `start` or behind some white space.
fn with_member(body: &[u8], start: usize, member: &str) -> Option<Vec<u8>> {
    let bracket = body.get(start..)?.iter().position(|byte| *byte == b'{')?;
    let (before, after) = body.split_at_checked(start + bracket + 1)?;
    let is_empty = after.trim_ascii_start().starts_with(b"}");
    let comma: &[u8] = if is_empty { b"" } else { b"," };
    Some([before, member.as_bytes(), comma, after].concat())
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    stream_options: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    include_usage: Option<&'a RawValue>,
}

/// A `null` is a value as well: a second member of the name would contradict it.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::Peek;

    fn asked(body: &str) -> Option<String> {
        ask_for_usage(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn only_the_option_is_put_in_wherever_it_is_lacking() {
        for (body, expected) in [
            (
                " { \"model\":\"m\" , \"stream\":true, \"x\":1.0e5}\n",
                " {\"stream_options\":{\"include_usage\":true}, \"model\":\"m\" , \"stream\":true, \"x\":1.0e5}\n",
            ),
            ("{ }", "{\"stream_options\":{\"include_usage\":true} }"),
            (
                r#"{"a":{"stream_options":{"include_usage":true}},"stream_options" : { } }"#,
                r#"{"a":{"stream_options":{"include_usage":true}},"stream_options" : {"include_usage":true } }"#,
            ),
            (
                r#"{"stream_options":{"include_obfuscation":false}}"#,
                r#"{"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            ),
            (
                r#"{"stream_options":{"x":[1],"include_usage" : false }}"#,
                r#"{"stream_options":{"x":[1],"include_usage" : true }}"#,
            ),
            (
                r#"{"stream\u005foptions":null,"stream":true}"#,
                r#"{"stream\u005foptions":{"include_usage":true},"stream":true}"#,
            ),
        ] {
            assert_eq!(asked(body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_body_that_asks_or_where_it_cannot_be_done_is_left_alone() {
        for body in [
            r#"{"stream_options":{"include_usage":true}}"#,
            r#"{"stream_options":{"include_usage":"yes"}}"#,
            r#"{"stream_options":7}"#,
            r#"{"stream_options":{},"stream_options":{}}"#,
            r#"{"stream_options":{"include_usage":false,"include_usage":false}}"#,
            r#"{"stream":true"#,
            "[]",
            "",
            "no json",
        ] {
            assert_eq!(asked(body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_all_that_changes(
            text in ".{0,30}",
            options in prop::option::of(prop_oneof![
                Just(json!(null)), Just(json!({})), Just(json!({"include_usage": false, "a": [1]})),
            ]),
        ) {
            let mut body = json!({"messages": [{"content": text}], "stream": true});
            if let Some(options) = &options {
                body["stream_options"] = options.clone();
            }
            let new = ask_for_usage(body.to_string().as_bytes()).unwrap();
            prop_assert_eq!(Peek::of(&new).include_usage, Some(true));
            prop_assert_eq!(ask_for_usage(&new), None);
            let mut new: Value = serde_json::from_slice(&new).unwrap();
            new["stream_options"].as_object_mut().unwrap().remove("include_usage");
            let mut old = body;
            match old.get_mut("stream_options").and_then(Value::as_object_mut) {
                Some(options) => drop(options.remove("include_usage")),
                None => old["stream_options"] = json!({}),
            }
            prop_assert_eq!(new, old);
        }

        #[test]
        fn any_bytes_are_read_without_harm(body in prop::collection::vec(any::<u8>(), 0..200)) {
            ask_for_usage(&body);
        }
    }
}
