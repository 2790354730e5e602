//! JSON from above: the parts of one object or array as they are written. What is within a part is passed
//! over, going by texts and brackets only: whether it is JSON finds out who reads it.

use std::borrow::Cow;

use memchr::memchr2;

/// What begins or ends a text or a container.
pub(super) const OUTLINE: [bool; 256] = table(b"\"{}[]");

/// What a number, `true`, `false` or `null` may be written with.
const BARE: [bool; 256] =
    table(b"+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

/// Looked up, as every byte is asked for.
pub(super) const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut n = 0;
    while n < bytes.len() {
        table[bytes[n] as usize] = true;
        n += 1;
    }
    table
}

/// The members of these names. None where `json` is no whole object, or has one of them twice: which of
/// the two another reader would take is not ours to guess. Some readers (Go's `encoding/json`) take a name in
/// other letters, large or small, for the same one: it makes a second one here too, and none by itself.
pub(super) fn members<'a, const N: usize>(
    json: &'a [u8],
    names: &[&str; N],
) -> Option<[Option<&'a [u8]>; N]> {
    let (mut found, mut other) = ([None; N], [false; N]);
    let mut is_twice = false;
    each_member(json, |name, value| {
        if let Some(place) = place_of_any_case(names, name) {
            match names[place].as_bytes() == name {
                true => is_twice |= found[place].replace(value).is_some(),
                false => other[place] = true,
            }
        }
    })?;
    let is_doubled = |(found, other): (&Option<_>, &bool)| found.is_some() && *other;
    is_twice |= found.iter().zip(&other).any(is_doubled);
    (!is_twice).then_some(found)
}

fn place_of_any_case(names: &[&str], name: &[u8]) -> Option<usize> {
    let is_same = |known: &&str| known.as_bytes().eq_ignore_ascii_case(name);
    names.iter().position(is_same)
}

/// The same of an object whose end is still to come: what is whole of it counts, of two the last one.
pub(super) fn members_so_far<'a, const N: usize>(
    json: &'a [u8],
    names: &[&str; N],
) -> [Option<&'a [u8]>; N] {
    let mut found = [None; N];
    // That it breaks off somewhere is no mistake here.
    let _ = each_member(json, |name, value| {
        if let Some(place) = place(names, name) {
            found[place] = Some(value);
        }
    });
    found
}

fn place(names: &[&str], name: &[u8]) -> Option<usize> {
    names.iter().position(|known| known.as_bytes() == name)
}

/// The member of this name, or the item at this place of an array. Of two members the last one counts,
/// as it does with nearly every reader.
pub(super) fn part<'a>(json: &'a [u8], step: &str) -> Option<&'a [u8]> {
    let mut found = None;
    if json.trim_ascii_start().first() == Some(&b'[') {
        let place: usize = step.parse().ok()?;
        let mut count = 0;
        each_item(json, |item| {
            found = found.or((count == place).then_some(item));
            count += 1;
        })?;
    } else {
        each_member(json, |name, value| {
            found = (name == step.as_bytes()).then_some(value).or(found);
        })?;
    }
    found
}

/// Calls for each member of an object with its name, escapes resolved, and its value. None: it is not
/// all of an object, and nothing else.
fn each_member<'a>(json: &'a [u8], mut each: impl FnMut(&[u8], &'a [u8])) -> Option<()> {
    let mut rest = Rest(json);
    rest.take(b'{')?;
    if rest.take(b'}').is_some() {
        return rest.is_over();
    }
    loop {
        let name = rest.name()?;
        rest.take(b':')?;
        each(&name, rest.value()?);
        if rest.take(b',').is_none() {
            rest.take(b'}')?;
            return rest.is_over();
        }
    }
}

/// The same for the items of an array.
fn each_item<'a>(json: &'a [u8], mut each: impl FnMut(&'a [u8])) -> Option<()> {
    let mut rest = Rest(json);
    rest.take(b'[')?;
    if rest.take(b']').is_some() {
        return rest.is_over();
    }
    loop {
        each(rest.value()?);
        if rest.take(b',').is_none() {
            rest.take(b']')?;
            return rest.is_over();
        }
    }
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next byte that is no space, if it is this one.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        let (first, rest) = self.0.split_first()?;
        (*first == byte).then(|| self.0 = rest)
    }

    fn is_over(&mut self) -> Option<()> {
        self.skip_space();
        self.0.is_empty().then_some(())
    }

    /// A member's name.
    fn name(&mut self) -> Option<Cow<'a, [u8]>> {
        self.skip_space();
        if *self.0.first()? != b'"' {
            return None;
        }
        let (end, has_escape) = end_of_text(self.0)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        if has_escape {
            let name: String = serde_json::from_slice(name).ok()?;
            return Some(Cow::Owned(name.into_bytes()));
        }
        Some(Cow::Borrowed(&name[1..end - 1]))
    }

    /// A value, up to its end.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let end = match self.0.first()? {
            b'"' => end_of_text(self.0)?.0,
            b'{' | b'[' => end_of_container(self.0)?,
            // Where nothing follows, there may be more of it to come.
            _ => self.0.iter().position(|byte| !BARE[usize::from(*byte)])?,
        };
        let (value, rest) = self.0.split_at(end);
        self.0 = rest;
        (!value.is_empty()).then_some(value)
    }
}

/// Where the text ends that `json` begins with, and whether there is an escape in it.
fn end_of_text(json: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut has_escape) = (1, false);
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some((at + 1, has_escape));
        }
        has_escape = true;
        at += 2;
    }
}

/// Where the object or array ends that `json` begins with.
fn end_of_container(json: &[u8]) -> Option<usize> {
    let is_outline = |byte: &u8| OUTLINE[usize::from(*byte)];
    let (mut at, mut open) = (0, 0_usize);
    loop {
        at += json[at..].iter().position(is_outline)?;
        match json[at] {
            b'"' => at += end_of_text(&json[at..])?.0,
            b'{' | b'[' => {
                open += 1;
                at += 1;
            }
            _ => {
                open -= 1;
                at += 1;
                if open == 0 {
                    return Some(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];

    fn found(json: &str) -> Option<[Option<&str>; 2]> {
        let text = |raw| std::str::from_utf8(raw).unwrap();
        members(json.as_bytes(), &NAMES).map(|found| found.map(|raw| raw.map(text)))
    }

    #[test]
    fn members_are_found_as_they_are_written() {
        for (json, members) in [
            ("{}", [None, None]),
            (" { } ", [None, None]),
            (r#"{"a":1}"#, [Some("1"), None]),
            (
                "\n{ \"b\" :\t-1.5e+7 , \"a\":null }\r\n",
                [Some("null"), Some("-1.5e+7")],
            ),
            (
                r#"{"c":{"a":["]}\""]},"b":[{"b":"}"},[]],"a":"x\\"}"#,
                [Some(r#""x\\""#), Some(r#"[{"b":"}"},[]]"#)],
            ),
            (r#"{"\u0061":"\"","\"":2,"ab":3}"#, [Some(r#""\"""#), None]),
        ] {
            assert_eq!(found(json), Some(members), "{json}");
        }
    }

    #[test]
    fn what_is_not_all_of_an_object_or_could_be_read_in_two_ways_has_no_members() {
        for json in [
            "",
            "[]",
            "null",
            "{",
            "{]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} {"b":2}"#,
            r#"{a:1}"#,
            r#"{'a':1}"#,
            r#"{"a":'1'}"#,
            r#"{"a":/*,*/1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":[1}"#,
            r#"{"a":"1}"#,
            r#"{"a":"1\"#,
            r#"{"\x":1}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(found(json), None, "{json}");
        }
    }

    proptest! {
        /// Whatever another parser takes for an object has the same members here.
        #[test]
        fn members_are_those_that_a_full_parser_finds(
            a in ".{0,20}", keys in prop::collection::vec("[ab\"\\\\{}é]{0,2}", 0..4), pretty: bool,
        ) {
            let mut object = serde_json::Map::new();
            for key in keys {
                object.insert(key.clone(), serde_json::json!([{"a": a, key: 1.5}, true, null, a]));
            }
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            let json = write(&object).unwrap();
            let found = members(json.as_bytes(), &NAMES).unwrap();
            for (name, raw) in NAMES.iter().zip(found) {
                let value: Option<Value> = raw.map(|raw| serde_json::from_slice(raw).unwrap());
                prop_assert_eq!(value.as_ref(), object.get(*name));
                prop_assert_eq!(part(json.as_bytes(), name), raw);
            }
            for length in 0..json.len() {
                prop_assert!(members(&json.as_bytes()[..length], &NAMES).is_none());
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(
            prop::sample::select(b"{}[]\":,\\a1 ".as_slice()), 0..30,
        )) {
            members(&bytes, &NAMES);
            members_so_far(&bytes, &NAMES);
            part(&bytes, "0");
        }
    }
}
