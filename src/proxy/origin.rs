//! Who is calling, and from where: request id, client address, Host and Origin.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};
use pingora_proxy::Session;

use super::context::Context;
use super::local;
use super::reject::Refused;
use crate::config::{Config, Listen};
use crate::dialect::Reject;
use crate::key::Keys;

/// Longest request id that is taken over from a client.
const REQUEST_ID_LENGTH: usize = 128;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fills in what every answer and the access line need, before anything can be refused.
pub(super) fn identify(config: &Config, session: &Session, ctx: &mut Context) {
    let head = session.req_header();
    let peer = session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(|address| address.ip().to_canonical());
    ctx.line.method = head.method.clone();
    ctx.line.request_id = request_id(&head.headers);
    ctx.line.trace_id = trace_id(&head.headers);
    ctx.line.client = client_address(config, session, peer);
}

/// The client's own request id where it is safe to repeat, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let is_safe = |id: &&str| {
        (1..=REQUEST_ID_LENGTH).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte))
    };
    let given = headers
        .get(X_REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(is_safe);
    given.map_or_else(new_request_id, str::to_owned)
}

/// `req_` and 96 random bits. Each request gets one, so the digits are written without `format!`.
fn new_request_id() -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = fastrand::u128(..);
    let mut id = *b"req_000000000000000000000000";
    for digit in &mut id[4..] {
        *digit = DIGITS[bits as usize & 15];
        bits >>= 4;
    }
    std::str::from_utf8(&id).unwrap_or_default().to_owned()
}

/// The trace id of a W3C `traceparent` header, which itself is passed on unchanged: the gateway
/// reports no spans of its own, so that a new parent id would cut the trace in two.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(TRACEPARENT)?.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// The client's address: the peer's, or what a trusted proxy says. Of several the last one that is
/// no trusted proxy itself counts, as everything before it was written by the client.
fn client_address(config: &Config, session: &Session, peer: Option<IpAddr>) -> Option<IpAddr> {
    let trusted = &listen(config, session)?.trusted_proxies;
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let peer = peer?;
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let headers = &session.req_header().headers;
    let stated = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let chain: Vec<IpAddr> = stated
        .flat_map(|list| list.split(','))
        .filter_map(|ip| ip.trim().parse().ok())
        .collect();
    Some(
        chain
            .iter()
            .rev()
            .find(|address| !is_trusted(address))
            .copied()
            .unwrap_or(peer),
    )
}

/// The entry of `listen` on which this request came in.
fn listen<'a>(config: &'a Config, session: &Session) -> Option<&'a Listen> {
    let local = session.server_addr().and_then(|address| address.as_inet());
    let same_port = |listen: &&Listen| local.is_some_and(|l| l.port() == listen.address.port());
    let same = |listen: &&Listen| local.is_some_and(|l| *l == listen.address);
    let mut listens = config.listen.iter();
    let exact = listens.clone().find(same);
    // A listener of all addresses sees requests to each of them.
    exact
        .or_else(|| listens.find(same_port))
        .or(config.listen.first())
}

/// Host names that are asked for, and no web page behind an open door.
///
/// A gateway that asks nobody for a key is protected by being on loopback, and a page in a browser
/// on that machine reaches loopback too: under another name (DNS rebinding) or from another origin.
pub(super) fn check(config: &Config, keys: &Keys, session: &Session) -> Result<(), Refused> {
    let head = session.req_header();
    let listen = listen(config, session);
    let authority = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or(head.uri.authority().map(|a| a.as_str()));
    let name = authority.map(host_name).unwrap_or_default();
    let named = listen.map_or(&[][..], |listen| &listen.hosts);
    let is_named = named.iter().any(|host| host.eq_ignore_ascii_case(name));
    if !named.is_empty() && !is_named && !local::is_probe(head) {
        return Err(Reject::forbidden_origin().into());
    }
    let is_loopback = listen.is_some_and(|listen| listen.address.ip().is_loopback());
    if !keys.are_open() || !is_loopback {
        return Ok(());
    }
    let local_name = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !local_name && !is_named {
        return Err(Reject::forbidden_origin().into());
    }
    let foreign = head
        .headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !is_own_origin(origin.to_str().ok(), authority));
    if foreign {
        return Err(Reject::forbidden_origin().into());
    }
    Ok(())
}

fn is_own_origin(origin: Option<&str>, authority: Option<&str>) -> bool {
    let origin = origin
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    origin.is_some() && origin == authority
}

/// `name` of `name:port`, `[address]:port`, or either without a port.
fn host_name(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_request_id_is_kept_and_any_other_replaced() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", value.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-123_4.5"), "abc-123_4.5");
        for unsafe_id in ["", "a b", "<script>", &"x".repeat(129)] {
            assert!(id(unsafe_id).starts_with("req_"), "{unsafe_id}");
        }
        assert_ne!(id(""), id(""));
    }

    #[test]
    fn host_names_are_found_with_and_without_a_port() {
        let cases = [
            ("localhost:80", "localhost"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("a.b", "a.b"),
        ];
        cases
            .iter()
            .for_each(|(authority, name)| assert_eq!(host_name(authority), *name));
    }

    #[test]
    fn only_the_gateways_own_pages_have_its_origin() {
        let own = |origin| is_own_origin(Some(origin), Some("localhost:8080"));
        assert!(own("http://localhost:8080"));
        assert!(!own("http://localhost:3000") && !own("null") && !own("http://evil.test"));
    }
}
