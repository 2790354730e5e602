//! A request's head that every reader would take for the same request: its size, the framing of
//! its body, its path. What is refused here has cost no account anything.
//!
//! Of a head of HTTP/1 the bytes themselves were checked before it was parsed, by `wire`.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use pingora_proxy::Session;

use super::reject::Refused;
use super::wire::is_token;
use crate::config::Config;
use crate::dialect::{Reject, is_safe_path};

/// As many names as Pingora takes in `Connection`.
const MOST_NOMINATED: usize = 9;

/// Headers that `Connection` may not take away.
const FOR_ALL: [&str; 4] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

pub(super) fn check(config: &Config, session: &Session) -> Result<(), Refused> {
    let head = session.req_header();
    if session.as_http1().is_none() {
        let fields = head.headers.iter();
        let size: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if size + head.raw_path().len() > config.clients.max_header {
            return Err(Reject::header_too_large(config.clients.max_header).into());
        }
        if has_ambiguous_framing(&head.headers) {
            let problem = "the length of the body is stated in more than one way";
            return Err(Reject::bad_request(problem).into());
        }
    }
    check_nominated(&head.headers)?;
    if !is_safe_path(head.uri.path()) {
        return Err(Reject::bad_request("the path has parts that are not allowed").into());
    }
    if head.method == Method::TRACE {
        // An upstream would send back what it got, the account's credential too.
        return Err(Reject::not_found().into());
    }
    Ok(())
}

/// What `Connection` says is of this connection alone. Pingora refuses a request for these when it is on its way to an
/// account already.
fn check_nominated(headers: &HeaderMap) -> Result<(), Reject> {
    let lines = headers.get_all(CONNECTION).iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let items = items.map(<[u8]>::trim_ascii);
    for (count, item) in items.filter(|item| !item.is_empty()).enumerate() {
        let is_kept = |name: &&str| item.eq_ignore_ascii_case(name.as_bytes());
        let problem = if count == MOST_NOMINATED {
            "the Connection header names more than 9 others"
        } else if !item.iter().all(|byte| is_token(*byte)) {
            "the Connection header names what is no header"
        } else if FOR_ALL.iter().any(is_kept) {
            "the Connection header names one that is not of the connection alone"
        } else {
            continue;
        };
        return Err(Reject::bad_request(problem));
    }
    Ok(())
}

/// A body whose end two readers could see at different places: HTTP/2 ends it by itself, an
/// upstream of HTTP/1 would go by these.
fn has_ambiguous_framing(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &http::HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let is_odd = lengths.next().is_some_and(|length| !is_number(length));
    is_odd || lengths.next().is_some() || headers.contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_statement_of_the_length_is_taken() {
        let is_ambiguous = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            has_ambiguous_framing(&headers)
        };
        assert!(!is_ambiguous(&[]));
        assert!(!is_ambiguous(&[("content-length", "5")]));
        assert!(is_ambiguous(&[("content-length", "5, 5")]));
        assert!(is_ambiguous(&[("content-length", "+5")]));
        assert!(is_ambiguous(&[("transfer-encoding", "chunked")]));
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert!(is_ambiguous(&twice));
    }

    #[test]
    fn a_connection_header_that_pingora_would_refuse_is_refused_before() {
        let is_taken = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONNECTION, line.parse().unwrap());
            }
            check_nominated(&headers).is_ok()
        };
        for lines in [
            &[][..],
            &["keep-alive"],
            &["close, te, , upgrade"],
            &["a,b,c,d,e,f,g,h,i"],
        ] {
            assert!(is_taken(lines), "{lines:?}");
        }
        for lines in [
            &["a,b,c,d,e,f,g,h,i,j"][..],
            &["a,b,c,d,e", "f,g,h,i,j"],
            &["Host"],
            &["close, X-Forwarded-For"],
            &[":authority"],
            &["\"te\""],
        ] {
            assert!(!is_taken(lines), "{lines:?}");
        }
    }
}
