//! `poolgate route`: which account would get a request, and why the others would not.

use std::io::BufRead;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::block_on;
use super::client::Admin;
use super::out::{self, Screen};
use super::source::Source;
use super::table::{Cell, Column, Paint, Table, cut};

/// Say which account would get a request, and why no other; nothing is sent
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate route --model gpt-5\n  \
    poolgate route --model claude-sonnet-4-5 --key - < key.txt")]
pub(super) struct Route {
    /// The model that the request asks for
    #[arg(long, value_name = "M")]
    model: String,
    /// The client's key; `-` reads it from stdin, where no list of processes shows it
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// The path of the request [default: the usual one of the model's vendor]
    #[arg(long, value_name = "P")]
    path: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Route {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        let question = json!({
            "model": self.model,
            "key": self.key()?,
            "path": self.path.clone().unwrap_or_else(|| usual_path(&self.model)),
        });
        let answer = block_on(async { admin.post("/api/v1/route", &question).await })?;
        if self.json {
            out::print_json(&answer)?;
        } else {
            let lines = Choice::of(&answer)?.lines(Screen::now());
            out::print(&(lines.join("\n") + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn key(&self) -> anyhow::Result<Option<String>> {
        if self.key.as_deref() != Some("-") {
            return Ok(self.key.clone());
        }
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("the key on stdin")?;
        Ok(Some(line.trim().to_owned()))
    }
}

/// Where clients of the vendor that names its models so would ask.
fn usual_path(model: &str) -> String {
    if model.starts_with("claude") {
        "/v1/messages".to_owned()
    } else if model.starts_with("gemini") {
        format!("/v1beta/models/{model}:generateContent")
    } else {
        "/v1/chat/completions".to_owned()
    }
}

/// The answer of the dry run.
#[derive(Deserialize)]
struct Choice {
    pool: String,
    /// The one that would get the request; none = no account can take it now.
    account: Option<String>,
    #[serde(default)]
    others: Vec<Other>,
}

#[derive(Deserialize)]
struct Other {
    account: String,
    reason: String,
}

impl Choice {
    fn of(answer: &Value) -> anyhow::Result<Choice> {
        Choice::deserialize(answer)
            .context("the gateway's answer is not understood; another version?")
    }

    fn lines(&self, screen: Screen) -> Vec<String> {
        let pool = &self.pool;
        let verdict = match &self.account {
            Some(id) => format!("{id} of pool {pool} would get it"),
            None => format!("no account of pool {pool} would get it now"),
        };
        let mut lines = vec![cut(&verdict, screen.width)];
        if self.account.is_some() || !self.others.is_empty() {
            lines.push(String::new());
            lines.extend(self.table().lines(screen.width, screen.color));
        }
        lines
    }

    fn table(&self) -> Table {
        let chosen = self.account.iter().map(|id| (id, "chosen", Paint::Good));
        let others = self.others.iter();
        let others = others.map(|other| (&other.account, other.reason.as_str(), Paint::Plain));
        let row = |(id, reason, paint): (&String, &str, Paint)| {
            [id, reason]
                .map(|text| Cell {
                    text: text.to_owned(),
                    paint,
                })
                .into()
        };
        let column = |name, most| Column {
            name,
            number: false,
            most,
        };
        Table {
            columns: vec![column("ACCOUNT", 30), column("REASON", usize::MAX)],
            rows: chosen.chain(others).map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, usual_path};
    use crate::cli::out::Screen;
    use serde_json::{Value, json};

    fn lines(answer: &Value) -> Vec<String> {
        let screen = Screen {
            terminal: false,
            color: false,
            width: 80,
            height: usize::MAX,
        };
        Choice::of(answer).unwrap().lines(screen)
    }

    #[test]
    fn the_chosen_account_comes_first_and_each_other_one_has_its_reason() {
        let others = json!([{"account": "a", "reason": "is cooling for 12s"}]);
        let answer = json!({"pool": "default", "account": "bb", "others": others});
        let want = [
            "bb of pool default would get it",
            "",
            "ACCOUNT  REASON",
            "bb       chosen",
            "a        is cooling for 12s",
        ];
        assert_eq!(lines(&answer), want);
    }

    #[test]
    fn where_nobody_can_serve_it_says_so_and_why() {
        let others = json!([{"account": "a", "reason": "is disabled"}]);
        let answer = json!({"pool": "p", "account": null, "others": others});
        let shown = lines(&answer);
        assert_eq!(shown[0], "no account of pool p would get it now");
        assert_eq!(shown[3], "a        is disabled");
    }

    #[test]
    fn the_path_follows_the_model() {
        assert_eq!(usual_path("claude-x"), "/v1/messages");
        assert_eq!(usual_path("gpt-5"), "/v1/chat/completions");
        assert_eq!(
            usual_path("gemini-3-pro"),
            "/v1beta/models/gemini-3-pro:generateContent"
        );
    }
}
