//! The head of a request: one that is taken is read by a strict parser with the same method, target
//! and length of body, so that no upstream sees another request in the same bytes.

use std::sync::LazyLock;

use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use percent_encoding::percent_decode;
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

/// How the end of a body is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A request as a strict reader sees it.
struct Strict<'b> {
    method: &'b str,
    target: &'b [u8],
    framing: Framing,
}

/// `bytes` are what comes over a new connection; `takes` is the gateway's own check.
pub(crate) fn check(bytes: &[u8], takes: impl Fn(&Session) -> bool) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
    let bytes = &bytes[..bytes.len().min(16 * 1024)];
    let Some(session) = RUNTIME.block_on(read(bytes)) else {
        return;
    };
    if !takes(&session) {
        return;
    }
    let head = session.req_header();
    let shown = String::from_utf8_lossy(bytes);
    let strict = strict(bytes).unwrap_or_else(|why| panic!("{why}, yet taken: {shown:?}"));
    assert_eq!(head.method.as_str(), strict.method, "{shown:?}");
    // Pingora writes some bytes of a target as their codes.
    let decoded = |target| percent_decode(target).collect::<Vec<u8>>();
    assert_eq!(
        decoded(head.raw_path()),
        decoded(strict.target),
        "{shown:?}"
    );
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let framing = match (header(TRANSFER_ENCODING), header(CONTENT_LENGTH)) {
        (Some(_), _) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length.parse().unwrap()),
        (None, None) => Framing::None,
    };
    assert_eq!(framing, strict.framing, "{shown:?}");
    assert!(
        head.version == Version::HTTP_11 || framing != Framing::Chunked,
        "{shown:?}"
    );
}

/// The request as Pingora reads it.
async fn read(bytes: &[u8]) -> Option<Session> {
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1));
    client.write_all(bytes).await.unwrap();
    drop(client);
    let mut session = Session::new_h1(Box::new(server));
    match session.as_mut().read_request().await {
        Ok(true) => Some(session),
        Ok(false) | Err(_) => None,
    }
}

fn strict(bytes: &[u8]) -> Result<Strict<'_>, &'static str> {
    let end = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .ok_or("no end")?;
    let head = &bytes[..end + 2];
    let mut lines = vec![];
    for line in head.split(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\r") {
            Some(line) if !line.contains(&b'\r') => lines.push(line),
            None if line.is_empty() => {}
            _ => return Err("a line ends in CR or LF alone"),
        }
    }
    let (first, fields) = lines.split_first().ok_or("no request line")?;
    // Pingora takes white space within a target for a part of it, and codes it.
    let is_space = |byte: &u8| *byte == b' ';
    let (Some(start), Some(end)) = (
        first.iter().position(is_space),
        first.iter().rposition(is_space),
    ) else {
        return Err("the request line is one word");
    };
    let (method, target) = (
        &first[..start],
        first.get(start + 1..end).unwrap_or_default(),
    );
    if !matches!(&first[end + 1..], b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("another version");
    }
    Ok(Strict {
        method: std::str::from_utf8(method).map_err(|_| "the method is no word")?,
        target,
        framing: framing(fields)?,
    })
}

/// RFC 9112 §6.3, and nothing that two readers could see in two ways.
fn framing(fields: &[&[u8]]) -> Result<Framing, &'static str> {
    let (mut framing, mut stated) = (Framing::None, 0);
    for field in fields {
        let colon = field
            .iter()
            .position(|byte| *byte == b':')
            .ok_or("a line without colon")?;
        let name = String::from_utf8_lossy(&field[..colon]).to_ascii_lowercase();
        let value = String::from_utf8_lossy(&field[colon + 1..]).into_owned();
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err("white space in a name");
        }
        match (name.as_str(), value.trim_matches([' ', '\t'])) {
            ("content-length", value) if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                framing = Framing::Length(value.parse().map_err(|_| "a length beyond belief")?);
            }
            ("transfer-encoding", value) if value.eq_ignore_ascii_case("chunked") => {
                framing = Framing::Chunked;
            }
            ("content-length" | "transfer-encoding", _) => return Err("odd framing"),
            _ => continue,
        }
        stated += 1;
    }
    match stated {
        0 | 1 => Ok(framing),
        _ => Err("the framing is stated twice"),
    }
}
