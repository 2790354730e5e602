//! HTTP/2 from hostile clients: floods and bombs cost them their connection and the gateway little;
//! what cannot be said in HTTP/1 never reaches an upstream.

use std::fs;
use std::time::Duration;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, End, HEADERS, INITIAL_WINDOW_SIZE, NEWEST,
    PING, PREFACE, Peer, RST_STREAM, SETTINGS, field, frame, remembered, request,
};
use super::{Upstream, gateway_over};
use crate::support::{Gateway, Mock, chat, pool, wait_for};

/// A request as a frame of its own.
fn get(stream: u32) -> Vec<u8> {
    let head = request("GET", "/v1/models");
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}

/// A number of bytes in `/proc/PID/status`.
fn memory(gateway: &Gateway, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

/// Attackers at once.
const ATTACKERS: usize = 4;

/// Lets several attackers at one gateway, each with so many connections one after the other, on which
/// it sends `attack` after its settings as far as the server lets it. Others are served meanwhile and
/// after; memory stays low, and gauges come back to zero.
#[track_caller]
fn withstands(connections: usize, attack: impl Fn(&mut dyn FnMut(&[u8]) -> bool) + Sync) {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&format!(
        "clients: {{keepalive: 2s, header_timeout: 2s}}\nlog: {{access: false}}\n{}",
        pool(&vendors, "")
    ));
    let served = || assert_eq!(gateway.send(&chat(false)).status, 200);
    served();
    let before = memory(&gateway, "VmRSS:");
    let attacker = || {
        for _ in 0..connections {
            let mut peer = Peer::open(gateway.address, &[]);
            let reader = peer.read_on();
            attack(&mut |frames| peer.send(frames).is_ok());
            reader.join().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(attacker)).collect();
        while !attackers.iter().all(|attacker| attacker.is_finished()) {
            served();
        }
    });
    served();
    let grown = memory(&gateway, "VmHWM:").saturating_sub(before) >> 20;
    assert!(grown <= 64, "{grown} MiB more");
    wait_for("every gauge to be back at zero", || {
        let zero = |name| gateway.metric(name, &[]) == 0.0;
        (zero("poolgate_active_requests") && zero("poolgate_connections")).then_some(())
    });
}

#[test]
fn ten_thousand_requests_that_are_reset_at_once() {
    // The server hangs up on who does it on one connection; so it comes again.
    withstands(50, |send| {
        for n in 0..200 {
            let stream = 2 * n + 1;
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            if !send(&[get(stream), reset].concat()) {
                return;
            }
        }
    });
}

#[test]
fn a_head_in_frames_without_end() {
    withstands(1, |send| {
        let head = [request("GET", "/v1/models"), field("x", "y".repeat(16_000))].concat();
        let more = field("x", "y".repeat(16_000));
        if send(&frame(HEADERS, END_STREAM, 1, &head)) {
            let mut frames = std::iter::repeat_n(frame(CONTINUATION, 0, 1, &more), 10_000);
            while frames.next().is_some_and(|frame| send(&frame)) {}
        }
    });
}

#[test]
fn a_head_in_empty_frames_without_end() {
    withstands(1, |send| {
        if send(&frame(
            HEADERS,
            END_STREAM,
            1,
            &request("GET", "/v1/models"),
        )) {
            let hundred = frame(CONTINUATION, 0, 1, b"").repeat(100);
            let mut frames = std::iter::repeat_n(hundred, 10_000);
            while frames.next().is_some_and(|frames| send(&frames)) {}
        }
    });
}

#[test]
fn a_small_head_that_unpacks_to_a_large_one() {
    withstands(1, |send| {
        // 16 KiB on the wire stand for 64 MB, on each of a hundred streams.
        let seed = remembered("x-bomb", &"y".repeat(4000));
        let head = [request("GET", "/v1/models"), seed].concat();
        if !send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)) {
            return;
        }
        let bomb = [request("GET", "/v1/models"), vec![NEWEST; 16_000]].concat();
        let mut streams = (1..=100).map(|n| 2 * n + 1);
        while streams
            .next()
            .is_some_and(|stream| send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)))
        {
        }
    });
}

#[test]
fn pieces_of_a_body_with_nothing_in_them() {
    withstands(1, |send| {
        let head = request("POST", "/v1/chat/completions");
        if send(&frame(HEADERS, END_HEADERS, 1, &head)) {
            let hundred = frame(DATA, 0, 1, b"").repeat(100);
            let mut frames = std::iter::repeat_n(hundred, 2_000);
            while frames.next().is_some_and(|frames| send(&frames)) {}
            send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()));
        }
    });
}

#[test]
fn settings_and_pings_without_end() {
    withstands(1, |send| {
        let pair = [
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
            frame(PING, 0, 0, &[0; 8]),
        ]
        .concat();
        let mut frames = std::iter::repeat_n(pair.repeat(50), 1_000);
        while frames.next().is_some_and(|frames| send(&frames)) {}
    });
}

#[test]
fn pings_of_a_client_that_does_not_read() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "keepalive: 1s");
    let before = memory(&gateway, "VmRSS:");
    let mut peer = Peer::open(gateway.address, &[]);
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1_000);
    // Until its own answers, unread, keep the gateway from reading on, and it hangs up.
    let mut sent = 0;
    while peer.send(&pings).is_ok() {
        sent += pings.len();
        assert!(sent < 1 << 30, "a gigabyte of pings and nobody minds");
    }
    let grown = memory(&gateway, "VmHWM:").saturating_sub(before) >> 20;
    assert!(grown <= 64, "{grown} MiB more");
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

#[test]
fn a_client_that_opens_no_window_is_let_go_and_its_account_is_free() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "write_timeout: 500ms, keepalive: 1s");
    let mut peer = Peer::open(gateway.address, &[(INITIAL_WINDOW_SIZE, 0)]);
    let streams = (0..50).flat_map(|n| get(2 * n + 1));
    peer.send(&streams.collect::<Vec<u8>>()).unwrap();
    wait_for("the requests to be served", || {
        (upstream.requests() == 50).then_some(())
    });
    wait_for("the accounts to be free", || {
        (gateway.account("a")["in_flight"] == 0).then_some(())
    });
    assert_eq!(gateway.account("a")["failures"], 0);
    // With nothing going on any more the connection ends too.
    while peer.next().is_some() {}
}

#[test]
fn what_begins_must_end_in_time() {
    let upstream = Upstream::answering(|_| true);
    let gateway = gateway_over(&upstream, "header_timeout: 500ms, keepalive: 30s");
    let whole = frame(HEADERS, END_STREAM, 3, &request("GET", "/v1/models"));
    let unended = whole.clone();
    let half = whole[..whole.len() / 2].to_vec();
    for begun in [unended, half, whole[..5].to_vec()] {
        for first in [vec![], get(1)] {
            let mut peer = Peer::open(gateway.address, &[]);
            // Another request that waits for its answer is no excuse.
            peer.send(&[first, begun.clone()].concat()).unwrap();
            while peer.next().is_some() {}
        }
    }
    // Not even the preface comes to its end.
    let answer = super::slow::drip(
        std::net::TcpStream::connect(gateway.address).unwrap(),
        b"PRI ",
    );
    assert_eq!(super::status(&answer), 400, "{answer}");
    let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
    std::io::Write::write_all(&mut socket, &PREFACE[..20]).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let mut answer = vec![];
    std::io::Read::read_to_end(&mut socket, &mut answer).unwrap();
    assert_eq!(super::status(&String::from_utf8_lossy(&answer)), 408);
}

#[test]
fn the_limits_of_the_library_are_on() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let mut peer = Peer::open(gateway.address, &[]);
    let settings = std::iter::from_fn(|| peer.next())
        .find(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0)
        .unwrap();
    let setting = |name: u16| {
        let pairs = settings.payload.chunks(6);
        let mut named = pairs.filter(|pair| pair[..2] == name.to_be_bytes());
        named
            .next()
            .map(|pair| u32::from_be_bytes(pair[2..].try_into().unwrap()))
    };
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    assert_eq!(setting(MAX_CONCURRENT_STREAMS), Some(100));
    assert_eq!(setting(MAX_HEADER_LIST_SIZE), Some(64 << 10));
}

/// A head, and DATA behind it that ends the stream.
type Vector = (Vec<u8>, Option<&'static [u8]>);

fn with(more: &[Vec<u8>]) -> Vector {
    ([request("GET", "/v1/models"), more.concat()].concat(), None)
}

fn post(more: &[Vec<u8>], body: &'static [u8]) -> Vector {
    let head = request("POST", "/v1/chat/completions");
    ([head, more.concat()].concat(), Some(body))
}

fn path(path: &str) -> Vector {
    (request("GET", path), None)
}

/// Requests that are none in HTTP/2, or would be others in HTTP/1.
fn malformed() -> Vec<Vector> {
    let without = |name: &str| {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/v1/models"),
        ];
        let kept = fields.iter().filter(|(other, _)| *other != name);
        let head: Vec<_> = kept.map(|(name, value)| field(name, value)).collect();
        (head.concat(), None)
    };
    let late = [field("x", "y"), request("GET", "/v1/models")].concat();
    vec![
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        (late, None),
        with(&[field(":path", "/v1/other")]),
        with(&[field(":method", "POST")]),
        with(&[field(":authority", "other")]),
        with(&[field(":status", "200")]),
        with(&[field(":unknown", "x")]),
        with(&[field("host", "other")]),
        with(&[field("Upper-Case", "x")]),
        with(&[field("connection", "close")]),
        with(&[field("connection", "authorization")]),
        with(&[field("keep-alive", "timeout=5")]),
        with(&[field("proxy-connection", "keep-alive")]),
        with(&[field("upgrade", "websocket")]),
        with(&[field("transfer-encoding", "chunked")]),
        with(&[field("te", "gzip")]),
        with(&[field("x", "a\r\nsmuggled: yes")]),
        with(&[field("x", "a\nsmuggled: yes")]),
        with(&[field("x", "a\rb")]),
        with(&[field("x", "a\0b")]),
        with(&[field("x\r\nsmuggled", "yes")]),
        with(&[field("x y", "z")]),
        with(&[field("x:", "y")]),
        with(&[field("", "y")]),
        post(&[field("transfer-encoding", "chunked")], b"0\r\n\r\n"),
        post(&[field("content-length", "1")], b"{}"),
        post(&[field("content-length", "3")], b"{}"),
        post(
            &[field("content-length", "2"), field("content-length", "2")],
            b"{}",
        ),
        post(
            &[field("content-length", "2"), field("content-length", "3")],
            b"{}",
        ),
        post(&[field("content-length", "2, 2")], b"{}"),
        post(&[field("content-length", "+2")], b"{}"),
        post(&[field("content-length", "0x2")], b"{}"),
        path(""),
        path("v1/models"),
        path("*"),
        path("/v1/models HTTP/1.1\r\nsmuggled: yes"),
        path("/v1/models\r\nsmuggled: yes"),
        path("/v1/models\0"),
        path("/v1/../admin"),
        path("/v1/%2e%2e/admin"),
        path("//v1/models"),
        path("http://localhost/v1/models"),
        (request("GET /v1/models HTTP/1.1\r\nx:", "/v1/models"), None),
        (request("CONNECT", "/v1/models"), None),
        (request("TRACE", "/v1/models"), None),
        (request("", "/v1/models"), None),
        with(&[field("x", "y".repeat(40_000))]),
        with(&vec![field("x", "y"); 2000]),
        with(&vec![field("x", "y".repeat(1000)); 300]),
    ]
}

/// Sends a request on stream 1 of a connection of its own.
fn end_of(gateway: &Gateway, (head, body): &Vector) -> End {
    let mut peer = Peer::open(gateway.address, &[]);
    let last = if body.is_some() { 0 } else { END_STREAM };
    let mut pieces = head.chunks(16_000).enumerate().peekable();
    let mut frames = vec![];
    while let Some((n, piece)) = pieces.next() {
        let ends = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        frames.extend(match n {
            0 => frame(HEADERS, last | ends, 1, piece),
            _ => frame(CONTINUATION, ends, 1, piece),
        });
    }
    if let Some(body) = body {
        frames.extend(frame(DATA, END_STREAM, 1, body));
    }
    // It may hang up in the midst of it.
    let _ = peer.send(&frames);
    peer.end_of(1)
}

#[test]
fn what_is_no_request_is_refused_and_no_upstream_hears_of_it() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    for vector in malformed() {
        let name = vector.0.escape_ascii().to_string();
        let name = &name[..name.len().min(300)];
        let end = end_of(&gateway, &vector);
        let is_refused = match end {
            End::Status(status) => (400..=431).contains(&status),
            End::Reset(_) | End::Closed => true,
        };
        assert!(is_refused, "{name}: {end:?}");
        assert_eq!(upstream.heard(), "", "{name}");
    }
}

#[test]
fn what_is_a_request_is_served() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let most = "y".repeat(31_000);
    for vector in [
        with(&[]),
        with(&[
            field("te", "trailers"),
            field("empty", ""),
            field("x", "\u{e9}"),
        ]),
        with(&[field("host", "localhost"), field("x", most)]),
        with(&[field("cookie", "a=b"), field("cookie", "c=d")]),
        post(&[], b"{}"),
        post(&[field("content-length", "2")], b"{}"),
        post(&[field("expect", "100-continue")], b"{}"),
        path("/v1/models?a=..//%00"),
    ] {
        let before = upstream.requests();
        assert_eq!(end_of(&gateway, &vector), End::Status(200));
        assert_eq!(upstream.requests(), before + 1);
    }
}

#[test]
fn a_body_that_stalls_is_408_and_no_account_was_bothered() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "body_timeout: 500ms");
    for length in [vec![], field("content-length", "60000")] {
        let mut peer = Peer::open(gateway.address, &[]);
        let head = [request("POST", "/v1/chat/completions"), length].concat();
        let head = frame(HEADERS, END_HEADERS, 1, &head);
        let piece = frame(DATA, 0, 1, &[b' '; 10_000]);
        peer.send(&[head, piece.repeat(5)].concat()).unwrap();
        assert_eq!(peer.end_of(1), End::Status(408));
    }
    assert_eq!(upstream.heard(), "");
}

#[test]
fn a_body_with_trailers_arrives_once() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    for length in [vec![], field("content-length", "16")] {
        let before = upstream.heard().len();
        let mut peer = Peer::open(gateway.address, &[]);
        let head = [request("POST", "/v1/chat/completions"), length].concat();
        let frames = [
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, 0, 1, b"{\"once\": \"once\"}"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x-sum", "1")),
        ];
        peer.send(&frames.concat()).unwrap();
        assert_eq!(peer.end_of(1), End::Status(200));
        let heard = upstream.heard().split_off(before);
        assert_eq!(heard.matches("\"once\": \"once\"").count(), 1, "{heard}");
    }
}
