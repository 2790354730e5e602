//! What is known of one account's program, for those who look on and those who ask for something.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::command::Words;
use super::output::Output;
use super::process::Process;
use super::record;
use crate::clock::{self, SystemTime};
use crate::config::Rotate;

/// How a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was started, or waits for its turn, and has not said yet that it is ready.
    Starting,
    Ready,
    /// It ended or hangs, and is started again.
    Error,
    /// It is not started again until something changes.
    Failed,
    Stopped,
    /// Its account is disabled in the configuration.
    Disabled,
}

/// A copy of one program's state.
#[derive(Clone, Debug)]
pub struct InstanceView {
    pub account: String,
    pub pid: Option<u32>,
    pub port: Option<u16>,
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: u32,
    /// When the phase began.
    pub since: SystemTime,
    pub last_error: Option<String>,
}

/// One account's program, whether it runs or not.
pub(super) struct Program {
    pub(super) id: Arc<str>,
    state: Mutex<State>,
    /// Somebody asks for a restart.
    pub(super) asked: AtomicBool,
    pub(super) wake: Notify,
    /// Failures in a row.
    pub(super) failures: AtomicU32,
    output: Mutex<Option<Output>>,
    /// Its log cannot be opened, as was said already.
    has_no_log: AtomicBool,
}

struct State {
    phase: Phase,
    since: SystemTime,
    last_error: Option<String>,
    starts: u32,
    running: Option<Running>,
}

#[derive(Clone)]
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    pub(super) command: Words,
    pub(super) port: u16,
}

impl Program {
    pub(super) fn new(id: &Arc<str>) -> Arc<Program> {
        Arc::new(Program {
            id: id.clone(),
            state: Mutex::new(State {
                phase: Phase::Starting,
                since: clock::wall(),
                last_error: None,
                starts: 0,
                running: None,
            }),
            asked: AtomicBool::new(false),
            wake: Notify::new(),
            failures: AtomicU32::new(0),
            output: Mutex::new(None),
            has_no_log: AtomicBool::new(false),
        })
    }

    pub(super) fn view(&self, port: Option<u16>) -> InstanceView {
        let state = self.state.lock();
        let running = state.running.as_ref();
        InstanceView {
            account: self.id.to_string(),
            pid: running.map(|running| running.process.identity.pid.unsigned_abs()),
            port: running.map(|running| running.port).or(port),
            phase: state.phase,
            restarts: state.starts.saturating_sub(1),
            since: state.since,
            last_error: state.last_error.clone(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// True: it was another one before, or for another reason.
    pub(super) fn show(&self, phase: Phase, error: Option<&str>) -> bool {
        let mut state = self.state.lock();
        let is_news =
            state.phase != phase || error.is_some_and(|e| state.last_error.as_deref() != Some(e));
        if state.phase != phase {
            (state.phase, state.since) = (phase, clock::wall());
        }
        if let Some(error) = error {
            state.last_error = Some(error.to_owned());
        }
        is_news
    }

    pub(super) fn running(&self) -> Option<Running> {
        self.state.lock().running.clone()
    }

    /// It runs. True: not for the first time.
    pub(super) fn started(&self, running: Running) -> bool {
        let mut state = self.state.lock();
        state.running = Some(running);
        state.starts += 1;
        state.starts > 1
    }

    /// It does not run any more.
    pub(super) fn over(&self, folder: &Path) {
        record::remove(folder, &self.id);
        self.state.lock().running = None;
    }

    pub(super) fn ask_to_restart(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Takes what the program wrote into its log and ours. Reads and writes files.
    pub(super) fn follow(&self, folder: &Path, rotate: Rotate) {
        let mut output = self.output.lock();
        if output.as_ref().is_none_or(|open| open.rotate != rotate) {
            match Output::open(folder, &self.id, rotate) {
                Ok(opened) => {
                    *output = Some(opened);
                    self.has_no_log.store(false, Ordering::SeqCst);
                }
                // Said once, not at each look.
                Err(error) if !self.has_no_log.swap(true, Ordering::SeqCst) => {
                    tracing::warn!(account = &*self.id, "its log cannot be opened: {error}");
                }
                Err(_) => {}
            }
        }
        if let Some(output) = &mut *output {
            output.follow();
        }
    }
}

impl Phase {
    /// The word in the API (`contract/http.md` §3); one that is ready may be busy.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Error => "error",
            Phase::Failed => "failed",
            Phase::Stopped => "stopped",
            Phase::Disabled => "disabled",
        }
    }
}
