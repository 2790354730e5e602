//! Serves an axum router under Pingora, so that the listener is handed over in an upgrade like
//! every other one.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use axum::http::{Request, Response, StatusCode, Version};
use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc;
use http_body_util::BodyExt;
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;
use tower::ServiceExt;

use super::MAX_BODY;
use super::reply;

/// How long the first head may take, an idle connection may stay until the next one is there, a body may
/// take, what is left of one that nobody wanted, and one write.
const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const BODY: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(30);

/// What a connection carries on that a request has come over.
struct Used;

/// The management API as an application of a Pingora service.
pub struct AdminApp {
    router: Router,
    leaving: Arc<AtomicBool>,
}

impl AdminApp {
    /// While `leaving` is set a stop leaves idle connections to their own end, as somebody else takes
    /// the new ones.
    pub fn new(router: Router, leaving: Arc<AtomicBool>) -> Self {
        AdminApp { router, leaving }
    }
}

#[async_trait]
impl HttpServerApp for AdminApp {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut stop = shutdown.clone();
        let stopped = |stop: &bool| *stop && !self.leaving.load(Ordering::SeqCst);
        let within = match session.take_connection_user_context() {
            None => HEAD,
            Some(_) => IDLE,
        };
        let read = tokio::select! {
            read = timeout(within, session.read_request()) => read,
            // An idle connection must not hold the end of the process up.
            _ = stop.wait_for(stopped) => return None,
        };
        match read {
            Ok(Ok(true)) => {}
            // Gone without a request, too slow, or not HTTP: there is nobody to answer to.
            Ok(Ok(false)) | Ok(Err(_)) | Err(_) => return None,
        }
        let keepalive = if *stop.borrow() {
            None
        } else {
            Some(IDLE.as_secs())
        };
        session.set_keepalive(keepalive);
        answer(&self.router, &mut session, Some(stop)).await.ok()?;
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(Used));
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

/// Answers the request whose head `session` has read. A body of unknown length, such as an event
/// stream, ends when `stop` becomes true.
///
/// # Errors
/// The client is gone or too slow; the connection cannot be used again.
pub async fn answer(
    router: &Router,
    session: &mut ServerSession,
    stop: Option<ShutdownWatch>,
) -> Result<()> {
    session.set_write_timeout(Some(WRITE));
    session.set_total_drain_timeout(Some(REST));
    // What is left of a body is read below: a connection that is closed over it loses the answer as well.
    session.set_close_on_response_before_downstream_finish(false);
    let stated = session
        .get_header(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    if stated.is_some_and(|length: u64| length > MAX_BODY as u64) {
        return refuse(session, StatusCode::PAYLOAD_TOO_LARGE).await;
    }
    let (parts, body) = match session.is_body_done() {
        true => (None, Body::empty()),
        false => {
            let (parts, body) = mpsc::channel::<Result<Bytes, Infallible>>(0);
            (Some(parts), Body::from_stream(body))
        }
    };
    let mut response = pin!(router.clone().oneshot(request(session, body)));
    // The gate goes first: of whom it turns away no body is read.
    let fed = tokio::select! {
        biased;
        Ok(response) = &mut response => Fed::Answered(response),
        fed = timeout(BODY, feed(session, parts)) => fed.unwrap_or(Ok(Fed::Late))?,
    };
    let response = match fed {
        Fed::Answered(response) => response,
        Fed::All => {
            let Ok(response) = response.await;
            response
        }
        Fed::TooLong => return refuse(session, StatusCode::PAYLOAD_TOO_LARGE).await,
        Fed::Late => return refuse(session, StatusCode::REQUEST_TIMEOUT).await,
    };
    // A body that waits to be asked for need not come.
    let waits = !session.is_body_done() && session.get_header(EXPECT).is_some();
    if waits {
        session.set_keepalive(None);
    }
    write(session, response, stop).await?;
    match waits {
        true => Ok(()),
        false => session.drain_request_body().await,
    }
}

fn request(session: &ServerSession, body: Body) -> Request<Body> {
    let head = session.req_header();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let from = session.client_addr().and_then(|address| address.as_inet());
    if let Some(from) = from {
        request.extensions_mut().insert(from.ip());
    }
    request
}

/// What came of a request while its body was read.
enum Fed {
    /// It was answered before the end of its body.
    Answered(Response<Body>),
    /// There is no more of it that anybody wants.
    All,
    TooLong,
    Late,
}

/// Reads the body for whoever waits for its parts.
async fn feed(
    session: &mut ServerSession,
    parts: Option<mpsc::Sender<Result<Bytes, Infallible>>>,
) -> Result<Fed> {
    let Some(mut parts) = parts else {
        return Ok(Fed::All);
    };
    if session.get_header(EXPECT).is_some() {
        session.write_continue_response().await?;
    }
    let mut length = 0;
    while let Some(part) = session.read_request_body().await? {
        length += part.len();
        if length > MAX_BODY {
            return Ok(Fed::TooLong);
        }
        if parts.send(Ok(part)).await.is_err() {
            break;
        }
    }
    Ok(Fed::All)
}

/// Answers without reading on, so the connection ends here.
async fn refuse(session: &mut ServerSession, status: StatusCode) -> Result<()> {
    session.set_keepalive(None);
    write(session, reply::refuse(status).await, None).await
}

async fn write(
    session: &mut ServerSession,
    response: Response<Body>,
    stop: Option<ShutdownWatch>,
) -> Result<()> {
    let (parts, mut body) = response.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 1))?;
    for (name, value) in &parts.headers {
        if *name != CONNECTION && *name != TRANSFER_ENCODING {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    let size = HttpBody::size_hint(&body).exact();
    let streams = size.is_none();
    let bodiless =
        parts.status == StatusCode::NO_CONTENT || parts.status == StatusCode::NOT_MODIFIED;
    match size {
        Some(_) if bodiless || parts.headers.contains_key(CONTENT_LENGTH) => {}
        Some(size) => head.set_content_length(size as usize)?,
        // How such a body ends differs: by a frame, by the connection, or by an empty chunk.
        None if session.is_http2() => {}
        None if session.req_header().version == Version::HTTP_10 => session.set_keepalive(None),
        None => head.insert_header(TRANSFER_ENCODING, "chunked")?,
    }
    session.write_response_header(Box::new(head)).await?;
    while let Some(part) = next(&mut body, if streams { stop.clone() } else { None }).await {
        session.write_response_body(part, false).await?;
    }
    session.write_response_body(Bytes::new(), true).await
}

/// The next bytes; None at the end, at an error and at the stop.
async fn next(body: &mut Body, stop: Option<ShutdownWatch>) -> Option<Bytes> {
    loop {
        let frame = match stop.clone() {
            None => body.frame().await,
            Some(mut stop) => tokio::select! {
                frame = body.frame() => frame,
                _ = stop.wait_for(|stop| *stop) => None,
            },
        };
        // Trailers and other frames are not for us.
        if let Ok(data) = frame?.ok()?.into_data() {
            return Some(data);
        }
    }
}
