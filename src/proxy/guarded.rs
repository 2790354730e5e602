//! A client's connection whose bytes are looked at as Pingora reads them: where a body ends, the framing of a chunked
//! one, the time that a frame of HTTP/2 takes.
//!
//! Behind a body Pingora only looks whether the client is still there, and ends a request whose client says more. But a
//! client may send its next request already (RFC 9112 §9.3.2), or a line that belongs to nothing: that is kept here.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora_core::protocols::{ALPN, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::chunks::Chunks;
use super::delegate::answer_as_inner;
use super::frames::Frames;

/// So much of the requests that are to come is read before their turn, in bytes. Who has sent more is not seen to
/// leave.
const MOST_AHEAD: usize = 4096;

/// The connection and what is looked at.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Stream,
    watch: Watch,
    /// Read from the connection, and by nobody from here.
    ahead: BytesMut,
}

/// What follows a head.
#[derive(Debug)]
pub(super) enum Watch {
    /// Whatever it is, it is not looked at.
    Nothing,
    /// A body of so many bytes more.
    Length(usize),
    Chunks(Chunks),
    Frames(Frames, Patience),
}

/// How long something may be open.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    ends: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub(super) fn new(inner: Stream) -> Guarded {
        Guarded {
            inner,
            watch: Watch::Nothing,
            ahead: BytesMut::new(),
        }
    }

    /// Reading fails where the preface, a frame or a head stays open for longer than `limit`.
    pub(super) fn frames(inner: Stream, limit: Duration) -> Guarded {
        let patience = Patience { limit, ends: None };
        let watch = Watch::Frames(Frames::new(), patience);
        Guarded {
            watch,
            ..Guarded::new(inner)
        }
    }

    /// What comes next, of which `ahead` has come already. Reading fails with [`ErrorKind::InvalidData`] where it is
    /// no chunked body and should be.
    pub(super) fn watch(&mut self, watch: Watch, ahead: BytesMut) {
        (self.watch, self.ahead) = (watch, ahead);
    }

    /// What was read of the next request, and the connection to read on from.
    pub(super) fn next(&mut self) -> (BytesMut, &mut Stream) {
        (std::mem::take(&mut self.ahead), &mut self.inner)
    }

    pub(super) fn into_inner(self) -> Stream {
        self.inner
    }

    /// The client has said all of its request, and is waiting.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < MOST_AHEAD {
            let mut space = [MaybeUninit::uninit(); 512];
            let mut piece = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                // It left.
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }
}

impl Watch {
    /// Has all of the body been read?
    fn is_over(&self) -> bool {
        match self {
            Watch::Length(rest) => *rest == 0,
            Watch::Chunks(chunks) => chunks.are_over(),
            Watch::Nothing | Watch::Frames(..) => false,
        }
    }

    /// Looks at the next bytes; returns how many of them belong here.
    fn saw(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        match self {
            Watch::Nothing => Ok(bytes.len()),
            Watch::Length(rest) => {
                let belong = bytes.len().min(*rest);
                *rest -= belong;
                Ok(belong)
            }
            Watch::Chunks(chunks) => {
                let malformed = || io::Error::new(ErrorKind::InvalidData, "not in proper chunks");
                chunks.saw(bytes).ok_or_else(malformed)
            }
            Watch::Frames(frames, patience) => {
                if frames.saw(bytes) {
                    patience.ends = None;
                }
                if !frames.are_open() {
                    return Ok(bytes.len());
                }
                let limit = patience.limit;
                let ends = patience.ends.get_or_insert_with(|| Box::pin(sleep(limit)));
                match ends.as_mut().poll(cx) {
                    Poll::Pending => Ok(bytes.len()),
                    Poll::Ready(()) => Err(ErrorKind::TimedOut.into()),
                }
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.is_over() {
            return this.poll_idle(cx);
        }
        let before = buf.filled().len();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            let belong = this.watch.saw(&this.ahead[..length], cx)?;
            buf.put_slice(&this.ahead[..belong]);
            this.ahead.advance(belong);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Poll::Ready(Err(_)) = read {
            return read;
        }
        let belong = this.watch.saw(&buf.filled()[before..], cx)?;
        // Pingora reads chunks as they come, and so may read more than the body.
        this.ahead
            .extend_from_slice(&buf.filled()[before + belong..]);
        buf.set_filled(before + belong);
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

answer_as_inner!(Guarded, |guarded| match guarded.watch {
    // Where frames are watched somebody speaks HTTP/2, agreed on over TLS or begun without.
    Watch::Frames(..) => Some(ALPN::H2),
    _ => guarded.inner.selected_alpn_proto(),
});
