//! HTTP/2 written by hand, because no library sends what a hostile client does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// How a client begins, before its settings.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 §4.1.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// A header as HPACK's literal that no table remembers (RFC 7541 §6.2.2), without Huffman's code.
pub(super) fn field(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], text(name.as_bytes()), text(value.as_ref())].concat()
}

/// The same, remembered as the newest entry of the table: [`NEWEST`] then stands for all of it.
pub(super) fn remembered(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], text(name.as_bytes()), text(value.as_bytes())].concat()
}

/// The newest entry of the table.
pub(super) const NEWEST: u8 = 0x80 | 62;

/// A length in as many bytes as it takes (RFC 7541 §5.1), then the bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut out = vec![];
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(bytes);
    out
}

/// The four fields that every request begins with.
pub(super) fn request(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "http"),
        field(":authority", "localhost"),
        field(":path", path),
    ]
    .concat()
}

/// One frame of the server.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// How a stream or the whole connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered, with this status.
    Status(u16),
    /// Reset, with this error.
    Reset(u32),
    /// The connection is over.
    Closed,
}

/// A client's end of a connection.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
}

impl Peer {
    /// Connects and says how it begins, with these settings.
    pub(super) fn open(to: SocketAddr, settings: &[(u16, u32)]) -> Peer {
        let mut socket = TcpStream::connect(to).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let settings = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat());
        let settings: Vec<u8> = settings.collect();
        socket.write_all(PREFACE).unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &settings)).unwrap();
        Peer { socket }
    }

    pub(super) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.socket.write_all(frames)
    }

    /// The next frame; `None` = the connection is over.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(e) = self.socket.read_exact(&mut head) {
            let waited = matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            );
            assert!(!waited, "no frame within the patience of a test");
            return None;
        }
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            payload,
        })
    }

    /// Waits for the end of a stream.
    pub(super) fn end_of(&mut self, stream: u32) -> End {
        while let Some(frame) = self.next() {
            match frame.kind {
                HEADERS if frame.stream == stream => return End::Status(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => {
                    let code = frame.payload.try_into().unwrap();
                    return End::Reset(u32::from_be_bytes(code));
                }
                _ => {}
            }
        }
        End::Closed
    }

    /// Reads to the end of the connection, on a thread of its own while frames are sent.
    pub(super) fn read_on(&self) -> std::thread::JoinHandle<()> {
        let socket = self.socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut reading = Peer { socket };
            while reading.next().is_some() {}
        })
    }
}

/// The status of an answer: a server writes it first, by its number in the static table or with
/// three digits behind the number of its name (RFC 7541, appendix A).
fn status(block: &[u8]) -> u16 {
    // The size of the table may be told before.
    let block = &block[block.iter().take_while(|byte| **byte >> 5 == 1).count()..];
    match block {
        [first @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(first & 0x7f) - 8]
        }
        [_, length, text @ ..] if length & 0x80 == 0 => {
            let digits = std::str::from_utf8(&text[..3]).unwrap();
            digits.parse().unwrap()
        }
        // Three digits in Huffman's code: 0, 1 and 2 have five bits, the others six (appendix B).
        [_, _, text @ ..] => huffman_digits(text),
        _ => panic!("no status in {block:?}"),
    }
}

fn huffman_digits(text: &[u8]) -> u16 {
    let mut bits = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut digit = || {
        let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        match five {
            0..=2 => five,
            _ => (five << 1 | bits.next().unwrap()) - 0x19 + 3,
        }
    };
    (0..3).fold(0, |number, _| number * 10 + u16::from(digit()))
}

#[test]
fn three_digits_are_read_in_every_form() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x48, 3, b'4', b'3', b'1']), 431);
    // "302" of RFC 7541 C.6.1.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
}
