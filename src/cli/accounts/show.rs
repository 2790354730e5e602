//! `poolgate accounts list` and `show`.

use clap::Args;
use serde_json::{Value, json};

use super::super::client::Admin;
use super::super::out::{self, Screen};
use super::super::table::{Cell, Column, Paint, Table, clean};
use super::path;

/// One line for each account
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate accounts list --json")]
pub(super) struct List {
    /// For machines
    #[arg(long)]
    json: bool,
}

/// All that is known of one account
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate accounts show account_a")]
pub(super) struct Show {
    /// The account
    #[arg(value_name = "ID")]
    id: String,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Pages that are read: as many accounts as a file may hold.
const PAGES: usize = 50;

impl List {
    pub(super) async fn run(&self, admin: &Admin) -> anyhow::Result<()> {
        let mut accounts: Vec<Value> = Vec::new();
        let mut place = String::new();
        for _ in 0..PAGES {
            let path = format!("/api/v1/accounts?limit=1000{place}");
            let mut page = admin.get(&path).await?;
            if let Value::Array(mut some) = page["accounts"].take() {
                accounts.append(&mut some);
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            place = format!("&cursor={next}");
        }
        if self.json {
            out::print_json(&json!({"accounts": accounts}))?;
            return Ok(());
        }
        let screen = Screen::now();
        let lines = table(&accounts).lines(screen.width, screen.color);
        out::print(&(lines.join("\n") + "\n"))?;
        Ok(())
    }
}

impl Show {
    pub(super) async fn run(&self, admin: &Admin) -> anyhow::Result<()> {
        let account = admin.get(&path(&self.id)).await?;
        if self.json {
            out::print_json(&account)?;
            return Ok(());
        }
        out::print(&lines(&account))?;
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// Each field on a line; what has fields of its own as `breaker.state`.
fn lines(account: &Value) -> String {
    let mut lines = String::new();
    for (name, value) in account.as_object().into_iter().flatten() {
        match value {
            Value::Object(fields) if name != "recent" => {
                for (field, value) in fields {
                    lines += &format!("{name}.{field}: {}\n", text(value));
                }
            }
            Value::Object(_) => {}
            value => lines += &format!("{name}: {}\n", text(value)),
        }
    }
    lines
}

fn table(accounts: &[Value]) -> Table {
    let column = |name, number, most| Column { name, number, most };
    Table {
        columns: vec![
            column("ACCOUNT", false, 24),
            column("POOL", false, 12),
            column("STATUS", false, 11),
            column("WEIGHT", true, 6),
            column("IN FLIGHT", true, 9),
            column("FROM", false, 13),
            column("UPSTREAM", false, 0),
        ],
        rows: accounts.iter().map(row).collect(),
    }
}

fn row(account: &Value) -> Vec<Cell> {
    let status = text(&account["status"]);
    let paint = match &*status {
        "healthy" => Paint::Good,
        "full" | "half_open" | "unknown" | "cooling" | "draining" => Paint::Watch,
        "disabled" => Paint::Dim,
        _ => Paint::Bad,
    };
    let in_flight = match account["max_concurrent"].as_u64() {
        Some(most @ 1..) => format!("{}/{most}", account["in_flight"]),
        _ => text(&account["in_flight"]),
    };
    let source = match account["override"].is_array() {
        true => "file, changed".to_owned(),
        false => text(&account["source"]),
    };
    vec![
        text(&account["id"]).into(),
        text(&account["pool"]).into(),
        Cell {
            text: status,
            paint,
        },
        text(&account["weight"]).into(),
        in_flight.into(),
        source.into(),
        text(&account["upstream"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{lines, table};
    use serde_json::json;

    #[test]
    fn an_account_is_a_line_in_a_narrow_screen() {
        let account = json!({
            "id": "account_a", "pool": "default", "status": "healthy", "weight": 3, "in_flight": 1,
            "max_concurrent": 4, "source": "file", "override": ["weight"],
            "upstream": "https://api.openai.com:443",
        });
        let lines = table(&[account]).lines(80, false);
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:?}");
        let parts: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(parts[..5], ["account_a", "default", "healthy", "3", "1/4"]);
        assert!(lines[1].contains("file, changed"), "{lines:?}");
    }

    #[test]
    fn what_has_parts_is_shown_by_its_parts() {
        let account = json!({"id": "a", "until": null, "breaker": {"state": "closed"}});
        assert_eq!(lines(&account), "breaker.state: closed\nid: a\nuntil: -\n");
        let account = json!({"last_error": "\u{1b}]0;mine\u{7}"});
        assert_eq!(lines(&account), "last_error:  ]0;mine \n", "no escape");
    }
}
