//! One HTTP exchange over a Unix socket of this machine.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Sends the request over a connection of its own.
///
/// # Errors
/// Nobody listens there, or what listens there speaks no HTTP.
pub async fn ask_socket(
    path: &Path,
    mut request: Request<Full<Bytes>>,
) -> io::Result<Response<Incoming>> {
    let stream = UnixStream::connect(path).await?;
    // A socket has no name; the path alone stands in the request (RFC 9112 §3.2.1).
    let asked = request.uri().path_and_query().cloned();
    let asked = asked.unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(asked);
    let host = HeaderValue::from_static("localhost");
    request.headers_mut().insert(HOST, host);
    let (mut asker, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the answer's body, or when nobody wants that any more.
    tokio::spawn(connection);
    asker.send_request(request).await.map_err(io::Error::other)
}
