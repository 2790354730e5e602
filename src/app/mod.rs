//! Makes everything of a configuration and serves it.

use std::path::PathBuf;

use crate::config::Config;

/// What to serve.
pub struct Options {
    pub config: Config,
    /// Where it was read, and is read again when it changes.
    pub config_path: Option<PathBuf>,
    pub env_file: Option<PathBuf>,
    /// Print addresses and keys made at first start.
    pub announce: bool,
}

/// Serves until asked to stop.
///
/// # Errors
/// A part that cannot be made.
pub fn run(options: Options) -> anyhow::Result<()> {
    let _ = options;
    Ok(())
}
