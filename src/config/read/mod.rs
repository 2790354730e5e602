//! Typed readers: a section is asked for its keys one by one, goes on after a problem, and at its
//! end reports the keys that nobody asked for.
//!
//! Each key is written once, where it is read: from there come its default, its place in
//! `check --print` and the list of known keys.

mod secret;

use std::collections::HashSet;

use super::document::{Document, Kind};
use super::form::{Form, PathIn};
use super::problem::{Severity, did_you_mean};
use super::shown::Shown;
use super::tree::{Field, Flaw, Node, Place, Value, join};

/// One mapping of the file, or of what the file leaves out.
pub(super) struct Section<'s, 'n> {
    doc: &'s mut Document,
    fields: &'n [Field],
    /// Absent sections are read for their defaults; nothing is missing in them.
    written: bool,
    place: Place,
    path: String,
    /// `path` with `*` for names and `[]` for items.
    pattern: String,
    asked: Vec<&'static str>,
    shown: Vec<(String, Shown)>,
}

/// Where a section stands: its path and its pattern.
struct Spot {
    path: String,
    pattern: String,
}

/// Reads one section, present or not, and reports its unknown keys.
fn enter<'n, T>(
    doc: &mut Document,
    node: Option<&'n Node>,
    spot: Spot,
    read: impl FnOnce(&mut Section<'_, 'n>) -> T,
) -> (T, Shown) {
    let place = node.map_or(Place::default(), |node| node.place);
    let (fields, written): (&[Field], bool) = match node.map(|node| &node.value) {
        Some(Value::Map(fields)) => (fields, true),
        None | Some(Value::Null | Value::Broken) => (&[], spot.path.is_empty()),
        Some(_) => {
            if let Some(node) = node {
                doc.hide(node);
            }
            doc.problem(place, &spot.path, "must be a mapping of keys to values");
            (&[], false)
        }
    };
    let Spot { path, pattern } = spot;
    let (asked, shown) = (Vec::new(), Vec::new());
    let mut section = Section {
        doc,
        fields,
        written,
        place,
        path,
        pattern,
        asked,
        shown,
    };
    let value = read(&mut section);
    section.report_unknown();
    (value, Shown::Map(section.shown))
}

/// Reads the whole file.
pub(super) fn root<'n, T>(
    doc: &mut Document,
    node: &'n Node,
    read: impl FnOnce(&mut Section<'_, 'n>) -> T,
) -> (T, Shown) {
    let spot = Spot {
        path: String::new(),
        pattern: String::new(),
    };
    enter(doc, Some(node), spot, read)
}

impl<'n> Section<'_, 'n> {
    /// The last part of this section's path: the name under which it is written.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }

    /// Where relative paths start.
    pub(super) fn folder(&self) -> PathIn {
        PathIn(self.doc.folder.clone())
    }

    /// One value, or its default.
    pub(super) fn get<F: Form>(
        &mut self,
        key: &'static str,
        form: F,
        default: F::Value,
    ) -> F::Value {
        let value = self
            .find(key)
            .and_then(|node| self.scalar(key, node, &form))
            .unwrap_or(default);
        self.show(key, form.show(&value));
        value
    }

    /// One value that has no default; an empty text is none.
    pub(super) fn maybe<F: Form>(&mut self, key: &'static str, form: F) -> Option<F::Value> {
        let node = self.find(key).filter(|node| node.scalar() != Some(""))?;
        let value = self.scalar(key, node, &form)?;
        self.show(key, form.show(&value));
        Some(value)
    }

    /// One value that must be written; `fallback` stands in for it after the problem.
    pub(super) fn require<F: Form>(
        &mut self,
        key: &'static str,
        form: F,
        fallback: F::Value,
    ) -> F::Value {
        self.expect_written(key);
        self.get(key, form, fallback)
    }

    /// A list of single values.
    pub(super) fn list<F: Form>(
        &mut self,
        key: &'static str,
        form: F,
        default: Vec<F::Value>,
    ) -> Vec<F::Value> {
        let values = match self.items(key) {
            None => default,
            Some(items) => {
                let read = |(index, node)| self.scalar(&format!("{key}[{index}]"), node, &form);
                items.iter().enumerate().filter_map(read).collect()
            }
        };
        self.show(
            key,
            Shown::List(values.iter().map(|value| form.show(value)).collect()),
        );
        values
    }

    /// A section whose keys all have defaults.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, 'n>) -> T,
    ) -> T {
        let node = self.find(key);
        let (value, shown) = enter(self.doc, node, self.below(key, key), read);
        self.show(key, shown);
        value
    }

    /// A section that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, 'n>) -> T,
    ) -> Option<T> {
        if self.find(key).is_none() && !self.doc.catalogue {
            return None;
        }
        Some(self.section(key, read))
    }

    /// A list of sections; an absent one is read as `absent` empty sections.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        absent: usize,
        mut read: impl FnMut(&mut Section<'_, 'n>) -> T,
    ) -> Vec<T> {
        let absent = if self.doc.catalogue { 1 } else { absent };
        let nodes: Vec<Option<&Node>> = match self.items(key) {
            None => vec![None; absent],
            Some(items) => items.iter().map(Some).collect(),
        };
        let (mut values, mut list) = (Vec::new(), Vec::new());
        for (index, node) in nodes.into_iter().enumerate() {
            let spot = self.below(&format!("{key}[{index}]"), &format!("{key}[]"));
            if let Some(node) = node.filter(|node| matches!(node.value, Value::Null)) {
                let message = "is an item without anything in it; fill it or take it off";
                self.doc.problem(node.place, &spot.path, message);
            }
            let (value, shown) = enter(self.doc, node, spot, &mut read);
            values.push(value);
            list.push(shown);
        }
        self.show(key, Shown::List(list));
        values
    }

    /// Sections under names of the user's choice, in the order of the file.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        mut read: impl FnMut(&str, &mut Section<'_, 'n>) -> T,
    ) -> Vec<(String, T)> {
        let entries = self.entries(key);
        let (mut values, mut map) = (Vec::new(), Vec::new());
        for field in entries {
            let spot = self.below(&join(key, &field.key), &join(key, "*"));
            self.doc.know(kind, &field.key, field.place);
            if let Err(message) = super::form::ID.read(&field.key) {
                self.doc
                    .problem(field.place, &spot.path, format!("the name {message}"));
            }
            let (value, shown) = enter(self.doc, Some(&field.value), spot, |s| read(&field.key, s));
            values.push((field.key.clone(), value));
            map.push((field.key.clone(), shown));
        }
        if self.doc.catalogue {
            let (value, _) = enter(self.doc, None, self.below(key, &join(key, "*")), |s| {
                read("*", s)
            });
            values.push(("*".to_owned(), value));
        }
        self.show(key, Shown::Map(map));
        values
    }

    /// Is this word written where a list of sections may stand?
    pub(super) fn says(&mut self, key: &'static str, word: &str) -> bool {
        let written = self.find(key).and_then(Node::scalar) == Some(word);
        if written {
            self.show(key, Shown::text(word));
        }
        written
    }

    /// A section, or a single word in its place; an absent one is the word `default`.
    pub(super) fn word_or<T>(
        &mut self,
        key: &'static str,
        default: &str,
        word: impl FnOnce(&str) -> Result<T, String>,
        read: impl FnOnce(&mut Section<'_, 'n>) -> T,
    ) -> Option<T> {
        let node = self.find(key);
        let text = match node {
            None => Some(default),
            Some(node) => node.scalar(),
        };
        let Some(text) = text.filter(|_| !self.doc.catalogue) else {
            return self.optional(key, read);
        };
        match word(text) {
            Ok(value) => {
                self.show(key, Shown::text(text));
                Some(value)
            }
            Err(message) => {
                if let Some(node) = node {
                    // It may be a secret in the wrong place.
                    self.doc.hide(node);
                }
                self.problem(key, message);
                None
            }
        }
    }

    /// Something that exists under `name` without being written.
    pub(super) fn imply<T>(
        &mut self,
        kind: Kind,
        name: &str,
        read: impl FnOnce(&mut Section<'_, 'n>) -> T,
    ) -> T {
        self.doc.know(kind, name, Place::default());
        self.defaults(read)
    }

    /// What a section is when nothing of it is written.
    pub(super) fn defaults<T>(&mut self, read: impl FnOnce(&mut Section<'_, 'n>) -> T) -> T {
        let mut unseen = Document::new(self.doc.folder.clone(), false);
        enter(&mut unseen, None, self.below("", ""), read).0
    }

    /// Texts under texts, when a mapping is written here.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        if !matches!(self.find(key)?.value, Value::Map(_)) {
            return None;
        }
        let mut values = Vec::new();
        for field in self.entries(key) {
            let path = join(key, &field.key);
            if let Some(text) = self.scalar(&path, &field.value, &super::form::NONEMPTY) {
                values.push((field.key.clone(), text));
            }
        }
        let shown = |(name, text): &(String, String)| (name.clone(), Shown::text(text));
        self.show(key, Shown::Map(values.iter().map(shown).collect()));
        Some(values)
    }

    /// A value that names something defined elsewhere in the file.
    pub(super) fn refer(&mut self, key: &'static str, kind: Kind, name: &str) {
        if let Some(node) = self.find(key) {
            self.doc
                .refer(kind, name, node.place, &join(&self.path, key));
        }
    }

    /// The same for a list of names.
    pub(super) fn refer_all(&mut self, key: &'static str, kind: Kind) {
        for (index, node) in self.items(key).unwrap_or_default().iter().enumerate() {
            if let Some(name) = node.scalar() {
                let path = format!("{}[{index}]", join(&self.path, key));
                self.doc.refer(kind, name, node.place, &path);
            }
        }
    }

    /// A value that is a name of its own.
    pub(super) fn define(&mut self, key: &'static str, kind: Kind, name: &str) {
        if let Some(node) = self.find(key) {
            self.doc
                .define(kind, name, node.place, &join(&self.path, key));
        }
    }

    /// How many of the keys that this section knows are written.
    pub(super) fn count_written(&self) -> usize {
        self.fields.len()
    }

    /// Whether a mapping is written under `key`; in the catalogue it may be one.
    pub(super) fn is_mapping(&mut self, key: &'static str) -> bool {
        let node = self.find(key);
        self.doc.catalogue || node.is_some_and(|node| matches!(node.value, Value::Map(_)))
    }

    /// Whether `key` is written here.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    pub(super) fn problem_here(&mut self, message: impl Into<String>) {
        self.doc.problem(self.place, &self.path, message);
    }

    /// A problem with what `key` holds, or with its absence.
    pub(super) fn problem(&mut self, key: &'static str, message: impl Into<String>) {
        self.say(Severity::Error, key, message.into());
    }

    /// Something that the owner should look at.
    pub(super) fn warn(&mut self, key: &'static str, message: impl Into<String>) {
        self.say(Severity::Warning, key, message.into());
    }

    fn say(&mut self, severity: Severity, key: &'static str, message: String) {
        let place = self.find(key).map_or(self.place, |node| node.place);
        self.doc.report(
            severity,
            Flaw {
                place,
                path: join(&self.path, key),
                message,
            },
        );
    }

    /// What `check --print` says of `key`, instead of what was written.
    pub(super) fn show(&mut self, key: &'static str, shown: Shown) {
        match self.shown.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = shown,
            None => self.shown.push((key.to_owned(), shown)),
        }
    }

    /// The value of `key`, which is known from here on; an empty one counts as absent.
    fn find(&mut self, key: &'static str) -> Option<&'n Node> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
            if self.doc.catalogue {
                self.doc.keys.insert(join(&self.pattern, key));
            }
        }
        let field = self.fields.iter().find(|field| field.key == key)?;
        (!matches!(field.value.value, Value::Null)).then_some(&field.value)
    }

    /// Reports the absence of `key`, unless it is there with a typing error, which is told already.
    pub(super) fn expect_written(&mut self, key: &'static str) {
        let mistyped = |field: &Field| !did_you_mean(&field.key, [key]).is_empty();
        if self.find(key).is_none() && self.written && !self.fields.iter().any(mistyped) {
            self.problem_here(format!("`{key}` is missing"));
        }
    }

    fn below(&self, path: &str, pattern: &str) -> Spot {
        Spot {
            path: join(&self.path, path),
            pattern: join(&self.pattern, pattern),
        }
    }

    fn scalar<F: Form>(&mut self, key: &str, node: &Node, form: &F) -> Option<F::Value> {
        let read = match (&node.value, node.scalar()) {
            (Value::Broken, _) => return None,
            (_, Some(text)) => {
                if text.contains("://") && text.contains(['@', '?', '#']) {
                    // Such a part of an address often is a secret.
                    self.doc.hide(node);
                }
                form.read(text.trim())
            }
            _ => {
                self.doc.hide(node);
                Err("must be a single value".to_owned())
            }
        };
        read.map_err(|message| {
            self.doc
                .problem(node.place, &join(&self.path, key), message)
        })
        .ok()
    }

    fn items(&mut self, key: &'static str) -> Option<&'n [Node]> {
        let node = self.find(key)?;
        match &node.value {
            Value::List(items) => Some(items),
            Value::Broken => None,
            _ => {
                self.doc.hide(node);
                self.problem(key, "must be a list, such as `[…]`");
                None
            }
        }
    }

    fn entries(&mut self, key: &'static str) -> &'n [Field] {
        let Some(node) = self.find(key) else {
            return &[];
        };
        match &node.value {
            Value::Map(fields) => fields,
            Value::Broken => &[],
            _ => {
                self.doc.hide(node);
                self.problem(key, "must be a mapping of names to values");
                &[]
            }
        }
    }

    fn report_unknown(&mut self) {
        let mut seen = HashSet::new();
        for field in self.fields {
            // Of a key that is written twice the second value is read by nobody; it may be a secret.
            if !seen.insert(&field.key) {
                self.doc.hide(&field.value);
            }
        }
        for field in self
            .fields
            .iter()
            .filter(|field| !self.asked.contains(&field.key.as_str()))
        {
            // Nobody knows what it holds; it may be a secret.
            self.doc.hide(&field.value);
            let hint = did_you_mean(&field.key, self.asked.iter().copied());
            let path = join(&self.path, &field.key);
            self.doc
                .problem(field.place, &path, format!("unknown key{hint}"));
        }
    }
}
