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
        // Gemini's live API, `/ws/google.ai.generativelanguage.v1beta.…`, is no path of a version.
        if path.starts_with("/ws/google.ai.") {
            return Dialect::Gemini;
        }
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
/// another path (dot segments, encoded separators, doubled slashes, characters that need no encoding and have
/// one, RFC 3986 §2.3) is refused before it is routed.
pub fn is_safe_path(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    let encoded = |at: usize| {
        let hex = path.get(at + 1..at + 3)?;
        u8::from_str_radix(hex, 16).ok()
    };
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        0..=0x20 | 0x7f | b'\\' => false,
        b'.' => match bytes.get(at + 1) {
            Some(b'.') => false,
            Some(b'/') | None => bytes[at - 1] != b'/',
            Some(_) => true,
        },
        b'/' => bytes.get(at + 1) != Some(&b'/'),
        // A tilde is left out: some libraries encode it.
        b'%' => !encoded(at).is_some_and(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/' | b'\\' | 0)
        }),
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

/// Does an `Upgrade` ask for a WebSocket and nothing else?
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Only Gemini's clients put their key into the query.
fn has_key_parameter(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("key=")))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
