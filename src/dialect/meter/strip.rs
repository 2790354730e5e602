//! Takes the event out of a stream that says nothing but its usage, which we asked for and the client
//! did not. Every other byte stays, wherever the pieces are cut in which they come.

use bytes::{Bytes, BytesMut};

use super::Meter;

/// Where taking out has come to.
#[derive(Default)]
pub(super) struct Strip {
    /// What was taken out ended in a carriage return: a line feed that comes next belongs to it.
    drops_line_feed: bool,
}

impl Meter {
    /// As [`Meter::pass`], event by event.
    pub(super) fn pass_stripped(&mut self, mut bytes: Bytes) -> Bytes {
        let mut ready: Vec<Bytes> = Vec::new();
        while !bytes.is_empty() {
            let document = &mut self.document;
            document.findings.is_usage_event = false;
            let was_torn = self.hold.is_torn();
            let (length, is_over) = self
                .sse
                .push_one(&bytes, &mut |piece| document.piece(&piece));
            let part = bytes.split_to(length);
            let was_dropped = self
                .strip
                .as_mut()
                .is_some_and(|strip| std::mem::take(&mut strip.drops_line_feed) && *part == *b"\n");
            if was_dropped {
                continue;
            }
            // Of one that is too long a part has gone already.
            let is_dropped = is_over && document.findings.is_usage_event && !was_torn;
            if is_dropped {
                drop(self.hold.rest());
                self.strip = Some(Strip {
                    drops_line_feed: self.sse.is_after_cr(),
                });
            } else {
                ready.push(self.hold.pass(part, is_over.then_some(length)));
            }
        }
        joined(ready)
    }
}

fn joined(mut parts: Vec<Bytes>) -> Bytes {
    parts.retain(|part| !part.is_empty());
    match parts.len() {
        0 | 1 => parts.pop().unwrap_or_default(),
        _ => {
            let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| all.extend_from_slice(part));
            all.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::{CONTENT_TYPE, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::{Dialect, Kind, Usage};

    const HI: &str =
        r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#;
    const STOP: &str =
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
    const FILTER: &str = r#"{"choices":[],"prompt_filter_results":[],"usage":null}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}"#;

    fn stream(data: &[&str], line: &str) -> String {
        let event = |data: &&str| format!("data: {data}{line}{line}");
        data.iter().map(event).collect()
    }

    fn passed(text: &str, cuts: &[usize]) -> (String, Option<Usage>, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let meter = Meter::new(Dialect::OpenAi, Kind::Chat, &headers);
        let mut meter = meter.without_usage_event();
        let mut out = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            let part = Bytes::copy_from_slice(&text.as_bytes()[from..cut]);
            from = cut;
            out.extend_from_slice(&meter.pass(part));
        }
        let rest = meter.rest();
        let reading = meter.finish();
        if !reading.ends_unasked {
            out.extend_from_slice(&rest);
        }
        (
            String::from_utf8(out).unwrap(),
            reading.usage,
            reading.complete,
        )
    }

    #[test]
    fn the_event_goes_and_all_else_stays_wherever_the_stream_is_cut() {
        let usage = Usage {
            input: 3,
            output: 7,
            cached: 0,
        };
        for line in ["\n", "\r\n", "\r"] {
            let whole = stream(&[FILTER, HI, STOP, USAGE, "[DONE]"], line);
            let whole = format!(": hello{line}{line}{whole}");
            let without = whole.replace(&stream(&[USAGE], line), "");
            assert_ne!(whole, without);
            for first in 0..=whole.len() {
                for second in (first..=whole.len()).step_by(7).chain([whole.len()]) {
                    let (out, read, complete) = passed(&whole, &[first, second]);
                    assert_eq!(out, without, "cut at {first} and {second}, {line:?}");
                    assert_eq!((read, complete), (Some(usage), true));
                }
            }
            let each: Vec<usize> = (1..whole.len()).collect();
            assert_eq!(passed(&whole, &each).0, without, "byte by byte, {line:?}");
        }
    }

    #[test]
    fn the_event_goes_also_where_its_blank_line_is_missing() {
        for line in ["\n", "\r\n", "\r"] {
            let before = stream(&[HI, STOP], line);
            for end in [line, ""] {
                let whole = format!("{before}data: {USAGE}{end}");
                for cut in 0..=whole.len() {
                    let (out, read, _) = passed(&whole, &[cut]);
                    assert_eq!(out, before, "cut at {cut}, {line:?}");
                    assert!(read.is_some());
                }
            }
            let half = format!("{before}data: {}{line}", &USAGE[..30]);
            assert_eq!(passed(&half, &[]).0, half, "what it is nobody knows");
        }
    }

    #[test]
    fn what_says_more_than_the_usage_stays() {
        let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":7}}"#;
        let error = r#"{"choices":[],"usage":{"prompt_tokens":3},"error":{"message":"x"}}"#;
        for events in [
            &[HI, last, "[DONE]"][..],
            &[FILTER, HI, STOP, "[DONE]"],
            &[HI, STOP, error],
            // Before the end it may be of use to somebody.
            &[HI, USAGE, STOP, "[DONE]"],
            &[HI, STOP, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3"],
        ] {
            let whole = stream(events, "\n");
            assert_eq!(passed(&whole, &[]).0, whole);
        }
    }

    proptest! {
        #[test]
        fn a_stream_without_the_event_passes_as_it_is(
            text in "(data: \\{\"a\":1\\}|:|data|\\[DONE\\]|x|\r|\n|\r\n|\n\n){0,40}",
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.sort_unstable();
            prop_assert_eq!(passed(&text, &cuts).0, text);
        }
    }
}
