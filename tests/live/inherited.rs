//! What a successor knows of the accounts, and of the requests that its predecessor still has.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Gateway, Mock, chat, get, pool, post, ranked, wait_for};

#[test]
fn cooldowns_breakers_counts_and_what_an_operator_said_go_along() {
    let keys = "    breaker: {consecutive_failures: 2, open_for: 5m}\n";
    let (_vendors, configuration) = ranked(keys);
    let gateway = Gateway::start(&format!("clients: {{keepalive: 1s}}\n{configuration}"));
    let faulty = |id: &str, status: u16| {
        let request = chat(false).header("x-mock-only", id);
        let answer = gateway.send(&request.header("x-mock-status", status));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    faulty("a0", 401);
    faulty("a1", 500);
    faulty("a1", 500);
    gateway.act("a2", "disable");
    let ids = ["a0", "a1", "a2"];
    let seen = || ids.map(|id| gateway.account(id));
    let before = seen();
    let states = ["cooling", "open", "disabled"];
    assert_eq!(
        before
            .each_ref()
            .map(|account| account["status"].as_str().unwrap()),
        states
    );
    gateway.upgrade();
    let after = seen();
    for (before, after) in before.iter().zip(&after) {
        for key in [
            "status",
            "requests",
            "successes",
            "failures",
            "consecutive_failures",
            "last_error",
        ] {
            assert_eq!(before[key], after[key], "{key} of {}", before["id"]);
        }
        let time = |key: &str, account: &serde_json::Value| {
            let time = account[key].as_str()?;
            Some(time.parse::<jiff::Timestamp>().unwrap().as_second())
        };
        for key in ["until", "cooling_until", "last_used"] {
            let times = time(key, before).zip(time(key, after));
            // Two clocks were read at two moments.
            let is_same = times.is_none_or(|(before, after)| before.abs_diff(after) <= 2);
            let are_both = before[key].is_null() == after[key].is_null();
            assert!(is_same && are_both, "{key}: {before} {after}");
        }
    }
    // An operator's words, and the file's, work on as before.
    gateway.act("a2", "enable");
    gateway.act("a0", "reset");
    let answer = gateway.send(&chat(false));
    assert_eq!(answer.status, 200);
    assert_eq!(
        gateway.account("a0")["requests"],
        before[0]["requests"].as_u64().unwrap() + 1
    );
}

#[test]
fn places_that_the_old_process_still_holds_are_taken_in_the_new_one() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "40"]);
    let account = pool(&vendors, "    queue: {max_waiting: 0}\n");
    let account = account.replace("id: a0,", "id: a0, max_concurrent: 2,");
    let gateway = Gateway::start(&format!("clients: {{keepalive: 1s}}\n{account}"));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    gateway.upgrade();
    // One of two places is left.
    let mut second = chat(true).open(gateway.address).unwrap();
    second.event().unwrap().unwrap();
    let refused = gateway.send(&chat(false));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    wait_for("the place of the old process to be free", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
    assert_eq!(second.events().unwrap().last().unwrap().data, "[DONE]");
    assert!(vendors[0].count("max_in_flight_seen") <= 2);
}

#[test]
fn a_successor_that_is_told_to_stop_lets_the_streams_of_its_predecessor_end() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "40"]);
    let gateway = Gateway::start(&format!(
        "clients: {{keepalive: 1s}}\n{}",
        pool(&vendors, "")
    ));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    let successor = gateway.upgrade();
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{successor}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z"))
    };
    kill(Pid::from_raw(successor), Signal::SIGTERM).unwrap();
    for _ in 0..20 {
        stream.event().unwrap().unwrap();
    }
    // Long after it would have ended, had it only its own requests to wait for.
    assert!(runs(), "{}", gateway.log());
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    wait_for("the successor to end", || (!runs()).then_some(()));
}

#[test]
fn a_model_that_is_limited_at_an_account_is_not_asked_there_again() {
    let (vendors, configuration) = ranked("");
    let gateway = Gateway::start(&format!("clients: {{keepalive: 1s}}\n{configuration}"));
    let limited = chat(false).header("x-mock-only", "a0");
    let limited = limited.header("x-mock-status", 429);
    let limited = limited.header("x-mock-retry-after", 600);
    assert_eq!(gateway.send(&limited).status, 200);
    gateway.upgrade();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(vendors[0].count("requests"), 1);
    assert_eq!(vendors[1].count("requests"), 2);
}

#[test]
fn the_strategy_that_an_operator_chose_goes_along_unless_the_file_says_something_new() {
    let vendors = Mock::several(2, &[]);
    let text = pool(&vendors, "    strategy: round_robin\n");
    let gateway = Gateway::start(&format!("clients: {{keepalive: 1s}}\n{text}"));
    let strategy = || gateway.admin(get("/api/v1/pools")).json()["pools"][0]["strategy"].clone();
    let choose = |strategy: &str| {
        let body = serde_json::json!({"strategy": strategy});
        let answer = gateway.admin(post("/api/v1/pools/default/strategy", &body));
        assert!(answer.status < 300, "{}", answer.text());
    };
    choose("random");
    // Through more than one successor, too.
    for _ in 0..2 {
        gateway.upgrade();
        assert_eq!(strategy(), "random");
    }
    let path = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    gateway.program.write(
        "poolgate.yaml",
        &text.replace("round_robin", "least_connections"),
    );
    gateway.upgrade();
    assert_eq!(strategy(), "least_connections");
}
