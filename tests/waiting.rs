//! What happens where there is more to do than the accounts can take: who waits, in which order, for
//! how long, and what the others are told.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Gateway, Mock, Request, chat, count, pool_of, wait_for};

/// A gateway over vendors that take one request at a time and so long for each.
fn gateway(vendors: usize, delay: &str, keys: &str, before: &str) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(vendors, &["--delay", delay]);
    let pool = pool_of(&vendors, keys, |_| ", max_concurrent: 1".to_owned());
    (Gateway::start(&format!("{before}{pool}")), vendors)
}

fn waiting(gateway: &Gateway) -> usize {
    gateway.metric("poolgate_queue_waiting", &[]) as usize
}

/// Sends it in a thread and returns when it waits, the `nth` to do so.
fn join<'scope>(
    scope: &'scope Scope<'scope, '_>,
    gateway: &'scope Gateway,
    request: Request,
    nth: usize,
) -> ScopedJoinHandle<'scope, (Answer, Instant)> {
    let sent = scope.spawn(move || (gateway.send(&request), Instant::now()));
    wait_for("the request to wait", || {
        (waiting(gateway) == nth).then_some(())
    });
    sent
}

/// Takes the one place until the vendor is told to go on.
#[track_caller]
fn hold<'scope>(
    scope: &'scope Scope<'scope, '_>,
    gateway: &'scope Gateway,
    request: Request,
) -> ScopedJoinHandle<'scope, Answer> {
    let held = scope.spawn(move || gateway.send(&request));
    wait_for("the place to be taken", || {
        (gateway.account("a0")["in_flight"] == 1).then_some(())
    });
    held
}

#[test]
fn fifty_at_once_on_three_places_are_all_served() {
    let delay = if count(0, 1) == 0 { "100ms" } else { "1s" };
    let (gateway, vendors) = gateway(3, delay, "", "");
    let begun = Instant::now();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let sent: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| gateway.send(&chat(false)).status))
            .collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // Seventeen in a row of one second each, and not one more.
    assert!(
        begun.elapsed() < Duration::from_secs(18),
        "{:?}",
        begun.elapsed()
    );
    let served: u64 = vendors.iter().map(|vendor| vendor.count("requests")).sum();
    assert_eq!(served, 50);
    assert!(vendors.iter().all(|vendor| vendor.count("violations") == 0));
}

#[test]
fn who_waits_is_served_in_the_order_of_arrival_and_keys_take_turns() {
    let keys = "clients: {keys: [{name: one, key: key-one}, {name: two, key: key-two}]}\n";
    let (gateway, _vendors) = gateway(1, "200ms", "", keys);
    let of = |key: &str| chat(false).bearer(key);
    let order = thread::scope(|scope| {
        let held = hold(scope, &gateway, of("key-one").header("x-mock-delay", "3s"));
        let asked = ["key-one", "key-one", "key-one", "key-two"];
        let sent: Vec<_> = (1..)
            .zip(asked)
            .map(|(nth, key)| join(scope, &gateway, of(key), nth))
            .collect();
        let mut ends: Vec<(Instant, usize)> = sent
            .into_iter()
            .enumerate()
            .map(|(n, sent)| {
                let (answer, end) = sent.join().unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                (end, n)
            })
            .collect();
        assert_eq!(held.join().unwrap().status, 200);
        ends.sort_unstable();
        ends.into_iter().map(|(_, n)| n).collect::<Vec<_>>()
    });
    assert_eq!(order, [0, 3, 1, 2]);
}

/// A request that begins its answer only after a minute, as bytes on a connection that can be dropped.
fn sits(gateway: &Gateway, account: &str) -> std::net::TcpStream {
    let request = chat(false).header("x-mock-delay", "60s");
    let mut client = std::net::TcpStream::connect(gateway.address).unwrap();
    std::io::Write::write_all(&mut client, &request.bytes(gateway.address)).unwrap();
    wait_for("the place to be taken", || {
        (gateway.account(account)["in_flight"] == 1).then_some(())
    });
    client
}

#[test]
fn the_queues_timeout_is_that_of_a_request_and_not_of_each_account_it_is_sent_to() {
    let keys = "    strategy: round_robin\n    queue: {timeout: 6s}\n    \
                breaker: {consecutive_failures: 1, open_for: 5m}\n";
    let (gateway, _vendors) = gateway(2, "0s", keys, "");
    let first = sits(&gateway, "a0");
    let _second = sits(&gateway, "a1");
    thread::scope(|scope| {
        let fails = chat(false).header("x-mock-status", "500");
        let fails = join(scope, &gateway, fails, 1);
        let waits = join(scope, &gateway, chat(false), 2);
        thread::sleep(Duration::from_secs(3));
        // The one that fails gets this place, and then waits for the other one no longer than it may in all.
        drop(first);
        let (failed, failed_at) = fails.join().unwrap();
        let (waited, waited_at) = waits.join().unwrap();
        assert!(failed.status >= 500, "{}", failed.text());
        assert_eq!(waited.status, 503, "{}", waited.text());
        let late = failed_at.saturating_duration_since(waited_at);
        assert!(late < Duration::from_millis(1_500), "{late:?}");
    });
}

#[test]
fn a_client_that_leaves_the_queue_leaves_its_place_at_once() {
    let (gateway, _vendors) = gateway(1, "5s", "", "");
    // Nothing comes free in all that time.
    let _held = sits(&gateway, "a0");
    let request = chat(false).bytes(gateway.address);
    let clients: Vec<_> = (1..=20)
        .map(|nth| {
            let mut client = std::net::TcpStream::connect(gateway.address).unwrap();
            std::io::Write::write_all(&mut client, &request).unwrap();
            wait_for("one more to wait", || {
                (waiting(&gateway) == nth).then_some(())
            });
            client
        })
        .collect();
    drop(clients);
    wait_for("nobody to wait", || (waiting(&gateway) == 0).then_some(()));
}

#[test]
fn a_client_that_says_how_long_it_waits_is_told_before_it_gives_up() {
    let (gateway, _vendors) = gateway(1, "10ms", "", "");
    thread::scope(|scope| {
        let held = hold(scope, &gateway, chat(false).header("x-mock-delay", "6s"));
        let begun = Instant::now();
        let asked = chat(false).header("x-stainless-read-timeout", "1.5");
        let answer = gateway.send(&asked);
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "overloaded");
        assert_eq!(held.join().unwrap().status, 200);
    });
}

#[test]
fn a_request_that_is_too_old_is_not_tried_again() {
    let vendors = Mock::several(3, &[]);
    let keys = "    retry: {deadline: 300ms}\n    breaker: {enabled: false}\n";
    let gateway = Gateway::start(&pool_of(&vendors, keys, |_| String::new()));
    let failing = chat(false).header("x-mock-status", 500);
    let begun = Instant::now();
    let slow = gateway.send(
        &failing
            .clone()
            .header("x-mock-delay", "400ms")
            .header("x-request-id", "slow"),
    );
    assert_eq!(slow.status, 500, "the last real answer");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(gateway.tries("slow").matches("transient").count(), 1);
    let quick = Gateway::start(&pool_of(
        &vendors,
        "    breaker: {enabled: false}\n",
        |_| String::new(),
    ));
    quick.send(&failing.header("x-request-id", "quick"));
    assert_eq!(quick.tries("quick").matches("transient").count(), 3);
}

#[test]
fn the_time_to_come_again_grows_with_those_who_wait() {
    let (gateway, vendors) = gateway(1, "1s", "    queue: {max_waiting: 4}\n", "");
    thread::scope(|scope| {
        let held = hold(scope, &gateway, chat(false));
        let sent: Vec<_> = (1..=4)
            .map(|nth| join(scope, &gateway, chat(false), nth))
            .collect();
        wait_for("one of them to be served", || {
            (waiting(&gateway) == 3).then_some(())
        });
        let more = join(scope, &gateway, chat(false), 4);
        let answer = gateway.send(&chat(false));
        assert_eq!(answer.status, 503, "{}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        // One a second, and four of them go first.
        assert!((3..=30).contains(&wait), "{wait}");
        assert!(answer.header("x-should-retry").is_none());
        vendors[0].set(&json!({"behaviour": {"delay": "1ms"}}));
        for sent in sent.into_iter().chain([more]) {
            assert_eq!(sent.join().unwrap().0.status, 200);
        }
        assert_eq!(held.join().unwrap().status, 200);
    });
}
