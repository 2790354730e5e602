//! The ordinary life of programs: started, ready, killed, started again, changed, stopped.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::house::{House, QUICK, account, pool, runs, signal};
use crate::support::{chat, get, wait_for};

/// Who answered, as the program says of itself.
#[track_caller]
fn served(house: &House) -> Value {
    let answer = house.send(&chat(false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What a process has open: files by their paths, sockets and pipes by their numbers.
fn open_in(process: &str) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let paths = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    paths
        .map(|what| what.to_string_lossy().into_owned())
        .collect()
}

fn name(answer: &Value) -> String {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn each_account_has_a_program_with_its_own_port_and_file_and_nothing_else_of_ours() {
    let accounts = ["a", "b", "c"].map(|id| {
        account(
            id,
            ", --auth, \"{auth_file}\"",
            &format!(", auth_file: {id}.json, env: {{MINE: \"{id} at {{port}}\"}}"),
        )
    });
    let files = ["a.json", "b.json", "c.json"].map(|name| (name, "auth-canary"));
    let environment = [("LANG", "C.UTF-8"), ("OF_POOLGATE", "env-canary")];
    let house = House::start_with(
        &(QUICK.to_owned() + &pool("", &accounts)),
        &files,
        &environment,
    );
    let pids: BTreeSet<i32> = ["a", "b", "c"].iter().map(|id| house.pid(id)).collect();
    assert_eq!(pids.len(), 3);
    let answers: Vec<Value> = (0..30).map(|_| served(&house)).collect();
    // What the gateway opened itself; what its own parent left open in it is not its to close.
    let ours = open_in(&house.program.id().to_string());
    let open: BTreeSet<String> = ours.difference(&open_in("self")).cloned().collect();
    assert!(open.len() > 10, "{open:?}");
    for id in ["a", "b", "c"] {
        let mine: Vec<_> = answers.iter().filter(|answer| name(answer) == id).collect();
        assert_eq!(mine.len(), 10, "each in turn");
        let said = mine[0];
        let file = house.file(&format!("{id}.json"));
        assert_eq!(said["auth"], file.to_str().unwrap());
        assert_eq!(said["folder"], house.program.folder().to_str().unwrap());
        assert_eq!(said["group"], said["pid"], "a process group of its own");
        let environment: BTreeSet<_> = said["environment"].as_object().unwrap().keys().collect();
        let expected = ["HOME", "LANG", "LC_CTYPE", "MINE", "PATH"];
        // Python adds LC_CTYPE by itself where it finds no better one.
        let expected = expected.map(String::from);
        assert!(
            environment.iter().all(|name| expected.contains(name)),
            "{environment:?}"
        );
        let port = house.instance(id).unwrap()["port"].to_string();
        assert_eq!(said["environment"]["MINE"], format!("{id} at {port}"));
        let ours = said["descriptors"].as_object().unwrap();
        assert_eq!(ours["0"], "/dev/null");
        let inherited = ours
            .iter()
            .filter(|(n, what)| *n != "0" && open.contains(what.as_str().unwrap()));
        assert_eq!(inherited.count(), 0, "{ours:?} of {open:?}");
    }
    let log = house.log();
    assert!(
        !log.contains("auth-canary") && !log.contains("env-canary"),
        "{log}"
    );
}

#[test]
fn a_killed_program_is_noticed_at_once_replaced_by_others_and_started_again() {
    let accounts = ["a", "b", "c"].map(|id| account(id, "", ""));
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let pids = ["a", "b", "c"].map(|id| house.pid(id));
    house.write("b.unready", "");
    let killed = SystemTime::now();
    signal(pids[1], Signal::SIGKILL);
    let down = wait_for("b to be noticed", || {
        let instance = house.instance("b").unwrap();
        (instance["pid"] != json!(pids[1])).then_some(instance)
    });
    assert!(killed.elapsed().unwrap() < Duration::from_secs(1), "{down}");
    assert_eq!(house.account("b")["available"], false);
    for _ in 0..30 {
        assert_ne!(
            name(&served(&house)),
            "b",
            "it serves nobody before it is ready"
        );
    }
    assert_eq!(house.instance("b").unwrap()["state"], "starting");
    house.remove("b.unready");
    let again = house.pid("b");
    assert_ne!(again, pids[1]);
    let names: BTreeSet<String> = (0..6).map(|_| name(&served(&house))).collect();
    assert_eq!(names, ["a", "b", "c"].map(String::from).into());
    assert_eq!(house.instance("b").unwrap()["restarts"], 1);
    assert_eq!(
        house.metric("poolgate_instance_restarts_total", &["account=\"b\""]),
        1.0
    );
    assert_eq!(house.metric("poolgate_instance_up", &[]), 3.0);
    assert_eq!(
        [house.pid("a"), house.pid("c")],
        [pids[0], pids[2]],
        "the others ran on"
    );
}

#[test]
fn a_program_serves_only_when_its_own_health_path_says_so() {
    let accounts = [account("a", "", ""), account("b", "", "")];
    let files = [("a.unready", ""), ("b.unready", "")];
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &files);
    wait_for("both to be started", || {
        (house.starts("a").len() + house.starts("b").len() == 2).then_some(())
    });
    let refused = house.send(&chat(false));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(house.get("/readyz").status, 503);
    assert_eq!(house.account("a")["status"], "unknown");
    house.remove("b.unready");
    house.pid("b");
    assert_eq!(house.get("/readyz").status, 200);
    for _ in 0..3 {
        assert_eq!(name(&served(&house)), "b");
    }
    assert_eq!(house.instance("a").unwrap()["state"], "starting");
}

#[test]
fn without_a_health_check_a_program_is_ready_when_it_takes_connections() {
    let unchecked = account("a", "", "") + "        health_check: none\n";
    let house = House::start(
        &(QUICK.to_owned() + &pool("", &[unchecked])),
        &[("a.unready", "")],
    );
    house.pid("a");
    assert_eq!(name(&served(&house)), "a");
}

#[test]
fn programs_start_one_after_another_in_the_order_of_their_accounts() {
    let accounts = ["c", "a", "b"].map(|id| account(id, "", ""));
    let delay = QUICK.replace("start_delay: 0s", "start_delay: 300ms");
    let house = House::start(&(delay + &pool("", &accounts)), &[]);
    for id in ["a", "b", "c"] {
        house.pid(id);
    }
    let log = house.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("its program is started"));
    let started: Vec<(jiff::Timestamp, &str)> = lines
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            let (_, id) = rest.split_once("account=").unwrap();
            (time.parse().unwrap(), &id[..1])
        })
        .collect();
    let ids: Vec<&str> = started.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids, ["c", "a", "b"]);
    for pair in started.windows(2) {
        assert!((pair[1].0 - pair[0].0).get_milliseconds() >= 0);
        assert!(
            pair[1].0.duration_since(pair[0].0).as_millis() >= 250,
            "{log}"
        );
    }
    wait_for("the word that all are ready", || {
        house
            .log()
            .contains("3 of 3 instances are ready")
            .then_some(())
    });
}

#[test]
fn a_stop_ends_each_program_with_all_it_started_however_stubborn() {
    let accounts = [account("a", "", ""), account("b", ", --stubborn", "")];
    let mut house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let grandchild = wait_for("the grandchild", || {
        fs::read_to_string(house.file("b.grandchild"))
            .ok()?
            .parse()
            .ok()
    });
    let pids = [house.pid("a"), house.pid("b"), grandchild];
    assert!(pids.iter().all(|pid| runs(*pid)));
    house.program.signal(Signal::SIGTERM);
    assert!(house.program.wait().success());
    assert_eq!(pids.map(runs), [false; 3]);
}

#[test]
fn a_second_signal_ends_the_programs_at_once() {
    let accounts = [account("b", ", --stubborn", "")];
    let patient = QUICK.replace("stop_timeout: 500ms", "stop_timeout: 600s");
    let mut house = House::start(&(patient + &pool("", &accounts)), &[]);
    let pid = house.pid("b");
    house.program.signal(Signal::SIGTERM);
    wait_for("the first signal to be heard", || {
        house.log().contains("stopping").then_some(())
    });
    wait_for("the end", || {
        house.program.try_signal(Signal::SIGTERM);
        house.program.ended()
    });
    wait_for("the program to be gone", || (!runs(pid)).then_some(()));
}

#[test]
fn a_reload_starts_stops_and_changes_programs_and_leaves_the_others_alone() {
    let [a, b, c] = ["a", "b", "c"].map(|id| account(id, "", ""));
    let text = |accounts: &[&String]| {
        let accounts: Vec<String> = accounts.iter().map(|text| (*text).clone()).collect();
        QUICK.to_owned() + &pool("", &accounts)
    };
    let house = House::start(&text(&[&a, &b]), &[]);
    let before = [house.pid("a"), house.pid("b")];
    let head = fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    let head: String = head
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    let reload = |accounts: &[&String]| {
        house.write("poolgate.yaml", &(head.clone() + &text(accounts)));
        house.program.signal(Signal::SIGHUP);
    };
    let other = b.replace("--port", "--lines, \"2\", --port");
    reload(&[&a, &other, &c]);
    house.pid("c");
    let changed = wait_for("b to be another", || {
        Some(house.pid("b")).filter(|pid| *pid != before[1])
    });
    assert!(!runs(before[1]));
    assert_eq!(house.pid("a"), before[0]);
    // Disabled: listed, and without a process.
    reload(&[&a, &(other.clone() + "        enabled: false\n")]);
    wait_for("b to be disabled and without a process", || {
        let instance = house.instance("b").unwrap();
        (instance["state"] == "disabled" && instance["pid"] == Value::Null).then_some(())
    });
    wait_for("c to be gone", || {
        house.instance("c").is_none().then_some(())
    });
    assert!(!runs(changed));
    wait_for("c's process to be gone", || {
        (!runs(house.starts("c")[0])).then_some(())
    });
    assert_eq!(house.pid("a"), before[0]);
    reload(&[&a, &other]);
    house.pid("b");
}

#[test]
fn a_program_that_is_changed_finishes_its_requests_first() {
    let a = account("a", "", "");
    let house = House::start(
        &(QUICK.to_owned() + &pool("", std::slice::from_ref(&a))),
        &[],
    );
    let pid = house.pid("a");
    house.write("a.slow", "");
    let address = house.address;
    let slow = std::thread::spawn(move || chat(false).send(address));
    house.becomes("a", "busy");
    let text = fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    house.write(
        "poolgate.yaml",
        &text.replace("--port", "--lines, \"2\", --port"),
    );
    house.program.signal(Signal::SIGHUP);
    wait_for("no new request to be taken", || {
        (house.account("a")["available"] == false).then_some(())
    });
    assert!(runs(pid));
    house.remove("a.slow");
    assert_eq!(slow.join().unwrap().status, 200);
    wait_for("the next program", || {
        Some(house.pid("a")).filter(|next| *next != pid)
    });
}

#[test]
fn an_operator_starts_a_program_anew() {
    let accounts = [
        account("a", "", ""),
        "      - {id: x, upstream: \"http://127.0.0.1:9\"}\n".to_owned(),
    ];
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let pid = house.pid("a");
    house.act("a", "restart");
    wait_for("another process", || {
        Some(house.pid("a")).filter(|next| *next != pid)
    });
    assert!(!runs(pid));
    let refuse = |id: &str| {
        let path = format!("/api/v1/accounts/{id}/restart");
        house
            .admin(crate::support::post(&path, &Value::Null))
            .status
    };
    assert_eq!([refuse("x"), refuse("nobody")], [409, 404]);
    assert_eq!(house.admin(get("/api/v1/instances/x/logs")).status, 409);
}

#[test]
fn a_program_of_an_account_that_came_to_another_pool_is_missed_there() {
    let a = account("a", "", "");
    let plain = |id: &str| {
        format!("      - {{id: {id}, upstream: \"http://127.0.0.1:9\", enabled: false}}\n")
    };
    let other = |accounts: &str| format!("  other:\n    accounts:\n{accounts}");
    let (x, y) = (plain("x"), plain("y"));
    let house = House::start(
        &(QUICK.to_owned() + &pool("", &[x.clone(), a.clone()]) + &other(&y)),
        &[],
    );
    let pid = house.pid("a");
    let text = fs::read_to_string(house.file("poolgate.yaml")).unwrap();
    let (head, _) = text.split_once("pools:\n").unwrap();
    let text = head.to_owned() + &pool("", &[x]) + &other(&(y + &a));
    house.write("poolgate.yaml", &text);
    house.program.signal(Signal::SIGHUP);
    wait_for("a to serve the other pool", || {
        let account = house.account("a");
        (account["pool"] == "other" && account["available"] == true).then_some(())
    });
    assert_eq!(house.pid("a"), pid);
    house.write("a.unready", "");
    signal(pid, Signal::SIGKILL);
    wait_for("another program", || {
        (house.starts("a").len() == 2).then_some(())
    });
    assert_eq!(house.account("a")["available"], false);
}
