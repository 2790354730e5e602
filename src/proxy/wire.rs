//! A head of HTTP/1 as bytes: where it ends, and whether all readers would take it for the same
//! request. What a second reader could understand otherwise is refused before it is parsed.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use memchr::{memchr, memchr_iter};

use crate::dialect::Reject;

/// As many as Pingora takes (`MAX_HEADERS`).
const MOST_FIELDS: usize = 256;

/// Looks for the end of a head that comes in pieces.
#[derive(Default)]
pub(super) struct Scan {
    /// Everything before was looked at.
    seen: usize,
}

impl Scan {
    /// The length of the head if its end is there: `bytes` is all of it that has come so far.
    ///
    /// # Errors
    /// A line ends in LF alone, which some readers take for the end of a line and some do not.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reject> {
        let from = std::mem::replace(&mut self.seen, bytes.len());
        for at in memchr_iter(b'\n', &bytes[from..]) {
            let line = &bytes[..from + at];
            match line.strip_suffix(b"\r") {
                None => return Err(bad("a line of the head does not end in CR LF")),
                Some(line) if line.ends_with(b"\r\n") => return Ok(Some(from + at + 1)),
                Some(_) => {}
            }
        }
        Ok(None)
    }
}

/// What the head says about what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) is_chunked: bool,
    /// Of the body, in bytes; 0 where none is stated.
    pub(super) length: usize,
    /// A WebSocket is asked for: what follows may be frames.
    pub(super) is_handshake: bool,
}

/// Checks a whole head (RFC 9112 §2 to §6), stricter than most parsers. Of each byte is known that it
/// may stand where it stands; that lines end in CR LF, and nothing else in either, [`Scan`] has seen to.
///
/// # Errors
/// What is wrong with it, as the client is told.
pub(super) fn check(head: &[u8]) -> Result<Framing, Reject> {
    let mut lines = lines(head);
    let first = check_request_line(lines.next().unwrap_or_default())?;
    let (mut fields, mut hosts, mut lengths, mut encodings) = (0, 0, 0, 0);
    let mut framing = Framing::default();
    for line in lines {
        let colon = memchr(b':', line).unwrap_or(0);
        let (name, value) = (&line[..colon], line[colon..].get(1..).unwrap_or_default());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad("a line of the head is no header"));
        }
        if has_control(value) {
            return Err(bad("the head has control characters"));
        }
        fields += 1;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                let host = value.trim_ascii();
                if first
                    .authority
                    .is_some_and(|named| !named.eq_ignore_ascii_case(host))
                {
                    return Err(bad(
                        "the request is for one host and its Host header for another",
                    ));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                lengths += 1;
                framing.length = length(value.trim_ascii())?;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                framing.is_handshake |= names_websocket(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                encodings += 1;
                framing.is_chunked = true;
                if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("the only transfer coding that is taken is `chunked`"));
                }
            }
            _ => {}
        }
    }
    if fields > MOST_FIELDS {
        return Err(bad("the head has more than 256 headers"));
    }
    if lengths + encodings > 1 || (first.is_http10 && encodings > 0) {
        let problem = "the length of the body is stated in more than one way";
        return Err(bad(problem));
    }
    if hosts > 1 || (hosts == 0 && !first.is_http10) {
        return Err(bad("there must be one Host header"));
    }
    Ok(framing)
}

fn names_websocket(value: &[u8]) -> bool {
    let word = b"websocket";
    let mut windows = value.windows(word.len());
    windows.any(|window| window.eq_ignore_ascii_case(word))
}

/// What matters of the first line.
struct RequestLine<'a> {
    is_http10: bool,
    /// Of the form that is meant for proxies, which servers must understand too (RFC 9112 §3.2.2).
    authority: Option<&'a [u8]>,
}

fn check_request_line(line: &[u8]) -> Result<RequestLine<'_>, Reject> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request line is not METHOD PATH VERSION"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(bad("the method is no word"));
    }
    let authority = authority(target);
    if !target.starts_with(b"/") && authority.is_none() {
        return Err(bad("the request is for no path"));
    }
    if !target.iter().all(|byte| URI[usize::from(*byte)]) {
        return Err(bad("the path has characters that must be encoded"));
    }
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(bad("this is neither HTTP/1.1 nor HTTP/1.0")),
    };
    Ok(RequestLine {
        is_http10,
        authority,
    })
}

/// The host of `http://host/path`.
fn authority(target: &[u8]) -> Option<&[u8]> {
    let after = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    };
    let rest = after("http://").or_else(|| after("https://"))?;
    rest.split(|byte| matches!(byte, b'/' | b'?')).next()
}

fn length(value: &[u8]) -> Result<usize, Reject> {
    // 18 digits are beyond every body and within every counter.
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(value).ok().filter(|_| is_number);
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| bad("Content-Length is not one number"))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Looked up, as every byte of every name is asked for.
const TOKEN: [bool; 256] = among(b"!#$%&'*+-.^_`|~");

/// No URI has others in it (RFC 3986 §2).
const URI: [bool; 256] = among(b"!$%&'()*+,-./:;=?@[\\]^_{|}~");

/// RFC 9110 §5.5: a value has no control character but the tab, so no CR that some take for the end of
/// a line. All bytes are looked at, whatever comes: without a way out the compiler takes many at a time.
fn has_control(value: &[u8]) -> bool {
    let is_control = |byte: u8| ((byte < b' ') & (byte != b'\t')) | (byte == 127);
    value
        .iter()
        .fold(false, |found, byte| found | is_control(*byte))
}

/// Letters, digits and these.
const fn among(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut n = 0;
    while n < others.len() {
        table[others[n] as usize] = true;
        n += 1;
    }
    table
}

/// The lines of a head, without their ends and without the empty one at the end.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    let lines = memchr_iter(b'\n', head).map(move |at| {
        let line = &head[from..at];
        from = at + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    lines.take_while(|line| !line.is_empty())
}

fn bad(problem: &'static str) -> Reject {
    Reject::bad_request(problem)
}

/// As much of a head that was refused as can be understood, so that its sender is answered in the
/// right words.
pub(super) struct Readable<'a> {
    pub(super) method: Method,
    pub(super) path: Cow<'a, str>,
    pub(super) headers: HeaderMap,
}

impl<'a> Readable<'a> {
    /// `head` may be broken in any way; only its first [`MOST_FIELDS`] lines are read.
    pub(super) fn of(head: &'a [u8]) -> Readable<'a> {
        let mut lines = lines(head).take(MOST_FIELDS);
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let method = words.next().map(Method::from_bytes);
        let target = words.next().unwrap_or_default();
        let path = target.split(|byte| *byte == b'?').next();
        let mut headers = HeaderMap::new();
        for line in lines {
            let colon = memchr(b':', line).unwrap_or(0);
            let value = line[colon..].get(1..).unwrap_or_default().trim_ascii();
            if let Ok(name) = HeaderName::from_bytes(&line[..colon])
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                headers.append(name, value);
            }
        }
        Readable {
            method: method.and_then(Result::ok).unwrap_or(Method::GET),
            path: String::from_utf8_lossy(path.unwrap_or_default()),
            headers,
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
