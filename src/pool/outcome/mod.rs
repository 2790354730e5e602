//! What an upstream's answer means (`contract/http.md` §2): decided once, in [`Outcome::of`];
//! breaker, cooldown, retry, delivery and metrics all read it.

mod judge;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use judge::Answer;

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The request itself is wrong; every account would say so.
    ClientFault,
    /// 401 on an account whose token can be renewed.
    AuthExpired,
    /// The credential is refused for good.
    AuthDead,
    Forbidden,
    RateLimited {
        /// How long the vendor asks us to wait.
        wait: Duration,
        /// The limit is of the whole account, not of one model.
        whole_account: bool,
    },
    QuotaDead {
        /// Until the stated reset; none stated: tried by one request each hour.
        wait: Option<Duration>,
    },
    ModelUnavailable,
    /// The vendor as a whole has too much to do; not the account's fault.
    Overloaded,
    Transient,
    /// An error event or a cut after the first byte.
    BrokenStream,
    ClientGone,
}

impl Outcome {
    /// Labels of `poolgate_requests_total{outcome}`, in the order of [`Outcome::index`].
    pub const LABELS: [&'static str; 12] = [
        "success",
        "client_fault",
        "auth_expired",
        "auth_dead",
        "forbidden",
        "rate_limited",
        "quota_dead",
        "model_unavailable",
        "overloaded",
        "transient",
        "broken_stream",
        "client_gone",
    ];

    pub fn index(&self) -> usize {
        match self {
            Outcome::Success => 0,
            Outcome::ClientFault => 1,
            Outcome::AuthExpired => 2,
            Outcome::AuthDead => 3,
            Outcome::Forbidden => 4,
            Outcome::RateLimited { .. } => 5,
            Outcome::QuotaDead { .. } => 6,
            Outcome::ModelUnavailable => 7,
            Outcome::Overloaded => 8,
            Outcome::Transient => 9,
            Outcome::BrokenStream => 10,
            Outcome::ClientGone => 11,
        }
    }

    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Another account may be asked, or this one again with a renewed token.
    pub fn may_retry(&self) -> bool {
        match self {
            Outcome::AuthExpired
            | Outcome::AuthDead
            | Outcome::Forbidden
            | Outcome::RateLimited { .. }
            | Outcome::QuotaDead { .. }
            | Outcome::ModelUnavailable
            | Outcome::Overloaded
            | Outcome::Transient => true,
            Outcome::Success
            | Outcome::ClientFault
            | Outcome::BrokenStream
            | Outcome::ClientGone => false,
        }
    }

    /// The breaker counts a failure.
    pub fn counts_for_breaker(&self) -> bool {
        matches!(self, Outcome::Transient | Outcome::BrokenStream)
    }

    /// When no try is left, the client gets the upstream's own words. An account's own trouble is
    /// never the client's; of Forbidden a second account must have said the same.
    pub fn delivers_last_answer(&self) -> bool {
        matches!(
            self,
            Outcome::Success
                | Outcome::ClientFault
                | Outcome::Forbidden
                | Outcome::ModelUnavailable
                | Outcome::Overloaded
                | Outcome::Transient
        )
    }
}
