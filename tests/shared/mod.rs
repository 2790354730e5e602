//! Several gateways over one Redis: what they decide together, and that nothing fails without it.

mod away;
mod ledger;
mod limits;
mod places;
mod rates;
mod script;
mod secured;
mod slots;
mod tokens;
mod told;

use std::sync::Arc;
use std::time::Duration;

use poolgate::config;
use poolgate::secret::Secret;
use poolgate::store::shared::Shared;
use tokio::runtime::Runtime;

use crate::support::{Gateway, Redis, wait_for};

/// A process that shares this Redis, connected. Its keys begin with `test:`.
fn connect(url: String, runtime: &Runtime) -> Arc<Shared> {
    let gateway = format!("{:016x}", fastrand::u64(..));
    connect_as(&gateway, url, runtime)
}

/// One of the gateway with this name. A machine that is busy has answers come late; here they are
/// waited for.
fn connect_as(gateway: &str, url: String, runtime: &Runtime) -> Arc<Shared> {
    connect_for(gateway, url, Duration::from_secs(2), runtime)
}

/// One to which Redis must answer within this time.
fn connect_for(gateway: &str, url: String, within: Duration, runtime: &Runtime) -> Arc<Shared> {
    let config = config::Redis {
        url: Secret::new(url),
        ca: None,
        key_prefix: "test:".to_owned(),
        answer_within: within,
    };
    let shared = Arc::new(Shared::new(&config, gateway, None).unwrap());
    let keeping = shared.clone();
    runtime.spawn(async move { keeping.keep().await });
    wait_for("the connection", || shared.is_up().then_some(()));
    shared
}

/// So many gateways with the same configuration, all over this Redis, that know of each other.
fn gateways(count: usize, redis: &str, configuration: &str) -> Vec<Gateway> {
    all(count, || start(redis, configuration))
}

/// The same for tests of what holds as long as Redis answers in time: on a busy machine that takes long.
fn patient_gateways(count: usize, redis: &str, configuration: &str) -> Vec<Gateway> {
    let state = format!("state: {{redis: {{url: \"{redis}\", answer_within: 1s}}}}\n");
    all(count, || Gateway::start(&format!("{state}{configuration}")))
}

fn all(count: usize, start: impl Fn() -> Gateway) -> Vec<Gateway> {
    let gateways: Vec<Gateway> = (0..count).map(|_| start()).collect();
    gateways
        .iter()
        .for_each(|gateway| wait_for_all(gateway, count));
    gateways
}

/// One more, beside so many others.
fn gateways_beside(others: usize, redis: &str, configuration: &str) -> Gateway {
    let gateway = start(redis, configuration);
    wait_for_all(&gateway, others + 1);
    gateway
}

fn start(redis: &str, configuration: &str) -> Gateway {
    Gateway::start(&format!("state: {{redis: \"{redis}\"}}\n{configuration}"))
}

fn wait_for_all(gateway: &Gateway, count: usize) {
    wait_for("all gateways to know of each other", || {
        let known = gateway.metric("poolgate_gateways", &[]);
        (known == count as f64 && gateway.log().contains("INFO ready")).then_some(())
    });
}

/// How many gateways Redis takes for living.
fn living(redis: &Redis) -> usize {
    redis
        .command(&["ZCARD", "poolgate:{places}:alive"])
        .parse()
        .unwrap()
}
