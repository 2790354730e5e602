//! One object of an older JSON file, read field by field; what is wrong is said with its path.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Said;

/// An object, and which of its fields were asked for.
pub(super) struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// `value` at `path`; absent is empty.
    pub(super) fn of(value: Option<&'a Value>, path: &str, said: &mut Said) -> Self {
        let map = value.and_then(Value::as_object);
        if value.is_some() && map.is_none() {
            said.wrong(format!("{path}: expected an object"));
        }
        Fields {
            path: path.to_owned(),
            map,
            asked: RefCell::default(),
        }
    }

    /// The path of one of its fields.
    pub(super) fn path(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// A field's value; `null` is absent.
    pub(super) fn value(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name);
        self.map?.get(name).filter(|value| !value.is_null())
    }

    fn of_kind<T>(
        &self,
        name: &'static str,
        kind: &str,
        said: &mut Said,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = read(value);
        if read.is_none() {
            said.wrong(format!("{}: expected {kind}", self.path(name)));
        }
        read
    }

    pub(super) fn text(&self, name: &'static str, said: &mut Said) -> Option<&'a str> {
        self.of_kind(name, "a text", said, Value::as_str)
    }

    pub(super) fn flag(&self, name: &'static str, said: &mut Said) -> Option<bool> {
        self.of_kind(name, "true or false", said, Value::as_bool)
    }

    /// A whole number within these bounds.
    pub(super) fn number(
        &self,
        name: &'static str,
        (least, most): (u64, u64),
        said: &mut Said,
    ) -> Option<u64> {
        let kind = format!("a whole number of {least} to {most}");
        let fits = |value: &Value| value.as_u64().filter(|n| (least..=most).contains(n));
        self.of_kind(name, &kind, said, fits)
    }

    /// Says which fields nobody asked for.
    pub(super) fn say_rest(&self, said: &mut Said) {
        let asked = self.asked.borrow();
        let names = self.map.into_iter().flat_map(Map::keys);
        for name in names.filter(|name| !asked.contains(name.as_str())) {
            said.note(format!("{}: has no counterpart", self.path(name)));
        }
    }
}
