//! One program that runs: when it ends, and how it is ended with all that it has started. Dropped,
//! it runs on: it may outlive the poolgate that started it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What tells a process from one that has its number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// When it started, in the kernel's ticks since `boot`.
    started: u64,
    boot: String,
}

/// The leader of a process group.
pub(super) struct Process {
    pub(super) identity: Identity,
    group: Pid,
    /// Becomes readable when the process ends, whoever started it.
    pidfd: OwnedFd,
    /// Of a process that this poolgate started, for its exit status.
    child: Mutex<Option<Child>>,
    /// It has ended, and its group was killed: the number may be another's by now.
    is_over: AtomicBool,
}

/// How long what is left of a group that was killed may take to be gone.
const LAST_WAIT: Duration = Duration::from_secs(1);

impl Process {
    /// Starts the command, which must lead a group of its own.
    pub(super) fn spawn(mut command: Command) -> io::Result<Process> {
        let mut child = command.spawn()?;
        let watched = Identity::of(child.id() as i32).and_then(open);
        match watched {
            Ok((identity, group, pidfd)) => Ok(Process {
                identity,
                group,
                pidfd,
                child: Mutex::new(Some(child)),
                is_over: AtomicBool::new(false),
            }),
            Err(error) => {
                // What cannot be watched must not stay.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The process of this identity, if it still runs.
    pub(super) fn adopt(identity: &Identity) -> Option<Process> {
        let (_, group, pidfd) = open(identity.clone()).ok()?;
        // Looked at after it was opened: from here on the number cannot become another's.
        let is_same = Identity::of(identity.pid).is_ok_and(|now| now == *identity);
        is_same.then(|| Process {
            identity: identity.clone(),
            group,
            pidfd,
            child: Mutex::new(None),
            is_over: AtomicBool::new(false),
        })
    }

    /// Returns when it has ended, with how it did in words. What it started ends with it.
    pub(super) async fn ended(&self) -> String {
        self.exit().await;
        self.end_group();
        self.is_over.store(true, Ordering::SeqCst);
        let status = self.reap();
        status.map_or_else(|| "ended".to_owned(), in_words)
    }

    /// Asks the group to end, kills what is left of it after `patience`, and returns when nothing is
    /// left.
    pub(super) async fn stop(&self, patience: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(patience, self.gone()).await.is_err() {
            self.end_group();
            let _ = tokio::time::timeout(LAST_WAIT, self.gone()).await;
        }
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Kills the whole group, at once.
    pub(super) fn end_group(&self) {
        self.signal(Signal::KILL);
    }

    /// As long as one process of the group is left, its number is given to no other.
    fn signal(&self, signal: Signal) {
        if !self.is_over.load(Ordering::SeqCst) {
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Returns when nothing of the group is left: its own children may need longer than it did.
    async fn gone(&self) {
        self.exit().await;
        self.reap();
        while test_kill_process_group(self.group).is_ok() {
            let group = self.group;
            let looked = tokio::task::spawn_blocking(move || is_dead(group)).await;
            if looked.is_ok_and(|is_dead| is_dead) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn exit(&self) {
        match self.watched() {
            Ok(fd) => drop(fd.readable().await),
            // No more descriptors: it is looked at from time to time.
            Err(_) => {
                while Identity::of(self.identity.pid).is_ok_and(|now| now == self.identity) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    #[allow(
        deprecated,
        reason = "what replaces it is unsafe, for types whose descriptor changes; this one's does not"
    )]
    fn watched(&self) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(self.pidfd.try_clone()?, Interest::READABLE)
    }

    /// Takes a process of ours that has ended out of the kernel's table.
    fn reap(&self) -> Option<ExitStatus> {
        self.child.lock().as_mut()?.try_wait().ok()?
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Have all processes of the group ended? Those that nobody has asked for their status yet keep its
/// number: a parent may be a poolgate that only finishes its requests, or never ask at all. Of a
/// group that is hidden (`ProtectProc=`) nothing is known.
fn is_dead(group: Pid) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let states = pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, its_group) = (fields.next()?.to_owned(), fields.nth(1)?);
        (its_group.parse() == Ok(group.as_raw_nonzero().get())).then_some(state)
    });
    let states: Vec<String> = states.collect();
    !states.is_empty() && states.iter().all(|state| state == "Z" || state == "X")
}

fn open(identity: Identity) -> io::Result<(Identity, Pid, OwnedFd)> {
    let group = Pid::from_raw(identity.pid).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(group, PidfdFlags::empty())?;
    Ok((identity, group, pidfd))
}

impl Identity {
    /// Of the process that has this number now.
    fn of(pid: i32) -> io::Result<Identity> {
        /// The place of `starttime` behind the name (proc(5)).
        const STARTED: usize = 19;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(STARTED)?.parse().ok());
        // Where it is hidden (systemd's `ProcSubset=pid`), number and start must do: after a start of the
        // machine both would have to be the same, to the hundredth of a second.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Identity {
            pid,
            started: started.ok_or(io::ErrorKind::InvalidData)?,
            boot: boot.trim().to_owned(),
        })
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
