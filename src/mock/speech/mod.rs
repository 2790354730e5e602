//! What the vendor says: answers as text with gaps (`<model>`), filled in for each request.
//!
//! Templates are plain JSON, so that they can be held against the vendors' documentation; filling one
//! is a copy, so that the vendor costs little when it is the upstream of a benchmark.

mod anthropic;
mod gemini;
mod models;
mod openai;

use std::fmt::Write;

use bytes::Bytes;
use memchr::memchr;

use crate::dialect::Usage;

pub(super) use models::{list as models, one as model};
pub(super) use openai::embeddings;

/// One event of a stream: its name, empty where the dialect names none, and its payload.
type Said = (&'static str, &'static str);

/// How one kind of call is answered.
pub(super) struct Speech {
    /// The answer in one piece.
    whole: &'static str,
    /// Events before, for each word of, and after the text.
    opening: &'static [Said],
    word: Said,
    closing: &'static [Said],
    /// Fills `<usage>` and `<usage_first>`, unless usage is not to be stated.
    usage: &'static str,
    usage_first: &'static str,
}

pub(super) use anthropic::{COUNT as ANTHROPIC_COUNT, MESSAGES};
pub(super) use gemini::{COUNT as GEMINI_COUNT, GENERATE};
pub(super) use openai::{CHAT, CHAT_WITH_USAGE, COMPLETIONS, RESPONSES, RESPONSES_FAILED};

/// What an answer states.
pub(super) struct Facts {
    /// Of the request; makes every id in the answer unique.
    pub(super) number: u64,
    pub(super) vendor: String,
    /// As JSON, quotes included.
    pub(super) model: Bytes,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// As counted (input) and as it grows (output); see [`Facts::stated`].
    pub(super) usage: Usage,
    /// Numbers to state instead of the counted ones.
    pub(super) stated: Option<Usage>,
    pub(super) no_usage: bool,
    /// The text so far.
    pub(super) text: String,
    /// Where the last word begins in `text`.
    pub(super) last: usize,
    /// The number of the event under way.
    pub(super) sequence: u32,
    /// Code and message (JSON, quotes included) of an error event.
    pub(super) error: (String, String),
}

impl Facts {
    /// Adds the n-th word (from 0) of `words`, so that all together are `size` bytes, if stated.
    /// A reader can tell from the text that no word is missing, doubled or out of order.
    pub(super) fn say(&mut self, n: u32, words: u32, size: Option<usize>) {
        self.last = self.text.len();
        if n == 0 {
            self.text.push_str("Hello from ");
            self.text.push_str(&self.vendor);
        } else {
            number(&mut self.text, " ", u64::from(n));
        }
        if let Some(size) = size {
            let end = (size as u64 * u64::from(n + 1) / u64::from(words.max(1))) as usize;
            self.text.truncate(end.max(self.last));
            while self.text.len() < end {
                self.text.push('.');
            }
        }
    }

    /// The usage to state.
    fn usage(&self) -> Usage {
        self.stated.unwrap_or(Usage {
            output: (self.text.len() as u64 / 4).max(1),
            ..self.usage
        })
    }

    fn put(&self, gap: &str, speech: &Speech, out: &mut String) {
        match gap {
            "id" => {
                let _ = write!(out, "mock{:016x}", self.number);
            }
            "model" => out.push_str(std::str::from_utf8(&self.model).unwrap_or("\"\"")),
            "vendor" => out.push_str(&self.vendor),
            "text" => out.push_str(&self.text),
            "word" => out.push_str(&self.text[self.last..]),
            "created" => number(out, "", self.created),
            "n" => number(out, "", u64::from(self.sequence)),
            "in" => number(out, "", self.usage().input),
            "fresh" => number(out, "", self.usage().input - self.usage().cached),
            "cached" => number(out, "", self.usage().cached),
            "out" => number(out, "", self.usage().output),
            "total" => number(out, "", self.usage().input + self.usage().output),
            "usage" if !self.no_usage => self.fill(speech.usage, speech, out),
            "usage_first" if !self.no_usage => self.fill(speech.usage_first, speech, out),
            "code" => out.push_str(&self.error.0),
            "message" => out.push_str(&self.error.1),
            _ => {}
        }
    }

    /// Appends `template` with its gaps filled.
    fn fill(&self, template: &str, speech: &Speech, out: &mut String) {
        let mut rest = template;
        while let Some((open, close)) = gap(rest) {
            out.push_str(&rest[..open]);
            self.put(&rest[open + 1..close], speech, out);
            rest = &rest[close + 1..];
        }
        out.push_str(rest);
    }
}

/// Where the next gap begins and ends.
fn gap(text: &str) -> Option<(usize, usize)> {
    let open = memchr(b'<', text.as_bytes())?;
    let close = open + memchr(b'>', &text.as_bytes()[open..])?;
    Some((open, close))
}

fn number(out: &mut String, before: &str, n: u64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{before}{n}");
}

/// How events are told apart on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sse,
    /// One JSON array, as Gemini streams without `alt=sse`.
    Array,
    /// Nothing but the payload: each is a message of its own.
    Bare,
}

impl Framing {
    fn frame(
        self,
        event: &str,
        sequence: u32,
        last: bool,
        payload: impl FnOnce(&mut String),
    ) -> Bytes {
        let mut out = String::with_capacity(512);
        match self {
            Framing::Sse => {
                if !event.is_empty() {
                    out.push_str("event: ");
                    out.push_str(event);
                    out.push('\n');
                }
                out.push_str("data: ");
                payload(&mut out);
                out.push_str("\n\n");
            }
            Framing::Bare => payload(&mut out),
            Framing::Array => {
                out.push_str(if sequence == 0 { "[" } else { "\n,\r\n" });
                payload(&mut out);
                if last {
                    out.push(']');
                }
            }
        }
        out.into()
    }
}

impl Speech {
    /// The answer in one piece.
    pub(super) fn whole(&self, facts: &Facts) -> Bytes {
        let mut out = String::with_capacity(self.whole.len() + facts.text.len() + 256);
        facts.fill(self.whole, self, &mut out);
        out.into()
    }
}

/// One event, ready to be sent.
pub(super) struct Event {
    pub(super) bytes: Bytes,
    /// It carries text, so a gap goes before it.
    pub(super) word: bool,
}

/// A stream, rendered event by event as it is read.
pub(super) struct Telling {
    pub(super) speech: &'static Speech,
    pub(super) facts: Facts,
    pub(super) framing: Framing,
    pub(super) words: u32,
    pub(super) size: Option<usize>,
    /// After so many events this one ends the stream.
    pub(super) error: Option<(u32, ErrorEvent)>,
    pub(super) next: u32,
}

/// The dialect's way to say, within a stream, that it failed.
pub(super) enum ErrorEvent {
    /// This payload under this event name.
    Plain(&'static str, Bytes),
    /// A template that states the error's code and message.
    Template(Said),
}

impl Telling {
    fn total(&self) -> u32 {
        let ordinary =
            self.speech.opening.len() as u32 + self.words + self.speech.closing.len() as u32;
        match &self.error {
            Some((after, _)) => ordinary.min(*after) + 1,
            None => ordinary,
        }
    }
}

impl Iterator for Telling {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (n, total) = (self.next, self.total());
        if n >= total {
            return None;
        }
        self.next += 1;
        let (speech, framing, last) = (self.speech, self.framing, n + 1 == total);
        self.facts.sequence = n;
        if let (true, Some((_, error))) = (last, &self.error) {
            let bytes = match error {
                ErrorEvent::Plain(name, body) => framing.frame(name, n, last, |out| {
                    out.push_str(&String::from_utf8_lossy(body));
                }),
                ErrorEvent::Template((name, template)) => framing.frame(name, n, last, |out| {
                    self.facts.fill(template, speech, out);
                }),
            };
            return Some(Event { bytes, word: true });
        }
        let opening = speech.opening.len() as u32;
        let word = (opening..opening + self.words).contains(&n);
        let (name, template) = if word {
            self.facts.say(n - opening, self.words, self.size);
            speech.word
        } else if n < opening {
            speech.opening[n as usize]
        } else {
            speech.closing[(n - opening - self.words) as usize]
        };
        let bytes = framing.frame(name, n, last, |out| self.facts.fill(template, speech, out));
        Some(Event { bytes, word })
    }
}
