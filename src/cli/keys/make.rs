//! `poolgate keys create`, `rotate`, `revoke` and `import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::super::out;
use super::Which;
use super::audit::note;
use crate::clock;
use crate::key::{Attributes, KeyView, Register, WrittenLimit};
use crate::secret::Secret;
use crate::store::KeyRecord;

/// Issue a key and print it; it is shown only this once
#[derive(Args)]
#[command(
    after_help = "Examples:\n  poolgate keys create --name ci --tier medium --days 30\n  \
    poolgate keys create --name alice --account account_a\n  \
    poolgate keys create --name trial --limit 100/1h --limit '10/5h of *opus*' --max-concurrent 2"
)]
pub(super) struct Create {
    /// What it is called, in lists and in the log
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it may do [default: default]
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// The account that alone serves it
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// How long it is good [default: what its tier says]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: Option<i64>,
    /// It may ask for these models only; `*` stands for anything
    #[arg(long, value_name = "PATTERN")]
    model: Vec<String>,
    /// At most so many requests in a time: `N/SPAN`, or `N/SPAN of PATTERN`
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    limit: Vec<WrittenLimit>,
    /// At most so many requests at a time
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// It may be used from these addresses or ranges only
    #[arg(long, value_name = "ADDRESS")]
    from: Vec<String>,
    /// A label, by which usage can be told apart
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// `10/5h of *opus*`.
fn limit(text: &str) -> Result<WrittenLimit, String> {
    let (amount, models) = match text.split_once(" of ") {
        Some((amount, models)) => (amount, Some(models.trim().to_owned())),
        None => (text, None),
    };
    let (requests, window) = amount.split_once('/').ok_or("must be such as 100/1h")?;
    let requests = requests.trim().parse::<u32>();
    Ok(WrittenLimit {
        models,
        requests: Some(requests.map_err(|_| "must begin with a number")?.into()),
        window: window.trim().to_owned(),
        ..WrittenLimit::default()
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Create {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let labels: BTreeMap<_, _> = self.label.iter().cloned().collect();
        let asked = Attributes {
            name: self.name.clone(),
            tier: self.tier.clone(),
            account: self.account.clone().map(Some),
            days: self.days,
            models: some(&self.model),
            limits: Some(self.limit.clone()),
            max_concurrent: self.max_concurrent,
            allowed_ips: some(&self.from),
            labels: Some(labels),
            ..Attributes::default()
        };
        let (record, key) = register.create(&asked, clock::wall()).await?;
        let detail = json!({"name": record.name, "tier": record.tier});
        note(register.store, "keys.create", &record.id, detail).await;
        tell(&record, &key, self.json)
    }
}

/// The key alone on standard output, so that it can be piped; what there is to say of it beside it.
fn tell(record: &KeyRecord, key: &Secret, json: bool) -> anyhow::Result<()> {
    let shown = KeyView::of(record, clock::wall());
    if json {
        let mut answer = json!(shown);
        answer["key"] = json!(key.expose());
        return out::print_json(&answer);
    }
    let bound = record.account.as_deref();
    let bound = bound.map_or(String::new(), |account| format!(", bound to {account}"));
    let until = shown.expires_at;
    let until = until.map_or("for ever".to_owned(), |at| format!("until {at}"));
    out::tell(&format!(
        "key {} ({}), tier {}{bound}, good {until}; it is shown only now:",
        record.name, record.id, record.tier
    ));
    out::print(&format!("{}\n", key.expose()))
}

/// Give a key another secret; the one of before stays good for a while
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate keys rotate ci --grace 1h")]
pub(super) struct Rotate {
    #[command(flatten)]
    which: Which,
    /// How long the old one is good
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Rotate {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let found = self.which.find(register).await?;
        let rotated = register.rotate(&found.id, self.grace, clock::wall());
        let (record, key) = rotated.await?;
        note(
            register.store,
            "keys.rotate",
            &record.id,
            json!({"name": record.name}),
        )
        .await;
        tell(&record, &key, self.json)
    }
}

/// End a key, for good
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate keys revoke ci\n  \
    pass show leaked-key | poolgate keys revoke -")]
pub(super) struct Revoke {
    #[command(flatten)]
    which: Which,
}

impl Revoke {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let found = self.which.find(register).await?;
        let record = register.revoke(&found.id, clock::wall()).await?;
        note(
            register.store,
            "keys.delete",
            &record.id,
            json!({"name": record.name}),
        )
        .await;
        let (name, id) = (&record.name, &record.id);
        out::print(&format!("key {name} ({id}) is revoked\n"))
    }
}

/// Take over keys of another system, one JSON object a line: all of the file, or nothing
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate keys import keys.jsonl\n\n\
    A line: {\"key\": \"sk-cli-v1-…\" or \"hash\": \"64 hex digits\", \"name\": …, \"tier\": …, \"account\": …, \
    \"expires_at\": …}. Keys are hashed at once and kept nowhere. The older pool's fields (client_name, \
    account_name, use_pool, …) are understood as they are in its Redis.")]
pub(super) struct Import {
    #[arg(value_name = "FILE.jsonl")]
    file: PathBuf,
}

/// Some hundred thousand keys.
const LARGEST: u64 = 256 << 20;

impl Import {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let name = self.file.display();
        let mut text = zeroize::Zeroizing::new(String::new());
        let file = File::open(&self.file).with_context(|| name.to_string())?;
        let read = file.take(LARGEST).read_to_string(&mut text);
        read.with_context(|| name.to_string())?;
        match register.import(&text, clock::wall()).await {
            Ok(imported) => {
                let (added, known) = (imported.added, imported.known);
                let detail = json!({"added": added, "known": known});
                note(register.store, "keys.import", "", detail).await;
                out::print(&format!(
                    "{added} keys were imported, {known} were known already\n"
                ))
            }
            Err(problems) => {
                let problems: Vec<_> = problems.iter().map(|p| format!("{name}: {p}")).collect();
                bail!("nothing was imported:\n{}", problems.join("\n"))
            }
        }
    }
}
