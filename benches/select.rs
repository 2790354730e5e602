//! What taking an account and giving it back costs, for each strategy, by the number of accounts, with
//! all that may be looked at on the way: the queue, affinity, ceilings, breakers and limits.
//!
//! The aim: at most 150 ns with 10 accounts and 300 ns with 10,000, all of them ready or half.

use std::cell::OnceCell;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use poolgate::dialect::Dialect;
use poolgate::pool::{Demand, Lease, Pool};
use poolgate::telemetry::Metrics;
use poolgate::{clock, config};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STRATEGIES: [&str; 7] = [
    "round_robin",
    "weighted",
    "least_connections",
    "least_used",
    "response_time",
    "hash",
    "random",
];

/// Conversations that go on, where the accounts know them.
const SESSIONS: u64 = 10_000;

/// Between two requests.
const PAUSE: Duration = Duration::from_micros(100);

/// Who asks, and whom.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Of each two accounts, one is disabled.
    half: bool,
    /// The accounts have limits of requests and of tokens.
    limits: bool,
    talks: Talks,
}

/// What conversations there are.
#[derive(Clone, Copy)]
enum Talks {
    /// None: `affinity: none`, or a client that names no session.
    None,
    /// Each request is the first of one.
    New,
    /// Nearly all have an account already.
    Known,
}

const CASES: [Case; 7] = [
    case("alone", false, false, Talks::None),
    case("alone, half ready", true, false, Talks::None),
    case("newcomers", false, false, Talks::New),
    case("newcomers, half ready", true, false, Talks::New),
    case("newcomers, limits", false, true, Talks::New),
    case("at home", false, false, Talks::Known),
    case("at home, limits", false, true, Talks::Known),
];

const fn case(name: &'static str, half: bool, limits: bool, talks: Talks) -> Case {
    Case {
        name,
        half,
        limits,
        talks,
    }
}

/// A pool of so many accounts with different weights.
fn pool(strategy: &str, accounts: usize, case: Case) -> Arc<Pool> {
    let limits = match case.limits {
        true => {
            ", rate_limits: [{requests: 100000000, window: 1h}, {tokens: 100000000000, window: 1m}]"
        }
        false => "",
    };
    let account = |n: usize| {
        let weight = 1 + n % 3;
        let enabled = !case.half || n.is_multiple_of(2);
        format!(
            "{{id: a{n}, upstream: openai, weight: {weight}, enabled: {enabled}, max_concurrent: 50{limits}}}"
        )
    };
    let accounts: Vec<String> = (0..accounts).map(account).collect();
    let text = format!(
        "pools: {{default: {{strategy: {strategy}, accounts: [{}]}}}}",
        accounts.join(", ")
    );
    let loaded = config::parse(&text, Path::new("poolgate.yaml"), &|_| None);
    let config = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let metrics = Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap_or_else(|e| panic!("{e}"));
    Pool::new(&config.pools[0], &Arc::new(metrics), clock::now())
}

fn lease_and_release(criterion: &mut Criterion) {
    for strategy in STRATEGIES {
        let mut group = criterion.benchmark_group(strategy);
        for accounts in [10, 10_000] {
            for case in CASES {
                // Made for those that are run.
                let made = OnceCell::new();
                let mut demand = Demand {
                    dialect: Dialect::OpenAi,
                    websocket: false,
                    model: None,
                    caller: Some(0),
                    session: Some(1),
                    priority: 0,
                    key: 0,
                    tokens: Some(1_000),
                    tried: Default::default(),
                    again: false,
                    only: None,
                };
                let mut now = clock::now();
                let mut count = 0u64;
                group.bench_function(BenchmarkId::new(case.name, accounts), |bencher| {
                    let pool = made.get_or_init(|| pool(strategy, accounts, case));
                    bencher.iter(|| {
                        count += 1;
                        now += PAUSE;
                        // Callers spread over the whole ring, and conversations over their table.
                        let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                        demand.caller = Some(spread(count));
                        demand.session = match case.talks {
                            Talks::None => None,
                            Talks::New => Some(spread(count)),
                            Talks::Known => Some(spread(count % SESSIONS)),
                        };
                        let lease = pool.lease(&demand, now, now).now_or_never();
                        let mut lease = black_box(lease).and_then(Result::ok);
                        // As each request says it on its way.
                        lease.as_mut().map(Lease::sent);
                        assert!(lease.is_some());
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = lease_and_release
}
criterion_main!(benches);
