//! The same at the level of bytes: every place a stream can be cut at, in each framing of HTTP/1.1;
//! answers that are odd but whole, or compressed, pass untouched.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::{SHAPES, Shape};
use crate::support::{Gateway, Verbatim, chat};

/// The recorded stream of each of [`SHAPES`], and what is in one that has come to its end.
const STREAMS: [(&str, &str); 4] = [
    ("openai/chat.sse", "\"finish_reason\":\"stop\""),
    ("openai/responses.sse", "\"type\":\"response.completed\""),
    ("anthropic/messages.sse", "\"type\":\"message_stop\""),
    ("gemini/generate.sse", "\"finishReason\""),
];

/// How the end of a body is told.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    Length,
    Close,
}

const FRAMINGS: [Framing; 3] = [Framing::Chunked, Framing::Length, Framing::Close];

impl Framing {
    /// An answer whose body would be `length` long, of which these bytes come.
    fn answer(self, headers: &str, bytes: &[u8], length: usize) -> Vec<u8> {
        let whole = bytes.len() == length;
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\nconnection: close\r\n").into_bytes();
        let rest = match self {
            Framing::Length => [
                format!("content-length: {length}\r\n\r\n").as_bytes(),
                bytes,
            ]
            .concat(),
            Framing::Close => [b"\r\n", bytes].concat(),
            Framing::Chunked => {
                let size = format!(
                    "transfer-encoding: chunked\r\n\r\n{:x}\r\n",
                    bytes.len().max(1)
                );
                let end: &[u8] = if whole { b"\r\n0\r\n\r\n" } else { b"" };
                [size.as_bytes(), bytes, end].concat()
            }
        };
        [head, rest].concat()
    }
}

const SSE: &str = "content-type: text/event-stream";

struct House {
    vendor: Verbatim,
    gateway: Gateway,
}

fn house() -> House {
    let vendor = Verbatim::start();
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{breaker: {{enabled: false}}, accounts: [{{id: a0, upstream: \"{}\"}}]}}}}",
        vendor.url()
    ));
    House { vendor, gateway }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("tests/fixtures").join(name)).unwrap()
}

impl House {
    /// The bytes that a client gets, and whether they come to a proper end.
    fn seen(&self, shape: &Shape, id: &str, answer: Vec<u8>) -> (Vec<u8>, bool) {
        self.vendor.say(answer);
        let request = (shape.request)().header("x-request-id", id);
        let mut reply = request.open(self.gateway.address).unwrap();
        assert_eq!(reply.head.status, 200, "{id}");
        let mut seen = vec![];
        loop {
            match reply.piece() {
                Ok(Some(piece)) => seen.extend(piece),
                end => return (seen, end.is_ok()),
            }
        }
    }
}

/// What of a stream is before the event that is open at its end.
fn whole_events(bytes: &[u8]) -> &[u8] {
    let ends = |end: &usize| {
        let came = &bytes[..*end];
        [&b"\n\n"[..], b"\r\n\r", b"\r\n\r\n"]
            .iter()
            .any(|blank| came.ends_with(blank))
    };
    &bytes[..(0..=bytes.len()).rev().find(ends).unwrap_or(0)]
}

#[test]
fn wherever_a_stream_is_cut_what_came_is_whole_events_and_then_the_error() {
    let house = house();
    for (shape, (file, end)) in SHAPES.iter().zip(STREAMS) {
        let stream = fixture(file);
        // Each framing at every third place: a prime step meets every kind of place.
        for (n, cut) in (0..stream.len()).step_by(13).enumerate() {
            let framing = FRAMINGS[n % 3];
            let id = format!("{}-{cut}-{framing:?}", shape.name);
            let came = &stream[..cut];
            let (seen, ended) = house.seen(shape, &id, framing.answer(SSE, came, stream.len()));
            assert!(ended, "{id}");
            let whole = whole_events(came);
            let has_end = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(end);
            // Behind the end half an event would only be something to stumble on.
            if has_end(came) && seen == came || has_end(whole) && seen == whole {
                continue;
            }
            let text = String::from_utf8_lossy(&seen).into_owned();
            let error = seen
                .strip_prefix(whole)
                .unwrap_or_else(|| panic!("{id}: {text}"));
            let error = String::from_utf8_lossy(error);
            assert_eq!(error.matches("\n\n").count(), 1, "{id}: {text}");
            assert!(
                error.ends_with("\n\n") && error.contains("broke off"),
                "{id}: {text}"
            );
        }
    }
}

#[test]
fn a_whole_stream_comes_byte_for_byte_however_it_is_framed_and_however_often_it_ends() {
    let house = house();
    for (shape, (file, end)) in SHAPES.iter().zip(STREAMS) {
        let stream = fixture(file);
        let text = String::from_utf8(stream.clone()).unwrap();
        let blank = if text.contains('\r') {
            "\r\n\r\n"
        } else {
            "\n\n"
        };
        let finish = text
            .split_inclusive(blank)
            .find(|event| event.contains(end))
            .unwrap();
        let twice = text.replace(finish, &finish.repeat(2));
        let without_done = text.replace("data: [DONE]\n\n", "");
        let unended = text.trim_end().to_owned();
        for (n, stream) in [text, twice, without_done, unended].into_iter().enumerate() {
            for framing in FRAMINGS {
                let id = format!("{}-{n}-{framing:?}", shape.name);
                let answer = framing.answer(SSE, stream.as_bytes(), stream.len());
                let (seen, ended) = house.seen(shape, &id, answer);
                assert!(ended, "{id}");
                assert_eq!(String::from_utf8(seen).unwrap(), stream, "{id}");
                assert_eq!(house.gateway.tries(&id), "a0:success", "{id}");
            }
        }
    }
}

#[test]
fn an_event_longer_than_any_buffer_comes_whole_and_a_cut_in_it_is_told() {
    let house = house();
    let long = "x".repeat(300_000);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n");
    let stream = format!("{event}data: [DONE]\n\n");
    let [chat, ..] = &SHAPES;
    let answer = |came: &str| Framing::Chunked.answer(SSE, came.as_bytes(), stream.len());
    let (seen, ended) = house.seen(chat, "long", answer(&stream));
    assert!(ended && seen == stream.as_bytes());
    let (seen, ended) = house.seen(chat, "long-cut", answer(&stream[..200_000]));
    assert!(ended);
    let text = String::from_utf8(seen).unwrap();
    let (came, error) = text.rsplit_once("\n\ndata: ").unwrap();
    assert_eq!(came, &stream[..200_000]);
    assert!(error.contains("broke off"), "{error}");
}

#[test]
fn a_compressed_answer_passes_untouched_and_unmetered_and_a_broken_one_is_just_cut() {
    let house = house();
    let bytes: Vec<u8> = (0..4000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    for shape in &SHAPES {
        for encoding in ["gzip", "br", "zstd"] {
            let headers = format!("{SSE}\r\ncontent-encoding: {encoding}");
            for framing in FRAMINGS {
                let id = format!("{}-{encoding}-{framing:?}", shape.name);
                let (seen, ended) = house.seen(shape, &id, framing.answer(&headers, &bytes, 4000));
                assert!(ended && seen == bytes, "{id}");
                assert_eq!(house.gateway.tries(&id), "a0:success", "{id}");
            }
            for framing in [Framing::Chunked, Framing::Length] {
                let id = format!("{}-{encoding}-{framing:?}-cut", shape.name);
                let answer = framing.answer(&headers, &bytes[..1500], 4000);
                let (seen, ended) = house.seen(shape, &id, answer);
                assert!(!ended && bytes.starts_with(&seen), "{id}");
                assert_eq!(house.gateway.tries(&id), "a0:broken_stream", "{id}");
            }
        }
    }
    assert_eq!(house.gateway.metric("poolgate_tokens_total", &[]), 0.0);
}

#[test]
fn an_answer_in_one_piece_that_is_cut_is_cut_for_the_client_too() {
    let house = house();
    let answer = fixture("openai/chat.json");
    for framing in [Framing::Chunked, Framing::Length] {
        let headers = "content-type: application/json";
        let half = &answer[..answer.len() / 2];
        house
            .vendor
            .say(framing.answer(headers, half, answer.len()));
        let id = format!("{framing:?}");
        let request = chat(false).header("x-request-id", &id);
        assert!(request.try_send(house.gateway.address).is_err(), "{id}");
        assert_eq!(house.gateway.tries(&id), "a0:broken_stream");
    }
}

#[test]
fn the_words_behind_a_status_stay_as_the_vendor_wrote_them() {
    let House { vendor, gateway } = house();
    for words in [
        "200 Fine By Me",
        "200 OK",
        "201 OK",
        "404 Never Heard Of It",
    ] {
        vendor.say(format!(
            "HTTP/1.1 {words}\r\nX-Own: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        let request = chat(false).header("connection", "close");
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.write_all(&request.bytes(gateway.address)).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let status = answer.lines().next().unwrap();
        assert_eq!(status, format!("HTTP/1.1 {words}"), "{answer}");
    }
}
