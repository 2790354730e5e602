//! Takes an answer apart that is written as in `tests/fixtures/*/*.http`, more or less.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Status (`usual` if none is written), headers and body; what is not as it should be is left out.
pub(crate) fn taken_apart(bytes: &[u8], usual: u16) -> (u16, HeaderMap, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (&bytes[..0], bytes),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = HeaderValue::from_str(value.trim()).ok()?;
        Some((name.trim().parse::<HeaderName>().ok()?, value))
    };
    let headers = lines.filter_map(header).collect();
    (status.unwrap_or(usual).clamp(100, 999), headers, body)
}
