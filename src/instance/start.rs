//! How a program comes to run: the one that is found running is taken, else one is started, once
//! nothing is in the way.

use std::path::Path;
use std::sync::Arc;

use super::command::{Words, environment};
use super::process::Process;
use super::program::{Phase, Running};
use super::supervise::{End, Seat, Supervisor};
use super::turn::Turn;
use super::{Owner, output, record};
use crate::config;

impl Supervisor {
    /// The program that runs already, if it is the one that is wanted; else a new one.
    pub(super) async fn running(&self, seat: &Seat, turn: Option<Turn>) -> Result<Running, End> {
        if let Some(running) = self.program.running() {
            let wanted = Words::of(&seat.instance, &self.program.id, running.port);
            let fits = seat.instance.port.is_none_or(|port| port == running.port);
            if fits && wanted == running.command {
                self.instances.ports.keep(&self.program.id, running.port);
                let pid = running.process.identity.pid;
                tracing::info!(account = &*self.program.id, pid, "its program runs already");
                return Ok(running);
            }
            // A poolgate before this one may still have requests there.
            self.end(self.drain_timeout()).await;
            self.program.show(Phase::Starting, None);
        }
        if !seat.account.awaits_program() {
            // It served through a program of the poolgate before this one, that is gone.
            seat.pool.program_down(&self.program.id, None);
        }
        if let Some(file) = missing(&seat.instance) {
            let why = format!(
                "cannot be started: there is no auth file {}",
                file.display()
            );
            return Err(End::Cannot(why));
        }
        let turn = turn.unwrap_or_else(|| self.instances.turns.stand());
        turn.comes().await;
        let started = self.start(seat)?;
        turn.used(self.owner.config().instances.start_delay);
        Ok(started)
    }

    /// Does not wait for anything: a program that is started is known as running at once.
    fn start(&self, seat: &Seat) -> Result<Running, End> {
        let (id, folder) = (&self.program.id, &self.instances.folder);
        let config = self.owner.config();
        let settings = &config.instances;
        let cannot = |why: String| End::Cannot(format!("cannot be started: {why}"));
        let written = ports_written(&*self.owner);
        let ports = &self.instances.ports;
        let port = ports.take(id, seat.instance.port, settings.ports, &written);
        let port = port.map_err(|e| cannot(e.to_string()))?;
        let environment = environment(&seat.instance, &settings.pass_env, id, port);
        let environment = environment.map_err(|e| cannot(e.to_string()))?;
        let (out, err) = output::files(folder, id).map_err(|e| cannot(e.to_string()))?;
        let words = Words::of(&seat.instance, id, port);
        let command = words.command(&environment, out, err);
        let may_start = self.instances.may_start.lock();
        if !*may_start {
            return Err(cannot("poolgate is stopping".to_owned()));
        }
        let process = Process::spawn(command).map_err(|error| {
            let program = words.words.first().map_or("", String::as_str);
            End::Failed(format!("cannot be started: {program}: {error}"))
        })?;
        let running = Running {
            process: Arc::new(process),
            command: words,
            port,
        };
        self.program.show(Phase::Starting, None);
        let is_again = self.program.started(running.clone());
        drop(may_start);
        if let Err(error) = record::write(folder, &running.record(id)) {
            tracing::warn!(
                account = &**id,
                "the next poolgate will not know its program: {error}"
            );
        }
        if is_again {
            seat.account.metrics.instance_restarted();
        }
        let (pid, name) = (running.process.identity.pid, seat.instance.auth_file_name());
        tracing::info!(
            account = &**id,
            pid,
            port,
            auth_file = name,
            "its program is started"
        );
        Ok(running)
    }
}

/// The auth file, if it is not there.
pub(super) fn missing(instance: &config::Instance) -> Option<&Path> {
    instance.auth_file.as_deref().filter(|file| !file.is_file())
}

/// The ports that the configuration gives to instances.
fn ports_written(owner: &dyn Owner) -> Vec<u16> {
    let pools = owner.pools();
    let accounts = pools.iter().flat_map(|pool| pool.accounts());
    let instances = accounts.filter_map(|account| account.config.instance.as_ref()?.port);
    instances.collect()
}
