//! `max_concurrent` of an account holds over all gateways together.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{gateways, living};
use crate::support::{Gateway, Mock, Redis, chat, count, many, pool_of, wait_for};

fn limited(vendors: &[Mock], most: u32) -> String {
    pool_of(
        vendors,
        "    queue: {timeout: 60s, max_waiting: 2000}\n",
        |_| format!(", max_concurrent: {most}"),
    )
}

#[test]
fn no_upstream_ever_sees_more_than_its_limit_from_three_gateways() {
    let redis = Redis::start();
    let vendors = Mock::several(4, &["--delay", "100ms"]);
    let gateways = gateways(3, &redis.url(), &limited(&vendors, 5));
    let clients = count(40, 167);
    thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(move || {
                let answers = many(gateway.address, &chat(false), clients, count(150, 3000));
                for answer in answers {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    for vendor in &vendors {
        let most = vendor.count("max_in_flight_seen");
        assert!(most <= 5, "{most} at a time");
        assert_eq!(most, 5, "the whole limit is used");
    }
}

#[test]
fn a_gateway_alone_with_all_the_work_gets_all_the_places() {
    let redis = Redis::start();
    let vendors = Mock::several(1, &["--delay", "100ms"]);
    let gateways = gateways(2, &redis.url(), &limited(&vendors, 6));
    let work = |gateway: &Gateway| many(gateway.address, &chat(false), 12, 60);
    for gateway in &gateways {
        work(gateway);
        assert_eq!(vendors[0].count("max_in_flight_seen"), 6);
    }
}

#[test]
fn the_places_of_a_killed_gateway_are_back_within_their_time() {
    let redis = Redis::start();
    let vendors = Mock::several(1, &["--delay", "50ms"]);
    let mut gateways = gateways(2, &redis.url(), &limited(&vendors, 4));
    let hold = chat(true).header("x-mock-hang", 2);
    let held: Vec<_> = (0..4)
        .map(|_| hold.open(gateways[0].address).unwrap())
        .collect();
    wait_for("all places to be taken", || {
        (vendors[0].count("in_flight") == 4).then_some(())
    });
    gateways[0].program.stop(Signal::SIGKILL);
    let killed = Instant::now();
    drop(held);
    assert_eq!(gateways[1].send(&chat(false)).status, 200);
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(living(&redis), 1);
    many(gateways[1].address, &chat(false), 8, 16);
    assert_eq!(vendors[0].count("max_in_flight_seen"), 4);
}
