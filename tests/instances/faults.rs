//! Programs and surroundings that misbehave.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::house::{House, QUICK, account, account_at, pool, runs, signal};
use crate::support::{Vendor, chat, free_address, wait_for};

#[test]
fn a_program_that_ends_again_and_again_is_given_up_and_everybody_is_told() {
    let hook = Vendor::start();
    let notify = format!(
        "notify:\n  - {{webhook: \"http://{}/\", allow_private: true, events: [instance_gave_up]}}\n",
        hook.address
    );
    let accounts = [
        account("bad", ", --exit, \"3\"", ""),
        account("good", "", ""),
    ];
    let house = House::start(&(QUICK.to_owned() + &notify + &pool("", &accounts)), &[]);
    let failed = house.becomes("bad", "failed");
    assert_eq!(failed["last_error"], "ended with status 3");
    assert_eq!(
        house.starts("bad").len(),
        3,
        "as often as give_up_after says"
    );
    let mut wire = hook.next();
    let length = wire.header("content-length").unwrap().parse().unwrap();
    let notice: Value = serde_json::from_slice(&wire.read(length)).unwrap();
    assert_eq!(
        [&notice["event"], &notice["account"]],
        ["instance_gave_up", "bad"]
    );
    wire.write(b"HTTP/1.1 204 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let log = house.log();
    let given_up = log
        .lines()
        .find(|line| line.contains("it is not started again"));
    let given_up = given_up.unwrap();
    assert!(given_up.contains("account=bad") && given_up.contains("instances/bad.log"));
    assert!(log.contains("[bad] a bad day"), "{log}");
    assert_eq!(
        house.metric("poolgate_instance_up", &["account=\"bad\""]),
        0.0
    );
    assert_eq!(
        house.metric("poolgate_instance_restarts_total", &["account=\"bad\""]),
        2.0
    );
    let shown = house.admin(crate::support::get("/v1/instances")).json();
    assert_eq!(
        [&shown["error_instances"], &shown["total_instances"]],
        [&json!(1), &json!(2)]
    );
    assert_eq!(shown["instances"][0]["error_count"], 3);
    house.pid("good");
    assert_eq!(house.send(&chat(false)).status, 200);
    // An operator may ask for it once more, and it has as many tries as before.
    house.act("bad", "restart");
    wait_for("three more tries", || {
        (house.starts("bad").len() == 6).then_some(())
    });
    house.becomes("bad", "failed");
}

#[test]
fn without_restarts_a_program_that_ended_stays_ended() {
    let config = QUICK.replace("restart: {", "restart: {enabled: false, ");
    let house = House::start(&(config + &pool("", &[account("a", "", "")])), &[]);
    signal(house.pid("a"), Signal::SIGKILL);
    let failed = house.becomes("a", "failed");
    assert_eq!(failed["last_error"], "was ended by signal 9");
    assert_eq!(house.starts("a").len(), 1);
}

#[test]
fn a_missing_auth_file_fails_that_instance_by_name_until_it_is_there() {
    let accounts = [
        account("a", "", ", auth_file: saved-a.json"),
        account("b", "", ""),
    ];
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let failed = house.becomes("a", "failed");
    let path = house.file("saved-a.json");
    let why = format!(
        "cannot be started: there is no auth file {}",
        path.display()
    );
    assert_eq!(failed["last_error"], *why);
    house.pid("b");
    assert_eq!(house.send(&chat(false)).status, 200);
    assert_eq!(house.account("a")["status"], "unhealthy");
    house.write("saved-a.json", "{}");
    house.pid("a");
    assert_eq!(
        house.log().matches("there is no auth file").count(),
        1,
        "said once"
    );
}

#[test]
fn a_stranger_keeps_its_port_and_the_instance_says_whose_it_is() {
    let stranger = TcpListener::bind(free_address()).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let (fixed, auto) = (
        account_at("fixed", &port.to_string(), "", ""),
        account_at("auto", "auto", "", ""),
    );
    let ports = format!("  ports: {port}-{}\n", port + 50);
    let house = House::start(
        &(QUICK.to_owned() + &ports + &pool("", &[fixed, auto])),
        &[],
    );
    let failed = house.becomes("fixed", "failed");
    let why = format!("cannot be started: port {port} is in use by another program");
    assert_eq!(failed["last_error"], *why);
    house.pid("auto");
    let other = house.instance("auto").unwrap()["port"].as_u64().unwrap();
    assert!(
        (u64::from(port) + 1..=u64::from(port) + 50).contains(&other),
        "{other}"
    );
    assert_eq!(house.send(&chat(false)).status, 200);
    assert!(
        house.account("auto")["upstream"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":{other}"))
    );
    assert_eq!(stranger.local_addr().unwrap().port(), port);
    drop(stranger);
    house.pid("fixed");
}

#[test]
fn a_program_that_hangs_is_started_again() {
    let check = "    health_check: {interval: 100ms, timeout: 2s}\n";
    let accounts = [account("a", ", --stubborn", ""), account("b", "", "")];
    let house = House::start(&(QUICK.to_owned() + &pool(check, &accounts)), &[]);
    let (pid, other) = (house.pid("a"), house.pid("b"));
    house.write("a.hangs", "");
    wait_for("another process", || {
        let pid = Some(house.starts("a")).filter(|starts| starts.len() > 1);
        pid.map(drop)
    });
    assert!(!runs(pid));
    house.remove("a.hangs");
    house.pid("a");
    let log = house.log();
    assert!(
        log.contains("its program does not answer as it should: health check: no answer within 2s"),
        "{log}"
    );
    assert_eq!(house.pid("b"), other);
}

#[test]
fn a_program_that_never_is_ready_is_given_up() {
    let slow = QUICK.to_owned() + "  ready_timeout: 300ms\n";
    let house = House::start(
        &(slow + &pool("", &[account("a", "", "")])),
        &[("a.unready", "")],
    );
    let failed = house.becomes("a", "failed");
    let why = failed["last_error"].as_str().unwrap();
    assert!(why.starts_with("was not ready within 300ms: "), "{why}");
    assert!(house.starts("a").iter().all(|pid| !runs(*pid)));
}

#[test]
fn a_command_that_is_not_there_is_said_and_given_up() {
    let account = "      - {id: a, instance: {command: [no-such-program, \"{port}\"]}}\n";
    let house = House::start(&(QUICK.to_owned() + &pool("", &[account.to_owned()])), &[]);
    let failed = house.becomes("a", "failed");
    let why = failed["last_error"].as_str().unwrap();
    assert!(
        why.starts_with("cannot be started: no-such-program: No such file"),
        "{why}"
    );
}

#[test]
fn where_nothing_is_started_again_the_first_failure_is_told() {
    let hook = Vendor::start();
    let notify = format!(
        "notify:\n  - {{webhook: \"http://{}/\", allow_private: true, events: [instance_gave_up]}}\n",
        hook.address
    );
    let once = QUICK.replace("restart: {", "restart: {enabled: false, ");
    let bad = account("bad", ", --exit, \"3\"", "");
    let house = House::start(&(once + &notify + &pool("", &[bad])), &[]);
    house.becomes("bad", "failed");
    let mut wire = hook.next();
    let length = wire.header("content-length").unwrap().parse().unwrap();
    let notice: Value = serde_json::from_slice(&wire.read(length)).unwrap();
    assert_eq!(
        [&notice["event"], &notice["account"]],
        ["instance_gave_up", "bad"]
    );
    wire.write(b"HTTP/1.1 204 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert_eq!(house.starts("bad").len(), 1);
}
