//! Where in the JSON of an answer stands what is looked for, by dialect and kind of call.

use super::scan::Place;
use crate::dialect::{Dialect, Kind};

/// What is looked for in the JSON of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Catch {
    Usage,
    /// Stated as a message begins.
    FirstUsage,
    Error,
    /// Tells which event this is.
    Type,
    /// A reason why the answer ended, or one of several did.
    End,
    /// Which of several.
    Index,
    /// A part of what the model writes.
    Delta,
    /// The parts of OpenAI's flat `error` event.
    Code,
    Message,
    /// The parts of [`Begun`].
    Id,
    Sequence,
}

const CHAT: &[(Place, Catch)] = &[
    (&["usage"], Catch::Usage),
    (&["error"], Catch::Error),
    (&["choices", "finish_reason"], Catch::End),
    (&["choices", "index"], Catch::Index),
    (&["choices", "delta"], Catch::Delta),
    (&["choices", "text"], Catch::Delta),
];
const RESPONSES: &[(Place, Catch)] = &[
    (&["type"], Catch::Type),
    (&["delta"], Catch::Delta),
    (&["response", "usage"], Catch::Usage),
    (&["response", "error"], Catch::Error),
    (&["response", "id"], Catch::Id),
    (&["usage"], Catch::Usage),
    (&["error"], Catch::Error),
    (&["code"], Catch::Code),
    (&["message"], Catch::Message),
    (&["sequence_number"], Catch::Sequence),
];
const MESSAGES: &[(Place, Catch)] = &[
    (&["type"], Catch::Type),
    (&["delta"], Catch::Delta),
    (&["message", "usage"], Catch::FirstUsage),
    (&["usage"], Catch::Usage),
    (&["error"], Catch::Error),
];
const GENERATE: &[(Place, Catch)] = &[
    (&["usageMetadata"], Catch::Usage),
    (&["error"], Catch::Error),
    (&["candidates", "finishReason"], Catch::End),
    (&["candidates", "index"], Catch::Index),
    (&["candidates", "content"], Catch::Delta),
    (&["promptFeedback", "blockReason"], Catch::End),
];

pub(super) fn places_in_events(dialect: Dialect, kind: Kind) -> &'static [(Place, Catch)] {
    match (dialect, kind) {
        (Dialect::OpenAi, Kind::Responses) => RESPONSES,
        (Dialect::OpenAi, _) => CHAT,
        (Dialect::Anthropic, _) => MESSAGES,
        (Dialect::Gemini, _) => GENERATE,
    }
}

/// Where its outermost bracket closes, a document has its end: nothing in it need be looked at for that.
pub(super) fn places_in_document(dialect: Dialect, kind: Kind) -> &'static [(Place, Catch)] {
    match dialect {
        Dialect::OpenAi if kind == Kind::Responses => &[
            (&["usage"], Catch::Usage),
            (&["error"], Catch::Error),
            (&["id"], Catch::Id),
        ],
        Dialect::OpenAi | Dialect::Anthropic => {
            &[(&["usage"], Catch::Usage), (&["error"], Catch::Error)]
        }
        Dialect::Gemini => &[
            (&["usageMetadata"], Catch::Usage),
            (&["error"], Catch::Error),
        ],
    }
}
