//! `poolgate mock`: a simulated vendor whose faults the test sets.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{get, post};
use super::program::{Program, free_address};

/// A running vendor. Dropped, it is gone: its port refuses.
pub(crate) struct Mock {
    /// Lives as long as this does.
    _program: Program,
    pub(crate) address: SocketAddr,
}

impl Mock {
    /// Starts a vendor with these flags of `poolgate mock`.
    pub(crate) fn start(flags: &[&str]) -> Mock {
        Mock::start_at(free_address(), flags)
    }

    /// So many vendors with the same flags.
    pub(crate) fn several(count: usize, flags: &[&str]) -> Vec<Mock> {
        (0..count).map(|_| Mock::start(flags)).collect()
    }

    /// The same at a given port: the vendor that was there before has come back.
    pub(crate) fn start_at(address: SocketAddr, flags: &[&str]) -> Mock {
        let port = address.port().to_string();
        let arguments: Vec<&str> = ["mock", "--port", &port]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        let mut program = Program::start(&arguments, &[], &[]);
        program.wait_until_it_serves(address, "/mock/stats");
        Mock {
            _program: program,
            address,
        }
    }

    /// What an account's `upstream` says.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its settings (`POST /mock/settings`).
    #[track_caller]
    pub(crate) fn set(&self, settings: &Value) {
        let answer = post("/mock/settings", settings).send(self.address);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What it has seen: requests, in_flight, max_in_flight_seen, violations, aborted, last_request …
    pub(crate) fn stats(&self) -> Value {
        get("/mock/stats").send(self.address).json()
    }

    /// One number of [`Mock::stats`].
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.stats()[name]
            .as_u64()
            .unwrap_or_else(|| panic!("/mock/stats has no number `{name}`"))
    }
}
