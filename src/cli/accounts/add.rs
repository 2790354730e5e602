//! `poolgate accounts add`: an account that is served at once and kept over restarts.

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::super::client::Admin;
use super::super::out;

/// Add an account to the running gateway; its secret comes on standard input
#[derive(Args)]
#[command(
    after_help = "Examples:\n  echo \"$KEY\" | poolgate accounts add b --upstream openai --credential api_key\n  \
        poolgate accounts add local --upstream http://127.0.0.1:9000 --max-concurrent 4"
)]
pub(super) struct Add {
    /// What it is called; no other account may be called so
    #[arg(value_name = "ID")]
    id: String,
    /// The pool that it serves
    #[arg(long, value_name = "NAME", default_value = "default")]
    pool: String,
    /// openai, anthropic, gemini or an address
    #[arg(long, value_name = "UPSTREAM")]
    upstream: String,
    /// What the secret on standard input is
    #[arg(long, value_name = "KIND", default_value = "none")]
    credential: Kind,
    /// Its share of the requests
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Lower is used first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// At most so many requests at a time
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// It serves these models only; `*` stands for anything
    #[arg(long, value_name = "PATTERN")]
    model: Vec<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// There is no secret
    None,
    /// In the header of the account's dialect
    ApiKey,
    /// As `Authorization: Bearer`
    Bearer,
    /// The whole of `credential`, as JSON
    Json,
}

impl Add {
    pub(super) async fn run(&self, admin: &Admin) -> anyhow::Result<()> {
        let account = admin.post("/api/v1/accounts", &self.keys()?).await?;
        if self.json {
            out::print_json(&account)?;
            return Ok(());
        }
        let status = account["status"].as_str().unwrap_or_default();
        out::print(&format!(
            "{} is added to {}: {status}\n",
            self.id, self.pool
        ))?;
        Ok(())
    }

    fn keys(&self) -> anyhow::Result<Value> {
        let mut keys = Map::new();
        keys.insert("id".to_owned(), json!(self.id));
        keys.insert("pool".to_owned(), json!(self.pool));
        keys.insert("upstream".to_owned(), json!(self.upstream));
        let numbers = [
            ("weight", self.weight.map(i64::from)),
            ("priority", self.priority.map(i64::from)),
            ("max_concurrent", self.max_concurrent.map(i64::from)),
        ];
        for (key, number) in numbers {
            number.map(|number| keys.insert(key.to_owned(), json!(number)));
        }
        if !self.model.is_empty() {
            keys.insert("models".to_owned(), json!(self.model));
        }
        let credential = match self.credential {
            Kind::None => json!("none"),
            Kind::ApiKey => json!({"api_key": &**read_secret()?}),
            Kind::Bearer => json!({"bearer": &**read_secret()?}),
            Kind::Json => serde_json::from_str(&read_secret()?)
                .map_err(|_| anyhow::anyhow!("standard input holds no JSON"))?,
        };
        keys.insert("credential".to_owned(), credential);
        Ok(Value::Object(keys))
    }
}

/// Secrets do not go on the command line, where every process of the machine sees them.
fn read_secret() -> anyhow::Result<zeroize::Zeroizing<String>> {
    const LONGEST: u64 = 64 << 10;
    if std::io::stdin().is_terminal() {
        out::tell("the secret, then Ctrl-D:");
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text);
    read.context("standard input")?;
    match text.trim() {
        "" => bail!("standard input holds no secret"),
        secret => Ok(zeroize::Zeroizing::new(secret.to_owned())),
    }
}
