//! The framing of a chunked body, checked as it passes: Pingora's parser takes any byte in an
//! extension, a line feed too, and a size without a digit. Another reader of the same bytes would
//! see the body end elsewhere.

use super::wire::is_token;

/// Where in the body the next byte stands (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the digits of a size.
    Size,
    /// In spaces behind a size, which only an extension may follow.
    Space,
    Extension,
    /// At the LF of a line with a size.
    SizeEnd,
    /// So many bytes of data are still to come.
    Data,
    /// At the CR, then the LF behind data.
    DataEnd,
    DataEndLf,
    /// At the start of a line behind the last chunk: a trailer or the end.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastLf,
    Done,
}

/// A body that is read in pieces.
#[derive(Debug)]
pub(super) struct Chunks {
    place: Place,
    digits: u8,
    size: u64,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks {
            place: Place::Size,
            digits: 0,
            size: 0,
        }
    }

    /// Whether all of the body was seen.
    pub(super) fn are_over(&self) -> bool {
        self.place == Place::Done
    }

    /// Looks at the next bytes. Returns how many of them belong to the body; `None` = this is no chunked body.
    pub(super) fn saw(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if self.are_over() {
                break;
            }
            if self.place == Place::Data {
                let data = self.size.min(rest.len() as u64) as usize;
                rest = &rest[data..];
                self.size -= data as u64;
                if self.size == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            self.place = self.next(*byte)?;
            rest = after;
        }
        Some(bytes.len() - rest.len())
    }

    fn next(&mut self, byte: u8) -> Option<Place> {
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 127);
        match (self.place, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() => self.add_digit(byte),
            (Place::Size | Place::Space | Place::Extension, b'\r') if self.digits > 0 => {
                (self.place != Place::Space).then_some(Place::SizeEnd)
            }
            (Place::Size | Place::Space, b' ' | b'\t') if self.digits > 0 => Some(Place::Space),
            (Place::Size | Place::Space, b';') if self.digits > 0 => Some(Place::Extension),
            (Place::Extension, _) if is_text => Some(Place::Extension),
            (Place::SizeEnd, b'\n') => {
                self.digits = 0;
                let is_last = self.size == 0;
                Some(if is_last { Place::Trailer } else { Place::Data })
            }
            (Place::DataEnd, b'\r') => Some(Place::DataEndLf),
            (Place::DataEndLf, b'\n') => Some(Place::Size),
            (Place::Trailer, b'\r') => Some(Place::LastLf),
            (Place::Trailer | Place::TrailerName, _) if is_token(byte) => Some(Place::TrailerName),
            (Place::TrailerName, b':') => Some(Place::TrailerValue),
            (Place::TrailerValue, b'\r') => Some(Place::TrailerEnd),
            (Place::TrailerValue, _) if is_text => Some(Place::TrailerValue),
            (Place::TrailerEnd, b'\n') => Some(Place::Trailer),
            (Place::LastLf, b'\n') => Some(Place::Done),
            _ => None,
        }
    }

    fn add_digit(&mut self, byte: u8) -> Option<Place> {
        // 15 digits are beyond every body; leading zeros count, as they hide a size.
        if self.digits == 15 {
            return None;
        }
        self.digits += 1;
        let digit = (byte as char).to_digit(16)?;
        self.size = self.size * 16 + u64::from(digit);
        Some(Place::Size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the pieces it comes in.
    fn is_sound(body: &[u8]) -> bool {
        let whole = Chunks::new().saw(body);
        let mut bytewise = Chunks::new();
        let each: Option<usize> = body.iter().map(|byte| bytewise.saw(&[*byte])).sum();
        assert_eq!(whole, each, "{:?}", body.escape_ascii().to_string());
        whole.is_some()
    }

    #[test]
    fn what_the_standard_allows_is_sound() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A\r\n0123456789\r\na;x=y\r\n0123456789\r\n000\r\n\r\n",
            "1 ; name=\"a b\"\r\nx\r\n0;last\r\n\r\n",
            "1\r\nx\r\n0\r\nX-Sum: 1 2\r\nEmpty:\r\n\r\n",
            "0\r\n\r\nGET / HTTP/1.1\n\0",
        ] {
            assert!(is_sound(body.as_bytes()), "{body:?}");
        }
    }

    #[test]
    fn what_follows_the_end_does_not_belong_to_the_body() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.saw(b"1\r\nx\r\n0\r\n"), Some(9));
        assert!(!chunks.are_over());
        assert_eq!(chunks.saw(b"\r\nGET /"), Some(2));
        assert!(chunks.are_over());
        assert_eq!(chunks.saw(b"more"), Some(0));
    }

    #[test]
    fn what_readers_take_differently_is_not() {
        for body in [
            "0x1\r\nx\r\n",
            "0_1\r\nx\r\n",
            "+1\r\nx\r\n",
            "-1\r\nx\r\n",
            " 1\r\nx\r\n",
            "1 \r\nx\r\n",
            "1 1\r\nx\r\n",
            "\r\n\r\n",
            ";x\r\n\r\n",
            "g\r\n",
            "1\nx\r\n",
            "1\rx",
            "1;a\nb\r\nx\r\n",
            "1;a\r\r\nx\r\n",
            "1;\0\r\nx\r\n",
            "1\r\nxy\r\n",
            "1\r\nx\n",
            "1\r\nx\r0\r\n",
            "10000000000000000\r\nx\r\n",
            "0000000000000001\r\nx\r\n",
            "0\r\n\n",
            "0\r\nno trailer\r\n\r\n",
            "0\r\n: no name\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\r\n folded\r\n\r\n",
        ] {
            assert!(!is_sound(body.as_bytes()), "{body:?}");
        }
    }
}
