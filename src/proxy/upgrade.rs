//! What becomes of an `Upgrade`: a WebSocket of an account that takes them, or nothing at all.
//!
//! The frames are not read. What is decided here is who gets a tunnel, so that neither side ever
//! takes for HTTP what the other takes for frames: a body, another protocol, half a handshake or a
//! 101 that was not asked for open none, and after a refusal the connection is closed.

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_proxy::Session;

use super::names::value;
use super::reject::Refused;
use crate::dialect::{Dialect, Reject};
use crate::key::{self, Client};
use crate::pool::Pool;

/// Does the request ask for a WebSocket? Any other protocol is not asked for at all from here on.
pub(super) fn asked(session: &mut Session) -> Result<bool, Refused> {
    let head = session.req_header();
    if !head.headers.contains_key(UPGRADE) {
        return Ok(false);
    }
    if head.version != Version::HTTP_11 || !names(&head.headers, &UPGRADE, "websocket") {
        // Pingora reads this head again when it decides whether a 101 opens a tunnel.
        session.req_header_mut().remove_header(&UPGRADE);
        return Ok(false);
    }
    let is_get = head.method == Method::GET;
    if !is_get || !session.is_body_empty() {
        let problem = "a WebSocket is asked for with GET and without a body";
        return Err(Reject::bad_request(problem).into());
    }
    // What follows the head is meant for the tunnel. Where there is none it must not be taken for
    // the next request, and where there is one it must not be lost, as a client may be in a hurry.
    session.set_keepalive(None);
    session.set_pipelining_enabled(true);
    let normal = session.req_header_mut().insert_header(UPGRADE, "websocket");
    normal.map_err(Refused::Gone)?;
    Ok(true)
}

/// May this client have a WebSocket of this pool, and is its handshake whole (RFC 6455 §4.2.1)?
///
/// A key that may not use every model gets none, as nobody reads which model the frames name; nor one
/// with limits, as nobody counts what they ask for.
/// Clients that are told 426 ask over plain HTTP, where it is read.
pub(super) fn admit(
    session: &Session,
    client: &Client,
    pool: &Pool,
    dialect: Dialect,
) -> Result<(), Refused> {
    let is_free = client.may.allows_model(None) && client.limits.is_empty();
    if !pool.takes_websockets(dialect) {
        return Err(Reject::upgrade_required().into());
    }
    if !is_free {
        return Err(Reject::websocket_uncounted().into());
    }
    let headers = &session.req_header().headers;
    if !names(headers, &CONNECTION, "upgrade") || !has_one_nonce(headers) {
        let problem = "the WebSocket handshake is not complete";
        return Err(Reject::bad_request(problem).into());
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    match (versions.next().map(|one| one.as_bytes()), versions.next()) {
        (Some(b"13"), None) => Ok(()),
        _ => Err(Reject::websocket_version().into()),
    }
}

/// The client's subprotocols but for those that carry its key: they go upstream.
pub(super) fn put_protocols(session: &Session, headers: &mut HeaderMap) -> Result<()> {
    let kept: Vec<&str> = key::protocols(&session.req_header().headers)
        .filter(|item| !key::is_key_protocol(item))
        .collect();
    if !kept.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value(&kept.join(", "))?);
    }
    Ok(())
}

/// Does this header belong to the handshake, and so to no other request?
pub(super) fn is_handshake_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

/// Does this answer open a WebSocket?
pub(super) fn opens(head: &ResponseHeader) -> bool {
    head.status == StatusCode::SWITCHING_PROTOCOLS
        && head.version == Version::HTTP_11
        && names(&head.headers, &UPGRADE, "websocket")
}

/// Is `word` in the list that these headers make (RFC 9110 §5.6.1)?
fn names(headers: &HeaderMap, list: &HeaderName, word: &str) -> bool {
    let lines = headers.get_all(list).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// 16 bytes in base64, once.
fn has_one_nonce(headers: &HeaderMap) -> bool {
    let mut nonces = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_nonce = |nonce: &[u8]| {
        nonce.len() == 24 && nonce.ends_with(b"==") && nonce[..22].iter().all(is_base64)
    };
    let first = nonces.next().map(|nonce| nonce.as_bytes());
    first.is_some_and(is_nonce) && nonces.next().is_none()
}
