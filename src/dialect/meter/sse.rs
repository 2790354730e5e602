//! Takes the `data` of server-sent events out of a byte stream (WHATWG HTML §9.2.6), piece by
//! piece as it comes, holding nothing back.

use memchr::memchr2;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Some bytes of the event's data.
    Data(&'a [u8]),
    /// The event is complete.
    End,
}

/// Where in the stream we are. Lines end in LF, CR or CRLF, mixed as they may be.
pub(super) struct Sse {
    line: Line,
    /// A CR ended the last line: an LF that follows belongs to it.
    after_cr: bool,
    /// The event has a `data` line.
    has_data: bool,
    /// A line of the event has begun, or a byte order mark. Comments between two events are none of either: whoever
    /// keeps a connection alive by them need not write a blank line.
    in_event: bool,
    /// The event has a line that is no comment.
    has_field: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of a byte order mark, at the very beginning of the stream.
    Mark(usize),
    /// So many bytes of the name `data`.
    Name(usize),
    /// Behind `data:`, where one space is dropped.
    Colon,
    Data,
    Comment,
    /// A field that says nothing to us.
    Other,
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const NAME: &[u8] = b"data";

impl Sse {
    pub(super) fn new() -> Sse {
        Sse {
            line: Line::Mark(0),
            after_cr: false,
            has_data: false,
            in_event: false,
            has_field: false,
        }
    }

    /// Reads on; `piece` gets what the bytes hold, in order. Returns how many of the bytes come
    /// before the event that is still open at their end: all of them, if none is; `None`, if it was
    /// open before.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        piece: &mut impl FnMut(Piece<'_>),
    ) -> Option<usize> {
        let mut between = (!self.in_event).then_some(0);
        let mut at = 0;
        while at < bytes.len() {
            at = self.step(bytes, at, piece);
            if !self.in_event {
                between = Some(at);
            }
        }
        between
    }

    /// Reads on up to the end of the event that is open, or the next one to be, and no further; the line
    /// feed behind its last carriage return is left. Returns how many of the bytes that were, and whether
    /// no event is open behind them.
    pub(super) fn push_one(
        &mut self,
        bytes: &[u8],
        piece: &mut impl FnMut(Piece<'_>),
    ) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            at = self.step(bytes, at, piece);
            if !self.in_event {
                return (at, true);
            }
        }
        (at, false)
    }

    /// Whether a line feed that comes next belongs to what was read.
    pub(super) fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// One byte, or the rest of a line of which no byte matters by itself.
    fn step(&mut self, bytes: &[u8], at: usize, piece: &mut impl FnMut(Piece<'_>)) -> usize {
        let byte = bytes[at];
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return at + 1;
        }
        match (self.line, byte) {
            (Line::Data | Line::Comment | Line::Other, _) => {
                return self.rest_of_line(bytes, at, piece);
            }
            (_, b'\n' | b'\r') => self.line_ends(byte, piece),
            (Line::Mark(read), _) if MARK.get(read) == Some(&byte) => {
                self.in_event = true;
                self.line = if read + 1 == MARK.len() {
                    Line::Name(0)
                } else {
                    Line::Mark(read + 1)
                };
            }
            // Without a mark the stream begins with a name; half a mark is some other field.
            (Line::Mark(0), _) => {
                self.line = Line::Name(0);
                return at;
            }
            (Line::Mark(_), _) => {
                self.has_field = true;
                self.line = Line::Other;
            }
            (Line::Name(0), b':') => {
                self.in_event = true;
                self.line = Line::Comment;
            }
            (Line::Name(read), _) => {
                self.in_event = true;
                self.has_field = true;
                self.name(read, byte, piece);
            }
            (Line::Colon, b' ') => self.line = Line::Data,
            (Line::Colon, _) => {
                self.line = Line::Data;
                return at;
            }
        }
        at + 1
    }

    /// The stream is over: an event without its blank line counts as well.
    pub(super) fn finish(&mut self, piece: &mut impl FnMut(Piece<'_>)) {
        if self.line == Line::Name(NAME.len()) {
            self.data_begins(piece);
        }
        self.event_ends(piece);
    }

    fn rest_of_line(
        &mut self,
        bytes: &[u8],
        at: usize,
        piece: &mut impl FnMut(Piece<'_>),
    ) -> usize {
        let end = memchr2(b'\n', b'\r', &bytes[at..]).map_or(bytes.len(), |length| at + length);
        if self.line == Line::Data && end > at {
            piece(Piece::Data(&bytes[at..end]));
        }
        let Some(&byte) = bytes.get(end) else {
            return end;
        };
        self.line_ends(byte, piece);
        end + 1
    }

    fn name(&mut self, read: usize, byte: u8, piece: &mut impl FnMut(Piece<'_>)) {
        self.line = match NAME.get(read) {
            Some(expected) if *expected == byte => Line::Name(read + 1),
            None if byte == b':' => {
                self.data_begins(piece);
                Line::Colon
            }
            _ => Line::Other,
        };
    }

    fn line_ends(&mut self, byte: u8, piece: &mut impl FnMut(Piece<'_>)) {
        self.after_cr = byte == b'\r';
        match std::mem::replace(&mut self.line, Line::Name(0)) {
            Line::Mark(0) | Line::Name(0) => self.event_ends(piece),
            // `data` without a colon is an empty data line.
            Line::Name(read) if read == NAME.len() => self.data_begins(piece),
            Line::Comment => self.in_event = self.has_field,
            _ => {}
        }
    }

    /// A further `data` line of an event: a line feed lies between the two.
    fn data_begins(&mut self, piece: &mut impl FnMut(Piece<'_>)) {
        if std::mem::replace(&mut self.has_data, true) {
            piece(Piece::Data(b"\n"));
        }
    }

    fn event_ends(&mut self, piece: &mut impl FnMut(Piece<'_>)) {
        (self.in_event, self.has_field) = (false, false);
        if std::mem::take(&mut self.has_data) {
            piece(Piece::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of every event, read from pieces of the given sizes.
    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut all, mut one) = (Vec::new(), Vec::new());
        let mut piece = |piece: Piece<'_>| match piece {
            Piece::Data(bytes) => one.extend_from_slice(bytes),
            Piece::End => all.push(String::from_utf8_lossy(&std::mem::take(&mut one)).into_owned()),
        };
        let mut sse = Sse::new();
        for chunk in chunks {
            sse.push(chunk, &mut piece);
        }
        sse.finish(&mut piece);
        all
    }

    const STREAM: &str = "\u{feff}data: one\n\n: note\nevent: x\ndata:two\ndata:  three\nid: 7\n\ndata\n\nevent: none\n\ndatas: no\n\n\ndata: {\"a\":\"\u{2028}\"}";
    const EVENTS: [&str; 4] = ["one", "two\n three", "", "{\"a\":\"\u{2028}\"}"];

    #[test]
    fn every_line_end_and_every_split_gives_the_same_events() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = STREAM.replace('\n', end);
            for split in 0..=stream.len() {
                let (head, tail) = stream.as_bytes().split_at(split);
                assert_eq!(events([head, tail]), EVENTS, "{end:?} {split}");
            }
            assert_eq!(events(stream.as_bytes().chunks(1)), EVENTS, "{end:?}");
        }
    }

    #[test]
    fn half_a_byte_order_mark_is_no_data() {
        assert_eq!(events([&b"\xef\xbbdata: x\n\ndata: y\n\n"[..]]), ["y"]);
    }

    #[test]
    fn an_event_is_open_from_its_first_byte_to_its_blank_line() {
        let mut sse = Sse::new();
        for (bytes, open) in [
            ("\n", false),
            ("d", true),
            ("ata: x", true),
            ("\n", true),
            ("\r\n", false),
            ("\n", false),
            (": x", true),
            ("\r", false),
            ("\n", false),
            (":\n:\n", false),
            ("\n", false),
            ("id: 7\n", true),
            (": x\n", true),
            ("\n", false),
        ] {
            let ended = sse.push(bytes.as_bytes(), &mut |_| {});
            assert_eq!(ended != Some(bytes.len()), open, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn splits_never_matter(stream in "(data|event|[:\n\r x])*", size in 1_usize..9) {
            prop_assert_eq!(events(stream.as_bytes().chunks(size)), events([stream.as_bytes()]));
        }
    }
}
