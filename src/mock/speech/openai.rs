//! OpenAI's answers: chat completions, responses, completions, embeddings.

use bytes::Bytes;
use std::fmt::Write;

use super::{Facts, Said, Speech};

/// `/v1/chat/completions`.
pub(in super::super) const CHAT: Speech = Speech {
    whole: r#"{"id":"chatcmpl-<id>","object":"chat.completion","created":<created>,"model":<model>,"choices":[{"index":0,"message":{"role":"assistant","content":"<text>","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}]<usage>,"service_tier":"default","system_fingerprint":"fp_mock"}"#,
    opening: &[(
        "",
        r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}"#,
    )],
    word: (
        "",
        r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{"content":"<word>"},"logprobs":null,"finish_reason":null}]}"#,
    ),
    closing: &[CHAT_STOP, DONE],
    usage: CHAT_USAGE,
    usage_first: "",
};

/// The same when the request asks for `stream_options.include_usage`.
pub(in super::super) const CHAT_WITH_USAGE: Speech = Speech {
    opening: &[(
        "",
        r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    )],
    word: (
        "",
        r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{"content":"<word>"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    ),
    closing: &[
        (
            "",
            r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
        ),
        (
            "",
            r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[]<usage>}"#,
        ),
        DONE,
    ],
    ..CHAT
};

const CHAT_STOP: Said = (
    "",
    r#"{"id":"chatcmpl-<id>","object":"chat.completion.chunk","created":<created>,"model":<model>,"service_tier":"default","system_fingerprint":"fp_mock","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
);

const DONE: Said = ("", "[DONE]");

const CHAT_USAGE: &str = r#","usage":{"prompt_tokens":<in>,"completion_tokens":<out>,"total_tokens":<total>,"prompt_tokens_details":{"cached_tokens":<cached>,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;

/// `/v1/completions`.
pub(in super::super) const COMPLETIONS: Speech = Speech {
    whole: r#"{"id":"cmpl-<id>","object":"text_completion","created":<created>,"model":<model>,"choices":[{"text":"<text>","index":0,"logprobs":null,"finish_reason":"stop"}]<usage>}"#,
    opening: &[],
    word: (
        "",
        r#"{"id":"cmpl-<id>","object":"text_completion","created":<created>,"model":<model>,"choices":[{"text":"<word>","index":0,"logprobs":null,"finish_reason":null}]}"#,
    ),
    closing: &[
        (
            "",
            r#"{"id":"cmpl-<id>","object":"text_completion","created":<created>,"model":<model>,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]<usage>}"#,
        ),
        DONE,
    ],
    usage: r#","usage":{"prompt_tokens":<in>,"completion_tokens":<out>,"total_tokens":<total>}"#,
    usage_first: "",
};

/// `/v1/responses`.
pub(in super::super) const RESPONSES: Speech = Speech {
    whole: r#"{"id":"resp_<id>","object":"response","created_at":<created>,"status":"completed","background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":<model>,"output":[{"id":"msg_<id>","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"<text>"}]}],"parallel_tool_calls":true,"previous_response_id":null,"store":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled"<usage>,"metadata":{}}"#,
    opening: &[
        (
            "response.created",
            r#"{"type":"response.created","sequence_number":<n>,"response":{"id":"resp_<id>","object":"response","created_at":<created>,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"model":<model>,"output":[],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"usage":null,"metadata":{}}}"#,
        ),
        (
            "response.in_progress",
            r#"{"type":"response.in_progress","sequence_number":<n>,"response":{"id":"resp_<id>","object":"response","created_at":<created>,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"model":<model>,"output":[],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"usage":null,"metadata":{}}}"#,
        ),
        (
            "response.output_item.added",
            r#"{"type":"response.output_item.added","sequence_number":<n>,"output_index":0,"item":{"id":"msg_<id>","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
        ),
        (
            "response.content_part.added",
            r#"{"type":"response.content_part.added","sequence_number":<n>,"item_id":"msg_<id>","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}"#,
        ),
    ],
    word: (
        "response.output_text.delta",
        r#"{"type":"response.output_text.delta","sequence_number":<n>,"item_id":"msg_<id>","output_index":0,"content_index":0,"delta":"<word>","logprobs":[]}"#,
    ),
    closing: &[
        (
            "response.output_text.done",
            r#"{"type":"response.output_text.done","sequence_number":<n>,"item_id":"msg_<id>","output_index":0,"content_index":0,"text":"<text>","logprobs":[]}"#,
        ),
        (
            "response.content_part.done",
            r#"{"type":"response.content_part.done","sequence_number":<n>,"item_id":"msg_<id>","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"<text>"}}"#,
        ),
        (
            "response.output_item.done",
            r#"{"type":"response.output_item.done","sequence_number":<n>,"output_index":0,"item":{"id":"msg_<id>","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"<text>"}]}}"#,
        ),
        (
            "response.completed",
            r#"{"type":"response.completed","sequence_number":<n>,"response":{"id":"resp_<id>","object":"response","created_at":<created>,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"model":<model>,"output":[{"id":"msg_<id>","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"<text>"}]}],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0<usage>,"metadata":{}}}"#,
        ),
    ],
    usage: r#","usage":{"input_tokens":<in>,"input_tokens_details":{"cached_tokens":<cached>},"output_tokens":<out>,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":<total>}"#,
    usage_first: "",
};

/// How a stream of `/v1/responses` says that it failed.
pub(in super::super) const RESPONSES_FAILED: Said = (
    "response.failed",
    r#"{"type":"response.failed","sequence_number":<n>,"response":{"id":"resp_<id>","object":"response","created_at":<created>,"status":"failed","error":{"code":<code>,"message":<message>},"incomplete_details":null,"instructions":null,"model":<model>,"output":[],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"usage":null,"metadata":{}}}"#,
);

/// `/v1/embeddings`: one small vector for each of the request's inputs.
pub(in super::super) fn embeddings(facts: &Facts, inputs: usize) -> Bytes {
    let mut out = String::from(r#"{"object":"list","data":["#);
    for n in 0..inputs {
        let comma = if n == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            r#"{comma}{{"object":"embedding","index":{n},"embedding":[0.5,-0.5,0.25,-0.25]}}"#
        );
    }
    facts.fill(r#"],"model":<model><usage>}"#, &EMBEDDINGS, &mut out);
    out.into()
}

const EMBEDDINGS: Speech = Speech {
    whole: "",
    opening: &[],
    word: ("", ""),
    closing: &[],
    usage: r#","usage":{"prompt_tokens":<in>,"total_tokens":<in>}"#,
    usage_first: "",
};
