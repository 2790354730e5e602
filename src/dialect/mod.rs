//! What vendors and their clients speak: which dialect a request is in, what an answer means, how
//! an error is said. No input or output happens here; bytes and headers come in as arguments.

mod ask;
mod body;
mod call;
mod hint;
mod json;
mod meter;
mod models;
mod outline;
mod patience;
mod reject;
mod vendor_error;

pub use ask::ask_for_usage;
pub use body::{Peek, json_value, replace_model};
pub use call::{Call, Kind, asks_for_websocket, is_safe_path};
pub use hint::{Stated, rate_limit_wait, retry_after, stated_reset, success_hint};
pub use meter::{Begun, Meter, Reading, StreamError};
pub use models::{Listed, list_query, listed, render_list};
pub use patience::patience;
pub use reject::Reject;
pub use vendor_error::VendorError;

/// The protocol family of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

impl Dialect {
    pub const ALL: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];

    /// The name used in the configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
        }
    }
}

/// Tokens of one answer, as the vendor stated them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub input: u64,
    pub output: u64,
    /// The part of `input` read from the vendor's prompt cache.
    pub cached: u64,
}
