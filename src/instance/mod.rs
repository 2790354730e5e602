//! The local programs that serve accounts: started one after another, watched, started again, found
//! again by the next poolgate; and accounts that are made from files.
//!
//! A program belongs to its account's id. [`Instances::run`] has a task for each; all that changes
//! an account goes through its pool.

mod command;
mod discover;
mod guest;
mod output;
mod port;
mod process;
mod program;
mod record;
mod supervise;
mod template;
mod turn;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use discover::Discovery;
pub use program::{InstanceView, Phase};

use crate::config::{self, Config, Host};
use crate::health::Health;
use crate::pool::{Account, Pool};
use guest::Guest;
use process::Process;
use program::{Program, Running};
use record::Record;
use supervise::Supervisor;
use turn::Turns;

/// How often it is looked which accounts have a program.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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

    /// Runs a program for each account that wants one, until `stop` says so; programs then run on.
    ///
    /// Only one process does this for one `state.dir`: the next one waits, serves through the programs
    /// of this one, and goes on with them when it is gone.
    pub async fn run(self: &Arc<Self>, owner: &Arc<dyn Owner>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.supervise(owner) => {}
            _ = stop.changed() => {}
        }
    }

    async fn supervise(self: &Arc<Self>, owner: &Arc<dyn Owner>) {
        while wanted(&**owner).is_empty() && !self.folder.exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let _claim = self.claim(&**owner).await;
        self.find();
        // Dropped with this work, they end; the programs do not.
        let mut tasks = JoinSet::new();
        let mut known: HashMap<Arc<str>, AbortHandle> = HashMap::new();
        let mut is_told = false;
        loop {
            known.retain(|_, task| !task.is_finished());
            while tasks.try_join_next().is_some() {}
            let accounts = wanted(&**owner);
            for account in &accounts {
                if !known.contains_key(&account.id) {
                    let supervisor = self.supervisor(owner, account);
                    known.insert(account.id.clone(), tasks.spawn(supervisor.run()));
                }
            }
            let wanted: HashSet<&str> = accounts.iter().map(|account| &*account.id).collect();
            self.forget(&wanted, &known);
            for (id, orphan) in self.orphans(&wanted) {
                let (patience, folder) =
                    (owner.config().instances.stop_timeout, self.folder.clone());
                tasks.spawn(async move {
                    tracing::warn!(account = id, "a program without an account is ended");
                    orphan.process.stop(patience).await;
                    record::remove(&folder, &id);
                });
            }
            is_told = is_told || self.tell_ready(&wanted);
            self.follow(owner).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn supervisor(self: &Arc<Self>, owner: &Arc<dyn Owner>, account: &Account) -> Supervisor {
        let mut programs = self.programs.lock();
        let program = programs.entry(account.id.clone());
        let program = program.or_insert_with(|| Program::new(&account.id)).clone();
        let runs = program.running().is_some() || self.found.lock().contains_key(&*account.id);
        let instance = account.config.instance.as_ref();
        let can_start = instance.is_some_and(|instance| supervise::missing(instance).is_none());
        let stands = account.config.enabled && can_start && !runs;
        Supervisor {
            instances: self.clone(),
            owner: owner.clone(),
            program,
            turn: stands.then(|| self.turns.stand()),
            seen: Mutex::default(),
        }
    }

    /// Returns when no other process looks after the programs of this folder.
    async fn claim(&self, owner: &dyn Owner) -> File {
        const AGAIN: Duration = Duration::from_millis(50);
        const LATER: Duration = Duration::from_secs(5);
        let mut is_told = false;
        let mut guest = Guest::default();
        loop {
            match self.try_claim() {
                Ok(Some(claim)) => return claim,
                Ok(None) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(
                            "another poolgate looks after the instances; this one waits"
                        );
                    }
                    guest.look(self, owner).await;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    let folder = self.folder.display();
                    tracing::error!("no instance can be started: {folder}: {error}");
                    tokio::time::sleep(LATER).await;
                }
            }
        }
    }

    fn try_claim(&self) -> io::Result<Option<File>> {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.folder)?;
        let file = File::create(self.folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Finds what an earlier poolgate left running.
    fn find(&self) {
        let mut found = self.found.lock();
        let programs = self.programs.lock();
        let is_ours = |id: &str| programs.get(id).is_some_and(|one| one.running().is_some());
        for record in record::all(&self.folder) {
            if is_ours(&record.id) {
                continue;
            }
            match Process::adopt(&record.process) {
                Some(process) => {
                    let running = Running {
                        process: Arc::new(process),
                        command: record.command,
                        port: record.port,
                    };
                    found.insert(record.id, running);
                }
                None => record::remove(&self.folder, &record.id),
            }
        }
    }

    /// What an earlier poolgate left running for this account.
    fn found(&self, id: &str) -> Option<Running> {
        self.found.lock().remove(id)
    }

    /// What it left for accounts that are no more.
    fn orphans(&self, wanted: &HashSet<&str>) -> Vec<(String, Running)> {
        let mut found = self.found.lock();
        let gone = found.extract_if(|id, _| !wanted.contains(id.as_str()));
        gone.collect()
    }

    /// Accounts that are gone with their programs are shown no more.
    fn forget(&self, wanted: &HashSet<&str>, known: &HashMap<Arc<str>, AbortHandle>) {
        self.programs.lock().retain(|id, _| {
            let stays = wanted.contains(&**id) || known.contains_key(id);
            if !stays {
                self.ports.release(id);
            }
            stays
        });
    }

    /// Says once how many are ready, when each of them is or has failed.
    fn tell_ready(&self, wanted: &HashSet<&str>) -> bool {
        let programs = self.programs.lock();
        let wanted = programs
            .values()
            .filter(|program| wanted.contains(&*program.id));
        let phases: Vec<Phase> = wanted.map(|program| program.phase()).collect();
        let in_phase = |phase| phases.iter().filter(|other| **other == phase).count();
        let is_settled = !phases.is_empty() && in_phase(Phase::Starting) == 0;
        if is_settled {
            let (ready, all) = (in_phase(Phase::Ready), phases.len());
            tracing::info!("{ready} of {all} instances are ready");
        }
        is_settled
    }

    async fn follow(self: &Arc<Self>, owner: &Arc<dyn Owner>) {
        let (instances, rotate) = (self.clone(), owner.config().instances.log);
        let followed = tokio::task::spawn_blocking(move || instances.follow_all(rotate));
        // It ends early only with the process.
        let _ = followed.await;
    }

    fn follow_all(&self, rotate: config::Rotate) {
        let programs: Vec<_> = self.programs.lock().values().cloned().collect();
        for program in programs {
            program.follow(&self.folder, rotate);
        }
    }
}

impl Instances {
    /// Ends all programs, and starts none any more. Returns when they are gone.
    pub async fn stop(&self, config: &config::Instances) {
        *self.may_start.lock() = false;
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

    /// The last lines that the account's program wrote, the oldest first. Reads a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self, id: &str, lines: usize) -> io::Result<Vec<String>> {
        output::tail(&self.folder, id, lines)
    }
}

/// The accounts that have a program, in the order of the configuration.
fn wanted(owner: &dyn Owner) -> Vec<Arc<Account>> {
    let pools = owner.pools();
    let has_some = |pool: &&Arc<Pool>| {
        let settings = pool.settings();
        settings
            .accounts
            .iter()
            .any(|account| account.instance.is_some())
    };
    let accounts = pools
        .iter()
        .filter(has_some)
        .flat_map(|pool| pool.accounts());
    let wanted = accounts.filter(|account| account.config.instance.is_some());
    wanted.collect()
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
