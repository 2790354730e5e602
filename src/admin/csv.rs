//! Rows as CSV (RFC 4180), for spreadsheets.

use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

/// Does the asker want CSV before anything else?
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let first = accepted.and_then(|kinds| kinds.split([',', ';']).next());
    first.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/csv"))
}

/// The rows under the names of their fields; those of an object in a row as `tokens_input`.
pub(super) fn table(rows: impl Iterator<Item = impl Serialize>) -> Response {
    let mut text = String::new();
    for row in rows {
        let mut cells = Vec::new();
        // Numbers and texts are JSON whatever they are.
        let row = serde_json::to_value(row).unwrap_or_default();
        flat("", &row, &mut cells);
        if text.is_empty() {
            line(&mut text, cells.iter().map(|(name, _)| name.clone()));
        }
        line(&mut text, cells.iter().map(|(_, value)| cell(value)));
    }
    let mut response = text.into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    headers.insert(CONTENT_TYPE, kind);
    let name = HeaderValue::from_static("attachment; filename=\"usage.csv\"");
    headers.insert(CONTENT_DISPOSITION, name);
    response
}

fn flat(path: &str, value: &Value, cells: &mut Vec<(String, Value)>) {
    let Value::Object(fields) = value else {
        return cells.push((path.to_owned(), value.clone()));
    };
    for (name, value) in fields {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}_{name}"),
        };
        flat(&path, value, cells);
    }
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            text.push(',');
        }
        match cell.contains(['"', ',', '\n', '\r']) {
            true => text.extend(["\"", &cell.replace('"', "\"\""), "\""]),
            false => text.push_str(&cell),
        }
    }
    text.push_str("\r\n");
}

/// A spreadsheet takes a text that begins like this for a formula, and a client may have written it.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(FORMULA) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use http_body_util::BodyExt;
    use serde_json::json;

    #[tokio::test]
    async fn a_row_is_a_line_and_no_text_is_a_formula() {
        let rows = [
            json!({"model": "=HYPERLINK(\"x\")", "tokens": {"input": 3}, "cost": 0.5, "day": null}),
            json!({"model": "a,b", "tokens": {"input": -4}, "cost": 0.0, "day": "2026-11-21"}),
        ];
        let response = table(rows.iter());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(
            text,
            "cost,day,model,tokens_input\r\n\
             0.5,,\"'=HYPERLINK(\"\"x\"\")\",3\r\n\
             0.0,2026-11-21,\"a,b\",-4\r\n"
        );
    }
}
