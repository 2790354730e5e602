//! Where clients put their keys, and how those are taken off a request.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};

/// Headers that carry a key, in the order in which they are tried (`contract/http.md` §1).
const KEY_HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// Headers that say who a client is to its vendor: none of them may reach an upstream.
const CREDENTIAL_HEADERS: [&str; 10] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "proxy-authorization",
    "cookie",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    // Browsers put keys among the protocols of a WebSocket, having no other header to set.
    "sec-websocket-protocol",
];

/// Parameters of the query that carry a key or a token (Google's documentation of system
/// parameters names the last two).
const KEY_PARAMETERS: [&str; 3] = ["key", "access_token", "oauth_token"];

/// The keys that a request presents.
pub fn client_keys<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let named = KEY_HEADERS
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|v| v.to_str().ok());
    bearer
        .chain(named)
        .chain(key_parameters(query))
        .filter(|key| !key.is_empty())
}

/// Does this header prove who the client is?
pub fn is_credential_header(name: &HeaderName) -> bool {
    CREDENTIAL_HEADERS.contains(&name.as_str())
}

fn key_parameters(query: Option<&str>) -> impl Iterator<Item = &str> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("key="))
}

/// The query without `key=…` and the like; `None` where nothing is to be taken off.
pub fn without_key_parameter(query: &str) -> Option<String> {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        // A name may be percent-encoded; `%6Bey` is `key` to the upstream as well.
        is_key_name(name) || (name.contains('%') && decodes_to_key(name))
    };
    if !query.split('&').any(|pair| is_key(&pair)) {
        return None;
    }
    Some(
        query
            .split('&')
            .filter(|pair| !is_key(pair))
            .collect::<Vec<_>>()
            .join("&"),
    )
}

fn decodes_to_key(name: &str) -> bool {
    let mut decoded = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let escaped = rest
            .strip_prefix('%')
            .and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match escaped {
            Some(byte) => {
                decoded.push(byte as char);
                rest = &rest[3..];
            }
            None => {
                decoded.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    is_key_name(&decoded)
}

fn is_key_name(name: &str) -> bool {
    KEY_PARAMETERS
        .iter()
        .any(|key| name.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_the_order_of_the_contract() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-goog-api-key", "d"),
            ("api-key", "c"),
            ("x-api-key", "b"),
            ("authorization", "bearer  a"),
            ("authorization", "Basic nobody"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let found: Vec<&str> = client_keys(&headers, Some("alt=sse&key=e")).collect();
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn the_key_parameter_is_taken_off_however_it_is_spelled() {
        assert_eq!(without_key_parameter("alt=sse"), None);
        assert_eq!(without_key_parameter("key=x"), Some(String::new()));
        assert_eq!(
            without_key_parameter("access_token=x&a=1"),
            Some("a=1".into())
        );
        assert_eq!(
            without_key_parameter("a=1&key=x&b=2&Key=y"),
            Some("a=1&b=2".into())
        );
        assert_eq!(without_key_parameter("%6bey=x&b=%zz"), Some("b=%zz".into()));
        assert_eq!(without_key_parameter("monkey=1&b=%"), None);
    }
}
