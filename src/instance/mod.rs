//! The local programs that serve accounts: started one after another, watched, started again, found
//! again by the next poolgate; and accounts that are made from files.
//!
//! A program belongs to its account's id. [`Instances::run`] has a task for each; all that changes
//! an account goes through its pool.

mod command;
mod discover;
mod guest;
mod log;
mod output;
mod port;
mod process;
mod program;
mod record;
mod run;
mod start;
mod supervise;
mod template;
mod turn;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use discover::Discovery;
pub use log::LogPlace;
pub use program::{InstanceView, Phase};

use crate::config::{self, Config, Host};
use crate::health::Health;
use crate::pool::Pool;
use program::{Program, Running};
use record::Record;
use turn::Turns;

/// What programs need of the gateway that they serve.
pub trait Owner: Send + Sync {
    fn config(&self) -> Arc<Config>;

    fn pools(&self) -> Arc<Vec<Arc<Pool>>>;

    fn health(&self) -> &Health;

    /// From now on the account's program listens there.
    fn listens(&self, id: &str, port: u16);

    /// The account's program failed too often, and is left alone now.
    fn gave_up(&self, pool: &Pool, id: &str);
}

/// The programs of all accounts.
pub struct Instances {
    folder: PathBuf,
    programs: Mutex<BTreeMap<Arc<str>, Arc<Program>>>,
    ports: port::Ports,
    turns: Arc<Turns>,
    /// Held while a program is started; false: none is any more.
    may_start: Mutex<bool>,
    /// What an earlier poolgate left running, until it is known what becomes of it.
    found: Mutex<HashMap<String, Running>>,
    /// It was looked once which programs of another poolgate run.
    looked: watch::Sender<bool>,
}

impl Instances {
    /// Keeps records and logs in a folder of `state.dir`.
    pub fn in_state(dir: &Path) -> Arc<Instances> {
        Arc::new(Instances {
            folder: dir.join("instances"),
            programs: Mutex::default(),
            ports: port::Ports::default(),
            turns: Arc::default(),
            may_start: Mutex::new(true),
            found: Mutex::default(),
            looked: watch::Sender::new(false),
        })
    }

    /// Puts the ports that programs have got into their accounts' addresses.
    pub fn fill_ports(&self, pools: &mut [config::Pool]) {
        for account in pools.iter_mut().flat_map(|pool| &mut pool.accounts) {
            if account.instance.is_some()
                && let Host::Tcp(_, port @ 0) = &mut account.upstream.host
            {
                *port = self.ports.of(&account.id).unwrap_or(0);
            }
        }
    }

    /// Ends all programs, and starts none any more. Returns when they are gone. Those that another
    /// poolgate looks after are left to it.
    pub async fn stop(&self, config: &config::Instances) {
        *self.may_start.lock() = false;
        // A successor may be told to end before it has begun to look after them.
        let claim = self.claim_at_last().await;
        if claim.is_some() {
            self.find();
        }
        let programs: Vec<_> = self.programs.lock().values().cloned().collect();
        let running = programs.iter().filter_map(|program| program.running());
        let mut all: Vec<Running> = running.collect();
        all.extend(self.found.lock().drain().map(|(_, running)| running));
        let ends = all
            .iter()
            .map(|running| running.process.stop(config.stop_timeout));
        futures::future::join_all(ends).await;
        for program in programs {
            program.over(&self.folder);
            program.show(Phase::Stopped, None);
        }
        self.follow_all(config.log);
    }

    /// Kills all programs, now.
    pub fn kill(&self) {
        *self.may_start.lock() = false;
        for program in self.programs.lock().values() {
            if let Some(running) = program.running() {
                running.process.end_group();
            }
        }
        for running in self.found.lock().values() {
            running.process.end_group();
        }
    }

    /// Does another gateway still have requests at one of the programs?
    pub fn serve_another(&self, pools: &[Arc<Pool>]) -> bool {
        let mut ids: Vec<String> = self.found.lock().keys().cloned().collect();
        ids.extend(self.programs.lock().keys().map(ToString::to_string));
        let is_held = |id: &String| pools.iter().any(|pool| pool.is_held_elsewhere(id));
        ids.iter().any(is_held)
    }

    /// Starts the account's program anew. False: it has none.
    pub fn restart(&self, id: &str) -> bool {
        let program = self.programs.lock().get(id).cloned();
        program.is_some_and(|program| {
            program.ask_to_restart();
            true
        })
    }

    /// How the account's program stands, if it has one.
    pub fn view(&self, id: &str) -> Option<InstanceView> {
        let program = self.programs.lock().get(id).cloned()?;
        Some(program.view(self.ports.of(id)))
    }

    /// The last lines that the account's program wrote, the oldest first, and where they end. Reads a
    /// file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self, id: &str, lines: usize) -> io::Result<(Vec<String>, LogPlace)> {
        log::tail(&self.folder, id, lines)
    }

    /// The lines that it wrote after that, and where they end. Reads a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log_after(&self, id: &str, at: LogPlace) -> io::Result<(Vec<String>, LogPlace)> {
        log::after(&self.folder, id, at)
    }
}

impl Running {
    fn record(&self, id: &str) -> Record {
        Record {
            id: id.to_owned(),
            port: self.port,
            process: self.process.identity.clone(),
            command: self.command.clone(),
        }
    }
}
