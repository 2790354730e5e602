//! What one vendor is like: whom it lets in, how much it takes, how it misbehaves. Changeable while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::behaviour::{BadBehaviour, Behaviour};
use super::oauth::OAuth;
use crate::dialect::Dialect;
use crate::secret::Secret;

/// The whole character of a vendor.
#[derive(Clone)]
pub struct Settings {
    /// Said in every reply text; `[A-Za-z0-9._-]{1,64}`.
    pub name: String,
    /// Paths of other dialects are not found here.
    pub dialects: Vec<Dialect>,
    /// Accepted tokens; none = any, even none. Another one is answered 401.
    pub tokens: Vec<Secret>,
    /// A token endpoint (`POST /token`, `/oauth/token`, `/oauth2/token`), whose access tokens are
    /// accepted besides `tokens`; any other one is not.
    pub oauth: Option<OAuth>,
    /// Models that exist here; none = the dialect's usual names, and any name is served.
    pub models: Vec<String>,
    /// Calls at once that it takes; more is a violation.
    pub max_concurrent: Option<u32>,
    pub at_capacity: AtCapacity,
    /// Per token.
    pub rate_limit: Option<RateLimit>,
    /// How each answer goes, before faults and the request's own headers.
    pub behaviour: Behaviour,
    pub faults: Vec<Fault>,
    /// Status of `GET /health`.
    pub health: u16,
    /// Answers set a cookie, as those of vendors behind a CDN do.
    pub cookie: bool,
    /// Successes state how the caller stands with its limits, as OpenAI and Anthropic do.
    pub limit_headers: bool,
    pub connections: Connections,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "mock-a".to_owned(),
            dialects: Dialect::ALL.to_vec(),
            tokens: Vec::new(),
            oauth: None,
            models: Vec::new(),
            max_concurrent: None,
            at_capacity: AtCapacity::Record,
            rate_limit: None,
            behaviour: Behaviour::default(),
            faults: Vec::new(),
            health: 200,
            cookie: false,
            limit_headers: true,
            connections: Connections::Serve,
        }
    }
}

/// What happens to a call beyond `max_concurrent`. It is recorded as a violation in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtCapacity {
    /// It is served all the same.
    Record,
    /// 429 in the vendor's words.
    RateLimited,
    /// 503, or 529 where the vendor says so.
    Overloaded,
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    Serve,
    /// Nobody listens. Only the [`super::Vendor`] itself, or a connection still open, can undo it.
    Refuse,
    /// Accepted, then RST.
    Reset,
    /// Accepted, then closed.
    Close,
    /// Accepted, and never a byte.
    Hang,
}

/// So many requests in each window, then 429 with the vendor's own headers until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub requests: u32,
    pub window: Duration,
}

/// A behaviour that some requests meet.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>")]
pub struct Fault {
    pub when: When,
    pub what: Behaviour,
}

/// Which requests meet a fault; they are counted from 1 since the start or the last reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    Always,
    /// The n-th, the 2n-th …
    Every(u64),
    /// The first n.
    First(u64),
    /// All after the first n.
    After(u64),
    /// With this probability, 0 to 1.
    Chance(f64),
}

impl When {
    pub(super) fn meets(self, number: u64) -> bool {
        match self {
            When::Always => true,
            When::Every(n) => number.is_multiple_of(n.max(1)),
            When::First(n) => number <= n,
            When::After(n) => number > n,
            When::Chance(share) => fastrand::f64() < share,
        }
    }
}

/// Settings that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(pub(super) String);

impl From<BadBehaviour> for BadSettings {
    fn from(problem: BadBehaviour) -> Self {
        BadSettings(problem.to_string())
    }
}

impl Settings {
    /// A vendor of this name, otherwise ordinary.
    pub fn named(name: impl Into<String>) -> Self {
        Settings {
            name: name.into(),
            ..Settings::default()
        }
    }

    /// The behaviour of the request of this number, before its own headers are looked at.
    pub(super) fn behaviour_of(&self, number: u64) -> Behaviour {
        let mut it = self.behaviour.clone();
        for fault in self.faults.iter().filter(|f| f.when.meets(number)) {
            it.overlay(&fault.what);
        }
        it
    }

    /// The name goes into JSON, SSE and headers as it is, so it must be harmless in all of them.
    pub(super) fn check(&self) -> Result<(), BadSettings> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if (1..=64).contains(&self.name.len()) && self.name.bytes().all(plain) {
            return Ok(());
        }
        Err(BadSettings(format!(
            "name: {:?} is not [A-Za-z0-9._-]{{1,64}}",
            self.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::When;

    #[test]
    fn faults_meet_the_requests_they_say() {
        let met = |when: When| (1..=6).filter(|n| when.meets(*n)).collect::<Vec<u64>>();
        assert_eq!(met(When::Every(3)), [3, 6]);
        assert_eq!(met(When::First(2)), [1, 2]);
        assert_eq!(met(When::After(4)), [5, 6]);
        assert!(met(When::Chance(0.0)).is_empty());
        assert_eq!(met(When::Chance(1.0)).len(), 6);
    }
}
