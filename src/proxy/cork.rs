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
        if this.looks == Looks::Looked || has_more {
            // A body whose length is stated is flushed at its end only, and its client may be slow. An upstream that does
            // not read may answer all the same.
            let flushed = Pin::new(&mut *this).poll_flush(cx)?;
            if flushed.is_pending() && this.looks == Looks::Open {
                this.looks = Looks::Looked;
            }
        }
        if let Some(patience) = &mut this.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let before = into.filled().len();
        if this.early.is_empty() {
            ready!(Pin::new(&mut this.inner).poll_read(cx, into))?;
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

    #[tokio::test]
    async fn what_a_slow_client_sends_of_a_long_body_does_not_wait_for_the_rest() {
        let (mut cork, mut far) = corked();
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        for part in [&b"one"[..], b"two"] {
            // Pingora flushes a body whose length is stated at its end.
            cork.write_all(part).await.unwrap();
            look(&mut cork);
            look(&mut cork);
            assert!(arrived(&mut far).ends_with(part));
        }
    }

    /// A request went out, and this came back.
    async fn answered(answer: &[u8]) -> (Cork, DuplexStream) {
        let (mut cork, mut far) = corked();
        ask(&mut cork).await;
        far.write_all(answer).await.unwrap();
        cork.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        (cork, far)
    }

    async fn ask(cork: &mut Cork) {
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        cork.flush().await.unwrap();
    }

    /// What comes of waiting for more.
    async fn silence(cork: &mut Cork) -> Option<ErrorKind> {
        let more = tokio::time::timeout(HELD_FOR * 10, cork.read_u8()).await;
        more.ok().map(|read| read.unwrap_err().kind())
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_an_error_has_its_time() {
        for error in [
            &b"HTTP/1.1 503 No\r\n"[..],
            b"HTTP/1.0 404 No\r\n\r\nhalf a body",
        ] {
            let (mut cork, _far) = answered(error).await;
            assert_eq!(silence(&mut cork).await, Some(ErrorKind::TimedOut));
        }
        let (mut cork, mut far) = answered(b"HTTP/1.1 103 Early\r\n\r\n").await;
        far.write_all(b"HTTP/1.1 500 No").await.unwrap();
        cork.read_exact(&mut [0; 15]).await.unwrap();
        assert_eq!(silence(&mut cork).await, Some(ErrorKind::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_has_a_time_here() {
        let (mut cork, _far) = answered(b"HTTP/1.1 200 OK\r\n").await;
        assert_eq!(silence(&mut cork).await, None);
        let (mut cork, _far) = answered(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
        ask(&mut cork).await;
        assert_eq!(
            silence(&mut cork).await,
            None,
            "it is another request by now"
        );
        let (mut cork, mut far) = answered(b"HTTP/1.1 101 Switching\r\n\r\n").await;
        cork.write_all(b"frame").await.unwrap();
        cork.flush().await.unwrap();
        far.write_all(b"HTTP/1.1 503 in a tunnel").await.unwrap();
        cork.read_exact(&mut [0; 24]).await.unwrap();
        assert_eq!(silence(&mut cork).await, None);
    }

    #[tokio::test]
    async fn an_upstream_that_refuses_need_not_read_the_rest() {
        let (near, mut far) = duplex(1000);
        let mut cork = Cork::new(Box::new(near));
        let error = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        far.write_all(error).await.unwrap();
        let written = cork.write_all(&[0; 100_000]).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let mut answer = vec![0; error.len()];
        cork.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, error);
    }

    #[tokio::test]
    async fn an_upstream_that_answers_well_is_sent_all_of_it() {
        let (near, mut far) = duplex(1000);
        let mut cork = Cork::new(Box::new(near));
        let answer = b"HTTP/1.1 200 OK\r\n\r\nan answer of some length";
        far.write_all(answer).await.unwrap();
        let sending = async {
            cork.write_all(HEAD).await.unwrap();
            cork.flush().await.unwrap();
            cork.write_all(&[0; 100_000]).await.unwrap();
            cork.flush().await.unwrap();
        };
        let mut body = vec![0; HEAD.len() + 100_000];
        let (read, ()) = tokio::join!(far.read_exact(&mut body), sending);
        read.unwrap();
        let mut came = vec![0; answer.len()];
        cork.read_exact(&mut came).await.unwrap();
        assert_eq!(came, answer);
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
