//! What the configuration may ask for and this release does not do yet: one table, that shrinks
//! as features land. The file says everything the finished program understands, so such a key is
//! no mistake, but its owner must be told.

use super::document::Document;
use super::problem::Severity;
use super::tree::{Flaw, Node, Value, join};

/// `run` refuses: leaving it out would be wrong or unsafe.
const REFUSE: Severity = Severity::Refused;

/// Path (`*` = any name, `[]` = any item), with what the value begins, what `run` does, what happens
/// instead.
#[rustfmt::skip] // One line a key, so that a feature that lands deletes its line.
const TABLE: &[(&str, &str, Severity, &str)] = &[
    ("admin.address", "unix:", REFUSE, "admin needs an address and a port"),
];

/// Tells every key of `root` that is in the table.
pub(super) fn report(doc: &mut Document, root: &Node) {
    for (pattern, start, severity, instead) in TABLE {
        let mut places = Vec::new();
        visit(root, "", pattern, &mut |node, path| {
            if asks(node, start) {
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

fn asks(node: &Node, start: &str) -> bool {
    match &node.value {
        Value::Bare(text) | Value::Text(text) => text.starts_with(start),
        Value::Null | Value::Broken | Value::List(_) | Value::Map(_) => false,
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
