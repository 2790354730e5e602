//! Keeps back an event that has not ended yet. A client that only ever gets whole events can be told
//! that the stream broke off, wherever it did: half an event would spoil what is said behind it.

use bytes::{Bytes, BytesMut};

/// A longer event goes on in parts.
pub(super) const LONGEST: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Hold {
    kept: BytesMut,
    /// A part of the event that is open now has gone on already.
    torn: bool,
}

impl Hold {
    /// What may go on now that `bytes` have come; `ended` of them are before the event that is open
    /// at their end, which was open before where it is `None`.
    pub(super) fn pass(&mut self, mut bytes: Bytes, ended: Option<usize>) -> Bytes {
        let open = bytes.split_off(ended.unwrap_or(0));
        let mut ready = Bytes::new();
        if ended.is_some() {
            ready = self.with_kept(bytes);
            self.torn = false;
        }
        if self.torn || self.kept.len() + open.len() > LONGEST {
            self.torn = true;
            let open = self.with_kept(open);
            return joined(ready, open);
        }
        self.kept.extend_from_slice(&open);
        ready
    }

    /// What was kept back and has no end.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.kept).freeze()
    }

    /// Whether what went on ends within an event.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.kept.capacity()
    }

    fn with_kept(&mut self, bytes: Bytes) -> Bytes {
        let kept = self.rest();
        joined(kept, bytes)
    }
}

/// One after the other; a copy only where both are something.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        _ => Bytes::from([first, second].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn only_whole_events_go_on() {
        let mut hold = Hold::default();
        assert_eq!(text(hold.pass("ab".into(), Some(2))), "ab");
        assert_eq!(text(hold.pass("cde".into(), Some(1))), "c");
        assert_eq!(text(hold.pass("fg".into(), None)), "");
        assert_eq!(text(hold.pass("hij".into(), Some(2))), "defghi");
        assert!(!hold.is_torn());
        assert_eq!(text(hold.rest()), "j");
    }

    #[test]
    fn one_that_is_too_long_goes_on_in_parts_until_it_ends() {
        let mut hold = Hold::default();
        let long = Bytes::from(vec![b'x'; LONGEST]);
        assert_eq!(hold.pass(long.clone(), Some(0)).len(), 0);
        assert_eq!(hold.pass("y".into(), None).len(), LONGEST + 1);
        assert!(hold.is_torn());
        assert_eq!(text(hold.pass("z".into(), None)), "z");
        assert_eq!(text(hold.pass("endnext".into(), Some(3))), "end");
        assert!(!hold.is_torn());
        assert_eq!(text(hold.rest()), "next");
        assert!(hold.size() <= 2 * LONGEST);
    }
}
