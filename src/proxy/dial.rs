//! Connections to upstreams that Pingora does not make by itself: through a proxy, and those of
//! WebSockets, on which no answer is seen before all of the request is known to have gone.
//!
//! Pingora's own CONNECT goes to a proxy at a Unix socket only. And Pingora 0.9.1 writes a handshake's head and then tells the half of itself that talks with the
//! upstream, through a queue, that no body follows. Where the 101 is there before that was heard (an
//! upstream on this machine, a busy processor), it takes the news for the end of the tunnel and
//! closes it at once (`proxy_h1.rs`, `proxy_handle_upstream`). So after each write the first look for
//! an answer finds none, and the queue is read before the second.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::net::{NearEnd, Tunnel};

/// The peer's `total_connection_timeout` limits it. Errors do not say where the proxy is.
#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let dug = self.dig().await;
        match dug.or_err(ErrorType::ConnectError, "through the proxy")? {
            NearEnd::Tcp(stream) => Ok(stream.into()),
            NearEnd::Unix(stream) => Ok(stream.into()),
        }
    }
}

/// Connects to the peer's address, or through the tunnel; the peer's own timeout limits it.
///
/// Such a connection has no number by which Pingora could tell it from others in its pool, and so
/// must never get there.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) tunnel: Option<Tunnel>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        const FAILED: &str = "connecting for a WebSocket";
        if let Some(tunnel) = &self.tunnel {
            let dug = tunnel.dig().await;
            return Ok(match dug.or_err(ErrorType::ConnectError, FAILED)? {
                NearEnd::Tcp(stream) => polite(stream),
                NearEnd::Unix(stream) => polite(stream),
            });
        }
        match address {
            SocketAddr::Inet(address) => {
                let stream = TcpStream::connect(address).await;
                let stream = stream.or_err(ErrorType::ConnectError, FAILED)?;
                let nodelay = stream.set_nodelay(true);
                nodelay.or_err(ErrorType::SocketError, FAILED)?;
                Ok(polite(stream))
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname();
                let path = path.ok_or_else(|| Error::new(ErrorType::ConnectError))?;
                let stream = UnixStream::connect(path).await;
                Ok(polite(stream.or_err(ErrorType::ConnectError, FAILED)?))
            }
        }
    }
}

fn polite<S>(stream: S) -> Stream
where
    S: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Sync + Unpin + 'static,
{
    let has_spoken = false;
    let socket = Box::new(Polite { stream, has_spoken });
    VirtualSocketStream::new(socket).into()
}

/// Lets others go first between a write and a read.
#[derive(Debug)]
struct Polite<S> {
    stream: S,
    has_spoken: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Polite<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_spoken) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Polite<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.has_spoken = true;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> VirtualSocket for Polite<S>
where
    S: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Sync + Unpin,
{
    /// What is wanted was set when the connection was made.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}
