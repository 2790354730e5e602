//! The head and the body of a request go upstream in one write.
//!
//! Pingora writes the head, flushes, and writes the body: two system calls, two packets, over TLS two records, and an
//! upstream that is woken twice. So a flush waits until more is written, or until somebody has looked for the answer
//! twice: by the second look everything that was ready to go has been handed over. For the handshake of a WebSocket the
//! second look matters as well. Pingora 0.9.1 writes its head and then tells the half of itself that talks with the upstream,
//! through a queue, that no body follows. Were the 101 there before that was heard (an upstream on this machine, a busy
//! processor), it would take the news for the end of the tunnel and close it at once (`proxy_h1.rs`, `proxy_handle_upstream`).
//!
//! An error answer is looked out for here too, as Pingora has no hook that is called while nothing comes, nor reads while a
//! write waits: its body has its time, and an upstream that has answered need not take the rest of the request.

use std::any::Any;
use std::future::Future;
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
use tokio::time::{Sleep, sleep};

use super::delegate::answer_as_inner;
use super::verdict::HELD_FOR;

/// So much is put together, in bytes; as much as a record of TLS takes.
const MOST: usize = 16 * 1024;

/// Most requests fit, so that their bodies are put behind their heads without a second allocation.
const USUAL: usize = 4 * 1024;

/// As much of an answer as says what kind of answer it is.
const STATUS_LINE: usize = 16;

/// How an answer begins that makes the connection a tunnel.
const SWITCHED: &[u8] = b"HTTP/1.1 101";

/// The first digit of the status, where an answer begins here. Of one that comes in smaller pieces nothing is known.
fn class(bytes: &[u8]) -> Option<u8> {
    let rest = bytes.strip_prefix(b"HTTP/1.")?;
    rest.get(2).copied()
}

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
    /// The beginning of an answer that came before the request was written.
    early: BytesMut,
    /// When the body of an error answer must have come.
    patience: Option<Pin<Box<Sleep>>>,
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
    /// It is a tunnel: so do they, and no answer is looked for.
    Tunnel,
}

impl Cork {
    fn new(inner: Stream) -> Cork {
        Cork {
            inner,
            held: BytesMut::new(),
            looks: Looks::Fresh,
            early: BytesMut::new(),
            patience: None,
        }
    }

    /// Is there the beginning of an error answer? Then the rest of the request is not waited for.
    fn is_refused(&mut self, cx: &mut Context<'_>) -> bool {
        if self.looks == Looks::Tunnel {
            return false;
        }
        if self.early.is_empty() {
            let mut space = [0; STATUS_LINE];
            let mut piece = ReadBuf::new(&mut space);
            // Whatever went wrong is found out again by who reads.
            let _ = Pin::new(&mut self.inner).poll_read(cx, &mut piece);
            self.early.extend_from_slice(piece.filled());
        }
        matches!(class(&self.early), Some(b'4' | b'5'))
    }

    /// These bytes were read.
    fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || matches!(self.looks, Looks::Fresh | Looks::Tunnel) {
            return;
        }
        let class = class(bytes);
        self.looks = match class {
            Some(b'1') if bytes.starts_with(SWITCHED) => Looks::Tunnel,
            // The answer itself is still to come.
            Some(b'1') => Looks::Open,
            _ => Looks::Fresh,
        };
        let is_error = matches!(class, Some(b'4' | b'5'));
        self.patience = is_error.then(|| Box::pin(sleep(HELD_FOR)));
    }

    /// Holds what is to be written as long as that is little.
    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= MOST {
            if self.held.is_empty() {
                self.held.reserve(bytes.len().max(USUAL));
            }
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !self.held.is_empty() && self.inner.is_write_vectored() {
            let both = [IoSlice::new(&self.held), IoSlice::new(bytes)];
            let written = Pin::new(&mut self.inner).poll_write_vectored(cx, &both);
            let written = ready!(written)?;
            let of_held = written.min(self.held.len());
            self.wrote(of_held)?;
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
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
        let written = self.poll_put(cx, bytes);
        match written.is_pending() && self.is_refused(cx) {
            true => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            false => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.looks == Looks::Fresh && !this.held.is_empty() {
            this.looks = Looks::Waiting;
            this.patience = None;
            return Poll::Ready(Ok(()));
        }
        if this.looks != Looks::Tunnel {
            this.looks = Looks::Open;
        }
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
        let has_more = this.looks != Looks::Fresh && !this.held.is_empty();
        let mut broken = None;
        if this.looks == Looks::Looked || has_more {
            // A body whose length is stated is flushed at its end only, and its client may be slow. An upstream that does
            // not read may answer all the same.
            match Pin::new(&mut *this).poll_flush(cx) {
                Poll::Pending if this.looks == Looks::Open => this.looks = Looks::Looked,
                // An upstream that refuses a request and closes has its answer here all the same.
                Poll::Ready(Err(error)) => {
                    this.held = BytesMut::new();
                    broken = Some(error);
                }
                _ => {}
            }
        }
        if let Some(patience) = &mut this.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let before = into.filled().len();
        if this.early.is_empty() {
            let read = Pin::new(&mut this.inner).poll_read(cx, into)?;
            if let (Some(error), true) = (broken, into.filled().len() == before) {
                return Poll::Ready(Err(error));
            }
            ready!(read);
        } else {
            let length = this.early.len().min(into.remaining());
            into.put_slice(&this.early.split_to(length));
        }
        this.saw(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

answer_as_inner!(Cork, |cork| cork.inner.selected_alpn_proto());

#[cfg(test)]
#[path = "cork_tests.rs"]
mod tests;
