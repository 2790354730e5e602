//! HTTP/2 as far as time matters: a frame, or a head in several frames, that has begun has to end.
//! The library that reads them waits for as long as it is open.

/// Bytes before the payload of a frame (RFC 9113 §4.1).
const HEADER: usize = 9;

/// How a client begins (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows the frames of one direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes still to come of the preface or of a payload.
    payload: usize,
    /// The header of a frame as far as it has come.
    header: [u8; HEADER],
    length: usize,
    /// Frames with the rest of a head must follow.
    in_head: bool,
}

impl Frames {
    /// From the first byte of the preface.
    pub(super) fn new() -> Frames {
        Frames {
            payload: PREFACE.len(),
            header: [0; HEADER],
            length: 0,
            in_head: false,
        }
    }

    /// Did something that was open end in these bytes?
    pub(super) fn saw(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let passed = self.payload.min(bytes.len());
                self.payload -= passed;
                bytes = &bytes[passed..];
                ended |= !self.are_open();
                continue;
            }
            let part = (HEADER - self.length).min(bytes.len());
            self.header[self.length..self.length + part].copy_from_slice(&bytes[..part]);
            self.length += part;
            bytes = &bytes[part..];
            if self.length == HEADER {
                self.begin_frame();
                ended |= !self.are_open();
            }
        }
        ended
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.length = 0;
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_head = flags & END_HEADERS == 0;
        }
    }

    /// Has something begun that has not ended?
    pub(super) fn are_open(&self) -> bool {
        self.payload > 0 || self.length > 0 || self.in_head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn what_has_begun_is_open_until_its_last_byte() {
        let data = frame(0, 0, b"hello");
        let whole = [
            PREFACE.to_vec(),
            frame(4, 0, b""),
            frame(HEADERS, END_HEADERS, b"abc"),
            data.clone(),
        ]
        .concat();
        let mut frames = Frames::new();
        frames.saw(&whole);
        assert!(!frames.are_open());
        for byte in &data[..data.len() - 1] {
            assert!(!frames.saw(&[*byte]));
            assert!(frames.are_open());
        }
        let next = [&data[data.len() - 1..], &[0]].concat();
        assert!(frames.saw(&next), "the first one ended");
        assert!(frames.are_open(), "and another one has begun");
    }

    #[test]
    fn a_head_is_open_until_the_frame_that_ends_it() {
        let mut frames = Frames::new();
        frames.saw(PREFACE);
        frames.saw(&frame(HEADERS, 0, b"abc"));
        assert!(frames.are_open());
        frames.saw(&frame(CONTINUATION, 0, b""));
        assert!(frames.are_open());
        frames.saw(&frame(CONTINUATION, END_HEADERS, b"def"));
        assert!(!frames.are_open());
    }
}
