//! One line of a log, field by field, as text (`key=value`) or as JSON.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::escape;
use crate::config::LogFormat;

/// Appends one line to a buffer. [`Line::end`] finishes it.
pub(super) struct Line<'a> {
    out: &'a mut String,
    json: bool,
}

impl<'a> Line<'a> {
    /// Begins a line with its time, to the millisecond, in UTC.
    pub(super) fn begin(out: &'a mut String, format: LogFormat, time: SystemTime) -> Self {
        let json = format == LogFormat::Json;
        out.push_str(if json { "{\"time\":\"" } else { "" });
        match jiff::Timestamp::try_from(time) {
            Ok(time) => push_time(out, time),
            Err(_) => out.push('-'),
        }
        out.push_str(if json { "\"" } else { "" });
        Line { out, json }
    }

    /// A word of ours that needs no name in a text line, such as the level.
    pub(super) fn word(&mut self, key: &str, word: &'static str) {
        if self.json {
            self.number(key, format_args!("\"{word}\""));
        } else {
            self.out.push(' ');
            self.out.push_str(word);
        }
    }

    /// The message, which in a text line stands without a name. `from` is the crate that speaks,
    /// unless it is ours.
    pub(super) fn message(&mut self, from: Option<&str>, message: &str) {
        let message = escape::cut(message, escape::MESSAGE);
        if self.json {
            self.text("message", message, escape::MESSAGE);
            return;
        }
        self.out.push(' ');
        if let Some(from) = from {
            escape::plain(self.out, from);
            self.out.push_str(": ");
        }
        escape::plain(self.out, message);
    }

    /// A text, cut to `limit` characters.
    pub(super) fn text(&mut self, key: &str, value: &str, limit: usize) {
        self.key(key);
        let value = escape::cut(value, limit);
        if self.json {
            escape::json(self.out, value);
        } else {
            escape::value(self.out, value);
        }
    }

    /// A whole number, whose digits are the same in both formats.
    pub(super) fn count(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.push_str(itoa::Buffer::new().format(value));
    }

    /// A time in milliseconds with one decimal place.
    pub(super) fn millis(&mut self, key: &str, value: Duration) {
        let tenths = value.as_micros() as u64 / 100;
        self.count(key, tenths / 10);
        self.out.push('.');
        self.out.push(char::from(b'0' + (tenths % 10) as u8));
    }

    /// An address, which is harmless as it is.
    pub(super) fn address(&mut self, key: &str, value: IpAddr) {
        self.key(key);
        let quote = if self.json { "\"" } else { "" };
        self.out.push_str(quote);
        match value {
            // The usual one, and formatting it the usual way is the dearest part of a line.
            IpAddr::V4(address) => {
                for (n, part) in address.octets().into_iter().enumerate() {
                    self.out.push_str(if n > 0 { "." } else { "" });
                    self.out.push_str(itoa::Buffer::new().format(part));
                }
            }
            IpAddr::V6(address) => drop(write!(self.out, "{address}")),
        }
        self.out.push_str(quote);
    }

    /// A number or truth value, whose digits are the same in both formats.
    pub(super) fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        // Writing to a text cannot fail, here and below.
        let _ = write!(self.out, "{value}");
    }

    /// The pairs of a list: `a:x,b:y` in text, `[{"account":"a","outcome":"x"},…]` in JSON.
    pub(super) fn pairs<'t>(
        &mut self,
        key: &str,
        names: (&str, &str),
        pairs: impl Iterator<Item = (&'t str, &'static str)>,
    ) {
        self.key(key);
        if self.json {
            self.out.push('[');
        }
        for (n, (left, right)) in pairs.enumerate() {
            self.out.push_str(if n > 0 { "," } else { "" });
            if self.json {
                let _ = write!(self.out, "{{\"{}\":", names.0);
                escape::json(self.out, left);
                let _ = write!(self.out, ",\"{}\":\"{right}\"}}", names.1);
            } else {
                self.out.push_str(left);
                self.out.push(':');
                self.out.push_str(right);
            }
        }
        if self.json {
            self.out.push(']');
        }
    }

    pub(super) fn end(self) {
        self.out.push_str(if self.json { "}\n" } else { "\n" });
    }

    /// A text of ours that stands alone as it is.
    pub(super) fn plain(&mut self, key: &str, value: &'static str) {
        self.key(key);
        let quote = if self.json { "\"" } else { "" };
        self.out.push_str(quote);
        self.out.push_str(value);
        self.out.push_str(quote);
    }

    fn key(&mut self, key: &str) {
        if self.json {
            self.out.push(',');
            escape::json(self.out, key);
            self.out.push(':');
        } else {
            self.out.push(' ');
            self.out.push_str(key);
            self.out.push('=');
        }
    }
}

/// RFC 3339, to the millisecond, digit by digit: each request has a line, of which formatting the time
/// the usual way would be the dearest part.
fn push_time(out: &mut String, time: jiff::Timestamp) {
    let time = jiff::tz::Offset::UTC.to_datetime(time);
    let mut face = *b"0000-00-00T00:00:00.000Z";
    let mut put = |from: usize, to: usize, mut value: u16| {
        for digit in face[from..to].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, time.year().unsigned_abs());
    put(5, 7, time.month().unsigned_abs().into());
    put(8, 10, time.day().unsigned_abs().into());
    put(11, 13, time.hour().unsigned_abs().into());
    put(14, 16, time.minute().unsigned_abs().into());
    put(17, 19, time.second().unsigned_abs().into());
    put(20, 23, time.millisecond().unsigned_abs());
    out.push_str(std::str::from_utf8(&face).unwrap_or_default());
}
