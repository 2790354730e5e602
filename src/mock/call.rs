//! What a request asks of the vendor: the path says which call it is, the body which model and how.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::dialect::Dialect;

/// One operation of a vendor's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Messages,
    /// `count_tokens`, `:countTokens`.
    Count,
    Generate,
    /// `:streamGenerateContent`; an array unless `alt=sse`.
    StreamGenerate {
        sse: bool,
    },
    Models,
    Model(String),
    /// `GET /v1/responses` or `/v1/realtime`, or Gemini's live API, with an `Upgrade`.
    Socket,
}

/// A request that this API has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) dialect: Dialect,
    pub(super) kind: Kind,
    /// Where the path names it.
    pub(super) model: Option<String>,
}

impl Call {
    /// None: no vendor has such a path.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Call> {
        let path = uri.path();
        let upgrades = method == Method::GET && headers.contains_key(UPGRADE);
        if upgrades && path.starts_with("/ws/google.ai.") {
            return Some(Call {
                dialect: Dialect::Gemini,
                kind: Kind::Socket,
                model: None,
            });
        }
        if let Some(call) = gemini(method, path, uri.query()) {
            return Some(call);
        }
        // Gemini's OpenAI-compatible door.
        let path = path.strip_prefix("/v1beta/openai").map_or_else(
            || path.strip_prefix("/v1"),
            |rest| Some(rest.strip_prefix("/v1").unwrap_or(rest)),
        )?;
        let (dialect, kind) = match (method.as_str(), path) {
            ("POST", "/chat/completions") => (Dialect::OpenAi, Kind::Chat),
            ("POST", "/completions") => (Dialect::OpenAi, Kind::Completions),
            ("POST", "/responses") => (Dialect::OpenAi, Kind::Responses),
            ("POST", "/embeddings") => (Dialect::OpenAi, Kind::Embeddings),
            ("POST", "/messages") => (Dialect::Anthropic, Kind::Messages),
            ("POST", "/messages/count_tokens") => (Dialect::Anthropic, Kind::Count),
            ("GET", "/responses" | "/realtime") if upgrades => (Dialect::OpenAi, Kind::Socket),
            ("GET", "/models") => (asker(headers), Kind::Models),
            ("GET", path) => {
                let model = path.strip_prefix("/models/").filter(|m| !m.is_empty())?;
                (asker(headers), Kind::Model(model.to_owned()))
            }
            _ => return None,
        };
        Some(Call {
            dialect,
            kind,
            model: None,
        })
    }

    /// It takes one of the vendor's places while it runs.
    pub(super) fn takes_a_place(&self) -> bool {
        !matches!(self.kind, Kind::Models | Kind::Model(_))
    }
}

/// `GET /v1/models` is shared by three dialects; headers tell who asks.
pub(super) fn asker(headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else if headers.contains_key("x-goog-api-key") {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    }
}

fn gemini(method: &Method, path: &str, query: Option<&str>) -> Option<Call> {
    let beta = path.strip_prefix("/v1beta/models");
    let rest = beta
        .or_else(|| path.strip_prefix("/v1/models"))
        .or_else(|| path.strip_prefix("/models"))?;
    let call = |kind, model: Option<&str>| {
        Some(Call {
            dialect: Dialect::Gemini,
            kind,
            model: model.map(str::to_owned),
        })
    };
    if method == Method::GET {
        beta?;
        return match rest.strip_prefix('/') {
            Some(model) if !model.is_empty() => call(Kind::Model(model.to_owned()), Some(model)),
            _ => call(Kind::Models, None),
        };
    }
    let (model, verb) = rest.strip_prefix('/')?.rsplit_once(':')?;
    let sse = query.is_some_and(|q| q.split('&').any(|pair| pair == "alt=sse"));
    match verb {
        "generateContent" => call(Kind::Generate, Some(model)),
        "streamGenerateContent" => call(Kind::StreamGenerate { sse }, Some(model)),
        "countTokens" => call(Kind::Count, Some(model)),
        _ => None,
    }
}

/// What the body says, read without a copy.
#[derive(Default, Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// The part of a body that the answer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// As JSON, quotes included.
    pub(super) model: Bytes,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// How many texts an embeddings call brings.
    pub(super) inputs: usize,
}

/// The most embeddings of one answer, as at the vendor.
const MAX_INPUTS: usize = 2048;
/// Longer names of models are not said back.
const MAX_MODEL: usize = 256;

impl Wish {
    /// None: the body is not the JSON that the vendor's API takes.
    pub(super) fn of(call: &Call, body: &Bytes) -> Option<Wish> {
        let peek: Peek<'_> = serde_json::from_slice(body).ok()?;
        let model = match &call.model {
            Some(model) => Bytes::from(serde_json::Value::from(model.as_str()).to_string()),
            None => match peek.model.map(RawValue::get) {
                Some(text) if text.starts_with('"') && text.len() <= MAX_MODEL => {
                    body.slice_ref(text.as_bytes())
                }
                Some(_) => return None,
                None => Bytes::from_static(b"\"unknown\""),
            },
        };
        Some(Wish {
            model,
            stream: peek.stream == Some(true) || matches!(call.kind, Kind::StreamGenerate { .. }),
            include_usage: peek
                .stream_options
                .is_some_and(|o| o.include_usage == Some(true)),
            inputs: match call.kind {
                Kind::Embeddings => inputs(peek.input),
                _ => 1,
            },
        })
    }

    /// The model's name as text.
    pub(super) fn model_name(&self) -> Cow<'_, str> {
        match serde_json::from_slice::<Cow<'_, str>>(&self.model) {
            Ok(name) => name,
            Err(_) => Cow::Borrowed("unknown"),
        }
    }
}

fn inputs(input: Option<&RawValue>) -> usize {
    let list = input.and_then(|raw| serde_json::from_str::<Vec<IgnoredAny>>(raw.get()).ok());
    list.map_or(1, |list| list.len().clamp(1, MAX_INPUTS))
}

#[cfg(test)]
mod tests {
    use super::{Call, Kind, Wish};
    use crate::dialect::Dialect;
    use bytes::Bytes;
    use http::{HeaderMap, Method, Uri};

    fn call(method: Method, uri: &'static str) -> Option<Call> {
        Call::of(&method, &Uri::from_static(uri), &HeaderMap::new())
    }

    #[test]
    fn each_vendors_paths_are_known() {
        let post = |uri| call(Method::POST, uri).map(|c| (c.dialect, c.kind));
        let gemini = |kind| Some((Dialect::Gemini, kind));
        assert_eq!(
            post("/v1/chat/completions?x=1"),
            Some((Dialect::OpenAi, Kind::Chat))
        );
        assert_eq!(
            post("/v1beta/openai/chat/completions"),
            Some((Dialect::OpenAi, Kind::Chat))
        );
        assert_eq!(
            post("/v1/messages/count_tokens"),
            Some((Dialect::Anthropic, Kind::Count))
        );
        assert_eq!(
            post("/v1beta/models/g:generateContent"),
            gemini(Kind::Generate)
        );
        assert_eq!(
            post("/models/g:streamGenerateContent?key=k&alt=sse"),
            gemini(Kind::StreamGenerate { sse: true })
        );
        assert_eq!(
            post("/v1/models/g:streamGenerateContent"),
            gemini(Kind::StreamGenerate { sse: false })
        );
        assert_eq!(post("/v1/nothing"), None);
        assert_eq!(
            post("/chat/completions"),
            None,
            "the vendor has no such path"
        );
        assert_eq!(call(Method::GET, "/v1/chat/completions"), None);
        let one = call(Method::GET, "/v1/models/gpt-5").unwrap();
        assert_eq!(one.kind, Kind::Model("gpt-5".to_owned()));
    }

    #[test]
    fn the_body_says_model_and_stream() {
        let chat = call(Method::POST, "/v1/chat/completions").unwrap();
        let wish = |json: &'static str| Wish::of(&chat, &Bytes::from_static(json.as_bytes()));
        let it =
            wish(r#"{"model":"a\u0062\"c","stream":true,"stream_options":{"include_usage":true}}"#);
        let it = it.unwrap();
        assert!(it.stream && it.include_usage);
        assert_eq!(it.model_name(), "ab\"c");
        assert_eq!(it.model, r#""a\u0062\"c""#, "said back as it came");
        assert!(wish(r#"{"model":7}"#).is_none());
        assert!(wish("not json").is_none());
    }

    #[test]
    fn one_embedding_per_input() {
        let call = call(Method::POST, "/v1/embeddings").unwrap();
        let inputs = |json: &'static str| {
            let wish = Wish::of(&call, &Bytes::from_static(json.as_bytes()));
            wish.unwrap().inputs
        };
        assert_eq!(inputs(r#"{"model":"e","input":"one"}"#), 1);
        assert_eq!(inputs(r#"{"model":"e","input":["one","two"]}"#), 2);
    }
}
