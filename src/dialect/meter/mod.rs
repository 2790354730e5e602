//! Reads an answer as it passes: the tokens it states, an error within it, and whether it came to
//! its own end. The bytes are not altered, and none are kept but those of an event that is not whole.

mod hold;
mod places;
mod scan;
mod sse;
mod strip;
#[cfg(test)]
mod tests;
mod usage;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use memchr::memchr2;

use self::hold::Hold;
use self::places::{Catch, places_in_document, places_in_events};
use self::scan::{Place, Scanner};
use self::sse::{Piece, Sse};
use self::strip::Strip;
use self::usage::Counts;
use super::json::is_object;
use super::{Dialect, Kind, Usage, VendorError};

/// What an answer said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `None`: the vendor stated none.
    pub usage: Option<Usage>,
    /// The usage is only what was stated as the answer began, of which the end was not seen.
    pub is_partial: bool,
    /// The first error event, or the error of an answer whose status was good.
    pub error: Option<StreamError>,
    /// Bytes of text that the events of a stream have brought, without what is around it: some 4 of them are a
    /// token, where an event has hundreds. None: it is no stream that could be read.
    pub written: Option<u64>,
    /// The dialect's own end was seen; also of an answer that has none and cannot be judged.
    pub complete: bool,
    /// It is an event stream that could be read.
    pub is_stream: bool,
    pub begun: Begun,
    /// The error came in an event that is whole, so that the client sees it.
    is_told: bool,
    /// The last event is whole, though its blank line may be missing.
    pub ends_whole: bool,
    /// What [`Meter::rest`] gave is the event that was not asked for, without its blank line.
    pub ends_unasked: bool,
}

/// What OpenAI's responses say of themselves as they begin: an event that ends such a stream must
/// fit into it, or its clients take it for another one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// `response.id`, as JSON.
    pub id: Option<Vec<u8>>,
    /// The last `sequence_number`.
    pub sequence: Option<u64>,
}

impl Begun {
    /// `response.id`, if it is one that can be written as it is.
    pub fn id(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.id.as_deref()?).ok()?;
        let text = text.strip_prefix('"')?.strip_suffix('"')?;
        (!text.is_empty() && !text.contains('\\')).then_some(text)
    }
}

impl Reading {
    /// Whether the client knows that the answer is over, well or badly.
    pub fn is_over(&self) -> bool {
        self.complete || self.is_told
    }
}

/// An error that came within a good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The `error` object as it was written; empty when it was too long to keep.
    raw: Vec<u8>,
}

impl StreamError {
    /// What it says.
    pub fn read(&self) -> VendorError<'_> {
        VendorError::read(&self.raw)
    }
}

/// Reads one answer.
pub struct Meter {
    framing: Framing,
    sse: Sse,
    hold: Hold,
    document: Document,
    strip: Option<Strip>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sse,
    Json,
    /// Neither, or compressed: nothing can be read.
    Unread,
}

impl Meter {
    /// The most memory that reading takes, in bytes, whatever comes: an open event, a value that is
    /// being caught, what an error event said. Twice each, as buffers grow by doubling.
    pub const MOST_KEPT: usize = 2 * (hold::LONGEST + 5 * scan::LONGEST);

    /// A meter for the answer to a call; `headers` are the answer's.
    pub fn new(dialect: Dialect, kind: Kind, headers: &HeaderMap) -> Meter {
        let framing = Framing::of(kind, headers);
        let places = match framing {
            Framing::Sse => places_in_events(dialect, kind),
            Framing::Json | Framing::Unread => places_in_document(dialect, kind),
        };
        Meter {
            framing,
            sse: Sse::new(),
            hold: Hold::default(),
            document: Document::new(dialect, places),
            strip: None,
        }
    }

    /// The same, for a client who did not ask for the event that says nothing but the usage: it gets the
    /// stream without it.
    pub fn without_usage_event(mut self) -> Meter {
        self.strip = (self.framing == Framing::Sse).then(Strip::default);
        self
    }

    /// Reads on, and returns what may go to the client now. Of an event stream these are whole
    /// events: no client can do anything with a part of one. An error within a document is kept
    /// back until all of it is there.
    pub fn pass(&mut self, bytes: Bytes) -> Bytes {
        if self.strip.is_some() {
            return self.pass_stripped(bytes);
        }
        let ended = self.push(&bytes);
        match self.framing {
            Framing::Sse | Framing::Json => self.hold.pass(bytes, ended),
            Framing::Unread => bytes,
        }
    }

    /// What [`Meter::pass`] kept back.
    pub fn rest(&mut self) -> Bytes {
        self.hold.rest()
    }

    fn push(&mut self, bytes: &[u8]) -> Option<usize> {
        let document = &mut self.document;
        match self.framing {
            Framing::Sse => self.sse.push(bytes, &mut |piece| document.piece(&piece)),
            Framing::Json => {
                document.data(bytes);
                // What an error says can only be looked at as a whole.
                let in_error = document.scanner.catching() == Some(Catch::Error);
                (!in_error).then_some(bytes.len())
            }
            Framing::Unread => None,
        }
    }

    /// Whether the answer is an event stream that can be read.
    pub fn is_event_stream(&self) -> bool {
        self.framing == Framing::Sse
    }

    /// Whether an error was found in the answer so far.
    pub fn tells_error(&self) -> bool {
        self.document.findings.error.is_some()
    }

    /// Whether what [`Meter::pass`] let go ends within an event, so that an event of ours needs a
    /// blank line before it.
    pub fn is_torn(&self) -> bool {
        self.hold.is_torn()
    }

    /// Bytes of memory that reading takes now, at most [`Meter::MOST_KEPT`].
    pub fn kept(&self) -> usize {
        self.hold.size() + self.document.scanner.kept() + self.document.findings.kept()
    }

    /// The answer is over, or was cut.
    pub fn finish(mut self) -> Reading {
        let document = &mut self.document;
        document.findings.is_usage_event = false;
        match self.framing {
            Framing::Sse => self.sse.finish(&mut |piece| document.piece(&piece)),
            Framing::Json => document.findings.complete = document.scanner.is_closed(),
            Framing::Unread => document.findings.complete = true,
        }
        let Findings {
            counts,
            error,
            complete,
            begun,
            is_told,
            ends_whole,
            written,
            is_usage_event,
            ..
        } = self.document.findings;
        let is_stream = self.framing == Framing::Sse;
        Reading {
            usage: counts.usage(),
            is_partial: counts.is_beginning() && !complete,
            error,
            complete,
            written: is_stream.then_some(written),
            is_stream,
            begun,
            is_told,
            ends_whole,
            ends_unasked: is_usage_event && self.strip.is_some() && !self.hold.is_torn(),
        }
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";
/// In `application/json` and whatever else is written in it.
const JSON: &[u8] = b"json";

impl Framing {
    fn of(kind: Kind, headers: &HeaderMap) -> Framing {
        let is_plain = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let media = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let media = media.unwrap_or_default();
        let is_sse = media
            .get(..EVENT_STREAM.len())
            .is_some_and(|media| media.eq_ignore_ascii_case(EVENT_STREAM));
        let mut words = media.windows(JSON.len());
        if !is_plain || kind == Kind::ResponsesSocket {
            Framing::Unread
        } else if is_sse {
            Framing::Sse
        } else if words.any(|word| word.eq_ignore_ascii_case(JSON)) {
            Framing::Json
        } else {
            Framing::Unread
        }
    }
}

/// The JSON document that is passing by: a whole answer, or the data of one event.
struct Document {
    scanner: Scanner<Catch>,
    findings: Findings,
    /// Bytes of the event's data so far.
    length: usize,
    /// They are the beginning of `[DONE]`.
    is_done: bool,
}

const DONE: &[u8] = b"[DONE]";

impl Document {
    fn new(dialect: Dialect, places: &'static [(Place, Catch)]) -> Document {
        Document {
            scanner: Scanner::new(places),
            findings: Findings::new(dialect),
            length: 0,
            is_done: true,
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let findings = &mut self.findings;
        self.scanner
            .push(bytes, &mut |catch, raw| findings.catch(catch, raw));
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Data(bytes) => {
                let end = self.length.saturating_add(bytes.len());
                self.is_done &= DONE.get(self.length..end) == Some(bytes);
                self.length = end;
                self.data(bytes);
            }
            Piece::End => {
                let is_done = self.is_done && self.length == DONE.len();
                if self.findings.event.has_long_delta {
                    // How long it was nobody has counted; all else is little beside it.
                    self.findings.written += self.length as u64;
                }
                self.findings.event_ends(self.scanner.is_closed(), is_done);
                self.scanner.reset();
                self.length = 0;
                self.is_done = true;
            }
        }
    }
}

/// What was found so far.
struct Findings {
    dialect: Dialect,
    counts: Counts,
    error: Option<StreamError>,
    complete: bool,
    /// An event said that nothing follows.
    is_ended: bool,
    begun: Begun,
    is_told: bool,
    ends_whole: bool,
    /// The event that ended last says nothing but the usage of an answer that was over.
    is_usage_event: bool,
    /// Bytes of text so far.
    written: u64,
    /// Answers in one (`n`, `candidateCount`), as far as they have shown themselves.
    choices: u32,
    /// How many of them have come to their end.
    ended: u32,
    event: Event,
}

/// What was found in the event that is passing by.
#[derive(Default)]
struct Event {
    /// It is one that ends all there is.
    ends: bool,
    /// How many answers of several come to their end in it.
    ended: u32,
    /// It says so by its type, or holds an error.
    is_error: bool,
    /// It states usage.
    has_usage: bool,
    /// It holds a part of an answer.
    has_choice: bool,
    /// It holds more of the answer's text than is caught.
    has_long_delta: bool,
    code: Option<Vec<u8>>,
    message: Option<Vec<u8>>,
}

impl Findings {
    fn new(dialect: Dialect) -> Findings {
        Findings {
            dialect,
            counts: Counts::default(),
            error: None,
            complete: false,
            is_ended: false,
            begun: Begun::default(),
            is_told: false,
            ends_whole: true,
            is_usage_event: false,
            written: 0,
            choices: 1,
            ended: 0,
            event: Event::default(),
        }
    }

    fn catch(&mut self, catch: Catch, raw: Option<&[u8]>) {
        self.event.has_usage |= catch == Catch::Usage && raw.is_some_and(is_object);
        self.event.has_choice |= matches!(catch, Catch::End | Catch::Index);
        match (catch, raw) {
            (Catch::Usage, Some(raw)) => match self.dialect {
                Dialect::OpenAi => self.counts.openai(raw),
                Dialect::Anthropic => self.counts.anthropic(raw),
                Dialect::Gemini => self.counts.gemini(raw),
            },
            (Catch::FirstUsage, Some(raw)) => self.counts.anthropic_begins(raw),
            (Catch::Error, raw) => self.error(raw.unwrap_or_default()),
            (Catch::Type, Some(raw)) => {
                self.event.ends = matches!(
                    raw,
                    br#""message_stop""# | br#""response.completed""# | br#""response.incomplete""#
                );
                self.event.is_error |= matches!(raw, br#""error""# | br#""response.failed""#);
            }
            (Catch::End, raw) => self.event.ended += u32::from(raw != Some(b"null")),
            (Catch::Delta, Some(raw)) => self.written += longest_text(raw) as u64,
            (Catch::Delta, None) => self.event.has_long_delta = true,
            // The first one, as nearly always, is counted from the start.
            (Catch::Index, Some(b"0")) => {}
            (Catch::Index, Some(raw)) => {
                let index: u32 = serde_json::from_slice(raw).unwrap_or(0);
                self.choices = self.choices.max(index.saturating_add(1));
            }
            (Catch::Code, raw) => self.event.code = raw.map(<[u8]>::to_vec),
            (Catch::Message, raw) => self.event.message = raw.map(<[u8]>::to_vec),
            (Catch::Id, Some(raw)) => self.begun.id = Some(raw.to_vec()),
            (Catch::Sequence, Some(raw)) => {
                self.begun.sequence = serde_json::from_slice(raw).ok();
            }
            (
                Catch::Usage
                | Catch::FirstUsage
                | Catch::Type
                | Catch::Index
                | Catch::Id
                | Catch::Sequence,
                None,
            ) => {}
        }
    }

    /// Bytes of memory.
    fn kept(&self) -> usize {
        let event = [&self.event.code, &self.event.message];
        let event = event.into_iter().flatten().map(Vec::capacity);
        let error = self.error.iter().map(|error| error.raw.capacity());
        event.chain(error).sum()
    }

    /// The first error stays: what follows it is its consequence.
    fn error(&mut self, raw: &[u8]) {
        let is_none = matches!(raw, b"null" | b"false" | b"{}" | br#""""#);
        if is_none {
            return;
        }
        self.event.is_error = true;
        self.error
            .get_or_insert_with(|| StreamError { raw: raw.to_vec() });
    }

    fn event_ends(&mut self, is_whole: bool, is_done: bool) {
        let event = std::mem::take(&mut self.event);
        self.ends_whole = is_whole || is_done;
        let says_nothing = !event.has_choice && !event.is_error;
        self.is_usage_event = is_whole && event.has_usage && says_nothing && self.complete;
        self.is_ended |= is_whole && event.ends || is_done && self.dialect == Dialect::OpenAi;
        if is_whole {
            self.ended = self.ended.saturating_add(event.ended);
        }
        // One that shows itself after the others have ended begins another answer.
        self.complete = self.is_ended || self.ended >= self.choices;
        self.is_told |= is_whole && event.is_error;
        if event.is_error && self.error.is_none() {
            let part = |raw: Option<Vec<u8>>| raw.unwrap_or_else(|| b"null".to_vec());
            let (code, message) = (part(event.code), part(event.message));
            let parts: [&[u8]; 5] = [b"{\"code\":", &code, b",\"message\":", &message, b"}"];
            self.error = Some(StreamError {
                raw: parts.concat(),
            });
        }
    }
}

/// The longest text in this JSON that is no name, in bytes as they are written: of a part of an answer that is
/// what the model has written; the others say what kind of part it is.
fn longest_text(raw: &[u8]) -> usize {
    let (mut longest, mut began, mut at) = (0, None, 0);
    while let Some(next) = memchr2(b'"', b'\\', raw.get(at..).unwrap_or_default()) {
        let found = at + next;
        at = found + 1;
        if raw[found] == b'\\' {
            at += 1;
            continue;
        }
        match began.take() {
            None => began = Some(at),
            Some(_) if raw.get(at) == Some(&b':') => {}
            Some(began) => longest = longest.max(found - began),
        }
    }
    longest
}
