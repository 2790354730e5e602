//! What programs say, and where it is found.

use std::fs;
use std::process::Command;

use super::house::{House, QUICK, account, pool};
use crate::support::{chat, get, wait_for};

#[test]
fn what_a_program_says_is_in_its_log_in_ours_in_the_api_and_on_the_command_line() {
    let accounts = [account("a", "", ""), account("b", "", "")];
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    let log = wait_for("all four lines", || {
        let log = house.log();
        (log.matches(" INFO [").count() + log.matches(" ERROR [").count() == 4).then_some(log)
    });
    for line in [
        "INFO [a] a listens",
        "ERROR [a] something is odd",
        "INFO [b] b listens",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    let own = fs::read_to_string(house.file("data/instances/a.log")).unwrap();
    assert_eq!(own, "a listens\nsomething is odd\n");
    let shown = house.admin(get("/api/v1/instances/a/logs?tail=1")).json();
    assert_eq!(
        shown,
        serde_json::json!({"account": "a", "lines": ["something is odd"]})
    );
    assert_eq!(
        house.admin(get("/api/v1/instances/a/logs?tail=0")).status,
        400
    );
    assert_eq!(
        house.admin(get("/api/v1/instances/nobody/logs")).status,
        404
    );
    let run = |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_poolgate"))
            .args(arguments)
            .current_dir(house.program.folder())
            .output();
        let output = command.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    assert_eq!(run(&["logs", "a"]), (Some(0), own, String::new()));
    assert_eq!(run(&["logs", "a", "--tail", "1"]).1, "something is odd\n");
    let (status, _, said) = run(&["logs", "nobody"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("there is no account \"nobody\""), "{said}");
    let port = house.instance("a").unwrap()["port"].clone();
    let (_, table, _) = run(&["status"]);
    assert!(table.contains(&format!("ready :{port}")), "{table}");
}

#[test]
fn a_log_is_rotated_and_a_flood_does_not_flood_ours() {
    let accounts = [account("a", ", --lines, \"5000\"", "")];
    let log = "  log: {size: 16KiB, keep: 2}\n";
    let house = House::start(&(QUICK.to_owned() + log + &pool("", &accounts)), &[]);
    wait_for("the last line", || {
        let path = "/api/v1/instances/a/logs?tail=3";
        let shown = house.admin(get(path)).json();
        let lines = shown["lines"].as_array().unwrap();
        assert!(lines.len() <= 3);
        lines.contains(&"line 4999".into()).then_some(())
    });
    let files = fs::read_dir(house.file("data/instances")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<String> = names.filter(|name| name.starts_with("a.log")).collect();
    logs.sort();
    assert_eq!(logs, ["a.log", "a.log.1", "a.log.2"]);
    wait_for("the number of those left out", || {
        house
            .log()
            .contains("lines are only in its own log")
            .then_some(())
    });
    let ours = house.log().matches("[a] line ").count();
    assert!((1..2500).contains(&ours), "{ours}");
}

#[test]
fn a_busy_program_says_with_which_request() {
    let house = House::start(
        &(QUICK.to_owned() + &pool("", &[account("a", "", "")])),
        &[],
    );
    house.pid("a");
    let shown = || house.admin(get("/v1/instances")).json()["instances"][0].clone();
    assert_eq!(shown()["current_request_id"], serde_json::Value::Null);
    house.write("a.slow", "");
    let address = house.address;
    let request = chat(false).header("x-request-id", "mine-1");
    let slow = std::thread::spawn(move || request.send(address));
    // An account is taken a moment before it is known for which request.
    let busy = wait_for("the program to be busy with a request", || {
        Some(shown()).filter(|shown| {
            shown["status"] == "busy" && shown["current_request_id"] != serde_json::Value::Null
        })
    });
    house.remove("a.slow");
    let answer = slow.join().unwrap();
    assert_eq!(
        busy["current_request_id"],
        answer.header("x-request-id").unwrap()
    );
    let idle = wait_for("the program to be ready", || {
        Some(shown()).filter(|shown| shown["status"] == "ready")
    });
    assert_eq!(idle["current_request_id"], serde_json::Value::Null);
    assert!(idle["last_used"].as_f64() > Some(1.7e9));
    assert_eq!(idle["ws_endpoint"], serde_json::Value::Null);
}
