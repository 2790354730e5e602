//! The reader of answers: it gives the same however the bytes are cut, event by event, and for a
//! JSON document finds what a full parser finds; nothing is lost, and little is kept.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use poolgate::dialect::{Begun, Dialect, Kind, Meter, Reading, Reject};

use super::document;
use super::events::events;

const CALLS: [(Dialect, Kind); 4] = [
    (Dialect::OpenAi, Kind::Chat),
    (Dialect::OpenAi, Kind::Responses),
    (Dialect::Anthropic, Kind::Messages),
    (Dialect::Gemini, Kind::Generate),
];
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

pub(crate) fn check(bytes: &[u8]) {
    // More says nothing new and takes its time.
    let bytes = &bytes[..bytes.len().min(8 * 1024)];
    for (dialect, kind) in CALLS {
        for media in [SSE, JSON] {
            let meter = || meter(dialect, kind, media);
            let whole = read(meter(), [bytes]);
            for size in [1, 2 + bytes.len() % 5, 7 + bytes.len() / 3] {
                assert_eq!(
                    read(meter(), bytes.chunks(size)),
                    whole,
                    "in pieces of {size}"
                );
            }
        }
        each_event_stands_for_itself(dialect, kind, bytes);
        document::check(dialect, kind, bytes, |bytes| {
            read(meter(dialect, kind, JSON), [bytes])
        });
    }
}

fn meter(dialect: Dialect, kind: Kind, media: &'static str) -> Meter {
    let media = (CONTENT_TYPE, HeaderValue::from_static(media));
    Meter::new(dialect, kind, &HeaderMap::from_iter([media]))
}

/// Reads, and looks at what is passed on meanwhile.
fn read<'b>(mut meter: Meter, chunks: impl IntoIterator<Item = &'b [u8]>) -> Reading {
    let (mut came, mut passed) = (vec![], vec![]);
    for chunk in chunks {
        came.extend_from_slice(chunk);
        passed.extend_from_slice(&meter.pass(Bytes::copy_from_slice(chunk)));
        assert!(
            meter.kept() <= Meter::MOST_KEPT,
            "{} bytes are kept",
            meter.kept()
        );
    }
    if meter.is_event_stream() {
        an_error_event_can_follow(&passed, meter.is_torn());
    }
    passed.extend_from_slice(&meter.rest());
    assert_eq!(passed, came, "nothing is lost or altered");
    meter.finish()
}

/// A client sees an event of ours behind what was passed on, and before it no half one.
fn an_error_event_can_follow(passed: &[u8], torn: bool) {
    let gap: &[u8] = if torn { b"\n\n" } else { b"" };
    let begun = Begun::default();
    let ours = Reject::broken_stream().stream_event(Dialect::OpenAi, Kind::Chat, &begun);
    let told = events(&[passed, gap, &ours].concat());
    let (last, before) = told.split_last().unwrap();
    assert_eq!(vec![last.clone()], events(&ours));
    assert_eq!(before, events(passed));
}

/// What a stream says is what its events say one by one: nothing is put together from two.
fn each_event_stands_for_itself(dialect: Dialect, kind: Kind, bytes: &[u8]) {
    let alone = |data: &Vec<u8>| {
        let lines = data.split(|byte| *byte == b'\n');
        let lines = lines.flat_map(|line| [b"data: ", line, b"\n"].concat());
        let event: Vec<u8> = lines.chain(*b"\n").collect();
        read(meter(dialect, kind, SSE), [&event[..]])
    };
    let readings: Vec<Reading> = events(bytes).iter().map(alone).collect();
    let whole = read(meter(dialect, kind, SSE), [bytes]);
    let error = readings.iter().find_map(|reading| reading.error.clone());
    assert_eq!(whole.error, error, "the first error stays");
    // Of several answers in one the last one counts, which no event tells by itself.
    if kind == Kind::Responses || dialect == Dialect::Anthropic {
        let complete = readings.iter().any(|reading| reading.complete);
        assert_eq!(whole.complete, complete);
        assert_eq!(whole.is_over(), readings.iter().any(Reading::is_over));
    }
    let mut stated = readings.iter().filter_map(|reading| reading.usage);
    match (dialect, whole.usage) {
        // Its counts are cumulative, and a later event may leave some out.
        (Dialect::Anthropic, Some(usage)) => {
            let stated: Vec<_> = stated.collect();
            let is_stated = |number: u64, said: &[u64]| number == 0 || said.contains(&number);
            let outputs: Vec<u64> = stated.iter().map(|usage| usage.output).collect();
            let cached: Vec<u64> = stated.iter().map(|usage| usage.cached).collect();
            assert!(is_stated(usage.output, &outputs), "{usage:?} of {stated:?}");
            // An event may state the cached ones alone, which by itself is no usage.
            assert!(
                stated.is_empty() || usage.cached <= usage.input,
                "{usage:?} {cached:?}"
            );
        }
        (_, usage) => assert_eq!(usage, stated.next_back(), "the last statement counts"),
    }
}
