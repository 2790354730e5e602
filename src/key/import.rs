//! Keys of another system, one JSON object a line: our own attributes, or the fields of the older
//! pool's `client_keys:*` hashes in Redis as they are.

use std::collections::BTreeMap;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::hash::KeyHash;
use super::register::{KeyError, Register, blank, put_key};
use super::written::{Attributes, Time, WrittenLimit, Wrong, wrong};
use crate::clock::SystemTime;
use crate::secret::Secret;
use crate::store::{KeyRecord, StoreError};

/// The window of the older pool's limits.
const FIVE_HOURS: &str = "5h";

/// What became of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: usize,
    /// They were keys before, and are as they were.
    pub known: usize,
}

/// Keys of one transaction.
const BATCH: usize = 1_000;

/// What a text says.
#[derive(Default)]
struct Lines {
    /// By the numbers of their lines.
    records: Vec<(usize, KeyRecord)>,
    problems: Vec<String>,
}

/// One line. Of a value that the older pool wrote the type is always text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    hash: Option<String>,
    #[serde(alias = "client_name")]
    name: Option<String>,
    tier: Option<String>,
    #[serde(alias = "account_name")]
    account: Option<String>,
    use_pool: Option<Flag>,
    created_at: Option<Time>,
    expires_at: Option<Time>,
    #[serde(alias = "active")]
    enabled: Option<Flag>,
    models: Option<Vec<String>>,
    limits: Option<Vec<WrittenLimit>>,
    max_concurrent: Option<u32>,
    allowed_ips: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    notes: Option<String>,
    expose_account: Option<bool>,
    sonnet_4_per_5_hours: Option<Count>,
    opus_4_per_5_hours: Option<Count>,
}

/// The rest of the older pool's fields: said already, or its own counting.
const LEFT_OUT: [&str; 7] = [
    "created_date",
    "expires_date",
    "status",
    "sonnet_4_current_window_start",
    "sonnet_4_current_window_requests",
    "opus_4_current_window_start",
    "opus_4_current_window_requests",
];

#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Is(bool),
    Text(String),
}

impl Flag {
    fn read(&self, field: &'static str) -> Result<bool, Wrong> {
        match self {
            Flag::Is(flag) => Ok(*flag),
            Flag::Text(text) => match &*text.to_ascii_lowercase() {
                "true" | "1" | "yes" => Ok(true),
                "false" | "0" | "no" => Ok(false),
                _ => wrong(field, "must be true or false"),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u32),
    Text(String),
}

impl Register<'_> {
    /// Adds the keys of this text, or none of them where one is wrong. Those that are known stay as they
    /// are, so that an import that was broken off goes on when it is made again.
    ///
    /// # Errors
    /// Every line with a mistake; or the records cannot be written, and some keys may have been added.
    pub async fn import(&self, text: &str, now: SystemTime) -> Result<Imported, Vec<String>> {
        let told = |error: StoreError| vec![error.to_string()];
        let known = self.store.keys().await.map_err(told)?;
        let read = self.all_imported(text, now);
        let mut problems = read.problems;
        let lines = read.records.len();
        let mut hashes: HashSet<&str> = known.iter().map(|known| &*known.hash).collect();
        // A key that was rotated away is no new one either.
        hashes.extend(
            known
                .iter()
                .filter_map(|known| Some(&*known.previous.as_ref()?.0)),
        );
        let valid = known.iter().filter(|known| known.revoked_at.is_none());
        let mut names: HashSet<String> = valid.map(|known| known.name.clone()).collect();
        let mut new = Vec::new();
        for (number, record) in read.records {
            if hashes.contains(&*record.hash) {
                continue;
            }
            if !names.insert(record.name.clone()) {
                let name = &record.name;
                problems.push(format!(
                    "line {number}: there is a key named {name:?} already"
                ));
            }
            new.push(record);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let added = new.len();
        // Whoever else changes a key waits for one batch only.
        for (batch, records) in new.chunks(BATCH).enumerate() {
            let put = self.store.put_keys(records).await;
            put.map_err(|error| {
                let before = batch * BATCH;
                vec![format!(
                    "{error}; {before} keys were added, the next import adds the others"
                )]
            })?;
        }
        let known = lines - added;
        Ok(Imported { added, known })
    }

    /// Each line as a record, with its number.
    fn all_imported(&self, text: &str, now: SystemTime) -> Lines {
        let mut read = Lines::default();
        let mut hashes = HashSet::new();
        let lines = text.lines().map(str::trim).zip(1..);
        for (line, number) in lines.filter(|(line, _)| !line.is_empty()) {
            match self.imported(line, now) {
                Ok(record) if !hashes.insert(record.hash.clone()) => {
                    let problem = format!("line {number}: this key is there twice");
                    read.problems.push(problem);
                }
                Ok(record) => read.records.push((number, record)),
                Err(problem) => read.problems.push(format!("line {number}: {problem}")),
            }
        }
        read
    }

    fn imported(&self, line: &str, now: SystemTime) -> Result<KeyRecord, String> {
        let fields = serde_json::from_str::<Map<String, Value>>(line);
        let mut fields = fields.map_err(|_| "is no JSON object".to_owned())?;
        fields.retain(|name, _| !LEFT_OUT.contains(&&**name));
        let line = Line::deserialize(Value::Object(fields)).map_err(|error| unquoted(&error))?;
        let record = self.record(line, now);
        record.map_err(|error| error.to_string())
    }

    fn record(&self, line: Line, now: SystemTime) -> Result<KeyRecord, KeyError> {
        let mut record = blank(now)?;
        match (&line.key, &line.hash) {
            (Some(key), None) if key.trim().len() >= 16 => {
                put_key(&mut record, &Secret::new(key.trim()));
            }
            (Some(_), None) => wrong("key", "must have 16 characters or more")?,
            (None, Some(hash)) => match KeyHash::from_hex(hash) {
                Some(hash) => record.hash = hash.to_hex(),
                None => wrong("hash", "must be 64 hex digits, of poolgate's own hash")?,
            },
            _ => wrong("key", "a line has either a `key` or its `hash`")?,
        }
        // The same file gives the same names, whenever it is imported.
        record.name = format!("imported-{}", &record.hash[..8]);
        if let Some(time) = &line.created_at {
            record.created_at = time.millis("created_at")?;
        }
        let asked = self.asked(line)?;
        asked.put_on(&mut record, now)?;
        self.check(&record)?;
        Ok(record)
    }

    fn asked(&self, line: Line) -> Result<Attributes, Wrong> {
        let in_pool = line
            .use_pool
            .map(|flag| flag.read("use_pool"))
            .transpose()?;
        let names_pool = |name: &str| {
            name.ends_with("_pool") && !self.accounts.iter().any(|place| place.account == name)
        };
        let account = line
            .account
            .filter(|name| !name.is_empty() && !names_pool(name));
        let account = account.filter(|_| in_pool != Some(true));
        if in_pool == Some(false) && account.is_none() {
            return wrong("account", "is not named, and use_pool is false");
        }
        let mut limits = line.limits.unwrap_or_default();
        for (models, count) in [
            ("*sonnet*", line.sonnet_4_per_5_hours),
            ("*opus*", line.opus_4_per_5_hours),
        ] {
            limits.extend(count.and_then(|count| limit(models, &count)));
        }
        Ok(Attributes {
            name: line.name.filter(|name| !name.trim().is_empty()),
            tier: line.tier.filter(|tier| !tier.is_empty()),
            account: account.map(Some),
            expires_at: line.expires_at.map(Some),
            models: line.models,
            limits: Some(limits),
            max_concurrent: line.max_concurrent,
            allowed_ips: line.allowed_ips,
            labels: line.labels,
            notes: line.notes,
            enabled: line.enabled.map(|flag| flag.read("enabled")).transpose()?,
            expose_account: line.expose_account,
            days: None,
        })
    }
}

/// What is no number, or 0, was no limit.
fn limit(models: &str, count: &Count) -> Option<WrittenLimit> {
    let count = match count {
        Count::Number(count) => *count,
        Count::Text(text) => text.parse().ok()?,
    };
    (count > 0).then(|| WrittenLimit {
        models: Some(models.to_owned()),
        requests: Some(f64::from(count)),
        window: FIVE_HOURS.to_owned(),
        ..WrittenLimit::default()
    })
}

/// The parser quotes the name of a field, and may quote a text that is a key.
fn unquoted(error: &serde_json::Error) -> String {
    let said = error.to_string();
    match said.contains("field `") {
        true => said,
        false => "a field is not of the right type".to_owned(),
    }
}
