//! A gateway with programs of its own: how its tests write its configuration, see its programs, and
//! leave none of them behind.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Gateway, free_address, get, wait_for};

const CHILD: &str = include_str!("child.py");

/// Short waits, so that a test sees what else takes minutes.
pub(super) const QUICK: &str = "instances:\n  start_delay: 0s\n  stop_timeout: 500ms\n  \
    restart: {backoff: 50ms, backoff_max: 100ms, give_up_after: 3}\n";

/// A gateway whose programs end with it.
pub(super) struct House(Gateway);

impl House {
    #[track_caller]
    pub(super) fn start(configuration: &str, files: &[(&str, &str)]) -> House {
        House::start_with(configuration, files, &[])
    }

    #[track_caller]
    pub(super) fn start_with(
        configuration: &str,
        files: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> House {
        let child = [("child.py", CHILD)];
        let files: Vec<_> = child.iter().chain(files).copied().collect();
        let mut environment = environment.to_vec();
        environment.push(("PATH", "/usr/local/bin:/usr/bin:/bin"));
        House(Gateway::start_with(configuration, &files, &environment))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.program.folder().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    /// The account's program as the management API shows it.
    #[track_caller]
    pub(super) fn instance(&self, id: &str) -> Option<Value> {
        let answer = self.admin(get("/api/v1/instances"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list = answer.json();
        let mut instances = list["instances"].as_array().unwrap().iter();
        instances
            .find(|instance| instance["account"] == id)
            .cloned()
    }

    /// Waits until the account's program is in this state.
    #[track_caller]
    pub(super) fn becomes(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("the program of {id} to be {state}"), || {
            self.instance(id)
                .filter(|instance| instance["state"] == state)
        })
    }

    /// The process of the account's program, once it is ready.
    #[track_caller]
    pub(super) fn pid(&self, id: &str) -> i32 {
        self.becomes_any(id, &["ready"])
    }

    /// The process of the account's program, once it is in one of these states.
    #[track_caller]
    pub(super) fn becomes_any(&self, id: &str, states: &[&str]) -> i32 {
        wait_for(
            &format!("the program of {id} to be one of {states:?}"),
            || {
                let instance = self.instance(id)?;
                let is_one = states.contains(&instance["state"].as_str().unwrap());
                let pid = instance["pid"].as_i64().filter(|_| is_one)?;
                pid.try_into().ok()
            },
        )
    }

    /// The processes that were ever started for this account.
    pub(super) fn starts(&self, id: &str) -> Vec<i32> {
        let pids = fs::read_to_string(self.file(&format!("{id}.starts"))).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    fn recorded(&self) -> Vec<i32> {
        let Ok(records) = fs::read_dir(self.file("data/instances")) else {
            return Vec::new();
        };
        let texts = records
            .flatten()
            .filter_map(|file| fs::read(file.path()).ok());
        let pids = texts.filter_map(|text| {
            let record: Value = serde_json::from_slice(&text).ok()?;
            record["process"]["pid"].as_i64()?.try_into().ok()
        });
        pids.collect()
    }
}

impl Deref for House {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

impl DerefMut for House {
    fn deref_mut(&mut self) -> &mut Gateway {
        &mut self.0
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Also a successor, which may have started another program meanwhile.
        for _ in 0..3 {
            for pid in self.0.program.processes() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for pid in self.recorded() {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// An account with a program at a port of its own; `arguments` and `keys` each begin with a comma.
pub(super) fn account(id: &str, arguments: &str, keys: &str) -> String {
    let port = free_address().port();
    account_at(id, &port.to_string(), arguments, keys)
}

pub(super) fn account_at(id: &str, port: &str, arguments: &str, keys: &str) -> String {
    format!(
        "      - id: {id}\n        instance: {{command: [python3, child.py, --id, \"{{id}}\", --port, \
         \"{{port}}\"{arguments}], port: {port}{keys}}}\n"
    )
}

/// A pool of these accounts, each used in turn.
pub(super) fn pool(keys: &str, accounts: &[String]) -> String {
    let accounts = accounts.concat();
    format!("pools:\n  default:\n    strategy: round_robin\n{keys}    accounts:\n{accounts}")
}

/// Is there a process of this number that has not ended?
pub(super) fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

pub(super) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}
