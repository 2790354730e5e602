//! Which account serves, and how many at a time, as seen from outside: by the vendors' own counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::support::{Connection, Gateway, Mock, chat, pool, pool_of, wait_for};

/// More of the same with `POOLGATE_SOAK=1`.
fn soak(few: usize, many: usize) -> usize {
    match std::env::var_os("POOLGATE_SOAK") {
        Some(_) => many,
        None => few,
    }
}

fn requests(vendors: &[Mock]) -> Vec<u64> {
    vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect()
}

#[track_caller]
fn send_in_a_row(gateway: &Gateway, count: usize) {
    let mut connection = Connection::open(gateway.address).unwrap();
    for _ in 0..count {
        assert_eq!(connection.send(&chat(false)).unwrap().status, 200);
    }
}

#[test]
fn weights_share_exactly() {
    let vendors = Mock::several(3, &[]);
    let weight = |n| format!(", weight: {}", if n == 0 { 2 } else { 1 });
    let gateway = Gateway::start(&pool_of(&vendors, "", weight));
    let quarter = soak(100, 1_000);
    send_in_a_row(&gateway, 4 * quarter);
    let quarter = quarter as u64;
    assert_eq!(requests(&vendors), [2 * quarter, quarter, quarter]);
}

#[test]
fn weight_0_serves_when_nothing_else_is_left() {
    let vendors = Mock::several(2, &[]);
    let weight = |n| format!(", weight: {n}");
    let gateway = Gateway::start(&pool_of(&vendors, "", weight));
    send_in_a_row(&gateway, 20);
    assert_eq!(requests(&vendors), [0, 20]);
    gateway.act("a1", "disable");
    send_in_a_row(&gateway, 5);
    assert_eq!(requests(&vendors), [5, 20]);
}

/// Which vendor answers each of these callers.
fn owners(gateway: &Gateway, callers: usize) -> BTreeMap<usize, String> {
    let owner = |caller: usize| {
        let request = chat(false)
            .bearer(&format!("caller-{caller}"))
            .header("x-mock-echo", 1);
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["headers"]["authorization"][0]
            .as_str()
            .unwrap()
            .to_owned()
    };
    (0..callers).map(|caller| (caller, owner(caller))).collect()
}

#[test]
fn a_caller_keeps_its_account_and_only_those_of_one_that_left_move() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    strategy: hash\n"));
    let before = owners(&gateway, 40);
    assert_eq!(
        before.values().collect::<BTreeSet<_>>().len(),
        3,
        "{before:?}"
    );
    assert_eq!(owners(&gateway, 40), before);
    gateway.act("a1", "disable");
    for (caller, owner) in owners(&gateway, 40) {
        assert!(owner == before[&caller] || before[&caller] == "Bearer key-1");
    }
    gateway.act("a1", "enable");
    assert_eq!(owners(&gateway, 40), before);
}

#[test]
fn the_caller_can_be_told_by_a_header() {
    let vendors = Mock::several(3, &[]);
    let keys = "    strategy: hash\n    hash_on: \"header:X-User\"\n";
    let gateway = Gateway::start(&pool(&vendors, keys));
    for user in ["ann", "bob", "cid", "dan"] {
        let before = requests(&vendors);
        for _ in 0..5 {
            gateway.send(&chat(false).header("x-user", user));
        }
        let after = requests(&vendors);
        let grown: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert!(grown.contains(&5), "{user}: {grown:?}");
    }
}

/// So many requests at the same time; each its status.
fn at_once(gateway: &Gateway, count: usize) -> Vec<u16> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| gateway.send(&chat(false)).status))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn two_hundred_at_once_never_exceed_max_concurrent_and_all_are_served() {
    let vendors = Mock::several(2, &["--max-concurrent", "5", "--delay", "10ms"]);
    let most = |_| ", max_concurrent: 5".to_owned();
    for strategy in ["round_robin", "least_connections"] {
        let keys = format!("    strategy: {strategy}\n");
        let gateway = Gateway::start(&pool_of(&vendors, &keys, most));
        let statuses = at_once(&gateway, soak(200, 1_000));
        assert!(
            statuses.iter().all(|status| *status == 200),
            "{strategy}: {statuses:?}"
        );
        for (n, vendor) in vendors.iter().enumerate() {
            assert_eq!(vendor.count("violations"), 0, "{strategy}");
            assert!(vendor.count("max_in_flight_seen") <= 5);
            let id = format!("a{n}");
            wait_for("the count to be 0", || {
                (gateway.account(&id)["in_flight"] == 0).then_some(())
            });
        }
        assert_eq!(gateway.metric("poolgate_queue_waiting", &[]), 0.0);
        assert!(gateway.metric("poolgate_queue_wait_seconds_count", &[]) > 0.0);
    }
}

#[test]
fn the_pool_has_a_ceiling_too() {
    let vendor = Mock::start(&["--delay", "10ms"]);
    let account = |id| format!("{{id: {id}, upstream: \"{}\"}}", vendor.url());
    let (a, b) = (account("a"), account("b"));
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{max_concurrent: 3, accounts: [{a}, {b}]}}}}"
    ));
    assert!(at_once(&gateway, 40).iter().all(|status| *status == 200));
    assert_eq!(vendor.count("max_in_flight_seen"), 3);
}

#[test]
fn who_finds_the_queue_full_or_waits_in_vain_is_told_to_come_again() {
    let vendors = Mock::several(1, &["--hang", "head"]);
    let keys = "    queue: {max_waiting: 1, timeout: 700ms}\n";
    let gateway = Gateway::start(&pool_of(&vendors, keys, |_| {
        ", max_concurrent: 1".to_owned()
    }));
    std::thread::scope(|scope| {
        // Holds the only place for longer than the others wait.
        let holder = scope.spawn(|| chat(false).open(gateway.address));
        wait_for("the place to be taken", || {
            (gateway.account("a0")["in_flight"] == 1).then_some(())
        });
        let begun = Instant::now();
        let waiter = scope.spawn(|| gateway.send(&chat(false)));
        wait_for("one to wait", || {
            (gateway.metric("poolgate_queue_waiting", &[]) == 1.0).then_some(())
        });
        let turned_away = gateway.send(&chat(false));
        assert!(
            begun.elapsed() < Duration::from_millis(700),
            "it did not wait"
        );
        let timed_out = waiter.join().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(690));
        for answer in [turned_away, timed_out] {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert_eq!(answer.json()["error"]["code"], "overloaded");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
        let rejected = |reason: &str| {
            let reason = format!("reason=\"{reason}\"");
            gateway.metric("poolgate_queue_rejected_total", &[&reason])
        };
        assert_eq!((rejected("full"), rejected("timeout")), (1.0, 1.0));
        drop(vendors);
        drop(holder.join());
    });
}

#[test]
fn an_account_serves_its_models_under_its_own_names() {
    let vendors = Mock::several(2, &[]);
    let models = |n| match n {
        0 => ", models: [\"other-*\"]".to_owned(),
        _ => ", models: {gpt-5: gpt-5-mini}".to_owned(),
    };
    let gateway = Gateway::start(&pool_of(&vendors, "", models));
    send_in_a_row(&gateway, 4);
    assert_eq!(requests(&vendors), [0, 4]);
    let asked = vendors[1].stats()["by_model"].clone();
    assert_eq!(asked, serde_json::json!({"gpt-5-mini": 4}));
}

#[test]
fn the_next_priority_serves_when_the_first_is_gone() {
    let mut vendors = Mock::several(2, &[]);
    let priority = |n| format!(", priority: {}", 1 - n as i32);
    let gateway = Gateway::start(&pool_of(&vendors, "", priority));
    send_in_a_row(&gateway, 10);
    assert_eq!(requests(&vendors), [0, 10]);
    vendors.pop();
    send_in_a_row(&gateway, 10);
    assert_eq!(vendors[0].count("requests"), 10);
}
