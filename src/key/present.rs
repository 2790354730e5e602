//! Where clients put their keys, and how those are taken off a request.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};

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

/// Browsers, which can set no header of a WebSocket, put OpenAI's key behind this among its
/// subprotocols (OpenAI's guide to its realtime API).
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// What the subprotocols have in them that carry a key or say whose it is; the second is how
/// Kubernetes' clients carry theirs.
const KEY_PROTOCOLS: [&str; 4] = [
    "api-key.",
    "bearer.",
    "openai-organization.",
    "openai-project.",
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
    let in_protocols = protocols(headers).filter_map(|item| item.strip_prefix(KEY_PROTOCOL));
    bearer
        .chain(named)
        .chain(key_parameters(query))
        .chain(in_protocols)
        .filter(|key| !key.is_empty())
}

/// Does this header prove who the client is?
pub fn is_credential_header(name: &HeaderName) -> bool {
    CREDENTIAL_HEADERS.contains(&name.as_str())
}

/// The subprotocols of a WebSocket that the client offers.
pub fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let items = lines.filter_map(|line| line.to_str().ok());
    let items = items.flat_map(|line| line.split(',')).map(str::trim);
    items.filter(|item| !item.is_empty())
}

/// Does this subprotocol carry a key, or say whose it is?
pub fn is_key_protocol(item: &str) -> bool {
    let item = item.to_ascii_lowercase();
    KEY_PROTOCOLS.iter().any(|part| item.contains(part))
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
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.f",
            ),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let found: Vec<&str> = client_keys(&headers, Some("alt=sse&key=e")).collect();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn subprotocols_that_carry_a_key_are_told_from_others() {
        for item in [
            "openai-insecure-api-key.sk-1",
            "OpenAI-Insecure-API-Key.sk-1",
            "openai-organization.o",
            "openai-project.p",
            "base64url.bearer.authorization.k8s.io.t",
        ] {
            assert!(is_key_protocol(item), "{item}");
        }
        for item in ["realtime", "openai-beta.realtime-v1", "graphql-ws"] {
            assert!(!is_key_protocol(item), "{item}");
        }
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
