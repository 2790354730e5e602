//! Paths and queries: what is taken for safe means the same to a reader that decodes it, a call is
//! known again by the path it is sent on with, and no spelling of a key survives in a query.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use poolgate::dialect::{Call, Dialect, is_safe_path};
use poolgate::key::{client_keys, without_key_parameter};

/// `bytes` are what stands in a request line: a path, and a query behind a question mark.
pub(crate) fn check(bytes: &[u8]) {
    let target = String::from_utf8_lossy(bytes);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HeaderMap::new();
    for method in [Method::GET, Method::POST] {
        a_call(&method, path, query, &headers);
        headers.insert(
            "anthropic-version",
            http::HeaderValue::from_static("2023-06-01"),
        );
        a_call(&method, path, query, &headers);
        headers.clear();
    }
    Dialect::of_errors(path, &headers);
    no_second_meaning(path);
    no_key(query);
}

fn a_call(method: &Method, path: &str, query: &str, headers: &HeaderMap) {
    let Some(call) = Call::detect(method, path, Some(query), headers) else {
        return;
    };
    assert!(
        !is_safe_path(path) || is_safe_path(&call.path),
        "{path:?}: {call:?}"
    );
    assert!(
        call.path.starts_with("/v1/") || call.path.starts_with("/v1beta/"),
        "{call:?}"
    );
    // Which dialect may have stood in a mount prefix, which is gone.
    let again = Call::detect(method, &call.path, Some(query), headers).unwrap();
    assert_eq!(
        (again.kind, &again.model, &again.path),
        (call.kind, &call.model, &call.path)
    );
}

/// Once decoded, no part of a safe path leads elsewhere.
fn no_second_meaning(path: &str) {
    if !is_safe_path(path) {
        return;
    }
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    for part in [&b".."[..], b"//", b"\\", b"\0", b"/./"] {
        assert!(
            !decoded.windows(part.len()).any(|found| found == part),
            "{path:?}"
        );
    }
    assert!(
        decoded.first() == Some(&b'/') && !path.contains([' ', '\n', '\r']),
        "{path:?}"
    );
}

fn no_key(query: &str) {
    let pairs = |query: &str| {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        pairs.collect::<Vec<(String, String)>>()
    };
    let is_key = |(name, _): &(String, String)| {
        ["key", "access_token", "oauth_token"]
            .iter()
            .any(|key| name.eq_ignore_ascii_case(key))
    };
    let mut others = pairs(query);
    let before = others.len();
    others.retain(|pair| !is_key(pair));
    match without_key_parameter(query) {
        Some(left) => assert_eq!(pairs(&left), others, "{query:?} -> {left:?}"),
        None => assert_eq!(others.len(), before, "a key is left in {query:?}"),
    }
    let headers = HeaderMap::new();
    assert!(client_keys(&headers, Some(query)).all(|key| !key.is_empty()));
}
