//! Keys with slots, over several gateways and one Redis.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{gateways, patient_gateways};
use crate::support::{Gateway, Mock, Redis, Request, chat, count, get, many, pool, post, wait_for};

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
    let mut gateways = patient_gateways(3, &redis.url(), &slotted(&vendors));
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
    let mut gateways = patient_gateways(2, &redis.url(), &slotted(&vendors));
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
    wait_for("/health to know of Redis", || {
        (gateways[0].admin(get("/health")).json()["redis"] == false).then_some(())
    });
    // Two requests of a key without one are told so, and neither waits for a book that is away.
    let asked = Instant::now();
    for other in many(gateways[0].address, &chat(false).bearer(&key(50)), 2, 2) {
        assert_eq!(other.status, 503, "nobody knows: {}", other.text());
        assert!(other.header("retry-after").is_some());
    }
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
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

#[test]
fn a_revoked_key_frees_its_slot_for_keys_of_other_gateways_that_never_knew_it() {
    let redis = Redis::start();
    let vendors = Mock::several(1, &[]);
    let tier = "tiers: {medium: {assignment: slots, slots_per_account: 1}}\n";
    let keys = "clients: {keys: [{name: k, key: sk-test-key-number-000, tier: medium}]}\n";
    let text = format!("{tier}{keys}{}", pool(&vendors, ""));
    let gateways = gateways(2, &redis.url(), &text);
    let create = serde_json::json!({"name": "issued", "tier": "medium"});
    let made = gateways[0].admin(post("/api/v1/keys", &create)).json();
    let issued = chat(false).bearer(made["key"].as_str().unwrap());
    wait_for("a slot to be given", || {
        (gateways[0].send(&issued).status == 200).then_some(())
    });
    let other = chat(false).bearer(&key(0));
    assert_eq!(gateways[1].send(&other).status, 503, "the slot is taken");
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    let revoke = Request::new("DELETE", &path).header("content-type", "application/json");
    assert!(gateways[0].admin(revoke).status < 300);
    wait_for("the slot to be free", || {
        (gateways[1].send(&other).status == 200).then_some(())
    });
}

#[test]
fn a_redis_that_comes_back_older_moves_no_key_and_fills_no_account_beyond_its_slots() {
    let mut redis = Redis::start();
    let vendors = Mock::several(10, &[]);
    let gateways = gateways(2, &redis.url(), &slotted(&vendors));
    let early = calls(&gateways, 0..4);
    assert_eq!(early, [0, 1, 2, 3]);
    redis.save();
    assert_eq!(calls(&gateways, 4..20).len(), 16);
    let slots = wait_for("both to have read them", || {
        let known = |gateway: &Gateway| gateway.metric("poolgate_slots_used", &[]);
        let all_known = gateways.iter().all(|gateway| known(gateway) == 20.0);
        all_known.then(|| slots_of(&redis))
    });
    redis.stop();
    redis.start_again();
    wait_for("the book to be put together", || {
        // Keys that have none come meanwhile, to both.
        for gateway in &gateways {
            for n in 20..24 {
                let other = gateway.send(&chat(false).bearer(&key(n)));
                assert_eq!(other.status, 503, "{}", other.text());
            }
        }
        let held = redis.command(&["HLEN", "poolgate:{slots}:held"]);
        (held == "20").then_some(())
    });
    assert_eq!(slots_of(&redis), slots);
    assert_eq!(calls(&gateways, 0..20).len(), 20);
    let asked: Vec<u64> = vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect();
    assert_eq!(asked, [4; 10], "each key stayed where it was");
}
