//! Several gateways over one Redis: what they decide together, and that nothing fails without it.

mod places;
mod script;

use crate::support::{Gateway, Redis};

/// So many gateways with the same configuration, all over this Redis.
fn gateways(count: usize, redis: &str, configuration: &str) -> Vec<Gateway> {
    let text = format!("state: {{redis: \"{redis}\"}}\n{configuration}");
    let gateways: Vec<Gateway> = (0..count).map(|_| Gateway::start(&text)).collect();
    gateways.iter().for_each(Gateway::wait_until_ready);
    gateways
}

/// How many gateways Redis takes for living.
fn living(redis: &Redis) -> usize {
    redis
        .command(&["ZCARD", "poolgate:{places}:alive"])
        .parse()
        .unwrap()
}
