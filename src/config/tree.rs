//! YAML text -> a tree that knows its places, with `${NAME}` replaced.
//!
//! serde's derive stops at the first thing it does not expect; a tree lets the readers look at
//! everything and report every problem at once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Location, Spanned};

use super::env::{Variables, expand};

/// A part of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1; 0 = nowhere in the file.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// Bytes of the text; empty where they are not known.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Place {
    fn of(location: Location) -> Self {
        let span = location.span();
        let (start, length) = span.byte_offset().zip(span.byte_len()).unwrap_or((0, 0));
        Place {
            line: location.line() as usize,
            column: location.column() as usize,
            start: start as usize,
            end: (start + length) as usize,
        }
    }
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// The text as it is written, where that has a variable in it.
    pub(super) written: Option<String>,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    /// A number or a truth value, as it is written.
    Bare(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Field>),
    /// A text whose variable is not set: reported already, to be passed over in silence.
    Broken,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// The text of a single value.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Bare(text) | Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Every single value below, this one included.
    pub(super) fn leaves(&self, visit: &mut dyn FnMut(Place)) {
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.leaves(visit)),
            Value::Map(fields) => fields.iter().for_each(|field| field.value.leaves(visit)),
            _ => visit(self.place),
        }
    }
}

/// Something wrong with the tree itself: where, at which path, what.
pub(super) struct Flaw {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) message: String,
}

/// The tree of `text`, and what is wrong with it already (unset variables, keys written twice).
///
/// # Errors
/// Text that is not YAML, or that is unreasonably large or nested, is one flaw.
pub(super) fn parse(text: &str, env: Variables<'_>) -> Result<(Node, Vec<Flaw>), Flaw> {
    let raw: Raw = serde_yaml::from_str_with_options(text, options()).map_err(|error| Flaw {
        place: error.location().map(Place::of).unwrap_or_default(),
        path: String::new(),
        message: one_line(&error),
    })?;
    let mut reading = Reading {
        text,
        env,
        flaws: Vec::new(),
    };
    let root = reading.node(raw, "");
    Ok((root, reading.flaws))
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        // The places are ours to show: a snippet of theirs could show a secret.
        with_snippet: false,
        // Both values arrive, so that a key written twice is one problem among the others.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        budget: serde_yaml::budget! { max_documents: 1, max_depth: 24, flow_nesting_limit: 24, max_nodes: 2_000_000, max_events: 4_000_000 },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 200_000 },
    }
}

/// The parser's message without the place, which stands in front of it already.
fn one_line(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    format!("not valid YAML: {}", line.trim_start_matches("error: "))
}

struct Reading<'a> {
    text: &'a str,
    env: Variables<'a>,
    flaws: Vec<Flaw>,
}

impl Reading<'_> {
    fn node(&mut self, raw: Raw, path: &str) -> Node {
        let place = Place::of(raw.0.defined);
        let mut written = None;
        let value = match raw.0.value {
            Bare::Null => Value::Null,
            Bare::Plain(parsed) => {
                // As it is written, so that `007` may be a name; the parsed form only where the
                // place is not known.
                let plain = self
                    .text
                    .get(place.start..place.end)
                    .unwrap_or_default()
                    .trim();
                Value::Bare(if plain.is_empty() {
                    parsed
                } else {
                    plain.to_owned()
                })
            }
            Bare::Text(text) => match expand(&text, self.env) {
                Ok(replaced) => {
                    written = (replaced != text).then_some(text);
                    Value::Text(replaced)
                }
                Err(message) => {
                    self.flaws.push(Flaw {
                        place,
                        path: path.to_owned(),
                        message,
                    });
                    Value::Broken
                }
            },
            Bare::List(items) => Value::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| self.node(item, &format!("{path}[{index}]")))
                    .collect(),
            ),
            Bare::Map(entries) => Value::Map(self.fields(entries, path)),
        };
        Node {
            place,
            value,
            written,
        }
    }

    fn fields(&mut self, entries: Vec<(Spanned<String>, Raw)>, path: &str) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::with_capacity(entries.len());
        let mut lines = std::collections::HashMap::new();
        for (key, raw) in entries {
            let place = Place::of(key.referenced);
            let path = join(path, &key.value);
            if let Some(line) = lines.insert(key.value.clone(), place.line) {
                let message = format!("this key is written twice; first on line {line}");
                self.flaws.push(Flaw {
                    place,
                    path: path.clone(),
                    message,
                });
            }
            fields.push(Field {
                place,
                value: self.node(raw, &path),
                key: key.value,
            });
        }
        fields
    }
}

/// The path of `key` below `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A value as the parser gives it.
struct Raw(Spanned<Bare>);

enum Bare {
    Null,
    Plain(String),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bare, E> {
        Ok(Bare::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Bare, E> {
        Ok(Bare::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Bare, E> {
        Ok(Bare::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Bare, E> {
        Ok(Bare::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Bare, E> {
        Ok(Bare::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bare, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Bare::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Bare, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Bare::Map(map))
    }
}
