//! The program's log: events of our own at the configured level, those of libraries only from
//! warnings on, each as one line.
//!
//! Libraries are kept that short because they see what must not be written: Pingora logs whole
//! request heads at debug, `Authorization` included.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::layer::{Context, Layer};

use super::escape::MESSAGE;
use super::fields::Line;
use super::sink::{Access, Sink};
use crate::clock;
use crate::config::{Level, LogFormat};

/// Turns events into lines. Spans are not shown: what a line needs, it says itself.
#[derive(Clone)]
pub(super) struct Lines {
    sink: Sink,
    format: LogFormat,
    level: Arc<AtomicU8>,
}

impl Lines {
    /// The way of access lines to the same place.
    pub(super) fn access(&self) -> Access {
        Access::to(self.sink.clone(), self.format)
    }

    pub(super) fn new(sink: Sink, format: LogFormat, level: Level) -> Self {
        Lines {
            sink,
            format,
            level: Arc::new(AtomicU8::new(level as u8)),
        }
    }

    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Changes the level from now on.
    pub(super) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    fn level(&self) -> LevelFilter {
        match self.level.load(Ordering::Relaxed) {
            l if l == Level::Error as u8 => LevelFilter::ERROR,
            l if l == Level::Warn as u8 => LevelFilter::WARN,
            l if l == Level::Info as u8 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        }
    }

    fn shows(&self, meta: &Metadata<'_>) -> bool {
        let most = if is_ours(meta.target()) {
            LevelFilter::DEBUG
        } else {
            LevelFilter::WARN
        };
        meta.is_event() && *meta.level() <= self.level().min(most)
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        if self.shows(meta) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, meta: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(meta)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A record of the `log` crate carries its true target as a field.
        let bridged = event.normalized_metadata();
        let meta = bridged.as_ref().unwrap_or_else(|| event.metadata());
        if !self.shows(meta) {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let mut text = message.0;
        let from = meta.target().split("::").next().unwrap_or_default();
        if !is_ours(meta.target()) {
            redact(&mut text);
        }
        let mut out = String::with_capacity(128 + text.len());
        let mut line = Line::begin(&mut out, self.format, clock::wall());
        line.word("level", meta.level().as_str());
        if self.format == LogFormat::Json {
            line.text("target", meta.target(), MESSAGE);
        }
        line.message((!is_ours(meta.target())).then_some(from), &text);
        event.record(&mut Others(&mut line));
        line.end();
        self.sink.log(out);
    }
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix(env!("CARGO_CRATE_NAME"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Takes out of a library's message what may be a client's secret: the raw bytes that Pingora
/// quotes when it cannot parse a head (`buf: …`), and keys in a query.
pub(super) fn redact(message: &mut String) {
    if let Some(at) = message.find("buf: ") {
        message.truncate(at);
        message.push_str("(bytes left out)");
    }
    for name in ["key=", "token="] {
        let mut from = 0;
        while let Some(at) = message[from..].find(name) {
            let start = from + at + name.len();
            let value = &message[start..];
            let end = value
                .find(|c: char| c == '&' || c == '"' || c == ',' || c.is_whitespace())
                .map_or(message.len(), |end| start + end);
            message.replace_range(start..end, "****");
            from = start + 4;
        }
    }
}

/// Collects the message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Writes the fields of an event besides its message.
struct Others<'a, 'b>(&'a mut Line<'b>);

impl Others<'_, '_> {
    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        if is_shown(field) {
            self.0.number(field.name(), value);
        }
    }

    fn text(&mut self, field: &Field, value: &str) {
        if is_shown(field) {
            self.0.text(field.name(), value, MESSAGE);
        }
    }
}

/// The bridge from the `log` crate puts the place of a record into fields `log.*`.
fn is_shown(field: &Field) -> bool {
    field.name() != "message" && !field.name().starts_with("log.")
}

impl Visit for Others<'_, '_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
