//! Which call a request is, by its method, path and headers.

use super::*;

/// Path, dialect, kind, the vendor's path, and for Gemini model and streaming.
const POSTS: &str = "
    /v1/messages                    Anthropic Messages    /v1/messages
    /messages                       Anthropic Messages    /v1/messages
    /v1/v1/messages                 Anthropic Messages    /v1/messages
    /anthropic/v1/messages          Anthropic Messages    /v1/messages
    /v1/messages/count_tokens       Anthropic CountTokens /v1/messages/count_tokens
    /v1/chat/completions            OpenAi    Chat        /v1/chat/completions
    /chat/completions               OpenAi    Chat        /v1/chat/completions
    /openai/chat/completions        OpenAi    Chat        /v1/chat/completions
    /api/v1/chat/completions        OpenAi    Chat        /v1/chat/completions
    /v1/completions                 OpenAi    Completions /v1/completions
    /v1/responses                   OpenAi    Responses   /v1/responses
    /v1/embeddings                  OpenAi    Embeddings  /v1/embeddings
    /v1beta/models/g-3:generateContent      Gemini Generate     /v1beta/models/g-3:generateContent      g-3 false
    /v1/models/g:streamGenerateContent      Gemini Generate     /v1/models/g:streamGenerateContent      g   true
    /models/g:countTokens                   Gemini CountTokens  /v1beta/models/g:countTokens            g   false
    /gemini/v1beta/models/g:embedContent    Gemini Embeddings   /v1beta/models/g:embedContent           g   false
    /v1beta/models/a%2Db%3AgenerateContent  Gemini Generate     /v1beta/models/a%2Db%3AgenerateContent  a-b false
    /v1beta/models/g:predict                Gemini Verb         /v1beta/models/g:predict                g   false
";

fn headers(names: &[&'static str]) -> HeaderMap {
    let value = http::HeaderValue::from_static("x");
    names
        .iter()
        .map(|name| (http::HeaderName::from_static(name), value.clone()))
        .collect()
}

fn post(path: &str) -> Option<Call<'_>> {
    Call::detect(&Method::POST, path, None, &HeaderMap::new())
}

fn get<'p>(path: &'p str, query: Option<&str>, names: &[&'static str]) -> Option<Call<'p>> {
    Call::detect(&Method::GET, path, query, &headers(names))
}

#[test]
fn every_inference_path_is_known_with_and_without_version_and_mount() {
    for line in POSTS.lines().filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let call = post(words[0]).unwrap_or_else(|| panic!("{} is not known", words[0]));
        let (dialect, kind) = (format!("{:?}", call.dialect), format!("{:?}", call.kind));
        let mut seen = vec![words[0], &dialect, &kind, &call.path];
        let stream = call.stream.map(|stream| stream.to_string());
        seen.extend(call.model.as_deref());
        seen.extend(stream.as_deref());
        assert_eq!(seen, words);
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
    ] {
        assert_eq!(post(path), None, "{path}");
    }
    for path in [
        "/openai",
        "/api/hello",
        "/v1beta/models/g",
        "/v1beta/models/:x",
        "/models/g:",
        "/models/g:a-b",
    ] {
        assert_eq!(post(path), None, "{path}");
    }
    for path in [
        "/v1/messages",
        "/v1/responses",
        "/v1/models/",
        "/v1/modelsx",
    ] {
        assert_eq!(get(path, None, &[]), None, "{path}");
    }
    let delete = Call::detect(&Method::DELETE, "/v1/models/x", None, &HeaderMap::new());
    assert_eq!(delete, None);
}

#[test]
fn the_list_of_models_is_shared_by_three_dialects() {
    let ask = |path, query, names: &[&'static str]| {
        let call = get(path, query, names).unwrap();
        format!("{:?} {}", call.dialect, call.path)
    };
    assert_eq!(ask("/v1/models", None, &[]), "OpenAi /v1/models");
    assert_eq!(
        ask("/v1/models", Some("limit=9"), &["anthropic-version"]),
        "Anthropic /v1/models"
    );
    assert_eq!(
        ask("/v1/models", None, &["x-goog-api-key"]),
        "Gemini /v1/models"
    );
    assert_eq!(
        ask("/v1/models", Some("pageSize=5&key=x"), &[]),
        "Gemini /v1/models"
    );
    assert_eq!(
        ask("/anthropic/v1/models", None, &[]),
        "Anthropic /v1/models"
    );
    assert_eq!(ask("/v1beta/models", None, &[]), "Gemini /v1beta/models");
    assert_eq!(
        ask("/models", None, &["x-goog-api-key"]),
        "Gemini /v1beta/models"
    );
    let one = get("/v1/models/ft:gpt-4o:org::id", None, &[]).unwrap();
    assert_eq!(
        (one.dialect, one.model.as_deref()),
        (Dialect::OpenAi, Some("ft:gpt-4o:org::id"))
    );
}

#[test]
fn responses_are_a_websocket_only_when_an_upgrade_is_asked_for() {
    let upgrade = HeaderMap::from_iter([(UPGRADE, http::HeaderValue::from_static("WebSocket"))]);
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
    let unsafe_paths = "v1 * /v1/../admin /.. /v1/./messages /. /v1/. /v1//messages // /v1/%2e%2E/x /v1%2fx /v1%2Fx /v1%5cx /v1%00 /v1\\x /v1/chat/completion%73 /v1/%6Dodels /v1/chat%5fx";
    for path in unsafe_paths
        .split(' ')
        .chain(["", "/v1\0", "/v1 x", "/v1\r\n"])
    {
        assert!(!is_safe_path(path), "{path:?}");
    }
    for path in
        "/ /v1/messages /v1/models/gpt-4.1 /v1/.x/x. /v1beta/models/a%3AgenerateContent /x%20y /x%7Ey /%"
            .split(' ')
    {
        assert!(is_safe_path(path), "{path:?}");
    }
}
