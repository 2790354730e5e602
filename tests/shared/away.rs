//! Redis stopped, frozen, slow, emptied, while clients go on: no request fails, none waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{gateways, living};
use crate::support::{
    Connection, Delay, Gateway, Mock, Redis, chat, count, get, pool_of, wait_for,
};

/// How long a fault lasts.
fn fault() -> Duration {
    Duration::from_secs(count(3, 30) as u64)
}

/// What clients saw in a while: the times that requests took, in order.
struct Seen(Vec<Duration>);

impl Seen {
    fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }
}

/// Some clients of each gateway that go on while `meanwhile` lasts, each request with a key; every
/// one is served.
fn under_load(gateways: &[Gateway], meanwhile: impl FnOnce()) -> Seen {
    let is_over = AtomicBool::new(false);
    let client = |gateway: &Gateway| {
        let mut times = vec![];
        let mut connection = Connection::open(gateway.address).unwrap();
        let request = chat(false).bearer("sk-test-a-key-of-a-client");
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = connection.send(&request).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            times.push(begun.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        times
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4 * gateways.len())
            .map(|n| scope.spawn(move || client(&gateways[n % gateways.len()])))
            .collect();
        meanwhile();
        is_over.store(true, Ordering::Relaxed);
        let mut times: Vec<_> = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect();
        times.sort_unstable();
        Seen(times)
    })
}

/// What the fault cost. Below seconds it is no matter for a machine that does much else; asked for by
/// `POOLGATE_SOAK=1` it is 60 ms.
#[track_caller]
fn compare(fault: &str, before: &Seen, during: &Seen) {
    let (before, during) = (before.p99(), during.p99());
    eprintln!("{fault}: p99 {during:?}, before {before:?}");
    let most = Duration::from_millis(count(3000, 60) as u64);
    assert!(
        during < before + most,
        "{fault}: {during:?}, before {before:?}"
    );
}

fn configuration(vendors: &[Mock]) -> String {
    let keys = "clients:\n  open: false\n  keys: [{name: one, key: sk-test-a-key-of-a-client}]\n";
    let pool = pool_of(vendors, "    strategy: least_connections\n", |_| {
        ", max_concurrent: 8".to_owned()
    });
    format!("{keys}{pool}")
}

#[test]
fn clients_notice_nothing_of_a_redis_that_is_stopped_frozen_slow_or_emptied() {
    let mut redis = Redis::start();
    let delay = Delay::in_front_of(redis.address);
    let vendors = Mock::several(3, &["--delay", "10ms"]);
    let url = format!("redis://{}", delay.address);
    let gateways = gateways(3, &url, &configuration(&vendors));
    let all_know = |is_up: bool| {
        for gateway in &gateways {
            wait_for("/health to know of Redis", || {
                let health = gateway.admin(get("/health")).json();
                (health["redis"] == is_up).then_some(())
            });
        }
    };
    let before = under_load(&gateways, || thread::sleep(fault() / 2));
    let slow = under_load(&gateways, || {
        delay.set(Duration::from_secs(5));
        all_know(false);
        thread::sleep(fault());
        delay.set(Duration::ZERO);
        all_know(true);
        wait_for("all gateways to be back", || {
            (living(&redis) == 3).then_some(())
        });
    });
    compare("slow", &before, &slow);
    let frozen = under_load(&gateways, || {
        redis.freeze();
        all_know(false);
        thread::sleep(fault());
        redis.go_on();
        all_know(true);
        wait_for("all gateways to be back", || {
            (living(&redis) == 3).then_some(())
        });
    });
    compare("frozen", &before, &frozen);
    let emptied = under_load(&gateways, || {
        for _ in 0..count(2, 5) {
            redis.command(&["FLUSHALL"]);
            thread::sleep(Duration::from_millis(700));
        }
        all_know(true);
        wait_for("all gateways to be back", || {
            (living(&redis) == 3).then_some(())
        });
    });
    compare("emptied", &before, &emptied);
    for vendor in &vendors {
        let most = vendor.count("max_in_flight_seen");
        assert!(most <= 8, "{most}");
    }
    let stopped = under_load(&gateways, || {
        redis.stop();
        all_know(false);
        thread::sleep(fault());
        redis.start_again();
        let back = Instant::now();
        all_know(true);
        wait_for("all gateways to be back", || {
            (living(&redis) == 3).then_some(())
        });
        assert!(
            back.elapsed() < Duration::from_secs(5),
            "{:?}",
            back.elapsed()
        );
    });
    compare("stopped", &before, &stopped);
}

#[test]
fn a_gateway_without_its_redis_has_its_part_and_a_shared_one_its_place() {
    let mut redis = Redis::start();
    let vendors = Mock::several(1, &["--delay", "300ms"]);
    let limited = pool_of(&vendors, "", |_| ", max_concurrent: 4".to_owned());
    let gateways = gateways(2, &redis.url(), &limited);
    redis.stop();
    for gateway in &gateways {
        wait_for("/health to know of Redis", || {
            (gateway.admin(get("/health")).json()["redis"] == false).then_some(())
        });
    }
    // Once what the other may have held is over.
    thread::sleep(Duration::from_secs(5));
    thread::scope(|scope| {
        for gateway in &gateways {
            for _ in 0..6 {
                scope.spawn(|| assert_eq!(gateway.send(&chat(false)).status, 200));
            }
        }
    });
    assert_eq!(vendors[0].count("max_in_flight_seen"), 4, "two of each");
}
