//! `poolgate import`: takes over what an older system was told, and what it kept.

mod systems;
mod tokens;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::out;
use super::source::Source;
use crate::config::older::{Screen, Taken};
use crate::config::{self, Loaded};

/// Write the configuration that does what an older system did
///
/// Secrets stay where they are and are named as `${NAME}`. What has no counterpart is said. Folders of
/// amazonq-env are the tokens that it kept: those of accounts in the configuration are taken over, once;
/// what poolgate keeps already stays.
#[derive(Args)]
#[command(after_help = "Examples:
  poolgate import multi-account-json multi_account_config.json -o poolgate.yaml
  poolgate import amazonq-env .env --upstream http://127.0.0.1:9000 -o poolgate.yaml
  poolgate import amazonq-env ~/.amazonq_token_cache
  poolgate import auth-dir auth_profiles/active --headless -o poolgate.yaml
  poolgate import account-tier-dir account --redis redis://127.0.0.1:6380 -o poolgate.yaml
  poolgate import compose-env .env -o poolgate.yaml")]
pub(super) struct Import {
    system: System,
    /// Its files and folders
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Write here, and not over a file that exists [default: print]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// amazonq-env: the converter that speaks Amazon Q's protocol
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// account-tier-dir: its Redis
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// auth-dir: browsers without a window [default]
    #[arg(long, group = "screen")]
    headless: bool,
    /// auth-dir: browsers with a window
    #[arg(long, group = "screen")]
    debug: bool,
    /// auth-dir: browsers with a window that nobody sees (Linux)
    #[arg(long, group = "screen")]
    virtual_display: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// The router of AI Studio accounts: multi_account_config.json, and its key.txt
    MultiAccountJson,
    /// The Amazon Q pool: its .env, and its folder of tokens
    AmazonqEnv,
    /// The launcher with --multi: auth_profiles/active
    AuthDir,
    /// The pool of tiers: its folder account
    AccountTierDir,
    /// The orchestrator of workers: its .env
    ComposeEnv,
}

impl Import {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let is_tokens = |path: &&PathBuf| self.system == System::AmazonqEnv && path.is_dir();
        let tokens: Vec<PathBuf> = self.paths.iter().filter(is_tokens).cloned().collect();
        let rest: Vec<&Path> = self
            .paths
            .iter()
            .filter(|path| !is_tokens(path))
            .map(PathBuf::as_path)
            .collect();
        let config = match rest.as_slice() {
            [] => source.load()?.config,
            paths => self.configuration(paths, source)?.config,
        };
        Ok(match tokens.is_empty() || tokens::take(&config, &tokens)? {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// Writes the configuration, and says what it lacks.
    fn configuration(&self, paths: &[&Path], source: &Source) -> anyhow::Result<Loaded> {
        let given = source.variables()?;
        let (taken, own) = systems::take(self, paths)?;
        let own = own.unwrap_or_default();
        let env = |name: &str| given.get(name).or_else(|| own.get(name));
        // Where it will lie, as paths in it start there.
        let place = self
            .output
            .clone()
            .unwrap_or_else(|| "poolgate.yaml".into());
        let loaded = config::parse(&taken.text, &place, &env);
        let loaded = loaded.context("what was imported is no good configuration")?;
        self.write(&taken)?;
        for remark in &loaded.remarks {
            out::tell(&remark.to_string());
        }
        for note in &taken.notes {
            out::tell(&format!("note: {note}"));
        }
        Ok(loaded)
    }

    fn write(&self, taken: &Taken) -> anyhow::Result<()> {
        let Some(path) = &self.output else {
            return out::print(&taken.text);
        };
        let shown = path.display();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = match options.open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{shown} exists already and is kept as it is")
            }
            file => file.with_context(|| shown.to_string())?,
        };
        file.write_all(taken.text.as_bytes())
            .with_context(|| shown.to_string())?;
        let variables = match self.system {
            System::AmazonqEnv | System::ComposeEnv => {
                format!(" --env-file {}", self.paths[0].display())
            }
            _ => String::new(),
        };
        out::tell(&format!(
            "{shown} is written. Next: poolgate check -c {shown}{variables}, then: poolgate run -c {shown}{variables}"
        ));
        Ok(())
    }

    fn screen(&self) -> Screen {
        match (self.debug, self.virtual_display) {
            (true, _) => Screen::Debug,
            (_, true) => Screen::VirtualDisplay,
            _ => Screen::Headless,
        }
    }
}
