//! The head and the body of a request go upstream in one write.
//!
//! Pingora writes the head, flushes, and writes the body: two system calls, two packets, over TLS two records, and an
//! upstream that is woken twice. So a flush waits until more is written, or until somebody has looked for the answer
//! twice: by the second look everything that was ready to go has been handed over. For the handshake of a WebSocket the
//! second look matters as well. Pingora 0.9.1 writes its head and then tells the half of itself that talks with the upstream,
//! through a queue, that no body follows. Were the 101 there before that was heard (an upstream on this machine, a busy
//! processor), it would take the news for the end of the tunnel and close it at once (`proxy_h1.rs`, `proxy_handle_upstream`).

use std::any::Any;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::Result;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::delegate::answer_as_inner;

/// So much is put together, in bytes; as much as a record of TLS takes.
const MOST: usize = 16 * 1024;

/// Most requests fit, so that their bodies are put behind their heads without a second allocation.
const USUAL: usize = 4 * 1024;

/// Makes connections to upstreams; Pingora keeps those that are idle, in its own pool.
pub struct Corks(TransportConnector);

impl Corks {
    /// With Pingora's settings for connections.
    pub fn new(conf: &ServerConf) -> Corks {
        let options = ConnectorOptions::from_server_conf(conf);
        Corks(TransportConnector::new(Some(options)))
    }
}

/// A peer with this protocol is connected to by [`Corks`]. It stays between Pingora and us: no upstream hears of it.
pub(super) fn corked() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"poolgate".to_vec()))
}

#[async_trait]
impl Connector for Corks {
    /// None: the connections speak HTTP/1.1, as Pingora knows it.
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<()>, bool)> {
        let stream = match (peer as &dyn Any).downcast_ref::<HttpPeer>() {
            Some(peer) => {
                let mut peer = peer.clone();
                peer.options.alpn = ALPN::H1;
                self.0.new_stream(&peer).await?
            }
            None => self.0.new_stream(peer).await?,
        };
        Ok((Connection::Stream(Box::new(Cork::new(stream))), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        (): (),
        _: &P,
        _: Option<Duration>,
    ) {
    }
}

/// A connection to an upstream whose first flush of a request waits for what comes next.
#[derive(Debug)]
struct Cork {
    inner: Stream,
    held: BytesMut,
    looks: Looks,
}

/// What has happened since an answer was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// Nothing was flushed: the next flush waits.
    Fresh,
    /// A flush waits for more, or for the second look.
    Waiting,
    /// And there was one look for the answer.
    Looked,
    /// Flushes go through.
    Open,
}

impl Cork {
    fn new(inner: Stream) -> Cork {
        Cork {
            inner,
            held: BytesMut::new(),
            looks: Looks::Fresh,
        }
    }

    /// Writes what is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            self.wrote(written)?;
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        self.held.advance(bytes);
        if self.held.is_empty() {
            // Idle connections, and those whose answer is awaited, are many.
            self.held = BytesMut::new();
        }
        Ok(())
    }
}

impl AsyncWrite for Cork {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + bytes.len() <= MOST {
            if this.held.is_empty() {
                this.held.reserve(bytes.len().max(USUAL));
            }
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !this.held.is_empty() && this.inner.is_write_vectored() {
            let both = [IoSlice::new(&this.held), IoSlice::new(bytes)];
            let written = Pin::new(&mut this.inner).poll_write_vectored(cx, &both);
            let written = ready!(written)?;
            let of_held = written.min(this.held.len());
            this.wrote(of_held)?;
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.looks == Looks::Fresh && !this.held.is_empty() {
            this.looks = Looks::Waiting;
            return Poll::Ready(Ok(()));
        }
        this.looks = Looks::Open;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Cork {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.looks == Looks::Waiting {
            this.looks = Looks::Looked;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.looks == Looks::Looked {
            ready!(Pin::new(&mut *this).poll_flush(cx))?;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, into))?;
        if into.filled().len() > before {
            this.looks = Looks::Fresh;
        }
        Poll::Ready(Ok(()))
    }
}

answer_as_inner!(Cork, |cork| cork.inner.selected_alpn_proto());

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::FutureExt;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";

    fn corked() -> (Cork, DuplexStream) {
        let (near, far) = duplex(1 << 20);
        (Cork::new(Box::new(near)), far)
    }

    /// What has arrived at the other side by now.
    fn arrived(far: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(Ok(1..)) = far.read_buf(&mut bytes).now_or_never() {}
        bytes
    }

    /// Looks for an answer, as Pingora's select does in each round.
    fn look(cork: &mut Cork) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = [0; 16];
        let read = Pin::new(cork).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes));
        assert!(read.is_pending());
    }

    #[tokio::test]
    async fn a_head_waits_for_its_body() {
        let (mut cork, mut far) = corked();
        for _ in 0..2 {
            cork.write_all(HEAD).await.unwrap();
            cork.flush().await.unwrap();
            look(&mut cork);
            assert_eq!(arrived(&mut far), b"");
            cork.write_all(b"body").await.unwrap();
            cork.flush().await.unwrap();
            assert_eq!(arrived(&mut far), [HEAD, b"body"].concat());
            far.write_all(b"answer").await.unwrap();
            cork.read_exact(&mut [0; 6]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_head_without_a_body_goes_as_soon_as_nothing_else_is_ready() {
        let (mut cork, mut far) = corked();
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        look(&mut cork);
        assert_eq!(arrived(&mut far), b"");
        look(&mut cork);
        assert_eq!(arrived(&mut far), HEAD);
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_is_woken_to_send_the_head() {
        let (mut cork, mut far) = corked();
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        let echo = async {
            far.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            far.write_all(b"answer").await.unwrap();
        };
        let mut answer = [0; 6];
        let (read, ()) = tokio::join!(cork.read_exact(&mut answer), echo);
        assert_eq!((read.unwrap(), &answer), (6, b"answer"));
    }

    #[tokio::test]
    async fn the_later_parts_of_an_upload_go_at_once() {
        let (mut cork, mut far) = corked();
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        for part in [&b"one"[..], b"two"] {
            cork.write_all(part).await.unwrap();
            cork.flush().await.unwrap();
            assert!(arrived(&mut far).ends_with(part));
        }
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(
            steps in prop::collection::vec((0..3_usize, 1..40_000_usize), 1..20),
        ) {
            let (mut cork, mut far) = corked();
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for (step, length) in steps {
                match step {
                    0 => {
                        let bytes: Vec<u8> = (0..length).map(|n| (n + sent.len()) as u8).collect();
                        cork.write_all(&bytes).now_or_never().unwrap().unwrap();
                        sent.extend(bytes);
                    }
                    1 => cork.flush().now_or_never().unwrap().unwrap(),
                    _ => look(&mut cork),
                }
                got.extend(arrived(&mut far));
                prop_assert!(sent.starts_with(&got));
            }
            cork.flush().now_or_never().unwrap().unwrap();
            AsyncWriteExt::shutdown(&mut cork).now_or_never().unwrap().unwrap();
            got.extend(arrived(&mut far));
            prop_assert_eq!(sent, got);
        }
    }
}
