//! What a vendor answers when nothing is wrong.

use serde_json::Value;

use super::{CHAT, STREAM, call, json, ordinary};

#[tokio::test]
async fn every_dialect_answers_and_says_who_served() {
    let vendor = ordinary().await;
    for (path, text) in [
        ("/v1/chat/completions", "/choices/0/message/content"),
        ("/v1/completions", "/choices/0/text"),
        ("/v1/responses", "/output/0/content/0/text"),
        ("/v1/messages", "/content/0/text"),
        (
            "/v1beta/models/g:generateContent",
            "/candidates/0/content/parts/0/text",
        ),
    ] {
        let (status, _, body) = call(&vendor, path, &[], CHAT).await;
        assert_eq!(status, 200, "{path}");
        let said = json(&body)
            .pointer(text)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(said, "Hello from mock-t 1 2 3 4 5 6 7", "{path}");
    }
}

#[tokio::test]
async fn every_stream_says_the_whole_text_in_events_that_are_json() {
    let vendor = ordinary().await;
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1beta/models/g:streamGenerateContent?alt=sse",
    ] {
        let (_, headers, body) = call(&vendor, path, &[], STREAM).await;
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        let text = String::from_utf8(body.to_vec()).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if line != "[DONE]" {
                serde_json::from_str::<Value>(line).unwrap();
            }
        }
        assert!(
            text.contains("Hello from mock-t") && text.contains("\" 7\""),
            "{path}"
        );
    }
    let (_, _, body) = call(
        &vendor,
        "/v1beta/models/g:streamGenerateContent",
        &[],
        STREAM,
    )
    .await;
    assert_eq!(
        json(&body).as_array().unwrap().len(),
        9,
        "an array without alt=sse"
    );
}

#[tokio::test]
async fn usage_is_counted_stated_or_left_out_as_asked() {
    let vendor = ordinary().await;
    let usage = async |ask: &str| {
        let asked = [("x-mock-usage", ask)];
        json(&call(&vendor, "/v1/messages", &asked, CHAT).await.2)["usage"].clone()
    };
    assert_eq!(usage("none").await, Value::Null);
    let stated = usage("100,20,80").await;
    assert_eq!(stated["input_tokens"], 20);
    assert_eq!(stated["cache_read_input_tokens"], 80);
    assert_eq!(stated["output_tokens"], 20);
    let (_, _, counted) = call(&vendor, "/v1/messages", &[], CHAT).await;
    assert_eq!(json(&counted)["usage"]["input_tokens"], CHAT.len() / 4);
}
