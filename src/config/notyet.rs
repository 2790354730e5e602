//! What the configuration may ask for and this release does not do yet: one table, that shrinks
//! as features land. The file says everything the finished program understands, so such a key is
//! no mistake, but its owner must be told.

use super::document::Document;
use super::problem::Severity;
use super::tree::{Flaw, Node, Value, join};

/// When a written value asks for something.
enum When {
    /// Unless it is what doing nothing looks like: empty, 0 or false.
    Set,
    /// Unless it is this word.
    Not(&'static str),
    /// If it begins with this.
    Begins(&'static str),
}

use When::{Begins, Not, Set};

/// `run` refuses: leaving it out would be wrong or unsafe.
const REFUSE: Severity = Severity::Refused;
/// It is told and left out.
const NOTE: Severity = Severity::Note;

/// Path (`*` = any name, `[]` = any item), when, what `run` does, what happens instead.
#[rustfmt::skip] // One line a key, so that a feature that lands deletes its line.
const TABLE: &[(&str, When, Severity, &str)] = &[
    ("admin.address", Begins("unix:"), REFUSE, "admin needs an address and a port"),
    ("pools.*.usage", Not("observe"), NOTE, "usage is counted where the vendor states it"),
];

/// Tells every key of `root` that is in the table.
pub(super) fn report(doc: &mut Document, root: &Node) {
    for (pattern, when, severity, instead) in TABLE {
        let mut places = Vec::new();
        visit(root, "", pattern, &mut |node, path| {
            if asks(node, when) {
                places.push((node.place, path));
            }
        });
        // One remark a key: thousands of accounts may have it.
        let others = places.len().saturating_sub(1);
        let Some((place, path)) = places.into_iter().next() else {
            continue;
        };
        let message = match others {
            0 => (*instead).to_owned(),
            _ => format!("{instead} (and {others} more like this)"),
        };
        doc.report(
            *severity,
            Flaw {
                place,
                path,
                message,
            },
        );
    }
}

fn asks(node: &Node, when: &When) -> bool {
    match (&node.value, when) {
        (Value::Null | Value::Broken, _) => false,
        (Value::List(items), _) => !items.is_empty(),
        (Value::Map(fields), _) => !fields.is_empty(),
        (Value::Bare(text) | Value::Text(text), Set) => {
            !matches!(text.as_str(), "" | "0" | "false")
        }
        (Value::Bare(text) | Value::Text(text), Not(idle)) => text != idle,
        (Value::Bare(text) | Value::Text(text), Begins(start)) => text.starts_with(start),
    }
}

/// Calls `found` for every node that `pattern` leads to.
fn visit(node: &Node, path: &str, pattern: &str, found: &mut dyn FnMut(&Node, String)) {
    if pattern.is_empty() {
        return found(node, path.to_owned());
    }
    let (step, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    let Value::Map(fields) = &node.value else {
        return;
    };
    let (name, each) = match step.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (step, false),
    };
    for field in fields
        .iter()
        .filter(|field| name == "*" || field.key == name)
    {
        let path = join(path, &field.key);
        match &field.value.value {
            Value::List(items) if each => {
                for (index, item) in items.iter().enumerate() {
                    visit(item, &format!("{path}[{index}]"), rest, found);
                }
            }
            _ if each => {}
            _ => visit(&field.value, &path, rest, found),
        }
    }
}
