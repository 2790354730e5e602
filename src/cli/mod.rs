//! The command line: what may be typed. One file per command does it.

mod accounts;
mod backup;
mod bench;
mod call;
mod check;
mod client;
mod completions;
mod demo;
mod doctor;
mod env;
mod healthcheck;
mod import;
mod init;
mod keys;
mod logs;
mod man;
mod mock;
mod order;
mod out;
mod requests;
mod route;
mod run;
mod slots;
mod source;
mod status;
mod table;
mod test;
#[cfg(test)]
mod tests;
mod usage;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use source::Source;

/// One address in front of many LLM-API accounts.
///
/// poolgate picks an account for each request, streams its answer back, and asks another account
/// when one is slow, limited, broken or gone.
#[derive(Parser)]
#[command(
    name = "poolgate",
    version,
    arg_required_else_help = true,
    after_help = "First steps:\n  \
        poolgate demo     see it work: no key, no configuration, no network\n  \
        poolgate init     write poolgate.yaml for the keys in your environment\n  \
        poolgate check    find every mistake in it\n  \
        poolgate run      serve"
)]
struct Cli {
    #[command(flatten)]
    source: Source,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Init(init::Init),
    Status(status::Status),
    Reload(order::Reload),
    Upgrade(order::Upgrade),
    Stop(order::Stop),
    Demo(demo::Demo),
    Mock(Box<mock::Mock>),
    Accounts(accounts::Accounts),
    Keys(keys::Keys),
    Requests(requests::Requests),
    Usage(usage::Usage),
    Slots(slots::Slots),
    Logs(logs::Logs),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Route(route::Route),
    Env(env::Env),
    Import(import::Import),
    Test(test::Test),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Healthcheck(healthcheck::Healthcheck),
    Version(version::Version),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Reads the command line, does what it says and tells how it went: 0 done, 1 refused or failed,
/// 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run(&cli.source) {
        Ok(code) => code,
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&error);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self, source: &Source) -> anyhow::Result<ExitCode> {
        match self {
            Command::Run(it) => it.run(source),
            Command::Check(it) => it.run(source),
            Command::Init(it) => it.run(source),
            Command::Status(it) => it.run(source),
            Command::Reload(it) => it.run(source),
            Command::Upgrade(it) => it.run(source),
            Command::Stop(it) => it.run(source),
            Command::Demo(it) => it.run(),
            Command::Mock(it) => it.run(),
            Command::Accounts(it) => it.run(source),
            Command::Keys(it) => it.run(source),
            Command::Requests(it) => it.run(source),
            Command::Usage(it) => it.run(source),
            Command::Backup(it) => it.run(source),
            Command::Restore(it) => it.run(source),
            Command::Slots(it) => it.run(source),
            Command::Logs(it) => it.run(source),
            Command::Route(it) => it.run(source),
            Command::Env(it) => it.run(source),
            Command::Import(it) => it.run(source),
            Command::Test(it) => it.run(source),
            Command::Doctor(it) => it.run(source),
            Command::Bench(it) => it.run(),
            Command::Healthcheck(it) => it.run(source),
            Command::Version(it) => it.run(),
            Command::Completions(it) => it.run(Cli::command()),
            Command::Man(it) => it.run(Cli::command()),
        }
    }
}

/// Runs one asynchronous command to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
