//! A real Redis of the test's own.

use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;

use super::program::free_address;
use super::server::Server;

/// A running Redis that keeps everything in memory.
pub(crate) struct Redis {
    server: Server,
    pub(crate) address: SocketAddr,
}

impl Redis {
    /// Starts one on a free port.
    pub(crate) fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// The same with more of its options, such as `--requirepass`.
    pub(crate) fn start_with(options: &[&str]) -> Redis {
        let address = free_address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut server = Server::new("redis", Signal::SIGKILL);
        let folder = server.folder().to_str().unwrap().to_owned();
        let mut arguments = vec!["redis-server", "--bind", &host, "--port", &port];
        arguments.extend(["--save", "", "--appendonly", "no", "--dir", &folder]);
        arguments.extend(options);
        server.start(&arguments);
        let mut redis = Redis { server, address };
        redis.wait_until_it_serves();
        redis
    }

    /// What `state.redis` says.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// What `redis-cli` says to this command, a line for each item.
    pub(crate) fn command(&self, command: &[&str]) -> String {
        let port = self.address.port().to_string();
        let asked = Command::new("redis-cli")
            .args(["-p", &port, "--raw"])
            .args(command)
            .output();
        let said = asked.unwrap().stdout;
        String::from_utf8_lossy(&said).trim_end().to_owned()
    }

    /// What it knows now it will know when it is started again, and nothing of what comes after.
    pub(crate) fn save(&self) {
        assert_eq!(self.command(&["SAVE"]), "OK");
    }

    /// It is gone, and with it all it knew since it was saved: its port refuses.
    pub(crate) fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again at the same port, empty or as it was saved.
    pub(crate) fn start_again(&mut self) {
        self.server.start_again();
        self.wait_until_it_serves();
    }

    /// It takes connections and answers nothing, until [`Redis::go_on`].
    pub(crate) fn freeze(&self) {
        self.server.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.server.signal(Signal::SIGCONT);
    }

    #[track_caller]
    fn wait_until_it_serves(&mut self) {
        let port = self.address.port().to_string();
        self.server.wait_for("Redis to answer", || {
            let asked = Command::new("redis-cli")
                .args(["-p", &port, "ping"])
                .output();
            // One that asks for a password answers, too.
            let said = String::from_utf8_lossy(&asked.unwrap().stdout).into_owned();
            (said.contains("PONG") || said.contains("NOAUTH")).then_some(())
        });
    }
}
