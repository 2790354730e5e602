//! What goes wrong, exactly as asked.

use std::time::Duration;

use tokio::time::timeout;

use super::{CHAT, Raw, SOON, STREAM, call, events, json, ordinary};

#[tokio::test]
async fn a_cut_comes_after_the_stated_events_and_is_a_fin_or_a_reset() {
    let vendor = ordinary().await;
    let path = "/v1/chat/completions";
    let (text, end) = Raw::post(&vendor, path, "x-mock-cut: 3\r\n", STREAM)
        .await
        .rest()
        .await;
    assert_eq!(events(&text), 3);
    assert!(end.is_ok(), "FIN");
    assert!(!text.ends_with("0\r\n\r\n"), "it does not look complete");
    let headers = "x-mock-cut: 3\r\nx-mock-reset: 1\r\n";
    let (text, end) = Raw::post(&vendor, path, headers, STREAM).await.rest().await;
    assert_eq!(events(&text), 3);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (text, end) = Raw::post(&vendor, path, "x-mock-reset: 1\r\n", CHAT)
        .await
        .rest()
        .await;
    assert_eq!(text, "", "without a cut there is not even a head");
    assert!(end.is_err());
    let stats = vendor.stats();
    assert_eq!((stats.requests, stats.aborted, stats.in_flight), (3, 0, 0));
}

#[tokio::test]
async fn a_cut_may_tear_an_event_and_an_end_may_come_too_early() {
    let vendor = ordinary().await;
    let path = "/v1/chat/completions";
    let headers = "x-mock-cut: 3\r\nx-mock-torn: 1\r\n";
    let (text, _) = Raw::post(&vendor, path, headers, STREAM).await.rest().await;
    assert_eq!(events(&text), 4, "three and a half");
    let torn = text.rsplit("\n\n").next().unwrap();
    assert!(torn.contains("data: {\"id\""), "{torn}");
    let (_, _, body) = call(&vendor, path, &[("x-mock-end", "3")], STREAM).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(events(&text), 3);
    assert!(!text.contains("[DONE]"), "{text}");
    let (_, _, body) = call(&vendor, path, &[("x-mock-end", "1")], CHAT).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.starts_with('{') && !text.ends_with('}'), "{text}");
}

#[tokio::test]
async fn half_of_a_whole_answer_comes_before_a_cut() {
    let vendor = ordinary().await;
    let headers = "x-mock-cut: 1\r\nx-mock-size: 1000\r\n";
    let (text, _) = Raw::post(&vendor, "/v1/messages", headers, CHAT)
        .await
        .rest()
        .await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let stated = head.split("content-length: ").nth(1).unwrap();
    let stated: usize = stated.split("\r\n").next().unwrap().parse().unwrap();
    assert_eq!(body.len(), stated.div_ceil(2));
}

#[tokio::test]
async fn a_hang_keeps_its_place_until_the_client_leaves() {
    let vendor = ordinary().await;
    let path = "/v1/messages";
    let mut silent = Raw::post(&vendor, path, "x-mock-hang: head\r\n", STREAM).await;
    let mut stuck = Raw::post(&vendor, path, "x-mock-hang: 3\r\n", STREAM).await;
    assert_eq!(silent.until_silence().await, "");
    assert_eq!(events(&stuck.until_silence().await), 3);
    assert_eq!(vendor.stats().in_flight, 2);
    drop((silent, stuck));
    let gone = async {
        while vendor.stats().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    assert_eq!(vendor.stats().aborted, 2);
}

#[tokio::test]
async fn an_error_event_ends_a_stream_in_the_dialects_way() {
    let vendor = ordinary().await;
    let asked = [("x-mock-error-event", "2")];
    for (path, end) in [
        ("/v1/chat/completions", "data: {\"error\":"),
        (
            "/v1/responses",
            "event: response.failed\ndata: {\"type\":\"response.failed\"",
        ),
        ("/v1/messages", "event: error\ndata: {\"error\":"),
        (
            "/v1/models/g:streamGenerateContent?alt=sse",
            "data: {\"error\":",
        ),
    ] {
        let (_, _, body) = call(&vendor, path, &asked, STREAM).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(events(&text), 3, "{path}");
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with(end), "{path}: {last}");
    }
    let asked = [("x-mock-error-event", "1"), ("x-mock-body", "rate_limit")];
    let (status, _, body) = call(&vendor, "/v1/messages", &asked, STREAM).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(status == 200 && text.contains("rate_limit_error"), "{text}");
}

#[tokio::test]
async fn errors_come_in_the_vendors_shape_and_with_its_headers() {
    let vendor = ordinary().await;
    let asked = [("x-mock-status", "429"), ("x-mock-retry-after", "30")];
    let (status, headers, body) = call(&vendor, "/v1/messages", &asked, CHAT).await;
    assert_eq!(
        (status.as_u16(), &headers["retry-after"]),
        (429, &"30".parse().unwrap())
    );
    assert_eq!(json(&body)["error"]["type"], "rate_limit_error");
    let asked = [
        ("x-mock-body", "insufficient_quota"),
        ("x-mock-size", "200000"),
    ];
    let (status, _, body) = call(&vendor, "/v1/chat/completions", &asked, CHAT).await;
    assert_eq!(status, 429);
    assert!(body.len() > 200_000, "an error's body can be long");
    assert_eq!(json(&body)["error"]["code"], "insufficient_quota");
    let (status, _, body) = call(
        &vendor,
        "/v1/chat/completions",
        &[("x-mock-body", "empty")],
        CHAT,
    )
    .await;
    assert_eq!((status.as_u16(), body.len()), (500, 0));
    let (status, _, body) = call(&vendor, "/v1/messages", &[("x-mock-status", "x")], CHAT).await;
    assert_eq!(status, 400);
    assert!(
        json(&body)["error"]["message"]
            .as_str()
            .unwrap()
            .contains("x-mock-status")
    );
}

#[tokio::test]
async fn a_connection_can_be_dropped_after_an_answer_that_promised_more() {
    let vendor = ordinary().await;
    for body in [CHAT, STREAM] {
        let mut raw = Raw::post(
            &vendor,
            "/v1/chat/completions",
            "x-mock-drop-keepalive: 1\r\n",
            body,
        )
        .await;
        let (text, end) = raw.rest().await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("Hello from"));
        assert!(!text.to_lowercase().contains("connection: close"));
        assert!(end.is_ok());
    }
}

#[tokio::test]
async fn an_answer_can_leave_in_pieces_of_any_size() {
    let vendor = ordinary().await;
    let asked = [("x-mock-split", "7"), ("x-mock-events", "2")];
    let (_, _, pieces) = call(&vendor, "/v1/messages", &asked, STREAM).await;
    let text = String::from_utf8(pieces.to_vec()).unwrap();
    assert!(text.contains("\"text\":\" 1\"") && text.ends_with("{\"type\":\"message_stop\"}\n\n"));
    let (_, headers, whole) = call(&vendor, "/v1/messages", &asked, CHAT).await;
    assert_eq!(json(&whole)["type"], "message");
    assert!(headers.contains_key("content-length"));
    let (_, headers, _) = call(&vendor, "/v1/messages", &[("x-mock-chunked", "1")], CHAT).await;
    assert!(!headers.contains_key("content-length"));
}

#[tokio::test]
async fn sizes_and_gaps_are_as_asked() {
    let vendor = ordinary().await;
    for body in [CHAT, STREAM] {
        let asked = [("x-mock-size", "200000"), ("x-mock-events", "50")];
        let (_, _, body) = call(&vendor, "/v1/chat/completions", &asked, body).await;
        assert!((200_000..220_000).contains(&body.len()), "{}", body.len());
    }
    let before = crate::clock::now();
    let asked = [
        ("x-mock-gap", "20ms"),
        ("x-mock-events", "4"),
        ("x-mock-delay", "20ms"),
    ];
    call(&vendor, "/v1/chat/completions", &asked, STREAM).await;
    assert!(before.elapsed() >= Duration::from_millis(20 + 4 * 20));
}

#[tokio::test]
async fn a_trailer_follows_the_body() {
    let vendor = ordinary().await;
    for body in [CHAT, STREAM] {
        let headers = "te: trailers\r\nconnection: close\r\nx-mock-trailer: x-end: 1\r\n";
        let mut raw = Raw::post(&vendor, "/v1/chat/completions", headers, body).await;
        assert!(raw.rest().await.0.ends_with("0\r\nx-end: 1\r\n\r\n"));
    }
}
