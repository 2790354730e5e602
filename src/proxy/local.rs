//! What the gateway answers itself, without an account: health, probes of real clients, and the
//! older systems' paths.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::Gateway;
use super::body::{gone, unreadable};
use super::reject::Refused;
use crate::dialect::Reject;

/// Longest body of a request to an older path.
const OLDER_BODY: usize = 64 * 1024;

/// How long such a body may take.
const OLDER_PATIENCE: Duration = Duration::from_secs(10);

/// A request to an older system's path, with the client's address ([`std::net::IpAddr`]) in its
/// extensions.
pub type OlderRequest = http::Request<Bytes>;
/// Its answer.
pub type OlderAnswer = http::Response<Bytes>;

/// Answers that need what `proxy` does not know: the older systems' paths, and how healthy all is.
#[async_trait]
pub trait OlderPaths: Send + Sync {
    /// Is this a path of an older system that is served here?
    fn serves(&self, path: &str) -> bool;
    async fn answer(&self, request: OlderRequest) -> OlderAnswer;
    /// Could some account serve, and is nothing stopping?
    fn is_ready(&self) -> bool;
    /// Is it ready, and the body of `GET /health`.
    fn health(&self) -> (bool, Bytes);
}

/// Does this ask whether the gateway lives or serves? Orchestrators and load balancers ask by addresses of
/// their own, and are told no name.
pub(super) fn is_probe(head: &RequestHeader) -> bool {
    let read = matches!(head.method, Method::GET | Method::HEAD);
    read && matches!(head.uri.path(), "/livez" | "/readyz" | "/health")
}

/// Answers the request if it is one of ours.
pub(super) async fn answer(gateway: &Gateway, session: &mut Session) -> Result<bool, Refused> {
    let head = session.req_header();
    let read = matches!(head.method, Method::GET | Method::HEAD);
    let older = &gateway.older;
    let status = |ready: bool| {
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let (status, content_type, body) = match head.uri.path() {
        "/livez" if read => (StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n")),
        "/readyz" if read && older.is_ready() => {
            (StatusCode::OK, "text/plain", Bytes::from_static(b"ready\n"))
        }
        "/readyz" if read => (
            status(false),
            "text/plain",
            Bytes::from_static(b"not ready\n"),
        ),
        "/health" if read => {
            let (ready, body) = older.health();
            (status(ready), "application/json", body)
        }
        "/" | "/api/hello" if read => (
            StatusCode::OK,
            "text/plain",
            Bytes::from_static(b"poolgate\n"),
        ),
        path if older.serves(path) => return answer_older(gateway, session).await,
        _ => return Ok(false),
    };
    let mut head = ResponseHeader::build(status, Some(4)).map_err(gone)?;
    head.insert_header(CONTENT_TYPE, content_type)
        .map_err(gone)?;
    write(session, head, body).await?;
    Ok(true)
}

async fn answer_older(gateway: &Gateway, session: &mut Session) -> Result<bool, Refused> {
    let body = tokio::time::timeout(OLDER_PATIENCE, read(session)).await;
    let body = body.map_err(|_| Reject::request_timeout())??;
    let head = session.req_header();
    let mut request = http::Request::new(Bytes::from(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let from = session.client_addr().and_then(|address| address.as_inet());
    if let Some(from) = from {
        request.extensions_mut().insert(from.ip());
    }
    let answer = gateway.older.answer(request).await;
    let (parts, body) = answer.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len())).map_err(gone)?;
    for (name, value) in &parts.headers {
        head.insert_header(name.clone(), value.clone())
            .map_err(gone)?;
    }
    write(session, head, body).await?;
    Ok(true)
}

async fn read(session: &mut Session) -> Result<Vec<u8>, Refused> {
    let mut body = Vec::new();
    while let Some(bytes) = session.read_request_body().await.map_err(unreadable)? {
        body.extend_from_slice(&bytes);
        if body.len() > OLDER_BODY {
            return Err(Reject::request_too_large(OLDER_BODY).into());
        }
    }
    Ok(body)
}

pub(super) async fn write(
    session: &mut Session,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<(), Refused> {
    head.insert_header(CONTENT_LENGTH, body.len())
        .map_err(gone)?;
    head.insert_header(CACHE_CONTROL, "no-store")
        .map_err(gone)?;
    let bodyless = session.req_header().method == Method::HEAD;
    let head = session.write_response_header(Box::new(head), false).await;
    head.map_err(gone)?;
    let body = Some(body).filter(|_| !bodyless);
    let written = session.write_response_body(body, true).await;
    written.map_err(gone)
}
