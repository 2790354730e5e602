//! A client's connection whose bytes are looked at as Pingora reads them: the framing of a chunked
//! body, the time that a frame of HTTP/2 takes.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_core::protocols::{ALPN, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::chunks::Chunks;
use super::delegate::answer_as_inner;
use super::frames::Frames;

/// The connection and what is looked at.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Stream,
    watch: Watch,
}

#[derive(Debug)]
enum Watch {
    Chunks(Chunks),
    Frames(Frames, Patience),
}

/// How long something may be open.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    ends: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Reading fails with [`ErrorKind::InvalidData`] where the body is no chunked one.
    pub(super) fn chunks(inner: Stream, chunks: Chunks) -> Guarded {
        let watch = Watch::Chunks(chunks);
        Guarded { inner, watch }
    }

    /// Reading fails where the preface, a frame or a head stays open for longer than `limit`.
    pub(super) fn frames(inner: Stream, limit: Duration) -> Guarded {
        let patience = Patience { limit, ends: None };
        let watch = Watch::Frames(Frames::new(), patience);
        Guarded { inner, watch }
    }

    pub(super) fn into_inner(self) -> Stream {
        self.inner
    }
}

impl Watch {
    fn saw(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        match self {
            Watch::Chunks(chunks) => match chunks.are_sound(bytes) {
                true => Ok(()),
                false => Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "not in proper chunks",
                )),
            },
            Watch::Frames(frames, patience) => {
                if frames.saw(bytes) {
                    patience.ends = None;
                }
                if !frames.are_open() {
                    return Ok(());
                }
                let limit = patience.limit;
                let ends = patience.ends.get_or_insert_with(|| Box::pin(sleep(limit)));
                match ends.as_mut().poll(cx) {
                    Poll::Pending => Ok(()),
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
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Err(_)) = read {
            return read;
        }
        match self.watch.saw(&buf.filled()[before..], cx) {
            Ok(()) => read,
            Err(e) => Poll::Ready(Err(e)),
        }
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
    Watch::Chunks(_) => guarded.inner.selected_alpn_proto(),
});
