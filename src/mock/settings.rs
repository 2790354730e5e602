//! What one vendor is like: whom it lets in, how much it takes, how it misbehaves. Changeable while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::behaviour::{BadBehaviour, Behaviour};
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
pub struct BadSettings(String);

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

    /// These settings with the parts that `json` states replaced.
    ///
    /// Keys are the fields' names; durations are strings; a behaviour is a map of the names that
    /// [`Behaviour::set`] knows; a fault is a behaviour with one of `every`, `first`, `after`, `chance`.
    pub fn changed(&self, json: &[u8]) -> Result<Settings, BadSettings> {
        let change: Change =
            serde_json::from_slice(json).map_err(|e| BadSettings(format!("settings: {e}")))?;
        let mut new = self.clone();
        change.apply(&mut new)?;
        new.check()?;
        Ok(new)
    }
}

/// The JSON of a change. `null` takes a limit away.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Change {
    name: Option<String>,
    dialects: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
    models: Option<Vec<String>>,
    #[serde(deserialize_with = "stated")]
    max_concurrent: Option<Option<u32>>,
    at_capacity: Option<AtCapacity>,
    #[serde(deserialize_with = "stated")]
    rate_limit: Option<Option<RateLimitText>>,
    behaviour: Option<BTreeMap<String, Value>>,
    faults: Option<Vec<Fault>>,
    health: Option<u16>,
    cookie: Option<bool>,
    limit_headers: Option<bool>,
    connections: Option<Connections>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitText {
    requests: u32,
    window: String,
}

/// Tells a stated `null` (`Some(None)`) from a key that is absent (`None`).
fn stated<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

impl Change {
    fn apply(self, to: &mut Settings) -> Result<(), BadSettings> {
        if let Some(names) = self.dialects {
            to.dialects = names
                .iter()
                .map(|name| dialect(name))
                .collect::<Result<_, _>>()?;
        }
        if let Some(limit) = self.rate_limit {
            to.rate_limit = limit.map(rate_limit).transpose()?;
        }
        if let Some(map) = self.behaviour {
            to.behaviour = behaviour(map)?;
        }
        if let Some(tokens) = self.tokens {
            to.tokens = tokens.into_iter().map(Secret::new).collect();
        }
        put(&mut to.name, self.name);
        put(&mut to.models, self.models);
        put(&mut to.max_concurrent, self.max_concurrent);
        put(&mut to.at_capacity, self.at_capacity);
        put(&mut to.faults, self.faults);
        put(&mut to.health, self.health);
        put(&mut to.cookie, self.cookie);
        put(&mut to.limit_headers, self.limit_headers);
        put(&mut to.connections, self.connections);
        Ok(())
    }
}

fn put<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}

fn dialect(name: &str) -> Result<Dialect, BadSettings> {
    Dialect::ALL
        .into_iter()
        .find(|d| d.name() == name)
        .ok_or_else(|| {
            BadSettings(format!(
                "dialects: {name:?} is not openai, anthropic or gemini"
            ))
        })
}

fn rate_limit(text: RateLimitText) -> Result<RateLimit, BadSettings> {
    let window = humantime::parse_duration(&text.window)
        .map_err(|e| BadSettings(format!("rate_limit.window: {e}")))?;
    Ok(RateLimit {
        requests: text.requests,
        window,
    })
}

fn behaviour(map: BTreeMap<String, Value>) -> Result<Behaviour, BadSettings> {
    let mut it = Behaviour::default();
    for (name, value) in &map {
        let values = match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            it.set(name, &text)?;
        }
    }
    Ok(it)
}

/// Makes a count of requests a condition.
type MakeWhen = fn(u64) -> When;

impl TryFrom<BTreeMap<String, Value>> for Fault {
    type Error = BadSettings;

    fn try_from(mut map: BTreeMap<String, Value>) -> Result<Self, BadSettings> {
        let mut when = When::Always;
        let counts: [(&str, MakeWhen); 3] = [
            ("every", When::Every),
            ("first", When::First),
            ("after", When::After),
        ];
        for (name, make) in counts {
            if let Some(n) = map.remove(name) {
                let n = n.as_u64();
                when = make(n.ok_or_else(|| BadSettings(format!("{name}: not a whole number")))?);
            }
        }
        if let Some(share) = map.remove("chance") {
            let share = share.as_f64().filter(|share| (0.0..=1.0).contains(share));
            when = When::Chance(share.ok_or_else(|| BadSettings("chance: not 0 to 1".to_owned()))?);
        }
        Ok(Fault {
            when,
            what: behaviour(map)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Connections, Settings, When};
    use std::time::Duration;

    #[test]
    fn a_change_replaces_what_it_states_and_nothing_else() {
        let before = Settings::named("one");
        let json = br#"{"max_concurrent": 3, "rate_limit": {"requests": 2, "window": "1m"},
            "behaviour": {"gap": "10ms", "header": ["a: b", "c: d"]}, "connections": "reset",
            "faults": [{"every": 3, "status": 500}, {"chance": 0.5, "delay": "1s"}]}"#;
        let after = before.changed(json).unwrap();
        assert_eq!(after.name, "one");
        assert_eq!(after.max_concurrent, Some(3));
        assert_eq!(after.rate_limit.unwrap().window, Duration::from_secs(60));
        assert_eq!(after.behaviour.headers.len(), 2);
        assert_eq!(after.connections, Connections::Reset);
        assert_eq!(after.faults[0].when, When::Every(3));
        let freed = after.changed(br#"{"max_concurrent": null}"#).unwrap();
        assert_eq!(freed.max_concurrent, None);
        assert!(freed.rate_limit.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refuse = |json: &str| {
            let result = Settings::default().changed(json.as_bytes());
            result.err().unwrap().to_string()
        };
        assert!(refuse(r#"{"colour": "red"}"#).contains("colour"));
        assert!(refuse(r#"{"name": "a\"b"}"#).contains("name"));
        assert!(refuse(r#"{"faults": [{"chance": 2}]}"#).contains("chance"));
        assert!(refuse(r#"{"behaviour": {"gap": "never"}}"#).contains("gap"));
    }

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
