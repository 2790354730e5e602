//! `poolgate requests`: the latest requests, one a line.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::block_on;
use super::client::Admin;
use super::out::{self, Screen};
use super::source::Source;
use super::table::{Cell, Column, Paint, Table};

/// Show the latest requests: key, accounts tried and why, status, time, tokens
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate requests --last 20")]
pub(super) struct Requests {
    /// So many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Requests {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        let path = format!("/api/v1/requests?last={}", self.last);
        let answer = block_on(async { admin.get(&path).await })?;
        if self.json {
            out::print_json(&answer)?;
            return Ok(ExitCode::SUCCESS);
        }
        let screen = Screen::now();
        let lines = match answer["requests"].as_array() {
            Some(requests) if !requests.is_empty() => {
                table(requests).lines(screen.width, screen.color)
            }
            _ => vec!["no requests yet".to_owned()],
        };
        out::print(&(lines.join("\n") + "\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(requests: &[Value]) -> Table {
    let column = |name, number, most| Column { name, number, most };
    Table {
        columns: vec![
            column("BEGAN", false, 24),
            column("KEY", false, 16),
            column("MODEL", false, 24),
            column("STATUS", true, 6),
            column("MS", true, 8),
            column("IN", true, 9),
            column("OUT", true, 9),
            column("TRIES", false, 0),
        ],
        rows: requests.iter().map(row).collect(),
    }
}

/// The latest stands first, as the answer has it.
fn row(request: &Value) -> Vec<Cell> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let tried = |one: &Value| format!("{}:{}", text(&one["account"]), text(&one["outcome"]));
    let tries = request["tries"].as_array().into_iter().flatten();
    let mut tries = tries.map(tried).collect::<Vec<_>>().join(" ");
    if let Some(error) = request["error"].as_str() {
        let gap = if tries.is_empty() { "" } else { " " };
        tries = format!("{tries}{gap}{error}");
    }
    let status = Cell {
        text: text(&request["status"]),
        paint: match request["status"].as_u64() {
            Some(200..=399) => Paint::Good,
            Some(400..=499) => Paint::Watch,
            _ => Paint::Bad,
        },
    };
    vec![
        text(&request["began"]).into(),
        text(&request["key"]).into(),
        text(&request["model"]).into(),
        status,
        text(&request["duration_ms"]).into(),
        text(&request["tokens"]["input"]).into(),
        text(&request["tokens"]["output"]).into(),
        tries.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn a_request_is_a_line_that_says_which_accounts_were_asked() {
        let request = json!({
            "began": "2026-11-21T10:00:00.000Z", "key": "ci", "model": null, "status": 200,
            "duration_ms": 12, "tokens": {"input": 5, "output": 7, "cached": 0}, "error": null,
            "tries": [
                {"account": "a", "outcome": "rate_limited"}, {"account": "b", "outcome": "success"}
            ],
        });
        let refused = json!({
            "began": "2026-11-21T09:00:00.000Z", "key": "-", "model": "m", "status": 503,
            "duration_ms": 1, "tokens": {}, "tries": [], "error": "overloaded",
        });
        let lines = table(&[request, refused]).lines(100, false);
        assert_eq!(
            lines,
            [
                "BEGAN                     KEY  MODEL  STATUS  MS  IN  OUT  TRIES",
                "2026-11-21T10:00:00.000Z  ci             200  12   5    7  a:rate_limited b:success",
                "2026-11-21T09:00:00.000Z  -    m         503   1           overloaded",
            ]
        );
    }
}
