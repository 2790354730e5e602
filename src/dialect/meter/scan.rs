//! An incremental JSON scanner: while bytes pass by, it catches the raw values of a few named
//! places and keeps nothing else, however long the document is.

use memchr::memchr2;

use super::super::outline::{OUTLINE, table};

/// Where a value is looked for: the names that lead to it. Arrays on the way are passed through,
/// so that `["choices", "finish_reason"]` is the reason of every choice.
pub(super) type Place = &'static [&'static str];

/// The longest value that is caught, in bytes.
pub(super) const LONGEST: usize = 4096;
/// Containers on the way to a value: an array of objects, an object in it, an array in that, …
const DEEPEST: usize = 6;
/// The longest name in any [`Place`].
const LONGEST_NAME: usize = 24;

/// What a number, `true`, `false` or `null` ends before.
const ENDS_BARE: [bool; 256] = table(b",}] \t\r\n\"{[:");

/// Reads one document after the other; [`Scanner::reset`] lies between them. `T` marks places.
pub(super) struct Scanner<T: 'static> {
    places: &'static [(Place, T)],
    levels: [Level; DEEPEST],
    /// How many of `levels` are open.
    open: usize,
    /// Brackets open below `levels`, where nothing is looked for.
    skipped: u32,
    state: State,
    /// The next text of the open object is a name.
    name_next: bool,
    name: [u8; LONGEST_NAME],
    /// Beyond `LONGEST_NAME`: too long to be one of ours.
    name_length: usize,
    /// Places that the value to come may lead to, one bit each.
    wanted: u32,
    /// Whose value is passing by.
    catching: Option<T>,
    /// What earlier chunks held of the value being caught.
    caught: Vec<u8>,
    caught_too_long: bool,
    closed: bool,
}

#[derive(Clone, Copy, Default)]
struct Level {
    is_object: bool,
    /// Names passed on the way here.
    names: usize,
    /// Places that lie below, one bit each.
    wanted: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Name {
        escaped: bool,
    },
    Text {
        escaped: bool,
    },
    /// A number, `true`, `false` or `null`.
    Bare,
    /// This is no JSON; nothing more is read of the document.
    Broken,
}

impl<T: Copy> Scanner<T> {
    pub(super) fn new(places: &'static [(Place, T)]) -> Scanner<T> {
        Scanner {
            places,
            levels: [Level::default(); DEEPEST],
            open: 0,
            skipped: 0,
            state: State::Between,
            name_next: false,
            name: [0; LONGEST_NAME],
            name_length: 0,
            wanted: 0,
            catching: None,
            caught: Vec::new(),
            caught_too_long: false,
            closed: false,
        }
    }

    /// Begins another document.
    pub(super) fn reset(&mut self) {
        *self = Scanner::new(self.places);
    }

    /// Whether the document's outermost bracket was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed && self.state != State::Broken
    }

    /// Whose value is open.
    pub(super) fn catching(&self) -> Option<T> {
        self.catching
    }

    /// Bytes of memory.
    pub(super) fn kept(&self) -> usize {
        self.caught.capacity()
    }

    /// Reads on. `found` gets the mark of a place and the raw value there, `None` for one that is
    /// longer than [`LONGEST`].
    pub(super) fn push(&mut self, bytes: &[u8], found: &mut impl FnMut(T, Option<&[u8]>)) {
        let mut at = 0;
        // Where in `bytes` the value being caught begins.
        let mut from = 0;
        while at < bytes.len() {
            match self.state {
                State::Name { escaped } => at = self.name(bytes, at, escaped),
                State::Text { escaped } => at = self.text(bytes, at, escaped, from, found),
                State::Bare => at = self.bare(bytes, at, from, found),
                State::Between if self.skipped > 0 => at = self.skip(bytes, at, from, found),
                State::Between => at = self.between(bytes, at, &mut from, found),
                State::Broken => return,
            }
        }
        if self.catching.is_some() {
            self.keep(bytes.get(from..).unwrap_or_default());
        }
    }

    /// In a container where nothing is looked for: up to its end, or to the end of `bytes`. Only its
    /// outline is read.
    fn skip(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        from: usize,
        found: &mut impl FnMut(T, Option<&[u8]>),
    ) -> usize {
        let is_outline = |byte: &u8| OUTLINE[usize::from(*byte)];
        while let Some(length) = bytes[at..].iter().position(is_outline) {
            at += length + 1;
            match bytes[at - 1] {
                b'"' => {
                    let rest = &bytes[at..];
                    let end = memchr2(b'"', b'\\', rest).filter(|end| rest[*end] == b'"');
                    let Some(end) = end else {
                        self.state = State::Text { escaped: false };
                        return at;
                    };
                    at += end + 1;
                }
                b'{' | b'[' => self.skipped = self.skipped.saturating_add(1),
                _ => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.value_ends(&bytes[from..at], found);
                        return at;
                    }
                }
            }
        }
        bytes.len()
    }

    /// Between texts and bare values: up to the byte that begins or ends something, which is the
    /// last one read. The usual separators lead nowhere else, and cost a turn of this loop only.
    fn between(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        from: &mut usize,
        found: &mut impl FnMut(T, Option<&[u8]>),
    ) -> usize {
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b':' | b' ' | b'\t' | b'\r' | b'\n' => continue,
                b',' => {
                    self.name_next = self.open > 0 && self.levels[self.open - 1].is_object;
                    continue;
                }
                _ => {}
            }
            if self.skipped == 0 {
                *from = at - 1;
            }
            match byte {
                b'"' if self.skipped == 0 && self.name_next => {
                    self.name_length = 0;
                    self.state = State::Name { escaped: false };
                    return self.name(bytes, at, false);
                }
                b'"' => {
                    self.value_begins();
                    self.state = State::Text { escaped: false };
                    return self.text(bytes, at, false, *from, found);
                }
                b'{' | b'[' => self.container_begins(byte == b'{'),
                b'}' | b']' => self.container_ends(byte == b'}', &bytes[*from..at], found),
                _ => {
                    self.value_begins();
                    self.state = State::Bare;
                }
            }
            return at;
        }
        at
    }

    /// Inside a member's name: up to its end, or to the end of `bytes`.
    fn name(&mut self, bytes: &[u8], at: usize, escaped: bool) -> usize {
        if escaped {
            self.name_goes_on(&bytes[at..=at]);
            self.state = State::Name { escaped: false };
            return at + 1;
        }
        let Some(length) = memchr2(b'"', b'\\', &bytes[at..]) else {
            self.name_goes_on(&bytes[at..]);
            return bytes.len();
        };
        let next = at + length;
        self.name_goes_on(&bytes[at..next]);
        if bytes[next] == b'\\' {
            self.name_goes_on(b"\\");
            self.state = State::Name { escaped: true };
        } else {
            self.name_next = false;
            self.wanted = self.lead_on();
            self.state = State::Between;
        }
        next + 1
    }

    fn name_goes_on(&mut self, part: &[u8]) {
        let end = self.name_length + part.len();
        match self.name.get_mut(self.name_length..end) {
            Some(room) => {
                room.copy_from_slice(part);
                self.name_length = end;
            }
            None => self.name_length = LONGEST_NAME + 1,
        }
    }

    /// Inside a text: up to its end, or to the end of `bytes`.
    fn text(
        &mut self,
        bytes: &[u8],
        at: usize,
        escaped: bool,
        from: usize,
        found: &mut impl FnMut(T, Option<&[u8]>),
    ) -> usize {
        if escaped {
            self.state = State::Text { escaped: false };
            return at + 1;
        }
        let Some(next) = memchr2(b'"', b'\\', &bytes[at..]) else {
            return bytes.len();
        };
        let next = at + next;
        if bytes[next] == b'\\' {
            self.state = State::Text { escaped: true };
        } else {
            self.state = State::Between;
            self.value_ends(&bytes[from..=next], found);
        }
        next + 1
    }

    /// Inside a bare value: up to what ends it, which is left to be read.
    fn bare(
        &mut self,
        bytes: &[u8],
        at: usize,
        from: usize,
        found: &mut impl FnMut(T, Option<&[u8]>),
    ) -> usize {
        let ends = |byte: &u8| ENDS_BARE[usize::from(*byte)];
        let Some(length) = bytes[at..].iter().position(ends) else {
            return bytes.len();
        };
        self.state = State::Between;
        self.value_ends(&bytes[from..at + length], found);
        at + length
    }

    /// Which of the wanted places the name just read leads to.
    fn lead_on(&self) -> u32 {
        let Some(level) = self.open.checked_sub(1).map(|top| self.levels[top]) else {
            return 0;
        };
        let Some(name) = self.name.get(..self.name_length) else {
            return 0;
        };
        if level.wanted == 0 {
            return 0;
        }
        let mut wanted = 0;
        for (index, (place, _)) in self.places.iter().enumerate() {
            let leads_on = place
                .get(level.names)
                .is_some_and(|step| step.as_bytes() == name);
            wanted |= u32::from(leads_on) << index;
        }
        wanted & level.wanted
    }

    /// The wanted places and the names passed at the value that begins now.
    fn here(&self) -> (u32, usize) {
        match self.open.checked_sub(1).map(|top| self.levels[top]) {
            Some(level) if level.is_object => (self.wanted, level.names + 1),
            Some(level) => (level.wanted, level.names),
            None => (u32::MAX, 0),
        }
    }

    fn value_begins(&mut self) {
        if self.skipped == 0 {
            let (wanted, names) = self.here();
            let is_here =
                |index: usize, place: &Place| wanted & 1 << index != 0 && place.len() == names;
            let mut marks = self.places.iter().enumerate();
            self.catching = marks
                .find(|(index, (place, _))| is_here(*index, place))
                .map(|(_, (_, mark))| *mark);
        }
    }

    fn container_begins(&mut self, is_object: bool) {
        self.value_begins();
        let (wanted, names) = self.here();
        if self.skipped > 0 || self.catching.is_some() || wanted == 0 || self.open == DEEPEST {
            self.skipped = self.skipped.saturating_add(1);
            return;
        }
        self.levels[self.open] = Level {
            is_object,
            names,
            wanted,
        };
        self.open += 1;
        self.name_next = is_object;
    }

    fn container_ends(
        &mut self,
        is_object: bool,
        raw: &[u8],
        found: &mut impl FnMut(T, Option<&[u8]>),
    ) {
        if self.skipped > 0 {
            self.skipped -= 1;
            if self.skipped == 0 {
                self.value_ends(raw, found);
            }
        } else if self.open > 0 && self.levels[self.open - 1].is_object == is_object {
            self.open -= 1;
            self.name_next = false;
            self.closed = self.open == 0;
        } else {
            self.state = State::Broken;
        }
    }

    /// A value ends; `raw` is what this chunk holds of it.
    fn value_ends(&mut self, raw: &[u8], found: &mut impl FnMut(T, Option<&[u8]>)) {
        if self.skipped > 0 {
            return;
        }
        let Some(mark) = self.catching.take() else {
            return;
        };
        if self.caught.is_empty() && !self.caught_too_long {
            found(mark, (raw.len() <= LONGEST).then_some(raw));
        } else {
            self.keep(raw);
            found(mark, (!self.caught_too_long).then_some(&self.caught));
            self.caught = Vec::new();
            self.caught_too_long = false;
        }
    }

    fn keep(&mut self, raw: &[u8]) {
        if self.caught.len() + raw.len() > LONGEST {
            self.caught_too_long = true;
        }
        if !self.caught_too_long {
            self.caught.extend_from_slice(raw);
        }
    }
}
