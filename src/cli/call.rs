//! A short chat for trying a gateway, in the dialect that a model's name is of.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::client::Admin;
use super::out;
use super::table::{Paint, clean};
use crate::secret::Secret;

/// Path and body of a chat with this model.
pub(super) fn chat(model: &str, stream: bool) -> (String, Value) {
    let text = "Answer with one word: are you there?";
    let messages = json!([{"role": "user", "content": text}]);
    if model.starts_with("claude") {
        let body =
            json!({"model": model, "max_tokens": 16, "stream": stream, "messages": messages});
        return ("/v1/messages".to_owned(), body);
    }
    if model.starts_with("gemini") {
        let verb = match stream {
            true => "streamGenerateContent?alt=sse",
            false => "generateContent",
        };
        let body = json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
        return (format!("/v1beta/models/{model}:{verb}"), body);
    }
    let body = json!({"model": model, "stream": stream, "messages": messages});
    ("/v1/chat/completions".to_owned(), body)
}

/// Does a stream of any dialect end as it should?
pub(super) fn is_whole(stream: &str) -> bool {
    ["data: [DONE]", "\"message_stop\"", "\"finishReason\""]
        .iter()
        .any(|end| stream.contains(end))
}

/// What an error answer says: its status, and the error's word where there is one.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    // As OpenAI, Anthropic and Gemini call it.
    let words = ["code", "type", "status"];
    let word = words.iter().find_map(|name| said["error"][name].as_str());
    match word {
        Some(word) => format!("{status}: {}", clean(word)),
        None => status.to_string(),
    }
}

/// A client key as given, or from standard input for `-`.
pub(super) fn key(given: Option<&str>) -> anyhow::Result<Option<Secret>> {
    Ok(match given {
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            Some(Secret::new(line.trim()))
        }
        given => given.map(Secret::new),
    })
}

/// What the accounts of the running gateway are, by id: status and last error.
pub(super) async fn accounts(admin: &Admin) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let answer = admin.get("/api/v1/accounts?limit=1000").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let accounts = answer["accounts"].as_array().into_iter().flatten();
    let accounts = accounts.map(|one| {
        (
            text(&one["id"]),
            (text(&one["status"]), text(&one["last_error"])),
        )
    });
    Ok(accounts.collect())
}

/// One line of a report: a mark, what it is about, what there is to say.
pub(super) fn line(well: bool, what: &str, said: &str) -> String {
    let screen = out::Screen::now();
    let (mark, paint) = match well {
        true => ("ok", Paint::Good),
        false => ("no", Paint::Bad),
    };
    let (what, said) = (clean(what), clean(said));
    format!("{} {what:<12} {said}\n", paint.on(mark, screen.color))
}

#[cfg(test)]
mod tests {
    use super::{chat, is_whole, line, refusal};
    use http::StatusCode;

    #[test]
    fn a_models_name_says_its_dialect() {
        let path = |model: &str| chat(model, true).0;
        assert_eq!(path("gpt-5"), "/v1/chat/completions");
        assert_eq!(path("claude-x"), "/v1/messages");
        assert_eq!(
            path("gemini-3"),
            "/v1beta/models/gemini-3:streamGenerateContent?alt=sse"
        );
    }

    #[test]
    fn what_an_upstream_said_steers_no_terminal() {
        let line = line(false, "chat\u{1b}[2J", "500: \u{1b}]52;c;\u{7}\nok models");
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let text = line.trim_end().trim_start_matches("\u{1b}[31mno\u{1b}[0m");
        assert!(!text.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn an_error_is_told_by_its_word() {
        let told = |body: &str| refusal(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes());
        let plain = "503 Service Unavailable";
        assert_eq!(
            told(r#"{"error": {"code": "overloaded", "type": "x"}}"#),
            format!("{plain}: overloaded")
        );
        assert_eq!(
            told(r#"{"type": "error", "error": {"type": "api_error"}}"#),
            format!("{plain}: api_error")
        );
        assert_eq!(
            told(r#"{"error": {"code": 503, "status": "UNAVAILABLE"}}"#),
            format!("{plain}: UNAVAILABLE")
        );
        assert_eq!(told("<html>"), plain);
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_whole() {
        assert!(is_whole("data: {}\n\ndata: [DONE]\n\n"));
        assert!(is_whole(
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        ));
        assert!(!is_whole("data: {\"choices\":[]}\n\n"));
    }
}
