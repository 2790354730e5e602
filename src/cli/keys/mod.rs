//! `poolgate keys`: who may call. The records are changed in place, with nothing running too; a running
//! gateway sees it within a second.

mod audit;
mod make;
mod show;

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::block_on;
use super::source::Source;
use crate::app;
use crate::config::Config;
use crate::instance::Discovery;
use crate::key::{Place, Register};
use crate::secret::Secret;
use crate::store::KeyRecord;

/// Issue, list, change and revoke the keys of clients
#[derive(Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  poolgate keys create --name ci --days 30\n  \
        poolgate keys rotate ci --grace 1h\n  poolgate keys list --json"
)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(make::Create),
    List(show::List),
    Show(show::Show),
    Revoke(make::Revoke),
    Rotate(make::Rotate),
    Import(make::Import),
}

impl Keys {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let config = source.load_with_records()?.config;
        block_on(async {
            let store = app::records(&config).await?;
            let mut accounts = places(&config);
            let added = app::added_accounts(&config, &store).await?;
            let is_new = |place: &Place| !accounts.iter().any(|it| it.account == place.account);
            let added: Vec<Place> = added.into_iter().filter(is_new).collect();
            accounts.extend(added);
            let register = Register {
                store: &store,
                config: &config,
                accounts: &accounts,
            };
            match &self.command {
                Command::Create(it) => it.run(&register).await,
                Command::List(it) => it.run(&register).await,
                Command::Show(it) => it.run(&register).await,
                Command::Revoke(it) => it.run(&register).await,
                Command::Rotate(it) => it.run(&register).await,
                Command::Import(it) => it.run(&register).await,
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All accounts of the configuration, those made from files too.
fn places(config: &Config) -> Vec<Place> {
    let discovery = Discovery::in_state(&config.state.dir);
    discovery.look(config);
    let pools = discovery.pools(config);
    let of_pool = |pool: &crate::config::Pool| {
        let place = |account: &crate::config::Account| Place {
            account: account.id.clone(),
            pool: pool.name.clone(),
        };
        pool.accounts.iter().map(place).collect::<Vec<_>>()
    };
    pools.iter().flat_map(of_pool).collect()
}

/// Which key a command is about.
#[derive(Args)]
struct Which {
    /// Its id or its name, or `-` for the key itself on standard input
    #[arg(value_name = "ID|NAME|-")]
    key: String,
}

impl Which {
    async fn find(&self, register: &Register<'_>) -> anyhow::Result<KeyRecord> {
        if self.key != "-" {
            return Ok(register.find(&self.key).await?);
        }
        let key = read_key()?;
        Ok(register.find(key.expose()).await?)
    }
}

/// Keys do not go on the command line, where every process of the machine sees them.
fn read_key() -> anyhow::Result<Secret> {
    const LONGEST: u64 = 4096;
    if std::io::stdin().is_terminal() {
        super::out::tell("the key, then Ctrl-D:");
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let stdin = std::io::stdin().lock();
    let read = stdin.take(LONGEST).read_to_string(&mut text);
    read.context("standard input")?;
    match text.trim() {
        "" => bail!("standard input holds no key"),
        key => Ok(Secret::new(key)),
    }
}
