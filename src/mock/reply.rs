//! The body of an answer: one piece, or events with pauses, pieces, cuts and silences between them.

use std::convert::Infallible;
use std::iter::Peekable;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::behaviour::{Behaviour, Hang};
use super::line::{End, Line};
use super::speech::Event;
use super::tally::Place;

/// What was sent gets this time to leave before a connection is cut.
pub(super) const BEFORE_A_CUT: Duration = Duration::from_millis(2);

/// Waits for what was handed over to leave. The turn given up at first is what makes HTTP write it:
/// on a busy machine a pause alone may be over before it was looked at once.
async fn sent_and_gone() {
    yield_now().await;
    sleep(BEFORE_A_CUT).await;
}

/// The body of an answer.
pub(super) enum Reply {
    Whole {
        bytes: Option<Bytes>,
        place: Option<Place>,
        /// Closed after the last byte.
        close: Option<Arc<Line>>,
    },
    Events(Box<Events>),
}

/// Events with what goes wrong between them.
pub(super) struct Events {
    events: Peekable<Box<dyn Iterator<Item = Event> + Send>>,
    /// Taken, but its time has not come, or only a part of it went.
    held: Option<Event>,
    sent: u32,
    gap: Option<Duration>,
    split: Option<usize>,
    cut: Option<(u32, End)>,
    /// Half of one more event goes before the cut.
    torn: bool,
    end: Option<u32>,
    hang: Option<u32>,
    /// Bytes still to come, when the head states a length.
    length: Option<u64>,
    wait: Option<BoxFuture<'static, ()>>,
    waited: bool,
    /// The piece before must leave before the next one.
    apart: bool,
    done: bool,
    trailer: Option<(HeaderName, HeaderValue)>,
    place: Option<Place>,
    line: Arc<Line>,
    close: bool,
}

impl Reply {
    /// One piece, nothing wrong with it.
    pub(super) fn whole(bytes: impl Into<Bytes>, mut place: Option<Place>) -> Reply {
        let bytes = bytes.into();
        if bytes.is_empty() {
            // Nobody asks for the bytes of an empty body, so it is served already.
            Place::leave(place.take());
        }
        Reply::Whole {
            bytes: Some(bytes).filter(|b| !b.is_empty()),
            place,
            close: None,
        }
    }

    /// One piece, sent as `behaviour` says.
    pub(super) fn broken(
        bytes: Bytes,
        behaviour: &Behaviour,
        place: Option<Place>,
        line: Arc<Line>,
    ) -> Reply {
        let close = behaviour.drop_keepalive == Some(true);
        if bytes.is_empty() || !behaviour.breaks_the_answer() {
            let mut reply = Reply::whole(bytes, place);
            if let (Reply::Whole { close: slot, .. }, true) = (&mut reply, close) {
                *slot = Some(line);
            }
            return reply;
        }
        let length = bytes.len() as u64;
        let mut rest = bytes;
        let half = rest.split_to(rest.len().div_ceil(2));
        let halves = [half, rest].into_iter().filter(|b| !b.is_empty());
        let mut events = Events::new(
            Box::new(halves.map(|bytes| Event { bytes, word: false })),
            behaviour,
            place,
            line,
        );
        events.length = (!behaviour.states_no_length()).then_some(length);
        // One of two halves goes before a fault after some events; none before one after zero.
        events.cut = events.cut.map(|(after, end)| (after.min(1), end));
        events.hang = events.hang.map(|after| after.min(1));
        events.end = events.end.map(|after| after.min(1));
        Reply::Events(Box::new(events))
    }

    /// A stream, sent as `behaviour` says.
    pub(super) fn events(
        events: impl Iterator<Item = Event> + Send + 'static,
        behaviour: &Behaviour,
        place: Option<Place>,
        line: Arc<Line>,
    ) -> Reply {
        Reply::Events(Box::new(Events::new(
            Box::new(events),
            behaviour,
            place,
            line,
        )))
    }
}

impl Events {
    fn new(
        events: Box<dyn Iterator<Item = Event> + Send>,
        behaviour: &Behaviour,
        place: Option<Place>,
        line: Arc<Line>,
    ) -> Events {
        let end = if behaviour.reset == Some(true) {
            End::Rst
        } else {
            End::Fin
        };
        Events {
            events: events.peekable(),
            held: None,
            sent: 0,
            gap: behaviour.gap.filter(|gap| !gap.is_zero()),
            split: behaviour.split,
            cut: behaviour.cut.map(|after| (after, end)),
            torn: behaviour.torn == Some(true),
            end: behaviour.end,
            hang: match behaviour.hang {
                Some(Hang::After(after)) => Some(after),
                _ => None,
            },
            length: None,
            wait: None,
            waited: false,
            apart: false,
            done: false,
            trailer: behaviour.trailer.clone(),
            place,
            line,
            close: behaviour.drop_keepalive == Some(true),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if std::mem::take(&mut self.apart) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
                self.waited = true;
            }
            if self.hang == Some(self.sent) {
                return Poll::Pending;
            }
            if let Some((_, end)) = self.cut.filter(|(after, _)| *after == self.sent) {
                if let Some(half) = self.half() {
                    return Poll::Ready(Some(Frame::data(half)));
                }
                if !self.waited {
                    self.wait = Some(sent_and_gone().boxed());
                    continue;
                }
                Place::leave(self.place.take());
                self.line.end(end);
                return Poll::Pending;
            }
            let next = match self.end == Some(self.sent) {
                true => None,
                false => self.held.take().or_else(|| self.events.next()),
            };
            let Some(event) = next else {
                let trailer = self.trailer.take();
                self.finish();
                let trailer = trailer.map(|(name, value)| HeaderMap::from_iter([(name, value)]));
                return Poll::Ready(trailer.map(Frame::trailers));
            };
            match self.gap {
                Some(gap) if event.word && self.sent > 0 && !self.waited => {
                    self.held = Some(event);
                    self.wait = Some(sleep(gap).boxed());
                }
                _ => return Poll::Ready(Some(Frame::data(self.send(event)))),
            }
        }
    }

    /// The bytes of `event` that go now.
    fn send(&mut self, event: Event) -> Bytes {
        self.waited = false;
        let mut bytes = event.bytes;
        match self.split {
            Some(size) if size < bytes.len() => {
                let rest = bytes.split_off(size);
                self.held = Some(Event {
                    bytes: rest,
                    word: false,
                });
            }
            _ => self.sent += 1,
        }
        self.apart = self.split.is_some();
        if let Some(length) = &mut self.length {
            *length = length.saturating_sub(bytes.len() as u64);
        }
        let fault_ahead =
            self.hang == Some(self.sent) || self.cut.is_some_and(|(n, _)| n == self.sent);
        let more = fault_ahead || self.held.is_some() || self.trailer.is_some();
        let over = self.end == Some(self.sent) || self.events.peek().is_none();
        if !more && over {
            self.finish();
        }
        bytes
    }

    /// The torn event before a cut, once.
    fn half(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.torn) {
            return None;
        }
        let mut bytes = self.held.take().or_else(|| self.events.next())?.bytes;
        bytes.truncate(bytes.len() / 2);
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Leaves the place with the last event, before it is written, so that a client who answers it
    /// with the next request never finds the old place still taken.
    fn finish(&mut self) {
        self.done = true;
        Place::leave(self.place.take());
        if std::mem::take(&mut self.close) {
            self.line.end_once_flushed();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Whole {
                bytes,
                place,
                close,
            } => {
                Place::leave(place.take());
                if let Some(line) = close.take() {
                    line.end_once_flushed();
                }
                Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b))))
            }
            Reply::Events(events) => {
                let next = ready!(events.poll_next(cx));
                Poll::Ready(next.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole { bytes, .. } => bytes.is_none(),
            Reply::Events(events) => events.done,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Reply::Events(events) => events
                .length
                .map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
