//! `poolgate man`: the manual pages.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::out;

/// Print the manual page of poolgate, or of one of its commands
#[derive(Args)]
#[command(
    after_help = "Examples:\n  poolgate man | man -l -\n  poolgate man check > poolgate-check.1"
)]
pub(super) struct Man {
    /// [default: poolgate itself]
    command: Option<String>,
}

impl Man {
    pub(super) fn run(&self, command: clap::Command) -> anyhow::Result<ExitCode> {
        out::print(&page(command, self.command.as_deref())?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The page of `name`, a command of `root`, or of `root`.
pub(super) fn page(mut root: clap::Command, name: Option<&str>) -> anyhow::Result<String> {
    root.build();
    let command = match name {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .ok_or_else(|| anyhow!("there is no command {name:?}; `poolgate --help` lists them"))?
            .clone(),
    };
    let title = command.get_display_name().unwrap_or("poolgate").to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .title(title)
        .render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
