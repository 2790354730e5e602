//! `poolgate keys list` and `show`: what is known of keys, which is not the keys themselves.

use clap::Args;
use serde_json::{Value, json};

use super::super::out::{self, Screen};
use super::super::table::{Cell, Column, Paint, Table};
use super::Which;
use crate::clock;
use crate::key::{KeyView, Register};

/// List the issued keys
#[derive(Args)]
#[command(
    after_help = "Example:\n  poolgate keys list --json | jq '.keys[] | select(.status == \"active\")'"
)]
pub(super) struct List {
    /// Also those that are revoked or have expired
    #[arg(long)]
    all: bool,
    /// For machines: all of them
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let now = clock::wall();
        let mut keys = register.store.keys().await?;
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| json!(KeyView::of(key, now)))
            .collect();
        if self.json {
            return out::print_json(&json!({"keys": keys}));
        }
        let is_shown = |key: &&Value| {
            let status = key["status"].as_str();
            self.all || !matches!(status, Some("revoked" | "expired"))
        };
        let rows: Vec<_> = keys.iter().filter(is_shown).map(row).collect();
        if rows.is_empty() {
            return out::print("there is no key; `poolgate keys create` issues one\n");
        }
        let column = |name, most| Column {
            name,
            number: false,
            most,
        };
        let table = Table {
            columns: vec![
                column("NAME", 30),
                column("ID", 24),
                column("STATUS", 10),
                column("TIER", 20),
                column("ACCOUNT", 30),
                column("EXPIRES", 24),
            ],
            rows,
        };
        let screen = Screen::now();
        let lines = table.lines(screen.width.max(100), screen.color);
        out::print(&(lines.join("\n") + "\n"))
    }
}

fn row(key: &Value) -> Vec<Cell> {
    let cell = |field: &str| Cell::from(key[field].as_str().unwrap_or("-").to_owned());
    let mut status = cell("status");
    status.paint = match &*status.text {
        "active" => Paint::Good,
        "disabled" => Paint::Watch,
        _ => Paint::Dim,
    };
    let expires = match key["expires_at"].as_str() {
        Some(at) => at.to_owned(),
        None => "never".to_owned(),
    };
    vec![
        cell("name"),
        cell("id"),
        status,
        cell("tier"),
        cell("account"),
        expires.into(),
    ]
}

/// Show what is known of one key
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate keys show ci")]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(&self, register: &Register<'_>) -> anyhow::Result<()> {
        let record = self.which.find(register).await?;
        let key = json!(KeyView::of(&record, clock::wall()));
        if self.json {
            return out::print_json(&key);
        }
        let fields = key.as_object().into_iter().flatten();
        let said = fields.filter(|(_, value)| !is_nothing(value));
        let lines = said.map(|(name, value)| match value {
            Value::String(text) => format!("{name:<22}{text}\n"),
            value => format!("{name:<22}{value}\n"),
        });
        out::print(&lines.collect::<String>())
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(_) => false,
    }
}
