//! Which call of which dialect a request is, read from its method, path and headers alone
//! (`contract/http.md` §1, "Inference paths").

use std::borrow::Cow;

use http::header::UPGRADE;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::Dialect;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Anthropic `messages`.
    Messages,
    /// Anthropic `messages/count_tokens`, Gemini `:countTokens`.
    CountTokens,
    /// OpenAI `chat/completions`.
    Chat,
    /// OpenAI `completions`.
    Completions,
    /// OpenAI `responses`.
    Responses,
    /// OpenAI `responses` over a WebSocket.
    ResponsesSocket,
    /// OpenAI `embeddings`, Gemini `:embedContent` and `:batchEmbedContents`.
    Embeddings,
    /// The list of models, or one of them.
    Models,
    /// Gemini `:generateContent` and `:streamGenerateContent`.
    Generate,
    /// Any other Gemini `:verb`.
    Verb,
}

/// An inference call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    pub dialect: Dialect,
    pub kind: Kind,
    /// The vendor's own path, with its version and without the query: no mount prefix, `/v1` once.
    pub path: Cow<'a, str>,
    /// The model, where the path names it; else the body does.
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer is streamed, where the path says so; else the body does.
    pub stream: Option<bool>,
}

impl<'a> Call<'a> {
    /// The call that a request makes; `None` is no inference path, and so 404.
    ///
    /// The path is taken as it stands on the wire, without its query.
    pub fn detect(
        method: &Method,
        path: &'a str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Call<'a>> {
        let place = Place::of(path)?;
        let (dialect, kind) = match (method, place.rest) {
            (&Method::POST, "messages") => (Dialect::Anthropic, Kind::Messages),
            (&Method::POST, "messages/count_tokens") => (Dialect::Anthropic, Kind::CountTokens),
            (&Method::POST, "chat/completions") => (Dialect::OpenAi, Kind::Chat),
            (&Method::POST, "completions") => (Dialect::OpenAi, Kind::Completions),
            (&Method::POST, "responses") => (Dialect::OpenAi, Kind::Responses),
            (&Method::POST, "embeddings") => (Dialect::OpenAi, Kind::Embeddings),
            (&Method::GET, "responses") if asks_for_websocket(headers) => {
                (Dialect::OpenAi, Kind::ResponsesSocket)
            }
            (&Method::GET | &Method::HEAD, rest)
                if rest == "models" || place.model_part().is_some() =>
            {
                return place.models(query, headers);
            }
            (&Method::POST, _) => return place.verb(),
            _ => return None,
        };
        // `/v1beta` is Gemini's alone.
        (place.version != Version::V1beta).then(|| Call {
            dialect,
            kind,
            path: place.path("/v1"),
            model: None,
            stream: None,
        })
    }
}

impl Dialect {
    /// The shape an error takes that answers this request, whether or not it is an inference call.
    pub fn of_errors(path: &str, headers: &HeaderMap) -> Dialect {
        let Some(place) = Place::of(path) else {
            return Dialect::OpenAi;
        };
        let is_verb = place
            .model_part()
            .is_some_and(|part| split_verb(part).is_some());
        if place.rest == "messages" || place.rest.starts_with("messages/") {
            Dialect::Anthropic
        } else if place.version == Version::V1beta {
            Dialect::Gemini
        } else if headers.contains_key("anthropic-version") {
            Dialect::Anthropic
        } else if is_verb
            || (place.rest.starts_with("models") && headers.contains_key("x-goog-api-key"))
        {
            Dialect::Gemini
        } else {
            Dialect::OpenAi
        }
    }
}

/// Whether a path means the same to everyone who reads it. What a second reader could take for
/// another path (dot segments, encoded separators, doubled slashes) is refused before it is routed.
pub fn is_safe_path(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    let encoded = |at: usize, code: &[u8; 2]| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.eq_ignore_ascii_case(code))
    };
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        0..=0x20 | 0x7f | b'\\' => false,
        b'.' => bytes.get(at + 1) != Some(&b'.'),
        b'/' => bytes.get(at + 1) != Some(&b'/'),
        b'%' => ![b"2e", b"2f", b"5c", b"00"]
            .into_iter()
            .any(|code| encoded(at, code)),
        _ => true,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    None,
    V1,
    V1beta,
}

/// A path taken apart: what clients put before the vendor's own path is gone.
struct Place<'a> {
    /// The dialect that a mount prefix names.
    mount: Option<Dialect>,
    version: Version,
    /// From the version on, with its slash.
    own: &'a str,
    /// What follows the version, without a slash before it.
    rest: &'a str,
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Place<'a>> {
        let (mount, path) = unmounted(path);
        // People paste a base address that ends in `/v1` where the client adds `/v1` itself.
        let own = path
            .strip_prefix("/v1")
            .filter(|rest| rest.starts_with("/v1/"))
            .unwrap_or(path);
        let (version, rest) = if let Some(rest) = own.strip_prefix("/v1/") {
            (Version::V1, rest)
        } else if let Some(rest) = own.strip_prefix("/v1beta/") {
            (Version::V1beta, rest)
        } else {
            (Version::None, own.strip_prefix('/')?)
        };
        Some(Place {
            mount,
            version,
            own,
            rest,
        })
    }

    /// The vendor's path; one without a version gets `version`.
    fn path(&self, version: &str) -> Cow<'a, str> {
        match self.version {
            Version::None => Cow::Owned(format!("{version}{}", self.own)),
            Version::V1 | Version::V1beta => Cow::Borrowed(self.own),
        }
    }

    /// What follows `models/`.
    fn model_part(&self) -> Option<&'a str> {
        self.rest
            .strip_prefix("models/")
            .filter(|part| !part.is_empty())
    }

    /// `models` is spoken by three protocols; the headers tell which one is meant.
    fn models(&self, query: Option<&str>, headers: &HeaderMap) -> Option<Call<'a>> {
        let dialect = if self.version == Version::V1beta {
            Dialect::Gemini
        } else if headers.contains_key("anthropic-version") {
            Dialect::Anthropic
        } else if headers.contains_key("x-goog-api-key") || has_key_parameter(query) {
            Dialect::Gemini
        } else {
            self.mount.unwrap_or(Dialect::OpenAi)
        };
        let version = if dialect == Dialect::Gemini {
            "/v1beta"
        } else {
            "/v1"
        };
        let model = match self.model_part() {
            Some(part) => Some(percent_decode_str(part).decode_utf8().ok()?),
            None => None,
        };
        Some(Call {
            dialect,
            kind: Kind::Models,
            path: self.path(version),
            model,
            stream: Some(false),
        })
    }

    /// Gemini's `models/{model}:{verb}`.
    fn verb(&self) -> Option<Call<'a>> {
        let (model, verb) = split_verb(self.model_part()?)?;
        let kind = match verb.as_ref() {
            "generateContent" | "streamGenerateContent" => Kind::Generate,
            "countTokens" => Kind::CountTokens,
            "embedContent" | "batchEmbedContents" => Kind::Embeddings,
            _ => Kind::Verb,
        };
        Some(Call {
            dialect: Dialect::Gemini,
            kind,
            path: self.path("/v1beta"),
            model: Some(model),
            stream: Some(verb == "streamGenerateContent"),
        })
    }
}

/// The path without a mount prefix, and the dialect that the prefix names.
fn unmounted(path: &str) -> (Option<Dialect>, &str) {
    const MOUNTS: [(&str, Option<Dialect>); 4] = [
        ("/openai", Some(Dialect::OpenAi)),
        ("/anthropic", Some(Dialect::Anthropic)),
        ("/gemini", Some(Dialect::Gemini)),
        ("/api", None),
    ];
    for (prefix, dialect) in MOUNTS {
        if let Some(rest) = path
            .strip_prefix(prefix)
            .filter(|rest| rest.starts_with('/'))
        {
            return (dialect, rest);
        }
    }
    (None, path)
}

/// `{model}:{verb}`, decoded. The colon may be encoded too, as some clients do.
fn split_verb(part: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (model, verb): (Cow<'_, str>, Cow<'_, str>) =
        match percent_decode_str(part).decode_utf8().ok()? {
            Cow::Borrowed(part) => part
                .rsplit_once(':')
                .map(|(model, verb)| (model.into(), verb.into()))?,
            Cow::Owned(part) => part
                .rsplit_once(':')
                .map(|(model, verb)| (model.to_owned().into(), verb.to_owned().into()))?,
        };
    let named = !model.is_empty()
        && !verb.is_empty()
        && verb.bytes().all(|byte| byte.is_ascii_alphabetic());
    named.then_some((model, verb))
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Only Gemini's clients put their key into the query.
fn has_key_parameter(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("key=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[&'static str]) -> HeaderMap {
        names
            .iter()
            .map(|name| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static("x"),
                )
            })
            .collect()
    }

    fn post(path: &str) -> Option<Call<'_>> {
        Call::detect(&Method::POST, path, None, &HeaderMap::new())
    }

    #[test]
    fn every_inference_path_is_known_with_and_without_version_and_mount() {
        for (path, dialect, kind, normal) in [
            (
                "/v1/messages",
                Dialect::Anthropic,
                Kind::Messages,
                "/v1/messages",
            ),
            (
                "/messages",
                Dialect::Anthropic,
                Kind::Messages,
                "/v1/messages",
            ),
            (
                "/v1/v1/messages",
                Dialect::Anthropic,
                Kind::Messages,
                "/v1/messages",
            ),
            (
                "/anthropic/v1/messages",
                Dialect::Anthropic,
                Kind::Messages,
                "/v1/messages",
            ),
            (
                "/v1/messages/count_tokens",
                Dialect::Anthropic,
                Kind::CountTokens,
                "/v1/messages/count_tokens",
            ),
            (
                "/v1/chat/completions",
                Dialect::OpenAi,
                Kind::Chat,
                "/v1/chat/completions",
            ),
            (
                "/chat/completions",
                Dialect::OpenAi,
                Kind::Chat,
                "/v1/chat/completions",
            ),
            (
                "/openai/chat/completions",
                Dialect::OpenAi,
                Kind::Chat,
                "/v1/chat/completions",
            ),
            (
                "/api/v1/chat/completions",
                Dialect::OpenAi,
                Kind::Chat,
                "/v1/chat/completions",
            ),
            (
                "/v1/completions",
                Dialect::OpenAi,
                Kind::Completions,
                "/v1/completions",
            ),
            (
                "/v1/responses",
                Dialect::OpenAi,
                Kind::Responses,
                "/v1/responses",
            ),
            (
                "/v1/embeddings",
                Dialect::OpenAi,
                Kind::Embeddings,
                "/v1/embeddings",
            ),
        ] {
            let call = post(path).unwrap_or_else(|| panic!("{path} is not known"));
            assert_eq!(
                (call.dialect, call.kind, call.path.as_ref()),
                (dialect, kind, normal),
                "{path}"
            );
            assert_eq!(call.model, None, "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_no_inference_call() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/files",
            "/v1/messages/batches",
            "/v1beta/messages",
            "/v1/models",
            "/openai",
            "/api/hello",
        ] {
            assert_eq!(post(path), None, "{path}");
        }
        for path in [
            "/v1/messages",
            "/v1/responses",
            "/v1/models/",
            "/v1/modelsx",
        ] {
            assert_eq!(
                Call::detect(&Method::GET, path, None, &HeaderMap::new()),
                None,
                "{path}"
            );
        }
        assert_eq!(
            Call::detect(&Method::DELETE, "/v1/models/x", None, &HeaderMap::new()),
            None
        );
    }

    #[test]
    fn gemini_names_model_and_streaming_in_the_path() {
        for (path, kind, normal, model, stream) in [
            (
                "/v1beta/models/gemini-3-pro:generateContent",
                Kind::Generate,
                "/v1beta/models/gemini-3-pro:generateContent",
                "gemini-3-pro",
                false,
            ),
            (
                "/v1/models/g:streamGenerateContent",
                Kind::Generate,
                "/v1/models/g:streamGenerateContent",
                "g",
                true,
            ),
            (
                "/models/g:countTokens",
                Kind::CountTokens,
                "/v1beta/models/g:countTokens",
                "g",
                false,
            ),
            (
                "/gemini/v1beta/models/g:embedContent",
                Kind::Embeddings,
                "/v1beta/models/g:embedContent",
                "g",
                false,
            ),
            (
                "/v1beta/models/my%20model%3AgenerateContent",
                Kind::Generate,
                "/v1beta/models/my%20model%3AgenerateContent",
                "my model",
                false,
            ),
            (
                "/v1beta/models/g:predict",
                Kind::Verb,
                "/v1beta/models/g:predict",
                "g",
                false,
            ),
        ] {
            let call = post(path).unwrap_or_else(|| panic!("{path} is not known"));
            assert_eq!((call.dialect, call.kind), (Dialect::Gemini, kind), "{path}");
            assert_eq!(
                (call.path.as_ref(), call.model.as_deref(), call.stream),
                (normal, Some(model), Some(stream)),
                "{path}"
            );
        }
        for path in [
            "/v1beta/models/g",
            "/v1beta/models/:generateContent",
            "/v1beta/models/g:",
            "/v1beta/models/g:a-b",
        ] {
            assert_eq!(post(path), None, "{path}");
        }
    }

    #[test]
    fn the_list_of_models_is_shared_by_three_dialects() {
        let ask = |path, query, names| {
            Call::detect(&Method::GET, path, query, &headers(names))
                .map(|call| (call.dialect, call.path.into_owned()))
        };
        let v1 = |dialect| Some((dialect, "/v1/models".to_owned()));
        assert_eq!(ask("/v1/models", None, &[]), v1(Dialect::OpenAi));
        assert_eq!(
            ask("/v1/models", Some("limit=1000"), &["anthropic-version"]),
            v1(Dialect::Anthropic)
        );
        assert_eq!(
            ask("/v1/models", None, &["x-goog-api-key"]),
            v1(Dialect::Gemini)
        );
        assert_eq!(
            ask("/v1/models", Some("pageSize=5&key=x"), &[]),
            v1(Dialect::Gemini)
        );
        assert_eq!(
            ask("/anthropic/v1/models", None, &[]),
            v1(Dialect::Anthropic)
        );
        assert_eq!(
            ask("/v1beta/models", None, &[]),
            Some((Dialect::Gemini, "/v1beta/models".to_owned()))
        );
        assert_eq!(
            ask("/models", None, &["x-goog-api-key"]),
            Some((Dialect::Gemini, "/v1beta/models".to_owned()))
        );
        let one = Call::detect(
            &Method::GET,
            "/v1/models/ft:gpt-4o:org::id",
            None,
            &HeaderMap::new(),
        )
        .unwrap();
        assert_eq!(
            (one.dialect, one.model.as_deref()),
            (Dialect::OpenAi, Some("ft:gpt-4o:org::id"))
        );
    }

    #[test]
    fn responses_are_a_websocket_only_when_an_upgrade_is_asked_for() {
        let mut upgrade = HeaderMap::new();
        upgrade.insert(UPGRADE, http::HeaderValue::from_static("WebSocket"));
        let call = Call::detect(&Method::GET, "/v1/responses", None, &upgrade).unwrap();
        assert_eq!(call.kind, Kind::ResponsesSocket);
    }

    #[test]
    fn the_common_path_is_borrowed() {
        assert!(matches!(
            post("/v1/messages").unwrap().path,
            Cow::Borrowed(_)
        ));
        let gemini = post("/v1beta/models/g:generateContent").unwrap();
        assert!(matches!(
            (gemini.path, gemini.model),
            (Cow::Borrowed(_), Some(Cow::Borrowed(_)))
        ));
    }

    #[test]
    fn errors_take_the_shape_of_the_callers_dialect() {
        for (path, names, dialect) in [
            ("/v1/messages", &[][..], Dialect::Anthropic),
            ("/v1/messages/batches", &[], Dialect::Anthropic),
            ("/v1/unknown", &["anthropic-version"], Dialect::Anthropic),
            ("/v1/chat/completions", &[], Dialect::OpenAi),
            ("/nowhere", &[], Dialect::OpenAi),
            ("*", &[], Dialect::OpenAi),
            ("/v1beta/anything", &[], Dialect::Gemini),
            ("/v1/models/g:generateContent", &[], Dialect::Gemini),
            ("/models/g:generateContent", &[], Dialect::Gemini),
            ("/v1/models", &["x-goog-api-key"], Dialect::Gemini),
        ] {
            assert_eq!(Dialect::of_errors(path, &headers(names)), dialect, "{path}");
        }
    }

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_not_safe() {
        for path in [
            "",
            "v1",
            "*",
            "/v1/../admin",
            "/..",
            "/v1//messages",
            "//",
            "/v1/%2e%2E/x",
            "/v1%2fx",
            "/v1%2Fx",
            "/v1%5cx",
            "/v1%00",
            "/v1\\x",
            "/v1\0",
            "/v1 x",
            "/v1\r\n",
        ] {
            assert!(!is_safe_path(path), "{path:?}");
        }
        for path in [
            "/",
            "/v1/messages",
            "/v1/models/gpt-4.1",
            "/v1beta/models/a%3AgenerateContent",
            "/x%20y",
            "/%",
        ] {
            assert!(is_safe_path(path), "{path:?}");
        }
    }
}
