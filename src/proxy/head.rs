//! A request's head that every reader would take for the same request: its size, the framing of
//! its body, its path. What is refused here has cost no account anything.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use memchr::memchr_iter;
use pingora_proxy::Session;

use super::reject::Refused;
use crate::config::Config;
use crate::dialect::{Reject, is_safe_path};

pub(super) fn check(config: &Config, session: &Session) -> Result<(), Refused> {
    let head = session.req_header();
    let fields = head.headers.iter();
    let size: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if size + head.raw_path().len() > config.clients.max_header {
        return Err(Reject::header_too_large(config.clients.max_header).into());
    }
    if head.version == Version::HTTP_11 && !head.headers.contains_key(HOST) {
        return Err(Reject::bad_request("the Host header is missing").into());
    }
    let raw = session
        .as_http1()
        .map(|session| session.get_headers_raw_bytes());
    if raw.as_deref().is_some_and(has_bare_line_feed) {
        return Err(Reject::bad_request("a line of the head does not end in CR LF").into());
    }
    if has_ambiguous_framing(&head.headers, raw.as_deref()) {
        let problem = "the length of the body is stated in more than one way";
        return Err(Reject::bad_request(problem).into());
    }
    if !is_safe_path(head.uri.path()) {
        return Err(Reject::bad_request("the path has parts that are not allowed").into());
    }
    Ok(())
}

/// A line that ends in LF alone, which some readers take for the end of a line and some do not.
fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r')
}

/// A body whose end two readers could see at different places (RFC 9112 §6.3). Pingora has taken
/// a Content-Length off that stood beside a Transfer-Encoding; the raw head still has it.
fn has_ambiguous_framing(headers: &HeaderMap, raw: Option<&[u8]>) -> bool {
    let lengths = headers.get_all(CONTENT_LENGTH);
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let odd_length = || {
        lengths
            .iter()
            .any(|value| !value.as_bytes().iter().all(u8::is_ascii_digit))
    };
    let Some(encoding) = encodings.next() else {
        return lengths.iter().nth(1).is_some() || odd_length();
    };
    !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || encodings.next().is_some()
        || raw.is_some_and(states_length)
}

fn states_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    let lines = raw.split(|byte| *byte == b'\n');
    lines.into_iter().any(|line| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ambiguous(fields: &[(&str, &str)], raw: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                name.parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        has_ambiguous_framing(&headers, Some(raw.as_bytes()))
    }

    #[test]
    fn only_one_statement_of_the_length_is_taken() {
        assert!(!is_ambiguous(&[], ""));
        assert!(!is_ambiguous(
            &[("content-length", "5")],
            "Content-Length: 5\r\n"
        ));
        assert!(!is_ambiguous(
            &[("transfer-encoding", "Chunked")],
            "Transfer-Encoding: Chunked\r\n"
        ));
        assert!(is_ambiguous(
            &[("content-length", "5"), ("content-length", "5")],
            ""
        ));
        assert!(is_ambiguous(&[("content-length", "5, 5")], ""));
        assert!(is_ambiguous(&[("content-length", "+5")], ""));
        assert!(is_ambiguous(
            &[("transfer-encoding", "identity, chunked")],
            ""
        ));
        assert!(is_ambiguous(
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked")
            ],
            ""
        ));
        let raw = "POST / HTTP/1.1\r\nCONTENT-length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(is_ambiguous(&[("transfer-encoding", "chunked")], raw));
    }

    #[test]
    fn every_line_of_a_head_ends_in_both() {
        assert!(!has_bare_line_feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(has_bare_line_feed(b"GET / HTTP/1.1\nHost: a\r\n\r\n"));
        assert!(has_bare_line_feed(b"\nGET"));
    }
}
