//! `poolgate completions`: what a shell needs to complete our command line.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::out;

/// Print the completions of a shell
#[derive(Args)]
#[command(
    after_help = "Example:\n  poolgate completions bash > ~/.local/share/bash-completion/completions/poolgate"
)]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut command: clap::Command) -> anyhow::Result<ExitCode> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "poolgate", &mut text);
        out::print(&String::from_utf8_lossy(&text))?;
        Ok(ExitCode::SUCCESS)
    }
}
