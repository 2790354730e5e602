//! The effective configuration as text: what was read and what was assumed, secrets masked.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::secret::Secret;

use super::model::SecretSource;

/// A value of the effective configuration, in the order in which it was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

impl Shown {
    /// What is shown for `path`, such as `server.threads`.
    pub fn at(&self, path: &str) -> Option<&Shown> {
        path.split('.').try_fold(self, |shown, name| match shown {
            Shown::Map(entries) => {
                let entry = entries.iter().find(|(key, _)| key == name);
                entry.map(|(_, value)| value)
            }
            _ => None,
        })
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        // A literal `${` would be taken for a variable when the output is read again.
        Shown::Text(text.into().replace("${", "$${"))
    }

    pub(super) fn secret(source: &SecretSource) -> Self {
        match source {
            SecretSource::Value(secret) => Shown::text(secret.masked()),
            SecretSource::File(path) => Shown::Map(vec![(
                "file".to_owned(),
                Shown::text(path.to_string_lossy()),
            )]),
        }
    }

    /// A URL whose user name, password and path are secrets: they are masked, scheme and host stay.
    pub(super) fn secret_url(url: &Secret) -> Self {
        let (scheme, rest) = url.expose().split_once("://").unwrap_or(("", ""));
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((_, host)) => ("****@", host),
            None => ("", authority),
        };
        let path = if path.len() > 1 { "/****" } else { path };
        Shown::text(format!("{scheme}://{user}{host}{path}"))
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shown::Bool(value) => serializer.serialize_bool(*value),
            Shown::Int(value) => serializer.serialize_i64(*value),
            Shown::Float(value) => serializer.serialize_f64(*value),
            Shown::Text(value) => serializer.serialize_str(value),
            Shown::List(items) => serializer.collect_seq(items),
            Shown::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}
