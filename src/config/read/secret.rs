//! Readers of secrets: what they hold is kept out of snippets and messages.

use super::super::form::{Form, NONEMPTY, PathIn, Text, is_header_value};
use super::super::model::SecretSource;
use super::super::shown::Shown;
use super::super::tree::{Node, Value, join};
use super::{Section, Spot, enter};
use crate::secret::Secret;

impl<'n> Section<'_, 'n> {
    /// A secret: a text, or `{file: PATH}` with a path that starts at `folder`.
    pub(in crate::config) fn secret(
        &mut self,
        key: &'static str,
        folder: PathIn,
    ) -> Option<SecretSource> {
        let node = self.find(key)?;
        let secret = self.secret_of(node, self.below(key, key), folder)?;
        self.show(key, Shown::secret(&secret));
        Some(secret)
    }

    /// A secret that must be written; an empty one stands in for it after the problem.
    pub(in crate::config) fn require_secret(&mut self, key: &'static str) -> SecretSource {
        self.expect_written(key);
        let secret = self.secret(key, self.folder());
        secret.unwrap_or_else(|| SecretSource::Value(Secret::new("")))
    }

    /// Secrets under names of the given form.
    pub(in crate::config) fn secrets(
        &mut self,
        key: &'static str,
        name: impl Form<Value = String>,
    ) -> Vec<(String, SecretSource)> {
        let (mut values, mut map) = (Vec::new(), Vec::new());
        for field in self.entries(key) {
            let spot = self.below(&join(key, &field.key), &join(key, "*"));
            let read = name.read(&field.key);
            if let Err(message) = &read {
                self.doc.problem(field.place, &spot.path, message);
            }
            let secret = self.secret_of(&field.value, spot, self.folder());
            if let (Ok(name), Some(secret)) = (read, secret) {
                map.push((name.clone(), Shown::secret(&secret)));
                values.push((name, secret));
            }
        }
        self.show(key, Shown::Map(map));
        values
    }

    /// A URL that may hold a secret, so it is masked wherever it is shown.
    pub(in crate::config) fn secret_url(
        &mut self,
        key: &'static str,
        schemes: &[&str],
    ) -> Option<Secret> {
        let node = self.find(key).filter(|node| node.scalar() != Some(""))?;
        self.doc.hide(node);
        let text = self.scalar(key, node, &NONEMPTY)?;
        match secret_url_of(&text, schemes) {
            Ok(url) => {
                self.show(key, Shown::secret_url(&url));
                Some(url)
            }
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// A list of words. One with a variable in it is shown as it is written: a secret may stand for it.
    pub(in crate::config) fn words(&mut self, key: &'static str) -> Vec<String> {
        let words = self.list(key, Text, Vec::new());
        if let Some(Value::List(nodes)) = self.find(key).map(|node| &node.value) {
            let shown = |node: &Node| match &node.written {
                Some(written) => Shown::Text(written.clone()),
                None => Shown::text(node.scalar().unwrap_or_default().trim()),
            };
            self.show(key, Shown::List(nodes.iter().map(shown).collect()));
        }
        words
    }

    fn secret_of(&mut self, node: &'n Node, spot: Spot, folder: PathIn) -> Option<SecretSource> {
        let message = match &node.value {
            Value::Broken => {
                // A secret may stand beside the variable, or between its braces.
                self.doc.hide(node);
                return None;
            }
            Value::Map(_) => {
                let no_path = std::path::PathBuf::new();
                let read = |s: &mut Section<'_, 'n>| s.require("file", folder, no_path);
                let (path, _) = enter(self.doc, Some(node), spot, read);
                return (!path.as_os_str().is_empty()).then_some(SecretSource::File(path));
            }
            Value::Text(text) if text.trim().is_empty() => "must not be empty",
            Value::Text(text) if is_header_value(text) => {
                self.doc.hide(node);
                if node.written.is_none() && self.doc.plain_secret.is_none() {
                    self.doc.plain_secret = Some((node.place, spot.path));
                }
                return Some(SecretSource::Value(Secret::new(text.trim())));
            }
            Value::Text(_) => "holds a line break or another control character",
            Value::Bare(_) => "is read as a number or a truth value here: write it in quotes",
            _ => "must be a text or `{file: PATH}`",
        };
        self.doc.hide(node);
        self.doc.problem(node.place, &spot.path, message);
        None
    }
}

/// A URL of one of `schemes`; its text stays secret, also in the error.
fn secret_url_of(text: &str, schemes: &[&str]) -> Result<Secret, String> {
    let known = schemes.iter().any(|scheme| {
        text.strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .is_some_and(|rest| !rest.is_empty())
    });
    if known && is_header_value(text) && !text.contains(' ') {
        return Ok(Secret::new(text));
    }
    let wanted: Vec<String> = schemes
        .iter()
        .map(|scheme| format!("{scheme}://"))
        .collect();
    Err(format!(
        "must be a URL that begins with {}",
        wanted.join(" or ")
    ))
}
