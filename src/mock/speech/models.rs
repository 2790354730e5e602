//! Lists of models, in the shape of each vendor.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::dialect::Dialect;

/// What a vendor has when nothing else is set.
fn usual(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAi => &["gpt-5", "gpt-5-mini", "text-embedding-3-small"],
        Dialect::Anthropic => &["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"],
        Dialect::Gemini => &["gemini-2.5-pro", "gemini-2.5-flash"],
    }
}

fn entry(dialect: Dialect, id: &str, vendor: &str) -> Value {
    match dialect {
        Dialect::OpenAi => {
            json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": vendor})
        }
        Dialect::Anthropic => json!({
            "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z",
        }),
        Dialect::Gemini => json!({
            "name": format!("models/{id}"), "version": "001", "displayName": id,
            "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }),
    }
}

/// All models; `known` in place of the usual ones, if any.
pub(in super::super) fn list(dialect: Dialect, known: &[String], vendor: &str) -> Bytes {
    let ids: Vec<&str> = if known.is_empty() {
        usual(dialect).to_vec()
    } else {
        known.iter().map(String::as_str).collect()
    };
    let entries: Vec<Value> = ids.iter().map(|id| entry(dialect, id, vendor)).collect();
    let list = match dialect {
        Dialect::OpenAi => json!({"object": "list", "data": entries}),
        Dialect::Anthropic => json!({
            "data": entries, "has_more": false, "first_id": ids.first(), "last_id": ids.last(),
        }),
        Dialect::Gemini => json!({"models": entries}),
    };
    list.to_string().into()
}

/// One model; none: there is no such one.
pub(in super::super) fn one(
    dialect: Dialect,
    id: &str,
    known: &[String],
    vendor: &str,
) -> Option<Bytes> {
    let exists = known.is_empty() || known.iter().any(|name| name == id);
    exists.then(|| entry(dialect, id, vendor).to_string().into())
}
