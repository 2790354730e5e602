//! Lists of models: what a vendor lists, and the list that a client gets, each in its dialect.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Dialect;

/// A list is read up to so many models.
const MOST: usize = 10_000;

/// A model, as a list of its dialect has it. A copy costs next to nothing, and so does a list of many: each is
/// rendered once, as the vendor did it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The name that requests use.
    pub id: Arc<str>,
    /// JSON.
    entry: Arc<str>,
}

#[derive(Deserialize)]
struct List<'a> {
    /// OpenAI and Anthropic.
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
    /// Gemini.
    #[serde(borrow)]
    models: Option<Vec<&'a RawValue>>,
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
        Listed {
            id: id.into(),
            entry: entry.to_string().into(),
        }
    }

    /// None: it has no name.
    fn of(dialect: Dialect, entry: &str) -> Option<Listed> {
        let read: Value = serde_json::from_str(entry).ok()?;
        let id = match dialect {
            Dialect::OpenAi | Dialect::Anthropic => read.get("id")?.as_str()?,
            Dialect::Gemini => {
                let name = read.get("name")?.as_str()?;
                name.strip_prefix("models/").unwrap_or(name)
            }
        };
        Some(Listed {
            id: id.into(),
            entry: entry.into(),
        })
    }

    /// The same model under another name.
    pub fn renamed(&self, dialect: Dialect, id: &str) -> Listed {
        let (key, name) = match dialect {
            Dialect::OpenAi | Dialect::Anthropic => ("id", json!(id)),
            Dialect::Gemini => ("name", json!(format!("models/{id}"))),
        };
        let Ok(Value::Object(mut entry)) = serde_json::from_str(&self.entry) else {
            return Listed::named(dialect, id);
        };
        entry.insert(key.to_owned(), name);
        Listed {
            id: id.into(),
            entry: Value::Object(entry).to_string().into(),
        }
    }

    /// The answer to who asks for this one.
    pub fn render(&self) -> Bytes {
        Bytes::copy_from_slice(self.entry.as_bytes())
    }
}

/// The models that a vendor lists; none: that is no such list.
pub fn listed(dialect: Dialect, body: &[u8]) -> Option<Vec<Listed>> {
    let list: List<'_> = serde_json::from_slice(body).ok()?;
    let entries = match dialect {
        Dialect::OpenAi | Dialect::Anthropic => list.data?,
        Dialect::Gemini => list.models?,
    };
    let known = entries.into_iter().take(MOST);
    Some(
        known
            .filter_map(|entry| Listed::of(dialect, entry.get()))
            .collect(),
    )
}

/// The answer to who asks for all of them. Of models with one name the first counts.
pub fn render_list<'a>(dialect: Dialect, models: impl IntoIterator<Item = &'a Listed>) -> Bytes {
    let mut seen = HashSet::new();
    let models = models.into_iter().filter(|model| seen.insert(&*model.id));
    let models: Vec<&Listed> = models.collect();
    let id = |model: Option<&&Listed>| json!(model.map(|model| &*model.id));
    let (begin, end) = match dialect {
        Dialect::OpenAi => (r#"{"object":"list","data":["#, "]}".to_owned()),
        Dialect::Anthropic => {
            let (first, last) = (id(models.first()), id(models.last()));
            let end = format!(r#"],"has_more":false,"first_id":{first},"last_id":{last}}}"#);
            (r#"{"data":["#, end)
        }
        Dialect::Gemini => (r#"{"models":["#, "]}".to_owned()),
    };
    let length: usize = models.iter().map(|model| model.entry.len() + 1).sum();
    let mut list = String::with_capacity(begin.len() + length + end.len());
    list.push_str(begin);
    for (n, model) in models.iter().enumerate() {
        list.push_str(if n == 0 { "" } else { "," });
        list.push_str(&model.entry);
    }
    list.push_str(&end);
    list.into()
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
            assert_eq!(other, Listed::of(dialect, &other.entry).unwrap());
            assert_eq!(&*other.id, "z");
            let none: Value = serde_json::from_slice(&render_list(dialect, [])).unwrap();
            assert_eq!(
                none["data"].as_array().or(none["models"].as_array()),
                Some(&vec![])
            );
        }
    }

    #[test]
    fn what_a_vendor_says_of_a_model_stays_and_what_is_no_list_is_none() {
        let body = br#"{"object":"list","data":[{"id":"m","object":"model","context_window":7},{"no":1},3]}"#;
        let read = listed(Dialect::OpenAi, body).unwrap();
        assert_eq!(read.len(), 1);
        let own = &br#"{"id":"m","object":"model","context_window":7}"#[..];
        assert_eq!(read[0].render(), own, "as the vendor wrote it");
        for body in [&b"{}"[..], b"[]", b"{\"data\":{}}", b"", b"{\"models\":[]}"] {
            assert_eq!(listed(Dialect::OpenAi, body), None);
        }
    }
}
