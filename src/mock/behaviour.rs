//! How one request is answered: everything that can be slow, wrong or missing, each under one name
//! that is the same in a header (`x-mock-NAME`), in `POST /mock/settings` and on the command line.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::dialect::Usage;

/// Headers with this prefix script the answer to their request.
const PREFIX: &str = "x-mock-";
/// The longest reply text, in bytes.
const MAX_SIZE: usize = 64 << 20;
/// The most events of one stream.
const MAX_EVENTS: u32 = 1_000_000;

/// Where an answer falls silent for as long as the client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Before its head.
    Head,
    /// After so many events.
    After(u32),
}

/// What the vendor states about tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedUsage {
    /// Nothing, as when a stream was cut or a model does not count.
    Nothing,
    /// These numbers.
    These(Usage),
}

/// The script of one answer. What is absent is as an ordinary answer has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// The status; from 400 on with an error body. Below 400 the ordinary answer under this status.
    pub status: Option<StatusCode>,
    /// The name of a vendor error body (`insufficient_quota`, `html`, `empty` …); without `status`
    /// it brings its own.
    pub body: Option<String>,
    /// Silence before the head.
    pub delay: Option<Duration>,
    /// Silence before each event that carries text.
    pub gap: Option<Duration>,
    /// How many events carry text.
    pub events: Option<u32>,
    /// Bytes of reply text, or of an error's message.
    pub size: Option<usize>,
    /// After so many events the connection is dropped; of an answer without events half is sent.
    pub cut: Option<u32>,
    /// Of the event at which a cut comes, half is sent.
    pub torn: Option<bool>,
    /// After so many events the answer ends as if it were whole; one without events after half.
    pub end: Option<u32>,
    /// A connection is dropped with RST; without `cut`, before the head.
    pub reset: Option<bool>,
    pub hang: Option<Hang>,
    /// After so many events the dialect's error event ends the stream; `body` says which one.
    pub error_event: Option<u32>,
    /// `30`, `1500ms` or a date, sent as the vendor sends it.
    pub retry_after: Option<String>,
    pub usage: Option<StatedUsage>,
    /// The connection is closed right after the answer, without a word.
    pub drop_keepalive: Option<bool>,
    /// The answer's bytes leave in pieces of this size.
    pub split: Option<usize>,
    /// The answer states no length.
    pub chunked: Option<bool>,
    /// A trailer after the body.
    pub trailer: Option<(HeaderName, HeaderValue)>,
    /// Further headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A name or value that no [`Behaviour`] has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name}: {value:?} is not {wanted}")]
pub struct BadBehaviour {
    name: String,
    value: String,
    wanted: &'static str,
}

impl Behaviour {
    /// Sets one property by its name; `value` is what a header would carry.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadBehaviour> {
        let bad = |wanted| BadBehaviour {
            name: name.to_owned(),
            value: value.to_owned(),
            wanted,
        };
        let number = || value.parse::<u32>().map_err(|_| bad("a number"));
        let span = || humantime::parse_duration(value).map_err(|_| bad("a duration, like 200ms"));
        match name {
            "status" => {
                let known = StatusCode::from_bytes(value.as_bytes()).ok();
                let wanted = "a status from 200 to 599";
                self.status = Some(
                    known
                        .filter(|s| (200..600).contains(&s.as_u16()))
                        .ok_or_else(|| bad(wanted))?,
                );
            }
            "body" => self.body = Some(value.to_owned()),
            "delay" => self.delay = Some(span()?),
            "gap" => self.gap = Some(span()?),
            "events" => self.events = Some(number()?.min(MAX_EVENTS)),
            "size" => self.size = Some((number()? as usize).min(MAX_SIZE)),
            "cut" => self.cut = Some(number()?),
            "torn" => self.torn = Some(switch(value).ok_or_else(|| bad("1 or 0"))?),
            "end" => self.end = Some(number()?),
            "reset" => self.reset = Some(switch(value).ok_or_else(|| bad("1 or 0"))?),
            "hang" if value == "head" => self.hang = Some(Hang::Head),
            "hang" => self.hang = Some(Hang::After(number()?)),
            "error-event" => self.error_event = Some(number()?),
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "usage" => {
                self.usage = Some(usage(value).ok_or_else(|| bad("none or IN,OUT[,CACHED]"))?)
            }
            "drop-keepalive" => {
                self.drop_keepalive = Some(switch(value).ok_or_else(|| bad("1 or 0"))?);
            }
            "split" => self.split = Some((number()? as usize).max(1)),
            "chunked" => self.chunked = Some(switch(value).ok_or_else(|| bad("1 or 0"))?),
            "trailer" => self.trailer = Some(header(value).ok_or_else(|| bad("NAME: VALUE"))?),
            "header" => self
                .headers
                .push(header(value).ok_or_else(|| bad("NAME: VALUE"))?),
            _ => return Err(bad("something this vendor can do")),
        }
        Ok(())
    }

    /// Adds what the request's `x-mock-*` headers ask for, unless `x-mock-only` names other vendors.
    pub(super) fn add_from(
        &mut self,
        headers: &HeaderMap,
        vendor: &str,
    ) -> Result<(), BadBehaviour> {
        const ONLY: &str = "x-mock-only";
        let mut named = headers.get_all(ONLY).iter().peekable();
        if named.peek().is_some() && !named.any(|name| lists(name, vendor)) {
            return Ok(());
        }
        for (name, value) in headers {
            let Some(property) = name.as_str().strip_prefix(PREFIX) else {
                continue;
            };
            if !matches!(property, "only" | "echo") {
                self.set(property, value.to_str().unwrap_or("bytes that are no text"))?;
            }
        }
        Ok(())
    }

    /// Puts `over` on top: what it states wins.
    pub(super) fn overlay(&mut self, over: &Behaviour) {
        let Behaviour {
            status,
            body,
            delay,
            gap,
            events,
            size,
            cut,
            torn,
            end,
            reset,
            hang,
            error_event,
            retry_after,
            usage,
            drop_keepalive,
            split,
            chunked,
            trailer,
            headers,
        } = over;
        take(&mut self.status, status);
        take(&mut self.body, body);
        take(&mut self.delay, delay);
        take(&mut self.gap, gap);
        take(&mut self.events, events);
        take(&mut self.size, size);
        take(&mut self.cut, cut);
        take(&mut self.torn, torn);
        take(&mut self.end, end);
        take(&mut self.reset, reset);
        take(&mut self.hang, hang);
        take(&mut self.error_event, error_event);
        take(&mut self.retry_after, retry_after);
        take(&mut self.usage, usage);
        take(&mut self.drop_keepalive, drop_keepalive);
        take(&mut self.split, split);
        take(&mut self.chunked, chunked);
        take(&mut self.trailer, trailer);
        self.headers.extend_from_slice(headers);
    }

    /// How many events carry text.
    pub(super) fn words(&self) -> u32 {
        self.events.unwrap_or(8)
    }

    /// The end of the answer is told by its framing, not by a length.
    pub(super) fn states_no_length(&self) -> bool {
        self.chunked == Some(true) || self.trailer.is_some() || self.end.is_some()
    }

    /// The answer's bytes need pacing: they cannot leave as one piece.
    pub(super) fn breaks_the_answer(&self) -> bool {
        self.cut.is_some()
            || matches!(self.hang, Some(Hang::After(_)))
            || self.split.is_some()
            || self.states_no_length()
    }
}

fn take<T: Clone>(mine: &mut Option<T>, over: &Option<T>) {
    if over.is_some() {
        mine.clone_from(over);
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn usage(value: &str) -> Option<StatedUsage> {
    if value == "none" {
        return Some(StatedUsage::Nothing);
    }
    let mut numbers = value.split(',').map(|n| n.trim().parse::<u32>().ok());
    let input = u64::from(numbers.next()??);
    let output = u64::from(numbers.next()??);
    let cached = match numbers.next() {
        Some(cached) => u64::from(cached?).min(input),
        None => 0,
    };
    let more = numbers.next().is_some();
    (!more).then_some(StatedUsage::These(Usage {
        input,
        output,
        cached,
    }))
}

fn header(value: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = value.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

fn lists(names: &HeaderValue, vendor: &str) -> bool {
    let names = names.to_str().unwrap_or_default();
    names.split(',').any(|name| name.trim() == vendor)
}

#[cfg(test)]
mod tests {
    use super::{Behaviour, Hang, StatedUsage};
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::{any, proptest};
    use std::time::Duration;

    fn asked(headers: &[(&'static str, &'static str)]) -> Behaviour {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let mut behaviour = Behaviour::default();
        behaviour.add_from(&map, "mock-a").unwrap();
        behaviour
    }

    #[test]
    fn headers_script_the_answer() {
        let it = asked(&[
            ("x-mock-status", "429"),
            ("x-mock-delay", "200ms"),
            ("x-mock-hang", "head"),
            ("x-mock-usage", "10,20"),
            ("x-mock-header", "a: b"),
            ("x-mock-header", "c: d"),
            ("user-agent", "anything"),
        ]);
        assert_eq!(it.status, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(it.delay, Some(Duration::from_millis(200)));
        assert_eq!(it.hang, Some(Hang::Head));
        assert!(matches!(it.usage, Some(StatedUsage::These(u)) if u.input == 10 && u.output == 20));
        assert_eq!(it.headers.len(), 2);
    }

    #[test]
    fn only_the_named_vendors_obey() {
        let fault = ("x-mock-status", "500");
        assert_eq!(asked(&[fault, ("x-mock-only", "mock-b")]).status, None);
        assert!(
            asked(&[fault, ("x-mock-only", "mock-b, mock-a")])
                .status
                .is_some()
        );
        assert!(
            asked(&[fault, ("x-mock-only", "b"), ("x-mock-only", "mock-a")])
                .status
                .is_some()
        );
    }

    #[test]
    fn a_bad_value_is_named() {
        let problem = Behaviour::default().set("delay", "soon").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "delay: \"soon\" is not a duration, like 200ms"
        );
        assert!(Behaviour::default().set("dleay", "1s").is_err());
        assert!(Behaviour::default().set("status", "103").is_err());
    }

    proptest! {
        #[test]
        fn no_value_panics(name in "[a-z-]{1,14}|usage|header|status|gap", value in any::<String>()) {
            let _ = Behaviour::default().set(&name, &value);
        }
    }
}
