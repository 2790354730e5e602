//! What taking an account and giving it back costs, for each strategy, by the number of accounts.
//!
//! The aim: at most 150 ns with 10 accounts and 300 ns with 10,000, all of them ready or half.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use poolgate::dialect::Dialect;
use poolgate::pool::{Demand, Pool};
use poolgate::telemetry::Metrics;
use poolgate::{clock, config};

const STRATEGIES: [&str; 7] = [
    "round_robin",
    "weighted",
    "least_connections",
    "least_used",
    "response_time",
    "hash",
    "random",
];

/// A pool of so many accounts with different weights; of each two, one is disabled where `half`.
fn pool(strategy: &str, accounts: usize, half: bool) -> Arc<Pool> {
    let account = |n: usize| {
        let weight = 1 + n % 3;
        let enabled = !half || n.is_multiple_of(2);
        format!(
            "{{id: a{n}, upstream: openai, weight: {weight}, enabled: {enabled}, max_concurrent: 50}}"
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
        for accounts in [10, 1_000, 10_000] {
            for half in [false, true] {
                let pool = pool(strategy, accounts, half);
                let mut demand = Demand {
                    dialect: Dialect::OpenAi,
                    websocket: false,
                    model: None,
                    caller: Some(0),
                    session: Some(1),
                    tokens: Some(1_000),
                    priority: 0,
                    tried: Default::default(),
                    only: None,
                };
                let now = clock::now();
                let which = if half { "half ready" } else { "all ready" };
                group.bench_function(BenchmarkId::new(which, accounts), |bencher| {
                    bencher.iter(|| {
                        // Callers spread over the whole ring.
                        let next = demand.caller.map(|c| c.wrapping_add(0x9E37_79B9_7F4A_7C15));
                        demand.caller = next;
                        let lease = pool.try_lease(&demand, now);
                        assert!(black_box(lease).is_some());
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
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = lease_and_release
}
criterion_main!(benches);
