//! Programs whose poolgate is replaced by another one under load: they run on, and the next one looks
//! after them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use super::house::{House, QUICK, account, account_at, pool, runs, signal};
use crate::support::{Connection, chat, count, free_address, wait_for};

const THREE: [&str; 3] = ["a", "b", "c"];

/// Three programs, one of them at a port that was chosen for it.
fn house() -> House {
    let first = free_address().port();
    let ports = format!("  ports: {first}-{}\n", first + 50);
    let accounts = [
        account("a", "", ""),
        account("b", "", ""),
        account_at("c", "auto", "", ""),
    ];
    // Connections that idle are told soon that it is over.
    let text = format!(
        "clients: {{keepalive: 1s}}\nserver: {{drain_delay: 0s}}\nlog: {{access: false}}\n{QUICK}{ports}"
    );
    House::start(&(text + &pool("", &accounts)), &[])
}

/// Half of the clients keep their connections, half of them come anew for each request; returns how
/// often each answer was given while `work` was done.
fn under_load(house: &House, work: impl FnOnce(&AtomicUsize)) -> BTreeMap<String, usize> {
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = |keeps: bool| {
        let mut answers = BTreeMap::new();
        let mut kept = None;
        while !is_over.load(Ordering::SeqCst) {
            let open = || Connection::open(house.address).unwrap();
            let answer = kept.get_or_insert_with(open).send(&chat(false)).unwrap();
            if !keeps || answer.header("connection") == Some("close") {
                kept = None;
            }
            let what = match answer.status {
                200 => "200".to_owned(),
                status => format!("{status} {}", answer.text()),
            };
            *answers.entry(what).or_insert(0) += 1;
            served.fetch_add(1, Ordering::SeqCst);
        }
        answers
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || client(n % 2 == 0)))
            .collect();
        // A test that fails must not leave its clients running.
        let worked = catch_unwind(AssertUnwindSafe(|| work(&served)));
        is_over.store(true, Ordering::SeqCst);
        let all = clients.into_iter().flat_map(|one| one.join().unwrap());
        let answers = all.fold(BTreeMap::new(), |mut sum, (what, n)| {
            *sum.entry(what).or_insert(0) += n;
            sum
        });
        worked.unwrap_or_else(|panic| resume_unwind(panic));
        answers
    })
}

fn wait_for_requests(served: &AtomicUsize) {
    let before = served.load(Ordering::SeqCst);
    wait_for("some requests", || {
        (served.load(Ordering::SeqCst) >= before + 100).then_some(())
    });
}

fn serving_pids(house: &House) -> [i32; 3] {
    THREE.map(|id| house.becomes_any(id, &["ready", "busy"]))
}

#[test]
fn programs_run_on_through_upgrades_under_load_and_the_successor_looks_after_them() {
    let house = house();
    let pids = serving_pids(&house);
    let mut successor = 0;
    let answers = under_load(&house, |served| {
        for _ in 0..count(3, 20) {
            wait_for_requests(served);
            successor = house.upgrade();
            assert_eq!(serving_pids(&house), pids);
        }
        wait_for_requests(served);
    });
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["200"], "{answers:?}");
    // Nobody's child any more, and noticed all the same.
    signal(pids[1], Signal::SIGKILL);
    let next = wait_for("another b", || {
        let pid = house.becomes_any("b", &["ready", "busy"]);
        (pid != pids[1]).then_some(pid)
    });
    assert_eq!(serving_pids(&house), [pids[0], next, pids[2]]);
    assert_eq!(THREE.map(|id| house.starts(id).len()), [1, 2, 1]);
    assert_eq!(house.program.command(&["stop"]).0, Some(0));
    wait_for("no process to be left", || {
        house.program.processes().is_empty().then_some(())
    });
    assert!(!runs(successor));
}

#[test]
fn a_successor_that_fails_leaves_the_programs_with_the_one_that_goes_on() {
    let house = house();
    let pids = serving_pids(&house);
    let path = house.file("poolgate.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    let taken = std::net::TcpListener::bind(free_address()).unwrap();
    let taken = taken.local_addr().unwrap();
    // It is prepared in all else, with other commands for the same accounts.
    let other = good
        .replace("listen: [", &format!("listen: [{{address: \"{taken}\"}}, "))
        .replace("--port", "--lines, \"1\", --port");
    let answers = under_load(&house, |served| {
        for _ in 0..2 {
            house.program.write("poolgate.yaml", &other);
            let (code, _, said) = house.program.command(&["upgrade"]);
            assert_eq!(code, Some(1));
            assert!(
                said.contains(&format!("cannot listen on {taken}")),
                "{said}"
            );
            wait_for_requests(served);
            assert_eq!(serving_pids(&house), pids);
        }
    });
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["200"], "{answers:?}");
    signal(pids[0], Signal::SIGKILL);
    wait_for("another a", || {
        let pid = house.becomes_any("a", &["ready", "busy"]);
        (pid != pids[0]).then_some(pid)
    });
}

#[test]
fn a_stop_right_behind_an_upgrade_leaves_no_program() {
    let house = house();
    let pids = serving_pids(&house);
    house.upgrade();
    // The next one may not have begun to look after them.
    assert_eq!(house.program.command(&["stop"]).0, Some(0));
    assert_eq!(pids.map(runs), [false; 3]);
    wait_for("no process to be left", || {
        house.program.processes().is_empty().then_some(())
    });
}
