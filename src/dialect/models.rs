//! Lists of models: what a vendor lists, and the list that a client gets, each in its dialect.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Dialect;

/// A list is read up to so many models.
const MOST: usize = 10_000;

/// A model, as a list of its dialect has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The name that requests use.
    pub id: String,
    entry: Value,
}

#[derive(Deserialize)]
struct List {
    /// OpenAI and Anthropic.
    data: Option<Vec<Value>>,
    /// Gemini.
    models: Option<Vec<Value>>,
}

/// The path, without its version, and the query of the one request that lists all of a vendor's models.
pub fn list_query(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "/models",
        Dialect::Anthropic => "/models?limit=1000",
        Dialect::Gemini => "/models?pageSize=1000",
    }
}

impl Listed {
    /// A model of which nothing is known but its name.
    pub fn named(dialect: Dialect, id: &str) -> Listed {
        let entry = match dialect {
            Dialect::OpenAi => {
                json!({"id": id, "object": "model", "created": 0, "owned_by": "poolgate"})
            }
            Dialect::Anthropic => json!({
                "type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z",
            }),
            Dialect::Gemini => json!({
                "name": format!("models/{id}"), "displayName": id,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            }),
        };
        let id = id.to_owned();
        Listed { id, entry }
    }

    fn of(dialect: Dialect, entry: Value) -> Option<Listed> {
        let id = match dialect {
            Dialect::OpenAi | Dialect::Anthropic => entry.get("id")?.as_str()?,
            Dialect::Gemini => {
                let name = entry.get("name")?.as_str()?;
                name.strip_prefix("models/").unwrap_or(name)
            }
        };
        let id = id.to_owned();
        Some(Listed { id, entry })
    }

    /// The same model under another name.
    pub fn renamed(&self, dialect: Dialect, id: &str) -> Listed {
        let mut entry = self.entry.clone();
        match dialect {
            Dialect::OpenAi | Dialect::Anthropic => entry["id"] = json!(id),
            Dialect::Gemini => entry["name"] = json!(format!("models/{id}")),
        }
        let id = id.to_owned();
        Listed { id, entry }
    }

    /// The answer to who asks for this one.
    pub fn render(&self) -> Bytes {
        self.entry.to_string().into()
    }
}

/// The models that a vendor lists; none: that is no such list.
pub fn listed(dialect: Dialect, body: &[u8]) -> Option<Vec<Listed>> {
    let list: List = serde_json::from_slice(body).ok()?;
    let entries = match dialect {
        Dialect::OpenAi | Dialect::Anthropic => list.data?,
        Dialect::Gemini => list.models?,
    };
    let known = entries.into_iter().take(MOST);
    Some(
        known
            .filter_map(|entry| Listed::of(dialect, entry))
            .collect(),
    )
}

/// The answer to who asks for all of them. Of models with one name the first counts.
pub fn render_list<'a>(dialect: Dialect, models: impl IntoIterator<Item = &'a Listed>) -> Bytes {
    let mut seen = HashSet::new();
    let models = models.into_iter().filter(|model| seen.insert(&model.id));
    let (ids, entries): (Vec<&str>, Vec<&Value>) =
        models.map(|model| (&*model.id, &model.entry)).unzip();
    let list = match dialect {
        Dialect::OpenAi => json!({"object": "list", "data": entries}),
        Dialect::Anthropic => json!({
            "data": entries, "has_more": false, "first_id": ids.first(), "last_id": ids.last(),
        }),
        Dialect::Gemini => json!({"models": entries}),
    };
    list.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read_again_in_each_dialect() {
        for dialect in Dialect::ALL {
            let models = ["a", "b/c", "a"].map(|id| Listed::named(dialect, id));
            let list = render_list(dialect, &models);
            let read = listed(dialect, &list).unwrap();
            assert_eq!(read, models[..2], "{dialect:?}");
            let other = read[0].renamed(dialect, "z");
            assert_eq!(other, Listed::of(dialect, other.entry.clone()).unwrap());
            assert_eq!(other.id, "z");
        }
    }

    #[test]
    fn what_a_vendor_says_of_a_model_stays_and_what_is_no_list_is_none() {
        let body = br#"{"object":"list","data":[{"id":"m","object":"model","context_window":7},{"no":1},3]}"#;
        let read = listed(Dialect::OpenAi, body).unwrap();
        assert_eq!(read.len(), 1);
        let entry: Value = serde_json::from_slice(&read[0].render()).unwrap();
        assert_eq!(entry["context_window"], 7);
        for body in [&b"{}"[..], b"[]", b"{\"data\":{}}", b"", b"{\"models\":[]}"] {
            assert_eq!(listed(Dialect::OpenAi, body), None);
        }
    }
}
