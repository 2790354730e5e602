//! Anthropic's answers: messages and their token count.

use super::Speech;

/// `/v1/messages`.
pub(in super::super) const MESSAGES: Speech = Speech {
    whole: r#"{"id":"msg_<id>","type":"message","role":"assistant","model":<model>,"content":[{"type":"text","text":"<text>"}],"stop_reason":"end_turn","stop_sequence":null<usage>}"#,
    opening: &[
        (
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_<id>","type":"message","role":"assistant","model":<model>,"content":[],"stop_reason":null,"stop_sequence":null<usage_first>}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
        ("ping", r#"{"type": "ping"}"#),
    ],
    word: (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"<word>"}}"#,
    ),
    closing: &[
        (
            "content_block_stop",
            r#"{"type":"content_block_stop","index":0}"#,
        ),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}<usage>}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ],
    usage: r#","usage":{"input_tokens":<fresh>,"cache_creation_input_tokens":0,"cache_read_input_tokens":<cached>,"output_tokens":<out>,"service_tier":"standard"}"#,
    usage_first: r#","usage":{"input_tokens":<fresh>,"cache_creation_input_tokens":0,"cache_read_input_tokens":<cached>,"output_tokens":1,"service_tier":"standard"}"#,
};

/// `/v1/messages/count_tokens`.
pub(in super::super) const COUNT: Speech = Speech {
    whole: r#"{"input_tokens":<in>}"#,
    ..MESSAGES
};
