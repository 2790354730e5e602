//! What requests and operators can rely on of a pool, without a socket and in a time of the test's own.

mod affinity;
mod bequests;
mod ceilings;
mod changes;
mod crowds;
mod day;
mod interleaved;
mod invariants;
mod logins;
mod named;
mod queue;
mod rates;
mod recovery;
mod room;
mod shares;
mod strategies;
mod stress;
mod wakes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{AccountView, Bequest, Demand, Lease, Moment, Outcome, Pool, Report};
use crate::clock::Instant;
use crate::config;
use crate::dialect::Dialect;
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The pool of a configuration file: `keys` of the pool, each ended by a comma, and the keys of
/// each account, which all speak every dialect.
fn config(keys: &str, accounts: &[impl AsRef<str>]) -> config::Pool {
    let accounts: Vec<String> = accounts
        .iter()
        .map(|keys| format!("{{upstream: \"https://vendor.test\", {}}}", keys.as_ref()))
        .collect();
    let text = format!(
        "pools: {{default: {{{keys} accounts: [{}]}}}}",
        accounts.join(", ")
    );
    let loaded = config::parse(&text, Path::new("poolgate.yaml"), &|_| None);
    let mut config = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    config.config.pools.remove(0)
}

/// A request without any wish.
fn anything() -> Demand {
    Demand {
        dialect: Dialect::OpenAi,
        websocket: false,
        model: None,
        caller: None,
        session: None,
        tokens: Some(1_000),
        priority: 0,
        key: 0,
        tried: Default::default(),
        again: false,
        only: None,
    }
}

fn for_model(model: &str) -> Demand {
    Demand {
        model: Some(model.into()),
        ..anything()
    }
}

fn by_caller(caller: u64) -> Demand {
    Demand {
        caller: Some(caller),
        ..anything()
    }
}

/// A pool and the time of its requests.
struct Rig {
    pool: Arc<Pool>,
    now: Instant,
}

impl Rig {
    fn new(keys: &str, accounts: &[impl AsRef<str>]) -> Rig {
        let registry = Arc::new(Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap());
        let now = crate::clock::now();
        Rig {
            pool: Pool::new(&config(keys, accounts), &registry, now),
            now,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn take_for(&self, demand: &Demand) -> Option<Lease> {
        self.pool.try_lease(demand, self.now)
    }

    fn take(&self) -> Option<Lease> {
        self.take_for(&anything())
    }

    /// Who serves this request, which ends at once and well.
    fn served_by(&self, demand: &Demand) -> Option<String> {
        let lease = self.take_for(demand)?;
        Some(self.end(lease, &Outcome::Success))
    }

    /// Who serves the next requests, one after the other.
    fn order(&self, requests: usize) -> String {
        let ids = (0..requests).map(|_| self.served_by(&anything()));
        ids.map(|id| id.unwrap_or_else(|| "-".to_owned())).collect()
    }

    /// How many of the next requests each account serves.
    fn shares(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..requests {
            let id = self.served_by(&anything()).expect("an account is ready");
            *shares.entry(id).or_default() += 1;
        }
        shares
    }

    /// An attempt ends with this outcome; its account's id.
    fn end(&self, mut lease: Lease, outcome: &Outcome) -> String {
        lease.sent();
        if *outcome == Outcome::Success {
            lease.answered(None, None, self.now);
        }
        let about = Report {
            model: None,
            detail: "a test",
            counts: true,
        };
        lease.report(outcome, &about, self.now);
        lease.account().id.to_string()
    }

    /// The attempt is answered with a limit of this model for a minute.
    fn limited_for(&self, model: &str, mut lease: Lease) {
        let outcome = Outcome::RateLimited {
            wait: MINUTE,
            whole_account: false,
        };
        let about = Report {
            model: Some(model),
            detail: "",
            counts: true,
        };
        lease.report(&outcome, &about, self.now);
    }

    /// Leaves the state of its accounts to another process's pool.
    fn hand_over(&self, to: &Rig) {
        let left = serde_json::to_vec(&self.pool.bequeath(100, self.now)).unwrap();
        let left: Vec<Bequest> = serde_json::from_slice(&left).unwrap();
        to.pool.inherit(&left, to.now);
    }

    /// Takes an account, which must be ready, and ends the attempt with this outcome.
    fn one(&self, outcome: &Outcome) {
        let lease = self.take().expect("an account is ready");
        self.end(lease, outcome);
    }

    fn view(&self, id: &str) -> AccountView {
        let at = Moment {
            now: self.now,
            wall: SystemTime::UNIX_EPOCH,
        };
        let account = self.pool.account_named(id).expect("the account exists");
        self.pool.view(&account, at)
    }
}

fn limited(wait: Duration) -> Outcome {
    Outcome::RateLimited {
        wait,
        whole_account: true,
    }
}

/// `id: a`, `id: b` … with further keys.
fn accounts(count: usize, keys: &str) -> Vec<String> {
    let name = |n: usize| match count {
        ..=26 => char::from(b'a' + n as u8).to_string(),
        _ => format!("account_{n}"),
    };
    (0..count)
        .map(|n| format!("id: {}, {keys}", name(n)))
        .collect()
}

fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(id, count)| (id.to_owned(), count)).into()
}
