//! What an upstream's answer means (`contract/http.md` §2): decided once, in [`Outcome::of`];
//! breaker, cooldown, retry, delivery and metrics all read it.

use std::time::Duration;

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
}
