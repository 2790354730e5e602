//! The real program as a child process: started in a folder of its own with nothing in its
//! environment, ended when the test lets go of it, its output shown when the test failed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{get, wait_for};

/// A running `poolgate`.
pub(crate) struct Program {
    child: Child,
    binary: PathBuf,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Program {
    /// Runs `poolgate` with these arguments in a new folder that holds these files.
    pub(crate) fn start(
        arguments: &[&str],
        files: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Program {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_poolgate"));
        let child = spawn(&binary, folder.path(), &arguments, &environment);
        Program {
            child,
            binary,
            folder,
            arguments,
            environment,
        }
    }

    /// Ends it by this signal.
    pub(crate) fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        self.wait();
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        let folder = self.folder.path();
        self.child = spawn(&self.binary, folder, &self.arguments, &self.environment);
    }

    /// Waits until this path answers at all: the listener is there.
    #[track_caller]
    pub(crate) fn wait_until_it_serves(&mut self, address: SocketAddr, path: &str) {
        wait_for(&format!("{path} at {address}"), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("poolgate ended with {status}");
            }
            get(path).try_send(address).ok()
        });
    }

    /// Starts it again where it was, from another copy of the program.
    pub(crate) fn start_again_from(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
        self.start_again();
    }

    /// All processes of its folder, as an upgrade leaves others than the one that was started.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let folder = self.folder().canonicalize().unwrap();
        alive(|process, _parent| {
            let at = fs::read_link(process.path().join("cwd"));
            at.is_ok_and(|at| at == folder)
        })
    }

    /// The processes that it has started itself.
    fn started(&self) -> Vec<i32> {
        let own = self.child.id().to_string();
        alive(|_process, parent| parent == own)
    }

    /// Runs another command of `poolgate` in its folder; returns its exit status and what it said, to
    /// stdout and to stderr.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let run = Command::new(env!("CARGO_BIN_EXE_poolgate"))
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .stdin(Stdio::null())
            .output();
        let run = run.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (run.status.code(), text(&run.stdout), text(&run.stderr))
    }

    /// Writes a file of its folder anew, in one step.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.folder().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder().join(name)).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it runs: its configuration, its state.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it has written so far, to stdout and stderr.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder().join("output.txt")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The same where it may have ended already.
    pub(crate) fn try_signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// How it ended, once it does.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("poolgate to end", || self.child.try_wait().unwrap())
    }
}

/// The processes of which this holds, by their entries in `/proc` and their parents.
fn alive(is_one: impl Fn(&fs::DirEntry, &str) -> bool) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let ones = all.filter(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        // One that nobody has waited for is a name only.
        let is_alive = fields
            .next()
            .is_some_and(|state| !matches!(state, "Z" | ""));
        is_alive && is_one(process, fields.next().unwrap_or_default())
    });
    let ids = ones.filter_map(|process| process.file_name().to_str()?.parse().ok());
    ids.collect()
}

fn spawn(
    binary: &Path,
    folder: &Path,
    arguments: &[String],
    environment: &[(String, String)],
) -> Child {
    let output = File::options()
        .create(true)
        .append(true)
        .open(folder.join("output.txt"));
    let output = output.unwrap();
    let command = Command::new(binary)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn();
    command.unwrap()
}

impl Drop for Program {
    fn drop(&mut self) {
        // What it started may run in another folder.
        let started = self.started();
        // All of these fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in self.processes().into_iter().chain(started) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("---- what poolgate {} said:\n{}", self.id(), self.output());
        }
    }
}

/// A port of the loopback that nobody listens on, and that is given to no other test: the system
/// gives the same one to two of them who ask before the first has begun to listen, and to a client
/// in between. So it is one below those that the system gives, claimed by a lock on a file for as
/// long as this process lives.
pub(crate) fn free_address() -> SocketAddr {
    let folder = std::env::temp_dir().join("poolgate-test-ports");
    fs::create_dir_all(&folder).unwrap();
    loop {
        let port = fastrand::u16(10_000..32_000);
        let claim = File::create(folder.join(port.to_string())).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if claim.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
            std::mem::forget(claim);
            return address;
        }
    }
}
