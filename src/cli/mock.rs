//! `poolgate mock`: simulated vendors in a process of their own.

use std::process::ExitCode;

use clap::Args;

use super::out;
use crate::mock;

/// Simulate vendors, with faults
///
/// Speaks the dialects of OpenAI, Anthropic and Gemini, streaming included. A fault is set for all
/// requests by an option, or for one by a header of the same name: x-mock-status, x-mock-delay …
#[derive(Args)]
#[command(
    after_help = "Examples:\n  poolgate mock --port 9101-9103 --delay 200ms\n  \
    poolgate mock --port 9104 --error-rate 20% --status 529"
)]
pub(super) struct Mock {
    #[command(flatten)]
    options: mock::Options,
}

impl Mock {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Values that clap does not know are wrong usage as well.
        if let Err(problem) = self.options.settings(0, 1) {
            out::tell(&format!("error: {problem}"));
            return Ok(ExitCode::from(2));
        }
        tokio::runtime::Runtime::new()?.block_on(mock::run(self.options))?;
        Ok(ExitCode::SUCCESS)
    }
}
