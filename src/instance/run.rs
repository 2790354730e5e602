//! The programs of all accounts together: who looks after them, and a task for each.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::guest::Guest;
use super::process::Process;
use super::program::{Phase, Program, Running};
use super::supervise::Supervisor;
use super::{Instances, Owner, record, start};
use crate::clock;
use crate::config;
use crate::pool::{Account, Pool};

/// How often it is looked which accounts have a program.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What another poolgate took on last is known to this one so long after it gave up the programs.
const SETTLE: Duration = Duration::from_millis(500);

impl Instances {
    /// Runs a program for each account that wants one, until `stop` says so; programs then run on.
    ///
    /// Only one process does this for one `state.dir`: the next one waits, serves through the programs
    /// of this one, and goes on with them when it is gone.
    pub async fn run(self: &Arc<Self>, owner: &Arc<dyn Owner>, mut stop: watch::Receiver<bool>) {
        let claim = tokio::select! {
            claim = self.begin(owner) => claim,
            _ = stop.changed() => return,
        };
        // They end with this work; the programs do not.
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = self.supervise(owner, &mut tasks) => {}
            _ = stop.changed() => {}
        }
        // One may be in the midst of a start: until that is written down nobody else may look.
        tasks.shutdown().await;
        drop(claim);
    }

    async fn begin(self: &Arc<Self>, owner: &Arc<dyn Owner>) -> File {
        while wanted(&**owner).is_empty() && !self.folder.exists() {
            self.looked.send_replace(true);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let claim = self.claim(owner).await;
        self.looked.send_replace(true);
        claim
    }

    async fn supervise(self: &Arc<Self>, owner: &Arc<dyn Owner>, tasks: &mut JoinSet<()>) {
        self.find();
        let mut known: HashMap<Arc<str>, AbortHandle> = HashMap::new();
        let mut ending: HashSet<String> = HashSet::new();
        let (mut is_said, mut is_told) = (false, false);
        loop {
            known.retain(|_, task| !task.is_finished());
            while tasks.try_join_next().is_some() {}
            let accounts = wanted(&**owner);
            if accounts.len() > 1 && !std::mem::replace(&mut is_said, true) {
                let instances = accounts.len();
                tracing::info!(
                    instances,
                    "multi-instance mode: each account has a program of its own"
                );
            }
            for account in &accounts {
                if !known.contains_key(&account.id) {
                    let supervisor = self.supervisor(owner, account);
                    known.insert(account.id.clone(), tasks.spawn(supervisor.run()));
                }
            }
            let wanted: HashSet<&str> = accounts.iter().map(|account| &*account.id).collect();
            self.forget(&wanted, &known);
            for id in self.orphans(&wanted, &mut ending) {
                tasks.spawn(self.clone().end_orphan(owner.clone(), id));
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
        let can_start = instance.is_some_and(|instance| start::missing(instance).is_none());
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
    async fn claim(self: &Arc<Self>, owner: &Arc<dyn Owner>) -> File {
        const AGAIN: Duration = Duration::from_millis(50);
        const LATER: Duration = Duration::from_secs(5);
        let mut is_told = false;
        let mut guest = Guest::default();
        let mut look_at = clock::now();
        loop {
            match self.try_claim() {
                Ok(Some(claim)) => {
                    if is_told {
                        tokio::time::sleep(SETTLE).await;
                    }
                    return claim;
                }
                Ok(None) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(
                            "another poolgate looks after the instances; this one waits"
                        );
                    }
                    if clock::now() >= look_at {
                        look_at = guest.look(self, &**owner).await;
                        self.looked.send_replace(true);
                    }
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

    /// For the last look of one that ends: nothing else would end what nobody looks after. Waits a
    /// moment for a predecessor that is about to leave them.
    pub(super) async fn claim_at_last(&self) -> Option<File> {
        const PATIENCE: Duration = Duration::from_secs(1);
        const AGAIN: Duration = Duration::from_millis(10);
        let deadline = clock::now() + PATIENCE;
        while self.folder.exists() && clock::now() < deadline {
            if let Ok(Some(claim)) = self.try_claim() {
                return Some(claim);
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
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

    /// Before a successor takes its first request: where the programs of its predecessor listen.
    pub fn find_ports(&self, owner: &dyn Owner) {
        let wanted = wanted(owner);
        let is_wanted = |id: &str| wanted.iter().any(|account| &*account.id == id);
        for record in record::all(&self.folder) {
            if is_wanted(&record.id) && Process::adopt(&record.process).is_some() {
                self.ports.keep(&record.id.as_str().into(), record.port);
                owner.listens(&record.id, record.port);
            }
        }
    }

    /// Finds what an earlier poolgate left running.
    pub(super) fn find(&self) {
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

    /// Returns when it is known through which programs of another poolgate accounts can serve, or that
    /// there is none to look after them but this one; at the latest after `longest`.
    pub async fn looked(&self, longest: Duration) {
        let mut looked = self.looked.subscribe();
        let known = looked.wait_for(|known| *known);
        if tokio::time::timeout(longest, known).await.is_err() {
            tracing::warn!("the running instances have not all said how they are");
        }
    }

    /// What an earlier poolgate left running for this account.
    pub(super) fn found(&self, id: &str) -> Option<Running> {
        self.found.lock().remove(id)
    }

    /// What it left for accounts that are no more, and was not known to be `ending`.
    fn orphans(&self, wanted: &HashSet<&str>, ending: &mut HashSet<String>) -> Vec<String> {
        let found = self.found.lock();
        ending.retain(|id| found.contains_key(id));
        let gone = found.keys().filter(|id| !wanted.contains(id.as_str()));
        gone.filter(|id| ending.insert((*id).clone()))
            .cloned()
            .collect()
    }

    /// Ends a program without an account, once the poolgate before this one has no request there or
    /// the time for that is over; one whose account comes back meanwhile stays.
    async fn end_orphan(self: Arc<Self>, owner: Arc<dyn Owner>, id: String) {
        let until = clock::now() + owner.config().server.drain_timeout;
        let is_held = || owner.pools().iter().any(|pool| pool.is_held_elsewhere(&id));
        while is_held() && clock::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Some(orphan) = self.found.lock().get(&id).cloned() else {
            return;
        };
        tracing::warn!(account = id, "a program without an account is ended");
        let patience = owner.config().instances.stop_timeout;
        orphan.process.stop(patience).await;
        if self.found.lock().remove(&id).is_some() {
            record::remove(&self.folder, &id);
        }
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

    pub(super) fn follow_all(&self, rotate: config::Rotate) {
        let programs: Vec<_> = self.programs.lock().values().cloned().collect();
        for program in programs {
            program.follow(&self.folder, rotate);
        }
    }
}

/// The accounts that have a program, in the order of the configuration.
pub(super) fn wanted(owner: &dyn Owner) -> Vec<Arc<Account>> {
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
