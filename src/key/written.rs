//! How keys are written: their attributes as the API and `keys import` are given them, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::clock::SystemTime;
use crate::config::{Limit, LimitUnit};
use crate::store::{KeyRecord, millis};

/// Something is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Wrong {
    pub field: &'static str,
    pub message: String,
}

pub(super) fn wrong<T>(field: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    let message = message.into();
    Err(Wrong { field, message })
}

/// What is asked of a key; what is not named stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attributes {
    pub name: Option<String>,
    pub tier: Option<String>,
    /// `null` takes it away; so with `expires_at`.
    #[serde(deserialize_with = "named")]
    pub account: Option<Option<String>>,
    /// From now.
    pub days: Option<i64>,
    #[serde(deserialize_with = "named")]
    pub expires_at: Option<Option<Time>>,
    pub models: Option<Vec<String>>,
    pub limits: Option<Vec<WrittenLimit>>,
    pub max_concurrent: Option<u32>,
    pub allowed_ips: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    pub notes: Option<String>,
    pub enabled: Option<bool>,
    pub expose_account: Option<bool>,
}

/// Tells a `null` from what is not there.
fn named<'de, T, D>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(from).map(Some)
}

/// A moment: milliseconds since 1970 as a number or a text, or RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Time {
    Millis(i64),
    Text(String),
}

impl Time {
    /// In milliseconds since 1970.
    pub(super) fn millis(&self, field: &'static str) -> Result<i64, Wrong> {
        // Before 1973: those are seconds.
        const SECONDS: i64 = 100_000_000_000;
        let stated = match self {
            Time::Millis(millis) => Some(*millis),
            Time::Text(text) => text.parse::<i64>().ok().or_else(|| {
                let stamp = text.parse::<jiff::Timestamp>().ok()?;
                Some(stamp.as_millisecond())
            }),
        };
        match stated {
            Some(millis) if millis >= SECONDS => Ok(millis),
            _ => wrong(
                field,
                "must be a time such as 2030-01-31T00:00:00Z, or milliseconds since 1970",
            ),
        }
    }
}

/// A limit as the configuration writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenLimit {
    pub models: Option<String>,
    pub requests: Option<f64>,
    pub tokens: Option<f64>,
    pub cost: Option<f64>,
    pub window: String,
}

impl WrittenLimit {
    fn read(&self) -> Result<Limit, Wrong> {
        let amounts = [
            (LimitUnit::Requests, self.requests),
            (LimitUnit::Tokens, self.tokens),
            (LimitUnit::Cost, self.cost),
        ];
        let mut stated = amounts
            .iter()
            .filter_map(|(unit, amount)| Some((*unit, (*amount)?)));
        let (Some((unit, amount)), None) = (stated.next(), stated.next()) else {
            return wrong(
                "limits",
                "a limit counts exactly one of requests, tokens or cost",
            );
        };
        if !amount.is_finite() || amount < 0.0 {
            return wrong("limits", "an amount must be a number, 0 or more");
        }
        let window = humantime::parse_duration(&self.window).ok();
        let Some(window) = window.filter(|window| *window >= Duration::from_millis(1)) else {
            return wrong("limits", "`window` must be a duration such as 5h");
        };
        let models = self.models.clone().unwrap_or_else(|| "*".to_owned());
        Ok(Limit {
            models: text("limits", &models, PATTERN)?,
            unit,
            amount,
            window,
        })
    }
}

/// An address, or a range of them.
pub(super) fn address(text: &str) -> Option<IpNet> {
    let one = || Some(IpNet::from(text.parse::<IpAddr>().ok()?));
    text.parse::<IpNet>().ok().or_else(one)
}

/// The most characters of a name, of a pattern or label, and of notes.
const NAME: usize = 100;
const PATTERN: usize = 256;
const NOTES: usize = 2000;
/// The most entries of a list.
const ENTRIES: usize = 100;

fn text(field: &'static str, text: &str, most: usize) -> Result<String, Wrong> {
    let is_text = |c: char| !c.is_control();
    match text.chars().count() {
        count if count <= most && text.chars().all(is_text) => Ok(text.to_owned()),
        _ => wrong(
            field,
            format!("must be at most {most} characters, without line breaks"),
        ),
    }
}

fn list<T, U>(
    field: &'static str,
    items: &[T],
    read: impl Fn(&T) -> Result<U, Wrong>,
) -> Result<Vec<U>, Wrong> {
    if items.len() > ENTRIES {
        return wrong(field, format!("must have at most {ENTRIES} entries"));
    }
    items.iter().map(read).collect()
}

impl Attributes {
    /// Puts them on the record. Whether its tier and its account exist is not looked at.
    ///
    /// # Errors
    /// One of them is not as it must be; the record is then half changed.
    pub(super) fn put_on(&self, key: &mut KeyRecord, now: SystemTime) -> Result<(), Wrong> {
        const DAY: i64 = 86_400_000;
        const DAYS: std::ops::RangeInclusive<i64> = 1..=36_500;
        if let Some(name) = &self.name {
            key.name = match name.trim() {
                "" | "-" => return wrong("name", "must be a text, and not `-`"),
                name => text("name", name, NAME)?,
            };
        }
        if let Some(tier) = &self.tier {
            key.tier = tier.clone();
        }
        if let Some(account) = &self.account {
            key.account = account.clone();
        }
        match (self.days, &self.expires_at) {
            (Some(_), Some(Some(_))) => return wrong("days", "is given beside expires_at"),
            (Some(days), _) if DAYS.contains(&days) => {
                key.expires_at = Some(millis(now).saturating_add(days * DAY));
            }
            (Some(_), _) => return wrong("days", "must be 1 to 36500"),
            (None, Some(time)) => {
                let time = time.as_ref().map(|time| time.millis("expires_at"));
                key.expires_at = time.transpose()?;
            }
            (None, None) => {}
        }
        if let Some(models) = &self.models {
            key.models = list("models", models, |one| text("models", one, PATTERN))?;
        }
        if let Some(limits) = &self.limits {
            key.limits = list("limits", limits, WrittenLimit::read)?;
        }
        if let Some(most) = self.max_concurrent {
            key.max_concurrent = most;
        }
        if let Some(addresses) = &self.allowed_ips {
            key.allowed_ips = list("allowed_ips", addresses, |one| match address(one) {
                Some(net) => Ok(net.to_string()),
                None => wrong(
                    "allowed_ips",
                    "must be addresses or ranges such as 10.0.0.0/8",
                ),
            })?;
        }
        self.put_words_on(key)?;
        key.enabled = self.enabled.unwrap_or(key.enabled);
        key.expose_account = self.expose_account.unwrap_or(key.expose_account);
        Ok(())
    }

    fn put_words_on(&self, key: &mut KeyRecord) -> Result<(), Wrong> {
        if let Some(labels) = &self.labels {
            let labels: Vec<_> = labels.iter().collect();
            let read = |(name, value): &(&String, &String)| {
                let name = text("labels", name, NAME)?;
                Ok((name, text("labels", value, PATTERN)?))
            };
            key.labels = list("labels", &labels, read)?.into_iter().collect();
        }
        if let Some(notes) = &self.notes {
            key.notes = match notes.chars().count() {
                0..=NOTES => notes.clone(),
                _ => return wrong("notes", format!("must be at most {NOTES} characters")),
            };
        }
        Ok(())
    }
}
