//! `poolgate run` over a configuration written in the test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::http::{Answer, Request, get, post};
use super::mock::Mock;
use super::program::{Program, free_address};
use super::wait_for;

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
}

impl Gateway {
    /// Starts the gateway and waits until it listens. `listen` and `admin` are added when the
    /// configuration does not have them; where it does, `{listen}` and `{admin}` stand for free ports.
    pub(crate) fn start(configuration: &str) -> Gateway {
        Gateway::start_with(configuration, &[], &[])
    }

    /// The same, with files beside the configuration and variables in the environment.
    pub(crate) fn start_with(
        configuration: &str,
        files: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Gateway {
        let (address, admin_address) = (free_address(), free_address());
        let has = |key: &str| configuration.lines().any(|line| line.starts_with(key));
        let mut text = configuration.to_owned();
        for (key, default) in [
            ("listen:", "listen: [{address: \"{listen}\"}]"),
            ("admin:", "admin: {address: \"{admin}\"}"),
        ] {
            if !has(key) {
                text = format!("{default}\n{text}");
            }
        }
        let text = text
            .replace("{listen}", &address.to_string())
            .replace("{admin}", &admin_address.to_string());
        let files: Vec<_> = [("poolgate.yaml", &*text)]
            .iter()
            .chain(files)
            .copied()
            .collect();
        let mut program = Program::start(&["run", "-c", "poolgate.yaml"], &files, environment);
        program.wait_until_it_serves(address, "/livez");
        program.wait_until_it_serves(admin_address, "/livez");
        let gateway = Gateway {
            program,
            address,
            admin_address,
        };
        if !has("state:") {
            gateway.wait_until_it_takes_orders();
        }
        gateway
    }

    /// Requests may be served before `poolgate upgrade` and the like find anybody.
    #[track_caller]
    pub(crate) fn wait_until_it_takes_orders(&self) {
        let socket = self.program.folder().join("data/control/poolgate.sock");
        // One that a killed gateway left is there, and nobody behind it.
        wait_for("orders to be taken", || UnixStream::connect(&socket).ok());
    }

    /// Ends it by this signal and starts it again with the same files.
    #[track_caller]
    pub(crate) fn restart(&mut self, signal: Signal) {
        self.program.stop(signal);
        self.start_again();
    }

    /// Starts it again, after it has ended, with the same files.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.program.start_again();
        self.program.wait_until_it_serves(self.address, "/livez");
        self.program
            .wait_until_it_serves(self.admin_address, "/livez");
    }

    /// Upgrades by the command for it; returns the process that serves now.
    #[track_caller]
    pub(crate) fn upgrade(&self) -> i32 {
        let (code, said, complaints) = self.program.command(&["upgrade"]);
        assert_eq!(code, Some(0), "{said}{complaints}");
        let words = said.strip_prefix("process ");
        let process = words.and_then(|rest| rest.split(' ').next());
        process.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    }

    /// Waits until an account could serve.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        wait_for("/readyz to be 200", || {
            (self.get("/readyz").status == 200).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        request.send(self.address)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&get(path))
    }

    /// The administrator's token, as the first start made it.
    pub(crate) fn admin_token(&self) -> String {
        let path = self.program.folder().join("data/admin.token");
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A request to the management API, with the administrator's token.
    #[track_caller]
    pub(crate) fn admin(&self, request: Request) -> Answer {
        request.bearer(&self.admin_token()).send(self.admin_address)
    }

    /// One account as the management API shows it.
    #[track_caller]
    pub(crate) fn account(&self, id: &str) -> Value {
        let answer = self.admin(get(&format!("/api/v1/accounts/{id}")));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// An operator's `enable`, `disable`, `reset` … of an account.
    #[track_caller]
    pub(crate) fn act(&self, id: &str, action: &str) {
        let answer = self.admin(post(
            &format!("/api/v1/accounts/{id}/{action}"),
            &Value::Null,
        ));
        assert!(answer.status < 300, "{action} {id}: {}", answer.text());
    }

    /// The sum of a metric's series whose labels include all of these, each as `account="a"`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin(get("/metrics")).text();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        series
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// The accounts that a request was sent to and what came of each, as its access line says:
    /// `a0:rate_limited,a1:success`. The line is written after the answer, and waited for.
    #[track_caller]
    pub(crate) fn tries(&self, request_id: &str) -> String {
        let id = format!(" request_id={request_id} ");
        let line = wait_for(&format!("the access line of {request_id}"), || {
            let log = self.log();
            log.lines()
                .find(|line| line.contains(&id))
                .map(str::to_owned)
        });
        let tries = line
            .split(' ')
            .find_map(|field| field.strip_prefix("tries="));
        tries.unwrap_or_default().to_owned()
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.program.output()
    }
}

/// A pool over these vendors, accounts a0, a1 …, with more of the pool's keys.
pub(crate) fn pool(vendors: &[Mock], keys: &str) -> String {
    pool_of(vendors, keys, |_| String::new())
}

/// The same with more keys for each account, each beginning with a comma.
pub(crate) fn pool_of(vendors: &[Mock], keys: &str, more: impl Fn(usize) -> String) -> String {
    let account = |(n, vendor): (usize, &Mock)| {
        format!(
            "      - {{id: a{n}, upstream: \"{}\", credential: {{api_key: key-{n}}}{}}}\n",
            vendor.url(),
            more(n)
        )
    };
    let accounts: String = vendors.iter().enumerate().map(account).collect();
    format!("pools:\n  default:\n{keys}    accounts:\n{accounts}")
}

/// The same with three accounts a0, a1, a2 of which the first one that can serve is always used, at
/// vendors of the same names: `x-mock-only: a0` makes the first choice fail.
pub(crate) fn ranked(keys: &str) -> (Vec<Mock>, String) {
    let name = |n: usize| format!("a{n}");
    let vendors: Vec<Mock> = (0..3).map(|n| Mock::start(&["--name", &name(n)])).collect();
    let mut text = pool(&vendors, keys);
    for n in 0..vendors.len() {
        let id = format!("{{id: {},", name(n));
        text = text.replace(&id, &format!("{id} priority: {n},"));
    }
    (vendors, text)
}
