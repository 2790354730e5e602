//! Programs whose gateway is replaced by another one while requests are under way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::signal::Signal;

use super::house::{House, QUICK, account, pool, runs, signal};
use crate::support::{Answer, chat, wait_for};

/// Upgrades; returns the process that serves now.
#[track_caller]
fn upgrade(house: &House) -> i32 {
    let (code, said, complaints) = house.program.command(&["upgrade"]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    let process = said.split(' ').nth(1).unwrap();
    process.parse().unwrap()
}

/// A request at each of these accounts, which are used in turn, until its `slow` file is gone.
fn hold(house: &House, ids: &[&str]) -> Vec<JoinHandle<Answer>> {
    ids.iter()
        .for_each(|id| house.write(&format!("{id}.slow"), ""));
    let address = house.address;
    let send = || thread::spawn(move || chat(false).send(address));
    let held = ids.iter().map(|_| send()).collect();
    for id in ids {
        house.becomes(id, "busy");
    }
    held
}

/// Waits until the successor has taken over the program of this account.
fn wait_for_taking_over(house: &House, id: &str) {
    let taken = format!("its program runs already account={id} ");
    wait_for(&taken, || house.log().contains(&taken).then_some(()));
}

#[test]
fn a_successor_serves_through_programs_that_take_their_time_to_say_that_they_are_well() {
    let accounts = ["a", "b"].map(|id| account(id, "", ""));
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let pids = ["a", "b"].map(|id| house.pid(id));
    ["a.late", "b.late"]
        .iter()
        .for_each(|name| house.write(name, ""));
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let answer = house.send(&chat(false));
                assert_eq!(answer.status, 200, "{}", answer.text());
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
        upgrade(&house);
        let before = served.load(Ordering::SeqCst);
        wait_for("requests at the successor", || {
            (served.load(Ordering::SeqCst) > before + 20).then_some(())
        });
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(["a", "b"].map(|id| house.pid(id)), pids);
}

#[test]
fn programs_that_another_file_changes_disables_or_drops_finish_the_old_process_s_requests() {
    let ids = ["a", "b", "c", "d"];
    let [a, b, c, d] = ids.map(|id| account(id, "", ""));
    let text = QUICK.to_owned() + &pool("", &[a.clone(), b.clone(), c.clone(), d]);
    let house = House::start(&text, &[]);
    let pids = ids.map(|id| house.pid(id));
    let held = hold(&house, &ids);
    let text = std::fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    let text = text
        .replace(&a, &a.replace("--port", "--lines, \"2\", --port"))
        .replace(&b, &(b.clone() + "        enabled: false\n"))
        .replace(&c, "");
    house.write("poolgate.yaml", &text);
    upgrade(&house);
    wait_for_taking_over(&house, "d");
    wait_for("nobody to be sent to what goes", || {
        (house.account("a")["available"] == false).then_some(())
    });
    assert_eq!(pids.map(runs), [true; 4]);
    ids.iter()
        .for_each(|id| house.remove(&format!("{id}.slow")));
    for one in held {
        let answer = one.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    wait_for("the programs that are not wanted to be gone", || {
        (pids.map(runs) == [false, false, false, true]).then_some(())
    });
    assert_eq!(house.pid("d"), pids[3]);
    assert_ne!(house.pid("a"), pids[0]);
}

#[test]
fn a_successor_that_is_stopped_leaves_programs_to_the_old_process_until_its_requests_are_done() {
    let text = QUICK.to_owned() + &pool("", &[account("a", "", "")]);
    let house = House::start(&text, &[]);
    let pid = house.pid("a");
    let held = hold(&house, &["a"]);
    let successor = upgrade(&house);
    wait_for_taking_over(&house, "a");
    signal(successor, Signal::SIGTERM);
    wait_for("the signal to be heard", || {
        house.log().contains("stopping").then_some(())
    });
    assert!(runs(pid) && runs(successor));
    house.remove("a.slow");
    for one in held {
        assert_eq!(one.join().unwrap().status, 200);
    }
    wait_for("all to be gone", || {
        let left = house.program.processes();
        (!runs(pid) && left.iter().all(|one| !runs(*one))).then_some(())
    });
}

#[test]
fn a_program_whose_parent_is_the_old_process_is_known_to_have_ended() {
    let patient = QUICK.replace("stop_timeout: 500ms", "stop_timeout: 600s");
    let accounts = ["a", "b"].map(|id| account(id, "", ""));
    let house = House::start(&(patient + &pool("", &accounts)), &[]);
    let pids = ["a", "b"].map(|id| house.pid(id));
    let held = hold(&house, &["a", "b"]);
    house.remove("a.slow");
    upgrade(&house);
    wait_for_taking_over(&house, "a");
    house.act("a", "restart");
    wait_for("another program for a", || {
        Some(house.pid("a")).filter(|pid| *pid != pids[0])
    });
    house.remove("b.slow");
    for one in held {
        assert_eq!(one.join().unwrap().status, 200);
    }
}
