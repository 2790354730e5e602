//! Several gateways over one Redis: what they decide together, and that nothing fails without it.

mod away;
mod ledger;
mod places;
mod script;
mod slots;

use std::sync::Arc;

use poolgate::config;
use poolgate::secret::Secret;
use poolgate::store::shared::Shared;
use tokio::runtime::Runtime;

use crate::support::{Gateway, Redis, wait_for};

/// A process that shares this Redis, connected. Its keys begin with `test:`.
fn connect(url: String, runtime: &Runtime) -> Arc<Shared> {
    let config = config::Redis {
        url: Secret::new(url),
        ca: None,
        key_prefix: "test:".to_owned(),
    };
    let shared = Arc::new(Shared::new(&config, None).unwrap());
    let keeping = shared.clone();
    runtime.spawn(async move { keeping.keep().await });
    wait_for("the connection", || shared.is_up().then_some(()));
    shared
}

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
