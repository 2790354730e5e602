//! A change of settings as JSON: what `POST /mock/settings` takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::behaviour::Behaviour;
use super::oauth::OAuth;
use super::settings::{AtCapacity, BadSettings, Connections, Fault, RateLimit, Settings, When};
use crate::dialect::Dialect;
use crate::secret::Secret;

impl Settings {
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
    #[serde(deserialize_with = "stated")]
    oauth: Option<Option<OAuthText>>,
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

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OAuthText {
    lifetime: Option<String>,
    rotate: Option<bool>,
    refresh_tokens: Vec<String>,
    error: Option<String>,
    delay: Option<String>,
    lost: bool,
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
        if let Some(text) = self.oauth {
            to.oauth = text.map(oauth).transpose()?;
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
    Ok(RateLimit {
        requests: text.requests,
        window: duration("rate_limit.window", &text.window)?,
    })
}

fn oauth(text: OAuthText) -> Result<OAuth, BadSettings> {
    let usual = OAuth::default();
    let span =
        |name, text: Option<String>, usual| text.map_or(Ok(usual), |text| duration(name, &text));
    Ok(OAuth {
        lifetime: span("oauth.lifetime", text.lifetime, usual.lifetime)?,
        rotate: text.rotate.unwrap_or(usual.rotate),
        refresh_tokens: text.refresh_tokens.into_iter().map(Secret::new).collect(),
        error: text.error,
        delay: span("oauth.delay", text.delay, usual.delay)?,
        lost: text.lost,
    })
}

fn duration(name: &str, text: &str) -> Result<Duration, BadSettings> {
    humantime::parse_duration(text).map_err(|e| BadSettings(format!("{name}: {e}")))
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
}
