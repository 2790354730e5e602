//! `poolgate logs`: what an account's local program said last.

use std::process::ExitCode;

use anstream::adapter::strip_str;
use clap::Args;
use serde_json::Value;

use super::block_on;
use super::client::Admin;
use super::out;
use super::source::Source;

/// Show what an account's local program wrote last
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate logs account_a --tail 50")]
pub(super) struct Logs {
    /// The account
    #[arg(value_name = "ID")]
    id: String,
    /// So many lines
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tail: u32,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        let id =
            percent_encoding::utf8_percent_encode(&self.id, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/api/v1/instances/{id}/logs?tail={}", self.tail);
        let answer = block_on(async { admin.get(&path).await })?;
        if self.json {
            out::print_json(&answer)?;
            return Ok(ExitCode::SUCCESS);
        }
        let lines = answer["lines"].as_array().into_iter().flatten();
        let lines = lines.filter_map(Value::as_str).map(harmless);
        out::print(&lines.collect::<String>())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The line without colours and whatever else would move the cursor or change the terminal.
fn harmless(line: &str) -> String {
    let text = strip_str(line).to_string();
    let shown = |c: &char| *c == '\t' || !c.is_control();
    text.chars().filter(shown).chain(['\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_program_cannot_write_to_the_terminal_what_it_likes() {
        assert_eq!(harmless("a\tb \u{1b}[2Jc\u{7}\r"), "a\tb c\n");
        let coloured = "\u{1b}[1;31mERROR\u{1b}[0m \u{1b}]0;title\u{7}no";
        assert_eq!(harmless(coloured), "ERROR no\n");
        assert!(!harmless("\u{9b}2Ja\u{1b}").contains('\u{1b}'));
    }
}
