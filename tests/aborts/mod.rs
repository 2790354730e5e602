//! Clients that leave at any moment, over accounts that fail in every way, leave nothing behind:
//! every gauge returns to zero, every place of every account serves again, no file stays open.

mod client;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::json;

use client::FAULTS;

use crate::support::{Gateway, Mock, Request, chat, count, get, pool_of, post, wait_for};

/// Places of each account.
const PLACES: [usize; 4] = [1, 2, 3, 4];

/// Clients at once: more than all places and the queue together.
const CLIENTS: usize = 32;

/// Files of the records: those who serve and the one who writes usage have five connections each, at most,
/// and each of them the database, its log and the memory that they share.
const RECORDS: usize = 2 * 5 * 3;

/// Memory for bodies; one request may take all of it.
const BUDGET: usize = 2 << 20;

const POOL: &str = "    hash_on: header:x-caller
    retry: {attempts: 4}
    queue: {max_waiting: 12, timeout: 60ms}
    timeouts: {connect: 2s, read: 300ms, read_stream: 200ms, pooled_idle: 1s}
    breaker: {open_for: 200ms}
";

/// Every strategy that keeps something about who is under way or who comes again.
const STRATEGIES: [&str; 3] = ["least_connections", "hash", "weighted"];

struct House {
    gateway: Gateway,
    vendors: Vec<Mock>,
}

fn house() -> House {
    let name = |n: usize| format!("a{n}");
    let vendors: Vec<Mock> = (0..PLACES.len())
        .map(|n| Mock::start(&["--name", &name(n)]))
        .collect();
    let accounts = pool_of(&vendors, POOL, |n| {
        format!(", max_concurrent: {}", PLACES[n])
    });
    let clients = "clients: {open: true, buffer_budget: 2MiB, write_timeout: 2s}\n";
    let gateway = Gateway::start(&format!("{clients}log: {{access: false}}\n{accounts}"));
    House { gateway, vendors }
}

impl House {
    /// Files that the gateway holds open, but for its records': connections to those are made when
    /// they are first needed, and stay. They may be as many as there are clients never.
    fn files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.gateway.program.id());
        let files = fs::read_dir(folder).unwrap().flatten();
        let named = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_records = |path: &PathBuf| path.to_string_lossy().contains("poolgate.db");
        let (records, others): (Vec<_>, Vec<_>) = named.partition(is_records);
        assert!(records.len() <= RECORDS, "{records:?}");
        others.len()
    }

    fn in_flight(&self) -> Vec<usize> {
        let account = |n| self.gateway.account(&format!("a{n}"));
        let ids = 0..PLACES.len();
        ids.map(|n| account(n)["in_flight"].as_u64().unwrap() as usize)
            .collect()
    }

    /// Whatever the vendors said of an account is forgotten.
    fn reset(&self) {
        for n in 0..PLACES.len() {
            self.gateway.act(&format!("a{n}"), "reset");
        }
    }

    /// What an operator may do meanwhile: accounts are reset, the strategy changes, the configuration
    /// is read again.
    fn operate(&self, mut rng: Rng, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            self.reset();
            let strategy = rng.choice(STRATEGIES).unwrap();
            let change = post(
                "/api/v1/pools/default/strategy",
                &json!({"strategy": strategy}),
            );
            let answer = self.gateway.admin(change);
            assert!(answer.status < 300, "{}", answer.text());
            if rng.u8(0..20) == 0 {
                self.gateway.program.signal(Signal::SIGHUP);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Each fault once, with a client that stays. On a busy machine the others leave before most.
    fn calm_before(&self) {
        let hangs = |fault: &&&[(&str, &str)]| fault.iter().any(|(name, _)| *name == "x-mock-hang");
        for fault in FAULTS.iter().filter(|fault| !hangs(fault)) {
            self.reset();
            let with = |request: Request, (name, value): &(&str, &str)| request.header(name, value);
            let request = fault.iter().fold(chat(true), with);
            // A stream that is cut has no good end.
            drop(request.try_send(self.gateway.address));
        }
    }

    /// So many clients come and leave, as `seed` says.
    fn storm(&self, seed: u64, clients: usize) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.operate(Rng::with_seed(seed), &over));
            let _over = Over(&over);
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let next = AtomicUsize::new(0);
            let one = || async {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= clients {
                        return;
                    }
                    let mut rng = Rng::with_seed(seed.wrapping_add(n as u64));
                    client::comes_and_leaves(self.gateway.address, &mut rng).await;
                }
            };
            let all = (0..CLIENTS).map(|_| one());
            runtime.block_on(futures::future::join_all(all));
        });
    }

    /// Every gauge says that nobody is there.
    fn wait_until_quiet(&self, files: usize) {
        wait_for("all accounts to be free", || {
            self.in_flight().iter().all(|n| *n == 0).then_some(())
        });
        for name in [
            "poolgate_active_requests",
            "poolgate_queue_waiting",
            "poolgate_connections",
        ] {
            let value = || self.gateway.metric(name, &[]);
            wait_for(&format!("{name} to be 0"), || {
                (value() == 0.0).then_some(())
            });
        }
        let status = self.gateway.admin(get("/api/v1/overview")).json();
        assert_eq!(status["queue"]["active"], 0, "{status}");
        assert_eq!(status["queue"]["waiting"], 0, "{status}");
        for vendor in &self.vendors {
            wait_for("the vendors to be free", || {
                (vendor.count("in_flight") == 0).then_some(())
            });
        }
        wait_for("every file to be closed that was opened", || {
            (self.files() <= files).then_some(())
        });
    }

    /// As many streams as there are places are served at once, on each account as many as it has.
    fn assert_all_places_serve(&self) {
        self.reset();
        let hanging = chat(true).header("x-mock-hang", 1);
        let bytes = hanging.bytes(self.gateway.address);
        let open = |_| {
            let mut socket = TcpStream::connect(self.gateway.address).unwrap();
            socket.write_all(&bytes).unwrap();
            socket
        };
        let streams: Vec<TcpStream> = (0..PLACES.iter().sum()).map(open).collect();
        wait_for("every place to be taken", || {
            (self.in_flight() == PLACES).then_some(())
        });
        drop(streams);
        wait_for("every place to be free again", || {
            self.in_flight().iter().all(|n| *n == 0).then_some(())
        });
    }

    /// A body for which all of the memory is needed finds all of it.
    fn assert_memory_for_bodies_is_back(&self) {
        self.reset();
        let mut request = chat(false);
        request.body.resize(BUDGET + 1, b' ');
        let answer = self.gateway.send(&request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What it was made to meet was met.
    fn assert_it_blew(&self) {
        let outcomes = [
            "success",
            "client_gone",
            "transient",
            "rate_limited",
            "auth_dead",
            "overloaded",
            "broken_stream",
        ];
        for outcome in outcomes {
            let label = format!("outcome=\"{outcome}\"");
            let seen = self.gateway.metric("poolgate_requests_total", &[&label]);
            assert!(seen > 0.0, "nothing came to {outcome}");
        }
        let waited = self
            .gateway
            .metric("poolgate_queue_wait_seconds_count", &[]);
        assert!(waited > 0.0 || count(0, 1) == 0, "nobody waited");
        assert_eq!(self.gateway.metric("poolgate_panics_total", &[]), 0.0);
    }
}

/// Ends the operator's work, also when a client panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Told when the test fails, so that the same clients can come again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the seed was {}: run with POOLGATE_SEED={}", self.0, self.0);
        }
    }
}

fn seed() -> Seed {
    let given = std::env::var("POOLGATE_SEED").ok();
    Seed(given.map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap()))
}

#[test]
fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let seed = seed();
    let house = house();
    house.assert_all_places_serve();
    house.wait_until_quiet(usize::MAX);
    let files = house.files();
    house.calm_before();
    house.storm(seed.0, count(1_000, 10_000));
    house.wait_until_quiet(files);
    house.assert_it_blew();
    house.assert_memory_for_bodies_is_back();
    house.assert_all_places_serve();
    house.wait_until_quiet(files);
}
