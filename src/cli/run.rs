//! `poolgate run`: the gateway, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::out;
use super::source::Source;
use crate::app::{self, Predecessor};

/// Serve, in the foreground
///
/// SIGTERM and Ctrl-C let running requests finish, a second one ends at once; SIGHUP reads the
/// configuration anew.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate run -c /etc/poolgate/poolgate.yaml --env-file .env")]
pub(super) struct Run {
    /// Take the place of the gateway that runs: its sockets, its accounts' live state. It goes on as it
    /// was where that fails. DIR is its `state.dir`, if not that of the configuration
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    upgrade: Option<Option<PathBuf>>,
}

impl Run {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        // Before anything can fail, so that whoever waits there is told.
        let named = self.upgrade.clone().flatten();
        let named = named.map(|state| Predecessor::find(&state)).transpose()?;
        let mut options = match options(source) {
            Ok(options) => options,
            Err(error) => {
                if let Some(predecessor) = named {
                    predecessor.disappoint(vec![error.to_string()]);
                }
                return Err(error);
            }
        };
        options.predecessor = match (named, &self.upgrade) {
            (None, Some(_)) => Some(Predecessor::find(&options.config.state.dir)?),
            (named, _) => named,
        };
        app::run(options)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn options(source: &Source) -> anyhow::Result<app::Options> {
    let path = source.path()?;
    let loaded = source.load()?;
    for remark in &loaded.remarks {
        out::tell(&remark.to_string());
    }
    Ok(app::Options {
        config: loaded.config,
        config_path: (!source.env_compat).then_some(path),
        env_file: source.env_file.clone(),
        announce: true,
        predecessor: None,
    })
}
