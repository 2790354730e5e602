//! `poolgate healthcheck`: for containers, whether the gateway here can serve.

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::block_on;
use super::client::{Server, Trouble, request};
use super::source::Source;

/// Exit with 0 when the gateway can serve, else with 1
///
/// Without a configuration file the variables of an older system say where it is (`--env-compat`).
#[derive(Args)]
#[command(after_help = "Example:\n  HEALTHCHECK CMD [\"poolgate\", \"healthcheck\"]")]
pub(super) struct Healthcheck {}

impl Healthcheck {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        // In a container of `run --env-compat` there is no file, and the variables are here, too.
        let loaded = match source.names_a_file() {
            true => source.load_to_ask()?,
            false => source.load_variables()?,
        };
        let Some(listen) = loaded.config.listen.first() else {
            bail!("the configuration has no `listen`");
        };
        let server = Server::at(listen.address, listen.tls.as_ref()).context("listen[0].tls")?;
        let url = &server.url;
        block_on(async {
            let ask = request("GET", &format!("{url}/readyz"), None, None)?;
            let status = match server.exchange(ask).await {
                Ok((status, _)) => status,
                Err(Trouble::Nobody) => bail!("nothing runs at {url}"),
                Err(trouble) => bail!("{url}/readyz: {trouble}"),
            };
            ensure!(status == 200, "not ready: {url}/readyz answers {status}");
            Ok(ExitCode::SUCCESS)
        })
    }
}
