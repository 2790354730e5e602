//! Makes texts of strangers harmless in a log: nothing in a value can end a line, move a cursor,
//! colour a terminal or turn the direction of writing.

use std::fmt::Write as _;

/// The longest text of a client (model, request id) that is written, in characters.
pub(super) const CLIENT_TEXT: usize = 128;

/// The longest message of our own or of a library, in characters.
pub(super) const MESSAGE: usize = 8 * 1024;

/// The first `limit` characters of `text`.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    match text.char_indices().nth(limit) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// `text` for a person, without quotes.
pub(super) fn plain(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_hostile(c) {
            push_escaped(out, c);
        } else {
            out.push(c);
        }
    }
}

/// `text` as the value of `key=value`: in quotes when it would not stand alone.
pub(super) fn value(out: &mut String, text: &str) {
    // Nearly every value is plain ASCII, which is told byte by byte.
    let is_plain = |byte: u8| PLAIN[usize::from(byte)];
    let alone = !text.is_empty()
        && (text.bytes().all(is_plain) || text.chars().all(|c| !is_hostile(c) && !needs_quotes(c)));
    if alone {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_hostile(c) => push_escaped(out, c),
            c => out.push(c),
        }
    }
    out.push('"');
}

const fn needs_quotes(c: char) -> bool {
    matches!(c, ' ' | '"' | '=' | '\\')
}

/// Bytes of ASCII that stand for themselves.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        plain[byte as usize] = byte.is_ascii_graphic() && !needs_quotes(byte as char);
        byte += 1;
    }
    plain
};

/// `text` as a JSON string (RFC 8259 §7); also escapes what JSON would let through to a terminal.
pub(super) fn json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // Every hostile character lies below U+10000, so no surrogate pair is needed.
            c if is_hostile(c) => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Control characters (ESC, CR, LF, NUL, C1 …), Unicode's line ends, and what reverses a line.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => drop(write!(out, "\\u{{{:x}}}", c as u32)),
    }
}

#[cfg(test)]
mod tests {
    use super::{cut, json, plain, value};
    use proptest::prelude::*;

    fn with(write: fn(&mut String, &str), text: &str) -> String {
        let mut out = String::new();
        write(&mut out, text);
        out
    }

    #[test]
    fn ordinary_text_of_any_language_is_left_alone() {
        assert_eq!(
            with(plain, "[实例 instance_1] ready"),
            "[实例 instance_1] ready"
        );
        assert_eq!(with(value, "claude-opus-4.5"), "claude-opus-4.5");
    }

    #[test]
    fn a_value_with_a_space_or_a_quote_is_quoted() {
        assert_eq!(with(value, "a b"), "\"a b\"");
        assert_eq!(with(value, "say \"x\""), "\"say \\\"x\\\"\"");
        assert_eq!(with(value, ""), "\"\"");
    }

    #[test]
    fn a_cut_counts_characters_not_bytes() {
        assert_eq!(cut("éééé", 2), "éé");
        assert_eq!(cut("ab", 2), "ab");
    }

    proptest! {
        #[test]
        fn no_text_can_break_a_line_or_reach_a_terminal(text in any::<String>()) {
            let text = format!("{text}\u{1b}[31m\r\n\0\u{2028}\u{202e}");
            for written in [with(plain, &text), with(value, &text), with(json, &text)] {
                let broken = written.chars().any(|c| c.is_control() || "\u{2028}\u{202e}".contains(c));
                prop_assert!(!broken);
            }
        }

        #[test]
        fn a_json_reader_gets_the_text_back(text in any::<String>()) {
            let back: String = serde_json::from_str(&with(json, &text)).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
