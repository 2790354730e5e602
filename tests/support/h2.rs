//! The same requests over HTTP/2 without TLS.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http::{Answer, Request};

impl Request {
    /// The whole answer over one HTTP/2 connection with prior knowledge.
    pub(crate) fn try_send_h2(&self, to: SocketAddr) -> io::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let limit = tokio::time::timeout(super::PATIENCE, self.exchange_h2(to));
            limit.await?.map_err(io::Error::other)
        })
    }

    async fn exchange_h2(&self, to: SocketAddr) -> anyhow::Result<Answer> {
        let socket = tokio::net::TcpStream::connect(to).await?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(&*self.method)
            .uri(format!("http://{to}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let pieces = self.body.chunks(8000).map(Bytes::copy_from_slice);
        let pieces: Vec<_> = pieces
            .map(|piece| Ok::<_, Infallible>(Frame::data(piece)))
            .collect();
        let request = request.body(match self.chunked {
            true => Either::Left(StreamBody::new(stream::iter(pieces))),
            false => Either::Right(Full::<Bytes>::from(self.body.clone())),
        })?;
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let body = answer.into_body().collect().await?.to_bytes().to_vec();
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}
