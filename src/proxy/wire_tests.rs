//! Heads that are taken, heads that are not, and where a head ends. Over sockets: tests/edges.

use super::*;

fn problem(head: &str) -> Option<String> {
    check(head.as_bytes())
        .err()
        .map(|reject| reject.message.into_owned())
}

#[test]
fn the_end_of_a_head_is_found_in_any_pieces() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n";
    let end = bytes.len() - 5;
    assert_eq!(Scan::default().end(bytes), Ok(Some(end)));
    let mut scan = Scan::default();
    let found = (1..=bytes.len()).find_map(|length| scan.end(&bytes[..length]).unwrap());
    assert_eq!(found, Some(end));
}

#[test]
fn a_line_that_ends_in_lf_alone_is_refused_at_once() {
    for bytes in [
        "\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nA: b\nC",
        "A\r\n\n",
    ] {
        assert!(Scan::default().end(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
}

#[test]
fn sound_heads_are_taken() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "get /a?b=%00|\\ HTTP/1.1\r\nhOST:a\r\nEmpty:\r\nTab: a\tb\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05 \r\n\r\n",
    ] {
        assert_eq!(problem(head), None, "{head:?}");
    }
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n";
    assert_eq!(check(text), Ok(Framing::default()));
}

#[test]
fn a_head_says_what_follows_it() {
    let of = |fields: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let framing = check(head.as_bytes()).unwrap();
        (framing.is_chunked, framing.length, framing.is_handshake)
    };
    assert_eq!(of("A: b"), (false, 0, false));
    assert_eq!(of("Transfer-Encoding:\tCHUNKED"), (true, 0, false));
    assert_eq!(of("Content-Length: 05 "), (false, 5, false));
    assert_eq!(of("Upgrade: h2c"), (false, 0, false));
    assert_eq!(of("Upgrade: h2c, WebSocket"), (false, 0, true));
}

#[test]
fn a_broken_head_is_read_as_far_as_it_goes() {
    let head = b"POST /v1/messages?x HTTP/9\r\nX-Request-Id: abc\r\nbad\r\n: \r\nA: b\r\nrest";
    let readable = Readable::of(head);
    assert_eq!(readable.method, Method::POST);
    assert_eq!(readable.path, "/v1/messages");
    assert_eq!(readable.headers.len(), 2);
    let nothing = Readable::of(b"\xff");
    assert_eq!((nothing.method, &*nothing.path), (Method::GET, ""));
}
