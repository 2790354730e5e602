//! What a key costs on a request's path: its lookup among so many, a permit, and what it holds of so many
//! limits. The aim: all of it at most 5 % of a request, which costs some 25 µs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use poolgate::clock;
use poolgate::config::{self, Config, Limit, LimitUnit};
use poolgate::key::{KeyHash, Keys, Slots};
use poolgate::limit::{Ask, Spent};
use poolgate::store::{Candidate, KeyRecord, Store};
use poolgate::telemetry::Metrics;

fn config() -> Config {
    let text = "tiers: {default: {max_concurrent: 100}}\n\
        prices: [{models: 'gpt-5-mini', input: 0.25, output: 2}, {models: 'gpt-5*', input: 1.25, output: 10}]\n\
        pools: {default: {accounts: [{id: a, upstream: openai}]}}";
    let loaded = config::parse(text, Path::new("poolgate.yaml"), &|_| None);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

fn key(n: usize) -> String {
    format!("sk-pg-{n:072}")
}

fn record(n: usize, limits: &[Limit]) -> KeyRecord {
    KeyRecord {
        id: format!("key_{n}"),
        name: format!("key-{n}"),
        hash: KeyHash::of(&key(n)).to_hex(),
        hint: String::new(),
        tier: "default".to_owned(),
        account: None,
        created_at: 0,
        expires_at: Some(4_000_000_000_000),
        models: vec!["gpt-*".to_owned()],
        limits: limits.to_vec(),
        max_concurrent: 0,
        allowed_ips: vec!["10.0.0.0/8".to_owned()],
        labels: Default::default(),
        notes: String::new(),
        enabled: true,
        revoked_at: None,
        previous: None,
        expose_account: false,
    }
}

/// So many limits, each of which has much in its window.
fn limits(count: usize) -> Vec<Limit> {
    let units = [LimitUnit::Requests, LimitUnit::Tokens, LimitUnit::Cost];
    let limit = |n: usize| Limit {
        models: if n < 3 { "*" } else { "*gpt-5*" }.to_owned(),
        unit: units[n % 3],
        amount: 1e12,
        window: Duration::from_secs(60 + n as u64),
    };
    (0..count).map(limit).collect()
}

fn admission(criterion: &mut Criterion) {
    let config = config();
    let mut group = criterion.benchmark_group("admission");
    for (keys, rules) in [
        (10, 0),
        (10, 1),
        (10, 3),
        (10, 6),
        (10_000, 3),
        (100_000, 3),
    ] {
        let limits = limits(rules);
        let records = (0..keys).map(|n| record(n, &limits)).collect();
        let index = Keys::new(&config, Some(records));
        let presented: Vec<String> = (0..keys.min(1000)).map(key).collect();
        let (wall, start) = (clock::wall(), clock::now());
        let address = "10.1.2.3".parse().ok();
        let mut turn = 0u32;
        let name = format!("{rules} limits, keys");
        group.bench_function(BenchmarkId::new(name, keys), |bencher| {
            bencher.iter(|| {
                turn = turn.wrapping_add(1);
                // The windows slide as they do under 10,000 requests a second.
                let now = start + turn * Duration::from_micros(100);
                let key = &*presented[turn as usize % presented.len()];
                let client = index.authenticate([key].into_iter(), wall);
                let client = client.unwrap_or_else(|refused| panic!("{refused:?}"));
                assert!(client.may.allows_address(address));
                assert!(client.may.allows_model(Some("gpt-5")));
                let permit = client.permits.take(client.may.max_concurrent);
                let price = client.prices.of_model("gpt-5");
                let ask = Ask {
                    model: Some("gpt-5"),
                    tokens: 1200,
                    cost: 1_000_000,
                };
                if !client.limits.is_empty()
                    && let Ok(hold) = client.limits.admit(&ask, now)
                {
                    let spent = Spent {
                        tokens: 300,
                        cost: 400_000,
                    };
                    hold.settle(spent, now);
                }
                black_box((permit, price));
            });
        });
    }
    group.finish();
}

fn ok<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("{error:?}"))
}

/// What a slot costs a request whose key holds one: read from memory, and noted as used.
fn slots(criterion: &mut Criterion) {
    let text = "clients: {keys: [{name: k, key: sk-bench, tier: medium}]}\n\
        tiers: {medium: {assignment: slots}}\n\
        pools: {default: {accounts: [{id: a, upstream: openai}]}}";
    let loaded = config::parse(text, Path::new("poolgate.yaml"), &|_| None);
    let config = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let runtime = ok(tokio::runtime::Runtime::new());
    let folder = ok(tempfile::tempdir());
    let store = Arc::new(ok(runtime.block_on(Store::open(folder.path()))));
    let at = clock::moment();
    let metrics = Arc::new(ok(Metrics::new("bench", at.wall)));
    let slots = Slots::new(store, metrics, at.now);
    let keys = Keys::new(&config, Some(Vec::new()));
    let client = ok(keys.client("cfg:k").ok_or("no key"));
    let candidates = [Candidate {
        account: "a".into(),
        rank: 0,
    }];
    let tier = &config.tiers["medium"];
    let placed = slots.place(&client, tier, &candidates, at, Duration::from_secs(9));
    ok(runtime.block_on(placed));
    criterion.bench_function("a slot that is held", |bencher| {
        bencher.iter(|| {
            let seated = slots.enter(&client, at.now);
            let held = slots.held(&client, at.now);
            slots.used(&client, at);
            black_box((seated, held))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = admission, slots
}
criterion_main!(benches);
