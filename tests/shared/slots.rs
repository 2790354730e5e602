//! Keys with slots, over several gateways and one Redis.

use std::collections::HashMap;
use std::thread;

use nix::sys::signal::Signal;

use super::gateways;
use crate::support::{Gateway, Mock, Redis, chat, count, pool, wait_for};

/// A hundred keys of a tier with slots, two on an account.
fn slotted(vendors: &[Mock]) -> String {
    let key =
        |n: usize| format!("    - {{name: k{n}, key: sk-test-key-number-{n:03}, tier: medium}}\n");
    let keys: String = (0..100).map(key).collect();
    let tier =
        "tiers:\n  medium: {assignment: slots, slots_per_account: 2, legacy_redis_names: true}\n";
    format!(
        "{tier}clients:\n  open: false\n  keys:\n{keys}{}",
        pool(vendors, "")
    )
}

fn key(n: usize) -> String {
    format!("sk-test-key-number-{n:03}")
}

/// One call of each of these keys at once, each to the next gateway. Returns which were served.
fn calls(gateways: &[Gateway], keys: impl Iterator<Item = usize>) -> Vec<usize> {
    thread::scope(|scope| {
        let calls: Vec<_> = keys
            .map(|n| {
                let gateway = &gateways[n % gateways.len()];
                scope.spawn(move || (n, gateway.send(&chat(false).bearer(&key(n)))))
            })
            .collect();
        let answers = calls.into_iter().map(|call| call.join().unwrap());
        let served = answers.filter(|(n, answer)| match answer.status {
            200 => true,
            503 => {
                let error = answer.json();
                assert_eq!(error["error"]["code"], "capacity_error", "{n}: {error}");
                assert!(answer.header("retry-after").is_some());
                false
            }
            other => panic!("{n}: {other} {}", answer.text()),
        });
        served.map(|(n, _)| n).collect()
    })
}

/// How many slots of each account Redis shows by the names of the older system.
fn slots_of(redis: &Redis) -> HashMap<String, u32> {
    let names = redis.command(&["KEYS", "medium_pool:slots:*"]);
    let of = |name: &str| redis.command(&["GET", name]).parse().unwrap();
    names
        .lines()
        .map(|name| (name.to_owned(), of(name)))
        .collect()
}

#[test]
fn of_a_hundred_first_calls_over_three_gateways_exactly_twenty_are_served() {
    let redis = Redis::start();
    let vendors = Mock::several(10, &[]);
    let mut gateways = gateways(3, &redis.url(), &slotted(&vendors));
    let served = calls(&gateways, 0..100);
    assert_eq!(served.len(), 20, "{served:?}");
    let slots = slots_of(&redis);
    assert_eq!(slots.len(), 10);
    assert!(slots.values().all(|used| *used == 2), "{slots:?}");
    let asked: Vec<u64> = vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect();
    assert_eq!(asked, [2; 10], "each key was served once, by its account");
    // Who has a slot has it at every gateway, and a gateway that is killed takes none along.
    gateways[0].program.stop(Signal::SIGKILL);
    let again = calls(&gateways[1..], 0..100);
    assert_eq!(again, served);
    let asked: Vec<u64> = vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect();
    assert_eq!(asked, [4; 10], "each key stayed where it was");
}

#[test]
fn slots_are_those_that_keys_hold_whenever_a_gateway_is_killed() {
    let redis = Redis::start();
    let vendors = Mock::several(4, &["--delay", "5ms"]);
    let mut gateways = gateways(2, &redis.url(), &slotted(&vendors));
    for round in 0..count(3, 100) {
        let victim = round % 2;
        thread::scope(|scope| {
            let (killed, other) = gateways.split_at_mut(1);
            let (killed, other) = match victim {
                0 => (&mut killed[0], &other[0]),
                _ => (&mut other[0], &killed[0]),
            };
            let address = killed.address;
            for n in 0..12 {
                let request = chat(false).bearer(&key((round * 12 + n) % 100));
                let twin = request.clone();
                scope.spawn(move || drop(request.try_send(address)));
                scope.spawn(move || drop(twin.try_send(other.address)));
            }
            thread::sleep(std::time::Duration::from_millis(fastrand::u64(..40)));
            killed.program.stop(Signal::SIGKILL);
        });
        let slots = slots_of(&redis);
        let held: u32 = redis
            .command(&["HLEN", "poolgate:{slots}:held"])
            .parse()
            .unwrap();
        let rotations = redis.command(&["KEYS", "key_rotation:*"]);
        assert_eq!(
            slots.values().sum::<u32>(),
            held,
            "round {round}: {slots:?}"
        );
        assert_eq!(rotations.lines().count(), held as usize);
        assert!(slots.values().all(|used| *used <= 2), "{slots:?}");
        gateways[victim].start_again();
    }
}

#[test]
fn keys_that_have_a_slot_are_served_without_redis_and_the_book_is_right_when_it_is_back() {
    let mut redis = Redis::start();
    let vendors = Mock::several(4, &[]);
    let gateways = gateways(2, &redis.url(), &slotted(&vendors));
    let served = calls(&gateways, 0..8);
    assert_eq!(served.len(), 8);
    // Each gateway has read what the other placed.
    for gateway in &gateways {
        wait_for("the slots to be known", || {
            (gateway.metric("poolgate_slots_used", &[]) == 8.0).then_some(())
        });
    }
    redis.stop();
    assert_eq!(calls(&gateways, 0..8), served);
    let other = gateways[0].send(&chat(false).bearer(&key(50)));
    assert_eq!(
        other.status,
        503,
        "nobody knows whether it may have one: {}",
        other.text()
    );
    redis.start_again();
    wait_for("the book to be put together", || {
        let held = redis.command(&["HLEN", "poolgate:{slots}:held"]);
        (held == "8").then_some(())
    });
    wait_for("slots to be given again", || {
        let full = gateways[1].send(&chat(false).bearer(&key(51)));
        (full.json()["error"]["code"] == "capacity_error").then_some(())
    });
    assert_eq!(calls(&gateways, 0..8), served);
    assert!(slots_of(&redis).values().all(|used| *used == 2));
}
