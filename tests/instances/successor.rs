//! Programs outlive the poolgate that started them, and the next one finds them.

use std::fs;

use nix::sys::signal::Signal;

use super::house::{House, QUICK, account, account_at, pool, runs};
use crate::support::{Gateway, chat, free_address, get, wait_for};

#[test]
fn after_a_crash_programs_are_found_again_and_those_without_an_account_are_ended() {
    let [a, b] = ["a", "b"].map(|id| account(id, "", ""));
    let first = free_address().port();
    let ports = format!("  ports: {first}-{}\n", first + 50);
    let text = QUICK.to_owned() + &ports + &pool("", &[a, b, account_at("c", "auto", "", "")]);
    let mut house = House::start(&text, &[]);
    let pids = ["a", "b", "c"].map(|id| house.pid(id));
    let port = house.instance("c").unwrap()["port"].clone();
    house.program.stop(Signal::SIGKILL);
    assert_eq!(pids.map(runs), [true; 3]);
    let text = fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    let (before, b) = text.split_once("      - id: b\n").unwrap();
    let (_, after) = b.split_once("      - id: c\n").unwrap();
    house.write("poolgate.yaml", &format!("{before}      - id: c\n{after}"));
    house.start_again();
    assert_eq!([house.pid("a"), house.pid("c")], [pids[0], pids[2]]);
    assert_eq!(house.instance("c").unwrap()["port"], port);
    wait_for("b's to be gone", || (!runs(pids[1])).then_some(()));
    for _ in 0..4 {
        assert_eq!(house.send(&chat(false)).status, 200);
    }
    // What is not its child is watched as closely.
    super::house::signal(pids[0], Signal::SIGKILL);
    wait_for("another a", || {
        Some(house.pid("a")).filter(|pid| *pid != pids[0])
    });
    house.program.signal(Signal::SIGTERM);
    assert!(house.program.wait().success());
    wait_for("c's to be gone", || (!runs(pids[2])).then_some(()));
}

#[test]
fn what_changed_or_died_meanwhile_is_started_anew() {
    let accounts = [account("a", "", ""), account("b", "", "")];
    let mut house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let pids = ["a", "b"].map(|id| house.pid(id));
    house.program.stop(Signal::SIGKILL);
    super::house::signal(pids[1], Signal::SIGKILL);
    wait_for("b to be dead", || (!runs(pids[1])).then_some(()));
    let text = fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    let changed = text.replacen("--port", "--lines, \"1\", --port", 1);
    house.write("poolgate.yaml", &changed);
    house.start_again();
    let next = ["a", "b"].map(|id| house.pid(id));
    assert!(next[0] != pids[0] && next[1] != pids[1]);
    assert!(!runs(pids[0]));
}

#[test]
fn of_two_gateways_over_one_folder_one_has_the_programs_and_the_other_follows_it() {
    let [a, b] = ["a", "b"].map(|id| account(id, "", ""));
    let mut first = House::start(&(QUICK.to_owned() + &pool("", &[a, b])), &[]);
    let pids = ["a", "b"].map(|id| first.pid(id));
    let folder = first.program.folder().to_str().unwrap().to_owned();
    // The same programs, with the folders said, as its configuration is elsewhere.
    let text = fs::read_to_string(first.file("poolgate.yaml")).unwrap();
    let text: String = text
        .lines()
        .skip(2)
        .map(|line| format!("{line}\n"))
        .collect();
    let text = text.replace("port: ", &format!("working_dir: \"{folder}\", port: "));
    let state = format!(
        "state: {{dir: \"{folder}/data\"}}\nadmin: {{address: \"{{admin}}\", token: second}}\n"
    );
    let second = Gateway::start(&(state + &text));
    fs::create_dir(second.program.folder().join("data")).unwrap();
    fs::write(second.program.folder().join("data/admin.token"), "second").unwrap();
    wait_for("the second to wait", || {
        let waits = "another poolgate looks after the instances";
        second.log().contains(waits).then_some(())
    });
    // Before the first one goes, the second is ready to serve in its place.
    wait_for("both accounts to serve", || {
        let serves = |id: &str| second.account(id)["available"] == true;
        (serves("a") && serves("b")).then_some(())
    });
    assert_eq!(second.send(&chat(false)).status, 200);
    first.program.stop(Signal::SIGKILL);
    wait_for("the second to have them", || {
        let shown = second.admin(get("/api/v1/instances")).json();
        let mut shown = shown["instances"].as_array().unwrap().iter();
        shown.all(|one| one["state"] == "ready").then_some(())
    });
    for _ in 0..4 {
        assert_eq!(second.send(&chat(false)).status, 200);
    }
    assert_eq!(pids.map(runs), [true; 2], "neither was started anew");
    assert_eq!([first.starts("a").len(), first.starts("b").len()], [1, 1]);
    second.program.signal(Signal::SIGTERM);
    wait_for("both to be gone", || {
        (pids.map(runs) == [false; 2]).then_some(())
    });
}
