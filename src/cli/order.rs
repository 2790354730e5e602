//! `poolgate reload`, `upgrade` and `stop`: orders to the gateway that runs here.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::out;
use super::source::{Source, known};
use crate::app::{self, Done, Given, Order};

/// Beyond what a gateway allows itself.
const SPARE: Duration = Duration::from_secs(10);
/// For a file of any size.
const RELOAD: Duration = Duration::from_secs(120);

/// Have the running gateway read its configuration anew
///
/// A file with a mistake changes nothing; every mistake is said. What cannot change while it runs is
/// named.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate reload -c /etc/poolgate/poolgate.yaml")]
pub(super) struct Reload {
    #[command(flatten)]
    whose: Whose,
}

impl Reload {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let (done, _) = self.whose.give(source, &Order::Reload, RELOAD)?;
        report(&done)
    }
}

/// Have the running gateway finish its requests and end
///
/// Returns when it has ended.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate stop")]
pub(super) struct Stop {
    #[command(flatten)]
    whose: Whose,
}

impl Stop {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let server = source.load_to_ask()?.config.server;
        let (done, given) = self.whose.give(source, &Order::Stop, SPARE)?;
        report(&done)?;
        let patience = server.drain_delay + server.drain_timeout + SPARE;
        let ended = given.wait_for_end(patience);
        ended.context("the gateway is still there")?;
        out::print("stopped\n")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Start the program anew and hand over to it, without a request that fails
///
/// The new process reads the configuration, takes the listening sockets over and serves; only then the
/// old one finishes its requests and ends. Whatever goes wrong before leaves the old one as it was.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate upgrade -c /etc/poolgate/poolgate.yaml")]
pub(super) struct Upgrade {
    #[command(flatten)]
    whose: Whose,
    /// How long the new process may take until it serves
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Upgrade {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let patience = self.timeout;
        let order = Order::Upgrade { patience };
        let (done, _) = self.whose.give(source, &order, patience + SPARE)?;
        report(&done)
    }
}

/// Which of the gateways of this machine.
#[derive(Args)]
struct Whose {
    /// The state folder that it was started with [default: the configuration's `state.dir`]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Whose {
    fn give(
        &self,
        source: &Source,
        order: &Order,
        patience: Duration,
    ) -> anyhow::Result<(Done, Given)> {
        if let Some(state) = &self.state {
            return app::give(state, order, patience);
        }
        let state = source.load_to_ask()?.config.state.dir;
        known("state.dir", &state.to_string_lossy())?;
        app::give(&state, order, patience)
    }
}

/// What was done goes to standard output, what was not to standard error: a line for each problem.
fn report(done: &Done) -> anyhow::Result<ExitCode> {
    if !done.done {
        for line in &done.lines {
            out::tell(line);
        }
        return Ok(ExitCode::FAILURE);
    }
    out::print(&(done.lines.join("\n") + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
