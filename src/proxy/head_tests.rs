//! A head that is taken is one request to everyone: what `fuzz/properties/head.rs` states, checked on
//! heads put together from lines that are right and wrong.

use std::path::Path;

use proptest::prelude::*;

use super::takes_head;
use crate::config::Config;

#[path = "../../fuzz/properties/head.rs"]
mod property;

fn config() -> Config {
    let text = "pools: {default: {accounts: [{id: a, upstream: openai}]}}";
    let loaded = crate::config::parse(text, Path::new("poolgate.yaml"), &|_| None);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

/// What a request line and the lines behind it may be made of, right and wrong.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "Host: a", "Content-Length: 5", "content-length:5", "Content-Length: 5, 5",
            "Content-Length: +5", "Content-Length : 5", "Transfer-Encoding: chunked",
            "transfer-encoding:  CHUNKED ", "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: xchunked",
            " Content-Length: 5", "\tfolded", "X: y\rContent-Length: 5", "X\0: y", "",
            "Content-Length: 18446744073709551616", "Content-Length:", "Expect: 100-continue",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,20}",
    ]
}

proptest! {
    #[test]
    fn what_is_taken_is_one_request_to_everyone(
        first in prop::sample::select(vec![
            "POST /v1/messages HTTP/1.1", "GET / HTTP/1.0", "POST  / HTTP/1.1", "GET /a b HTTP/1.1",
            "POST /v1/x HTTP/1.1 ", "POST http://a/v1/x HTTP/1.1", "GET /\u{e9} HTTP/1.1", "G@T / HTTP/1.1",
        ]),
        lines in prop::collection::vec(line(), 0..5),
        end in prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r"]),
    ) {
        let config = config();
        let head = format!("{first}\r\nHost: b{end}{}\r\n\r\nhello", lines.join("\r\n"));
        property::check(head.as_bytes(), |session| takes_head(&config, head.as_bytes(), session));
    }
}

#[test]
fn an_ordinary_request_is_taken() {
    let taken = std::cell::Cell::new(false);
    let head = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    property::check(head, |session| {
        taken.set(takes_head(&config(), head, session));
        taken.get()
    });
    assert!(taken.get());
}
