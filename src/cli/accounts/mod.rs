//! `poolgate accounts`: the accounts of a running gateway, and what an operator orders of them.

mod add;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::block_on;
use super::client::Admin;
use super::out;
use super::source::Source;
use super::table::clean;

/// Show, add, remove, enable, disable, reset, refresh, probe or restart accounts
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  poolgate accounts list\n  poolgate accounts disable account_a\n  \
        echo \"$OPENAI_KEY_B\" | poolgate accounts add b --upstream openai --credential api_key"
)]
pub(super) struct Accounts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(show::List),
    Show(show::Show),
    Add(add::Add),
    /// Take away an account that came by the API; its requests finish
    Remove(One),
    /// Let it serve again
    Enable(One),
    /// Give it no new requests
    Disable(One),
    /// Close its breaker and end its cooldowns
    Reset(One),
    /// Have another token granted to it now
    Refresh(One),
    /// Check its health now
    Probe(One),
    /// Start its local program anew
    Restart(One),
}

/// Which account a command is about.
#[derive(Args)]
struct One {
    /// The account
    #[arg(value_name = "ID")]
    id: String,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Accounts {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        block_on(async {
            match &self.command {
                Command::List(it) => it.run(&admin).await,
                Command::Show(it) => it.run(&admin).await,
                Command::Add(it) => it.run(&admin).await,
                Command::Remove(it) => it.remove(&admin).await,
                Command::Enable(it) => it.order(&admin, "enable", "is enabled").await,
                Command::Disable(it) => it.order(&admin, "disable", "is disabled").await,
                Command::Reset(it) => it.order(&admin, "reset", "is reset").await,
                Command::Refresh(it) => it.order(&admin, "refresh", "has a new token").await,
                Command::Probe(it) => it.order(&admin, "probe", "was probed").await,
                Command::Restart(it) => it.order(&admin, "restart", "is started anew").await,
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn path(id: &str) -> String {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    format!("/api/v1/accounts/{id}")
}

impl One {
    async fn order(&self, admin: &Admin, action: &str, done: &str) -> anyhow::Result<()> {
        let path = format!("{}/{action}", path(&self.id));
        let account = match action {
            "refresh" | "probe" => admin.post_and_wait(&path).await?,
            _ => admin.post(&path, &json!({})).await?,
        };
        let status = account["status"].as_str().unwrap_or_default();
        if let Some(warning) = account["warning"].as_str() {
            out::tell(&format!("{}: {}", self.id, clean(warning)));
        }
        self.tell(&account, &format!("{} {done}: {status}\n", self.id))
    }

    async fn remove(&self, admin: &Admin) -> anyhow::Result<()> {
        let answer = admin.delete(&path(&self.id)).await?;
        let in_flight = &answer["in_flight"];
        let line = format!(
            "{} is removed; requests that finish: {in_flight}\n",
            self.id
        );
        self.tell(&answer, &line)
    }

    fn tell(&self, answer: &Value, line: &str) -> anyhow::Result<()> {
        match self.json {
            true => out::print_json(answer)?,
            false => out::print(line)?,
        }
        Ok(())
    }
}
