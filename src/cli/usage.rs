//! `poolgate usage`: requests, tokens and cost, summed up.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::block_on;
use super::client::Admin;
use super::out::{self, Screen};
use super::source::Source;
use super::table::{Cell, Column, Table};

/// Show what was used, summed up by day, key, account, model or a label of the keys
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate usage\n  \
    poolgate usage --by key,model --from 2026-11-01 --to 2026-12-01")]
pub(super) struct Usage {
    /// day, key, account, model and label:NAME, with commas between
    #[arg(long, value_name = "WHAT", default_value = "day")]
    by: String,
    /// From this hour on: a date or a time, in UTC [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this hour [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Rows of one answer.
const PAGE: usize = 1000;

impl Usage {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        let rows = block_on(self.rows(&admin))?;
        if self.json {
            out::print_json(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        let screen = Screen::now();
        let lines = match rows.is_empty() {
            true => vec!["nothing was used".to_owned()],
            false => table(&rows).lines(screen.width, screen.color),
        };
        out::print(&(lines.join("\n") + "\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// All pages.
    async fn rows(&self, admin: &Admin) -> anyhow::Result<Vec<Map<String, Value>>> {
        let mut rows = vec![];
        let mut cursor = None;
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("by", &self.by);
            query.append_pair("limit", &PAGE.to_string());
            let bounds = [("from", &self.from), ("to", &self.to), ("cursor", &cursor)];
            for (name, value) in bounds {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let answer = admin
                .get(&format!("/api/v1/usage?{}", query.finish()))
                .await?;
            let page = answer["usage"].as_array().into_iter().flatten();
            rows.extend(page.filter_map(Value::as_object).cloned());
            cursor = answer["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// Amounts come last; what is before them is what they are summed up by.
const AMOUNTS: [&str; 4] = ["requests", "tokens", "cost", "estimated"];

fn table(rows: &[Map<String, Value>]) -> Table {
    let groups = rows.first().into_iter().flat_map(Map::keys);
    let is_group = |name: &&String| !AMOUNTS.contains(&&***name) && *name != "key_id";
    let groups: Vec<&String> = groups.filter(is_group).collect();
    let amount = |name| Column {
        name,
        number: true,
        most: 16,
    };
    let mut columns: Vec<Column> = groups
        .iter()
        .map(|group| Column {
            name: heading(group),
            number: false,
            most: 32,
        })
        .collect();
    columns.extend(["REQUESTS", "INPUT", "OUTPUT", "CACHED", "COST"].map(amount));
    columns.push(Column {
        name: "",
        number: false,
        most: 0,
    });
    let rows = rows.iter().map(|row| {
        let groups = groups.iter().map(|group| match &row[*group] {
            Value::String(text) => text.clone(),
            _ => "-".to_owned(),
        });
        let tokens = &row["tokens"];
        let counts = [
            &row["requests"],
            &tokens["input"],
            &tokens["output"],
            &tokens["cached"],
        ];
        let cost = row["cost"].as_f64().unwrap_or_default();
        let estimated = match row["estimated"].as_u64().unwrap_or_default() {
            0 => String::new(),
            some => format!("{some} estimated"),
        };
        let cells = groups
            .chain(counts.map(Value::to_string))
            .chain([format!("{cost:.4}"), estimated]);
        cells.map(Cell::from).collect()
    });
    let rows = rows.collect();
    Table { columns, rows }
}

fn heading(group: &str) -> &'static str {
    match group {
        "day" => "DAY",
        "key" => "KEY",
        "account" => "ACCOUNT",
        "model" => "MODEL",
        _ => "LABEL",
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::{Value, json};

    #[test]
    fn sums_stand_behind_what_they_are_made_for() {
        let row = |key: Value, estimated: u64| {
            let row = json!({
                "day": "2026-11-21", "key": key, "key_id": "id", "requests": 12, "cost": 1.25,
                "tokens": {"input": 1000, "output": 20, "cached": 0}, "estimated": estimated,
            });
            row.as_object().unwrap().clone()
        };
        let lines = table(&[row(json!("ci"), 0), row(Value::Null, 2)]).lines(100, false);
        assert_eq!(
            lines,
            [
                "DAY         KEY  REQUESTS  INPUT  OUTPUT  CACHED    COST",
                "2026-11-21  ci         12   1000      20       0  1.2500",
                "2026-11-21  -          12   1000      20       0  1.2500  2 estimated",
            ]
        );
    }
}
