//! Several gateways with the same records: what each of them takes for used when it starts.

use nix::sys::signal::Signal;

use super::Database;
use crate::support::{Gateway, Mock, Postgres, Redis, chat, pool, wait_for};

/// A key of which every gateway knows the limit.
fn configuration(state: &str, requests: u32, vendors: &[Mock]) -> String {
    let key = "clients: {keys: [{name: blue, key: sk-blue}]}\n";
    let limit = format!("tiers: {{default: {{limits: [{{requests: {requests}, window: 1h}}]}}}}\n");
    format!("{key}{limit}{state}{}", pool(vendors, ""))
}

/// What becomes of so many requests.
fn ask(gateway: &Gateway, times: usize) -> Vec<u16> {
    let ask = || gateway.send(&chat(false).bearer("sk-blue")).status;
    (0..times).map(|_| ask()).collect()
}

#[test]
fn without_redis_a_start_counts_what_all_gateways_used_as_the_limit_is_the_keys() {
    let server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let text = configuration(&Database::state_of(&server.url(), ""), 5, &vendors);
    let mut gone = Gateway::start(&text);
    assert_eq!(ask(&gone, 3), [200; 3]);
    gone.program.stop(Signal::SIGTERM);
    // One in a container has no folder of before.
    let new = Gateway::start(&text);
    assert_eq!(ask(&new, 3), [200, 200, 429]);
}

#[test]
fn with_redis_a_gateway_knows_its_own_part_so_that_an_emptied_redis_is_told_each_once() {
    let (server, redis) = (Postgres::start(), Redis::start());
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), &format!("redis: \"{}\"", redis.url()));
    let text = configuration(&state, 11, &vendors);
    let mut gateways = [(); 2].map(|()| Gateway::start(&text));
    let wait_for_both = |gateways: &[Gateway; 2]| {
        for gateway in gateways {
            wait_for("both to know of each other", || {
                (gateway.metric("poolgate_gateways", &[]) == 2.0).then_some(())
            });
        }
    };
    wait_for_both(&gateways);
    for gateway in &gateways {
        assert_eq!(ask(gateway, 4), [200; 4]);
    }
    gateways[0].restart(Signal::SIGTERM);
    wait_for_both(&gateways);
    assert_eq!(ask(&gateways[0], 1), [200], "it has heard of the book");
    redis.command(&["FLUSHALL"]);
    // Nine were used: the first to come may not know yet of the other's four.
    assert_eq!(ask(&gateways[1], 1), [200]);
    assert_eq!(ask(&gateways[0], 2), [200, 429], "eleven in all");
    assert_eq!(ask(&gateways[1], 1), [429]);
}
