//! One client's connection, which an answer can end at any byte: with a FIN, or with an RST.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As an orderly close: what was written arrives, then FIN.
    Fin,
    /// As a crash: RST.
    Rst,
}

const OPEN: u8 = 0;
const CLOSE_ONCE_FLUSHED: u8 = 1;
const CLOSED: u8 = 2;
const RESET: u8 = 3;

/// The switch of one connection, shared by its socket, its task and its answers.
pub(super) struct Line {
    state: AtomicU8,
    ended: Notify,
    /// Who gets the bytes when HTTP has ended on it.
    successor: Mutex<Option<Successor>>,
}

/// What becomes of a connection after its upgrade.
pub(super) type Successor = BoxFuture<'static, ()>;

impl Default for Line {
    fn default() -> Self {
        Line {
            state: AtomicU8::new(OPEN),
            ended: Notify::new(),
            successor: Mutex::new(None),
        }
    }
}

impl Line {
    /// Ends the connection now, whatever is under way on it.
    pub(super) fn end(&self, how: End) {
        let state = match how {
            End::Fin => CLOSED,
            End::Rst => RESET,
        };
        self.state.store(state, Ordering::Release);
        self.ended.notify_one();
    }

    /// Ends the connection, with a FIN, as soon as everything written so far has left.
    pub(super) fn end_once_flushed(&self) {
        self.state.store(CLOSE_ONCE_FLUSHED, Ordering::Release);
    }

    /// Returns when the connection was ended. Only the connection's own task may wait here.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// After the answer under way this connection no longer speaks HTTP.
    pub(super) fn hand_over(&self, successor: Successor) {
        *self.successor.lock() = Some(successor);
    }

    /// What HTTP left behind.
    pub(super) fn successor(&self) -> Option<Successor> {
        self.successor.lock().take()
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) == state
    }
}

/// A socket that obeys its [`Line`].
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) line: Arc<Line>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.is(RESET) {
            // With a linger of zero the kernel answers with RST. Where it cannot be set the
            // connection is closed with FIN instead, which is all that can be done in a drop.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() && self.line.is(CLOSE_ONCE_FLUSHED) {
            self.line.end(End::Fin);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
