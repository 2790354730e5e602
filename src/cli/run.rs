//! `poolgate run`: the gateway, in the foreground.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use super::out;
use super::source::Source;
use crate::app;
use crate::config::Severity;

/// Serve, in the foreground
///
/// SIGTERM and Ctrl-C let running requests finish, a second one ends at once; SIGHUP reads the
/// configuration anew.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate run -c /etc/poolgate/poolgate.yaml --env-file .env")]
pub(super) struct Run {}

impl Run {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let path = source.path()?;
        let loaded = source.load()?;
        for remark in &loaded.remarks {
            out::tell(&remark.to_string());
        }
        let refused = |severity| severity == Severity::Refused;
        ensure!(
            !loaded.remarks.iter().any(|it| refused(it.severity)),
            "{} asks for what this release does not serve yet, see above",
            path.display()
        );
        app::run(app::Options {
            config: loaded.config,
            config_path: Some(path),
            env_file: source.env_file.clone(),
            announce: true,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
