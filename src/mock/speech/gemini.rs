//! Gemini's answers: generated content and its token count.

use super::Speech;

/// `:generateContent` and `:streamGenerateContent`.
pub(in super::super) const GENERATE: Speech = Speech {
    whole: r#"{"candidates":[{"content":{"parts":[{"text":"<text>"}],"role":"model"},"finishReason":"STOP","index":0}]<usage>,"modelVersion":<model>,"responseId":"<id>"}"#,
    opening: &[],
    word: (
        "",
        r#"{"candidates":[{"content":{"parts":[{"text":"<word>"}],"role":"model"},"index":0}]<usage>,"modelVersion":<model>,"responseId":"<id>"}"#,
    ),
    closing: &[(
        "",
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}]<usage>,"modelVersion":<model>,"responseId":"<id>"}"#,
    )],
    usage: r#","usageMetadata":{"promptTokenCount":<in>,"candidatesTokenCount":<out>,"totalTokenCount":<total>,"cachedContentTokenCount":<cached>,"promptTokensDetails":[{"modality":"TEXT","tokenCount":<in>}]}"#,
    usage_first: "",
};

/// `:countTokens`.
pub(in super::super) const COUNT: Speech = Speech {
    whole: r#"{"totalTokens":<in>,"promptTokensDetails":[{"modality":"TEXT","tokenCount":<in>}]}"#,
    ..GENERATE
};
