//! What the meter reads from each answer in `tests/fixtures`, however its bytes are cut.

use std::path::{Path, PathBuf};

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// File, kind of call, tokens (input/output/cached), how it ended, what its error says.
const READINGS: &str = "
    openai/chat.sse                     Chat        1100/42/1024    complete    -
    openai/chat-no-usage.sse            Chat        -               complete    -
    openai/chat-cut.sse                 Chat        -               cut         -
    openai/chat-error.sse               Chat        -               cut         server_error
    openai/chat-error-rate-limit.sse    Chat        -               complete    rate_limit_exceeded,tokens
    openai/responses.sse                Responses   1100/42/1024    complete    -
    openai/responses-incomplete.sse     Responses   1100/42/1024    complete    -
    openai/responses-failed.sse         Responses   -               cut         rate_limit_exceeded
    openai/responses-error.sse          Responses   -               cut         server_error
    openai/responses-overloaded.sse     Responses   -               cut         server_is_overloaded,service_unavailable_error
    openai/responses-cut.sse            Responses   -               cut         -
    openai/chat.json                    Chat        1100/42/1024    complete    -
    openai/chat-error.json              Chat        -               complete    502
    openai/embeddings.json              Embeddings  8/0/0           complete    -
    openai/responses.json               Responses   1100/42/1024    complete    -
    anthropic/messages.sse              Messages    1100/42/1024    complete    -
    anthropic/messages-cut.sse          Messages    1100/15/1024    cut         -
    anthropic/messages-overloaded.sse   Messages    1100/1/1024     cut         overloaded_error
    anthropic/messages-api-error.sse    Messages    1100/1/1024     cut         api_error
    anthropic/messages.json             Messages    1100/42/1024    complete    -
    anthropic/count_tokens.json         CountTokens -               complete    -
    gemini/generate.sse                 Generate    1100/42/1024    complete    -
    gemini/generate-cut.sse             Generate    1100/0/0        cut         -
    gemini/generate-blocked.sse         Generate    12/0/0          complete    -
    gemini/generate-error.sse           Generate    1100/0/0        cut         503,UNAVAILABLE
    gemini/generate.json                Generate    1100/42/1024    complete    -
    gemini/generate-array.json          Generate    1100/42/1024    complete    -
    gemini/generate-array-cut.json      Generate    1100/42/1024    cut         -
";

/// One line of [`READINGS`] and the bytes it is about.
struct Fixture {
    name: &'static str,
    dialect: Dialect,
    kind: Kind,
    expected: String,
    bytes: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixtures() -> Vec<Fixture> {
    let kinds = [
        Kind::Chat,
        Kind::Responses,
        Kind::Embeddings,
        Kind::Messages,
        Kind::CountTokens,
        Kind::Generate,
    ];
    let lines = READINGS
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            Fixture {
                name: words[0],
                dialect: Dialect::ALL
                    .into_iter()
                    .find(|dialect| words[0].starts_with(dialect.name()))
                    .unwrap(),
                kind: kinds
                    .into_iter()
                    .find(|kind| format!("{kind:?}") == words[1])
                    .unwrap(),
                expected: words[2..].join(" "),
                bytes: std::fs::read(folder().join(words[0])).unwrap(),
            }
        })
        .collect()
}

impl Fixture {
    fn meter(&self) -> Meter {
        let media = if self.name.ends_with(".sse") {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        };
        meter(self.dialect, self.kind, media)
    }

    fn read<'b>(&self, chunks: impl IntoIterator<Item = &'b [u8]>) -> String {
        described(read(self.meter(), chunks))
    }
}

fn meter(dialect: Dialect, kind: Kind, media: &'static str) -> Meter {
    Meter::new(
        dialect,
        kind,
        &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]),
    )
}

fn read<'b>(mut meter: Meter, chunks: impl IntoIterator<Item = &'b [u8]>) -> Reading {
    for chunk in chunks {
        meter.pass(Bytes::copy_from_slice(chunk));
        assert!(meter.kept() <= Meter::MOST_KEPT, "memory is bounded");
    }
    meter.finish()
}

/// A reading in the words of [`READINGS`].
fn described(reading: Reading) -> String {
    let usage = reading.usage.map_or("-".to_owned(), |usage| {
        format!("{}/{}/{}", usage.input, usage.output, usage.cached)
    });
    let end = if reading.complete { "complete" } else { "cut" };
    let error = reading.error.map_or("-".to_owned(), |error| {
        let error = error.read();
        let number = error.number.map(|number| number.to_string());
        number
            .into_iter()
            .chain(error.words().map(str::to_owned))
            .collect::<Vec<_>>()
            .join(",")
    });
    format!("{usage} {end} {error}")
}

#[test]
fn every_answer_is_read_as_the_table_says() {
    for fixture in fixtures() {
        assert_eq!(
            fixture.read([fixture.bytes.as_slice()]),
            fixture.expected,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn no_answer_is_left_out_of_the_table() {
    for vendor in Dialect::ALL {
        for entry in std::fs::read_dir(folder().join(vendor.name())).unwrap() {
            let name = format!(
                "{}/{}",
                vendor.name(),
                entry.unwrap().file_name().into_string().unwrap()
            );
            let listed = READINGS.split_whitespace().any(|word| word == name);
            assert!(
                listed || name.ends_with(".http"),
                "{name} is not in the table"
            );
        }
    }
}

#[test]
fn every_split_of_every_answer_gives_the_same_reading() {
    for fixture in fixtures() {
        for split in 0..=fixture.bytes.len() {
            let (head, tail) = fixture.bytes.split_at(split);
            assert_eq!(
                fixture.read([head, tail]),
                fixture.expected,
                "{} at {split}",
                fixture.name
            );
        }
        assert_eq!(
            fixture.read(fixture.bytes.chunks(1)),
            fixture.expected,
            "{}",
            fixture.name
        );
    }
}

#[test]
fn line_ends_do_not_matter() {
    for mut fixture in fixtures()
        .into_iter()
        .filter(|fixture| fixture.name.ends_with(".sse"))
    {
        let text = String::from_utf8(fixture.bytes)
            .unwrap()
            .replace("\r\n", "\n");
        for end in ["\n", "\r", "\r\n"] {
            fixture.bytes = text.replace('\n', end).into_bytes();
            assert_eq!(
                fixture.read([fixture.bytes.as_slice()]),
                fixture.expected,
                "{} {end:?}",
                fixture.name
            );
            assert_eq!(
                fixture.read(fixture.bytes.chunks(3)),
                fixture.expected,
                "{} {end:?}",
                fixture.name
            );
        }
    }
}

#[test]
fn an_end_without_its_last_blank_line_is_an_end() {
    let stream = b"data: {\"choices\":[{\"finish_reason\":null}]}\n\ndata: [DONE]";
    assert!(
        read(
            meter(Dialect::OpenAi, Kind::Chat, "text/event-stream"),
            [&stream[..]]
        )
        .complete
    );
    let stop = b"event: message_stop\ndata: {\"type\":\"message_stop\"}";
    assert!(
        read(
            meter(Dialect::Anthropic, Kind::Messages, "text/event-stream"),
            [&stop[..]]
        )
        .complete
    );
    let cut = b"event: message_stop\ndata: {\"type\":\"message_stop\"";
    assert!(
        !read(
            meter(Dialect::Anthropic, Kind::Messages, "text/event-stream"),
            [&cut[..]]
        )
        .complete
    );
}

#[test]
fn an_error_that_the_client_does_not_get_to_see_ends_nothing() {
    let sse = |stream: &str| {
        let meter = meter(Dialect::OpenAi, Kind::Responses, "text/event-stream");
        read(meter, [stream.as_bytes()])
    };
    let cut = sse(r#"data: {"type":"response.failed","response":{"error":{"code":"x"}"#);
    assert!(cut.error.is_some() && !cut.is_over());
    let whole = sse(r#"data: {"type":"response.failed","response":{"error":{"code":"x"}}}"#);
    assert!(whole.error.is_some() && whole.is_over());
    let bare = sse("data: {\"type\":\"response.failed\",\"response\":{\"error\":null}}\n\n");
    assert!(
        bare.error.is_some() && bare.is_over(),
        "a second one must not follow"
    );
    let later = sse("data: {\"error\":{\"code\":\"x\"}\n\ndata: {\"type\":\"other\"}\n\n");
    assert!(
        later.error.is_some() && !later.is_over(),
        "that was another event"
    );
}

#[test]
fn what_states_nothing_takes_nothing_back() {
    let stream = "data: {\"usage\":{\"prompt_tokens\":7}}\n\ndata: {\"usage\":{}}\n\n";
    let meter = meter(Dialect::OpenAi, Kind::Chat, "text/event-stream");
    assert_eq!(read(meter, [stream.as_bytes()]).usage.unwrap().input, 7);
}

#[test]
fn half_a_byte_order_mark_is_no_end_of_an_event() {
    let mut meter = meter(Dialect::OpenAi, Kind::Chat, "text/event-stream");
    assert_eq!(meter.pass(Bytes::from_static(b"\xef\xbb")), "");
    assert_eq!(
        meter.pass(Bytes::from_static(b"x: y\n\n")),
        &b"\xef\xbbx: y\n\n"[..]
    );
}

#[test]
fn a_usage_too_long_to_keep_is_not_counted_and_an_error_too_long_is_still_one() {
    let long = "x".repeat(scan::LONGEST);
    let stream = format!(
        "data: {{\"usage\":{{\"prompt_tokens\":7,\"x\":\"{long}\"}},\"error\":{{\"message\":\"{long}\"}}}}\n\n"
    );
    for size in [1, 1000, stream.len()] {
        let reading = read(
            meter(Dialect::OpenAi, Kind::Chat, "text/event-stream"),
            stream.as_bytes().chunks(size),
        );
        assert_eq!(reading.usage, None);
        assert_eq!(reading.error.unwrap().read(), VendorError::default());
    }
}

#[test]
fn where_a_stream_of_responses_stands_is_known_from_any_split() {
    let bytes = std::fs::read(folder().join("openai/responses-cut.sse")).unwrap();
    for size in 1..200 {
        let meter = meter(Dialect::OpenAi, Kind::Responses, "text/event-stream");
        let begun = read(meter, bytes.chunks(size)).begun;
        assert_eq!(begun.id.as_deref(), Some(&br#""resp_68a1""#[..]), "{size}");
        assert_eq!(begun.sequence, Some(40), "{size}");
    }
}

/// Several answers at once: the end of one is not the end.
#[test]
fn all_of_several_answers_must_end() {
    let chat = |index: u32, reason: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let candidate = |index: u32, end: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{}}{end},\"index\":{index}}}]}}\n\n")
    };
    let (stop, none) = ("\"stop\"", "null");
    let ended = ",\"finishReason\":\"STOP\"";
    let openai = [
        (vec![chat(0, stop)], true),
        (vec![chat(0, none), chat(1, none), chat(0, stop)], false),
        (vec![chat(0, stop), chat(1, none)], false),
        (vec![chat(1, none), chat(0, stop), chat(1, stop)], true),
        (
            vec![chat(0, stop), chat(1, none), "data: [DONE]\n\n".to_owned()],
            true,
        ),
    ];
    let gemini = [
        (vec![candidate(0, ended), candidate(1, "")], false),
        (vec![candidate(1, ended), candidate(0, ended)], true),
    ];
    let openai = openai.map(|case| (Dialect::OpenAi, Kind::Chat, case));
    let gemini = gemini.map(|case| (Dialect::Gemini, Kind::Generate, case));
    for (dialect, kind, (events, complete)) in openai.into_iter().chain(gemini) {
        let reading = read(
            meter(dialect, kind, "text/event-stream"),
            [events.concat().as_bytes()],
        );
        assert_eq!(reading.complete, complete, "{events:?}");
    }
}

#[test]
fn half_an_event_behind_the_end_is_told_from_a_whole_one() {
    let end = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    for (rest, is_whole) in [
        ("", true),
        ("data: {\"usage\":{\"prompt_to", false),
        ("data: {\"usage\":null}\n", true),
        ("data: [DONE]", true),
        ("data: [DO", false),
    ] {
        let stream = format!("{end}{rest}");
        let reading = read(
            meter(Dialect::OpenAi, Kind::Chat, "text/event-stream"),
            [stream.as_bytes()],
        );
        assert!(reading.complete);
        assert_eq!(reading.ends_whole, is_whole, "{rest}");
    }
}

#[test]
fn an_error_within_a_document_is_kept_back_until_it_is_whole() {
    let mut meter = meter(Dialect::OpenAi, Kind::Chat, "application/json");
    let mut pass = |text: &'static str| {
        let passed = meter.pass(text.into());
        (
            String::from_utf8(passed.to_vec()).unwrap(),
            meter.tells_error(),
        )
    };
    assert_eq!(pass("{\"id\":1,"), ("{\"id\":1,".to_owned(), false));
    assert_eq!(
        pass("\"error\":{\"message\":\"bad sk-"),
        (String::new(), false)
    );
    assert_eq!(pass("1234\""), (String::new(), false));
    let all = "\"error\":{\"message\":\"bad sk-1234\"}}";
    assert_eq!(pass("}}"), (all.to_owned(), true));
}

#[test]
fn an_answer_that_cannot_be_read_is_not_judged() {
    let mut headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let unread = Reading {
        complete: true,
        ends_whole: true,
        ..Reading::default()
    };
    assert_eq!(
        read(
            Meter::new(Dialect::OpenAi, Kind::Chat, &headers),
            [&b"{\"error\":1"[..]]
        ),
        unread
    );
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    headers.append(CONTENT_ENCODING, HeaderValue::from_static("br"));
    assert_eq!(
        read(
            Meter::new(Dialect::OpenAi, Kind::Chat, &headers),
            [&b"{\"error\":1"[..]]
        ),
        unread
    );
    assert_eq!(
        read(
            meter(Dialect::OpenAi, Kind::Chat, "audio/mpeg"),
            [&b"{\"error\":1"[..]]
        ),
        unread
    );
}

#[test]
fn what_a_stream_has_written_is_its_text_and_not_what_is_around_it() {
    let chunk = |delta: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-123456789","object":"chat.completion.chunk","created":1,"model":"gpt-5","service_tier":"default","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}]}}"#
        )
    };
    let long = "x".repeat(10_000);
    for (dialect, kind, events, expected) in [
        (Dialect::OpenAi, Kind::Chat, [chunk(r#"{"content":" a \"b\""}"#), chunk(r#"{"role":"assistant","content":""}"#)], 8 + 9),
        (Dialect::OpenAi, Kind::Chat, [chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1"}}]}"#), chunk("{}")], 8),
        (Dialect::OpenAi, Kind::Completions, [r#"data: {"choices":[{"text":"four"}]}"#.into(), "data: [DONE]".into()], 4),
        (Dialect::OpenAi, Kind::Responses, [r#"data: {"type":"response.output_text.delta","delta":"seven !"}"#.into(), "data: {}".into()], 7),
        (Dialect::Anthropic, Kind::Messages, [r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"twelve bytes"}}"#.into(), r#"data: {"type":"ping"}"#.into()], 12),
        (Dialect::Gemini, Kind::Generate, [r#"data: {"candidates":[{"content":{"parts":[{"text":"nine byte"}],"role":"model"}}]}"#.into(), "data: {}".into()], 9),
    ] {
        let text: String = events.iter().map(|event| format!("{event}\n\n")).collect();
        for size in [1, 7, 4096] {
            let reading = read(meter(dialect, kind, "text/event-stream"), text.as_bytes().chunks(size));
            assert_eq!(reading.written, Some(expected), "{text}");
        }
    }
    let text = format!("{}\n\n", chunk(&format!(r#"{{"content":"{long}"}}"#)));
    let reading = read(
        meter(Dialect::OpenAi, Kind::Chat, "text/event-stream"),
        text.as_bytes().chunks(999),
    );
    assert!((10_000..10_400).contains(&reading.written.unwrap()));
    let document = read(
        meter(Dialect::OpenAi, Kind::Chat, "application/json"),
        [text.as_bytes()],
    );
    assert_eq!(document.written, None);
}

proptest! {
    #[test]
    fn random_splits_never_matter(which in 0_usize..28, sizes in prop::collection::vec(1_usize..200, 1..50)) {
        let fixture = fixtures().swap_remove(which);
        let mut rest = fixture.bytes.as_slice();
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            chunks.push(head);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(fixture.read(chunks), fixture.expected, "{}", fixture.name);
    }

    /// Random bytes with a taste for JSON's and SSE's own.
    #[test]
    fn nothing_a_stream_may_hold_does_harm(pieces in prop::collection::vec(prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20).boxed(),
        "[\\[\\]{}\",:\\\\ \r\n0-9a-z]{0,20}".prop_map(String::into_bytes).boxed(),
        prop::sample::select(vec!["data:", "\n\n", "\"usage\":{", "\"error\":[", "{\"choices\":[", "\"type\":\"error\"", "[DONE]"])
            .prop_map(|text| text.as_bytes().to_vec()).boxed(),
    ], 0..60), size in 1_usize..40) {
        let bytes = pieces.concat();
        for (dialect, kind) in [(Dialect::OpenAi, Kind::Chat), (Dialect::OpenAi, Kind::Responses), (Dialect::Anthropic, Kind::Messages), (Dialect::Gemini, Kind::Generate)] {
            for media in ["text/event-stream", "application/json"] {
                let whole = read(meter(dialect, kind, media), [bytes.as_slice()]);
                prop_assert_eq!(read(meter(dialect, kind, media), bytes.chunks(size)), whole);
            }
        }
    }

    #[test]
    fn long_garbage_takes_no_memory(unit in "[\\[{\"a:,\\\\]{1,8}") {
        let bytes = unit.repeat(64 * 1024 / unit.len());
        read(meter(Dialect::OpenAi, Kind::Chat, "application/json"), bytes.as_bytes().chunks(4096));
        read(meter(Dialect::Gemini, Kind::Generate, "text/event-stream"), format!("data: {bytes}").as_bytes().chunks(4096));
    }
}
