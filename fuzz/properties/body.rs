//! The look into a request body: in valid JSON it finds what a full parser finds. Of a name that is
//! there twice, if in other letters, neither is taken, at the top, where it decides; further down the last one is.

use poolgate::dialect::{Peek, ask_for_usage, json_value, replace_model};
use serde_json::{Map, Value};

/// Members that are looked at.
const NAMES: [&str; 9] = [
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

pub(crate) fn check(body: &[u8]) {
    let peek = Peek::of(body);
    assert!(
        peek.model.is_none() || replace_model(body, "m").is_some(),
        "{peek:?}"
    );
    for pointer in [
        "/model",
        "/metadata/user_id",
        "/messages/0/content",
        "",
        "/",
    ] {
        json_value(body, pointer);
    }
    let asking = ask_for_usage(body);
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        if serde_json::from_slice::<Value>(body).is_ok() {
            assert_eq!(peek, Peek::default(), "it is no object");
        }
        return;
    };
    let names: Names = serde_json::from_slice(body).unwrap();
    if names.has_twice() {
        assert_eq!(peek, Peek::default(), "which of the two?");
    } else {
        assert_eq!(
            peek.model.as_deref(),
            members.get("model").and_then(Value::as_str)
        );
        assert_eq!(peek.stream, members.get("stream").and_then(Value::as_bool));
    }
    if let Some(asking) = asking {
        asks(&asking, members.clone());
    }
    agrees(&members);
}

/// All that differs from what the client wrote is the option.
fn asks(asking: &[u8], mut members: Map<String, Value>) {
    assert_eq!(ask_for_usage(asking), None, "it asks now");
    let options = members.entry("stream_options").or_insert(Value::Null);
    if options.is_null() {
        *options = Value::Object(Map::new());
    }
    options["include_usage"] = Value::Bool(true);
    let asking: Map<String, Value> = serde_json::from_slice(asking).unwrap();
    assert_eq!(asking, members);
}

/// With what a full parser reads; the body is written anew, so that a name is there twice in
/// other letters only.
fn agrees(members: &Map<String, Value>) {
    let body = serde_json::to_vec(members).unwrap();
    let peek = Peek::of(&body);
    if Names(members.keys().cloned().collect()).has_twice() {
        assert_eq!(peek, Peek::default(), "which of the two?");
        return;
    }
    let text = |name| members.get(name).and_then(Value::as_str);
    assert_eq!(peek.model.as_deref(), text("model"));
    assert_eq!(peek.prompt_cache_key.as_deref(), text("prompt_cache_key"));
    assert_eq!(
        peek.previous_response_id.as_deref(),
        text("previous_response_id")
    );
    let user = members
        .get("metadata")
        .and_then(|metadata| metadata.get("user_id"));
    assert_eq!(peek.user_id.as_deref(), user.and_then(Value::as_str));
    let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let limit = limits
        .into_iter()
        .filter_map(|name| members.get(name))
        .find(|v| !v.is_null());
    assert_eq!(peek.max_tokens, limit.and_then(Value::as_u64));
    if let Some(options) = members.get("stream_options").and_then(Value::as_object) {
        let usage = options.get("include_usage").and_then(Value::as_bool);
        assert_eq!(peek.include_usage, usage);
    }
    if let Some(replaced) = replace_model(&body, "a \"new\" one") {
        let mut expected = members.clone();
        expected.insert("model".to_owned(), "a \"new\" one".into());
        let read: Value = serde_json::from_slice(&replaced).unwrap();
        assert_eq!(read, Value::Object(expected));
    }
    for (name, value) in members {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        let found = json_value(&body, &format!("/{escaped}"));
        assert_eq!(
            found.is_some(),
            value.is_string() || value.is_number(),
            "{name}"
        );
    }
}

/// The names of an object's members, as they come.
struct Names(Vec<String>);

impl Names {
    /// Some readers take a name in large letters for the same one.
    fn has_twice(&self) -> bool {
        let like = |name: &str| {
            self.0
                .iter()
                .filter(|it| it.eq_ignore_ascii_case(name))
                .count()
        };
        let is_there = |name: &str| self.0.iter().any(|it| it == name);
        NAMES.iter().any(|name| is_there(name) && like(name) > 1)
    }
}

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Names, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Names, A::Error> {
                let mut names = vec![];
                while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Members)
    }
}
