//! Server-sent events as WHATWG HTML §9.2.6 says them, read plainly and all at once: what the
//! program's own reader is held against.

/// The data of each event. One without its blank line at the very end counts.
pub(crate) fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut all, mut data) = (vec![], None::<Vec<u8>>);
    for line in lines(bytes) {
        if line.is_empty() {
            all.extend(data.take());
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[..0]),
        };
        if name == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                Some(data) => data.extend([b"\n", value].concat()),
                None => data = Some(value.to_vec()),
            }
        }
    }
    all.extend(data);
    all
}

/// Lines without their ends; what follows the last end is one if it is anything.
fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = vec![];
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let end = end.unwrap_or(bytes.len());
        let (line, rest) = bytes.split_at(end);
        lines.push(line);
        bytes = rest
            .strip_prefix(b"\r\n")
            .or(rest.get(1..))
            .unwrap_or_default();
    }
    lines
}
