//! A server of Debian's in a folder of its own: ended when the test lets go of it, and with the test's
//! process however that one ends; its output is shown when the test failed.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use super::wait_for;

/// A running server.
pub(crate) struct Server {
    child: Option<Child>,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    user: Option<User>,
    /// What ends it.
    end: Signal,
}

impl Server {
    /// A server in a new folder, not started. `user`: who it runs as, when the test may choose; `end`:
    /// the signal that ends it at once.
    pub(crate) fn new(user: &str, end: Signal) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let user = User::from_name(user).unwrap().filter(|_| is_root);
        if let Some(user) = &user {
            nix::unistd::chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        Server {
            child: None,
            arguments: vec![],
            folder,
            user,
            end,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a program as the server's user, to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let done = self.as_its_user(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {said}");
    }

    /// Starts it with these arguments, the program first.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.start_again();
    }

    /// Starts it as before, after it has ended.
    pub(crate) fn start_again(&mut self) {
        let path = self.folder.path().join("output.txt");
        let output = File::options().create(true).append(true).open(path);
        let output = output.unwrap();
        let started = self
            .as_its_user(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        self.child = Some(started.unwrap());
    }

    /// Waits until this is something; fails when the server has ended.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        wait_for(what, || {
            let child = self.child.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.output());
            }
            ask()
        })
    }

    /// Fails when it has ended already.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.signal(self.end);
        let mut child = self.child.take().unwrap();
        wait_for("the server to end", || child.try_wait().unwrap());
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output.txt")).unwrap_or_default()
    }

    fn as_its_user(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = &self.user {
            command.args(["--reuid", &user.uid.to_string()]);
            command.args(["--regid", &user.gid.to_string(), "--clear-groups"]);
        }
        command.args(arguments).current_dir(self.folder.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(None) = child.try_wait()
        {
            // It may be frozen; it may be ending.
            let process = Pid::from_raw(child.id().try_into().unwrap());
            let _ = kill(process, Signal::SIGCONT);
            let _ = kill(process, self.end);
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- what the server said:\n{}", self.output());
        }
    }
}
