//! `poolgate version`: which build this is.

use std::env::consts::{ARCH, OS};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::out;

/// Tell which version this is
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate version --json")]
pub(super) struct Version {
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            out::print_json(
                &json!({"name": "poolgate", "version": version, "os": OS, "arch": ARCH}),
            )?;
        } else {
            out::print(&format!("poolgate {version} ({OS} {ARCH})\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
