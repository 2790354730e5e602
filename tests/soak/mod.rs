//! Full load for ten minutes, streams and plain answers and failures mixed: the memory stays flat.
//!
//! Flat means, of the samples of the resident memory after the first fifth of the time: a line through
//! them rises by at most 1 MiB a minute, and their last tenth is at most 10 % above their first.

mod load;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Mock, pool_of, wait_for};
use load::Counts;

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const STEEPEST_MIB_PER_MINUTE: f64 = 1.0;
const MOST_GROWTH: f64 = 0.10;

const MIB: f64 = (1 << 20) as f64;

/// Minutes since the start, and MiB.
type Sample = (f64, f64);

/// What the samples after the warm-up say.
#[derive(Debug)]
struct Verdict {
    mib_per_minute: f64,
    growth: f64,
}

impl Verdict {
    fn of(samples: &[Sample]) -> Verdict {
        let kept = &samples[samples.len() / 5..];
        let count = kept.len() as f64;
        let mean = |value: fn(&Sample) -> f64| kept.iter().map(value).sum::<f64>() / count;
        let (time, memory) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let product: f64 = kept.iter().map(|(t, m)| (t - time) * (m - memory)).sum();
        let square: f64 = kept.iter().map(|(t, _)| (t - time).powi(2)).sum();
        let tenth = kept.len().div_ceil(10);
        let level =
            |samples: &[Sample]| samples.iter().map(|(_, m)| m).sum::<f64>() / samples.len() as f64;
        let (first, last) = (level(&kept[..tenth]), level(&kept[kept.len() - tenth..]));
        Verdict {
            mib_per_minute: product / square,
            growth: (last - first) / first,
        }
    }

    fn is_flat(&self) -> bool {
        self.mib_per_minute <= STEEPEST_MIB_PER_MINUTE && self.growth <= MOST_GROWTH
    }
}

/// Resident memory of a process, MiB.
fn memory(process: u32) -> f64 {
    const PAGE: f64 = 4096.0;
    let text = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE / MIB
}

fn time() -> Duration {
    let given = std::env::var("POOLGATE_SOAK_TIME");
    humantime::parse_duration(given.as_deref().unwrap_or("10m")).unwrap()
}

/// A sample every five seconds, each told as it is taken.
fn watch(gateway: &Gateway, counts: &Counts, time: Duration) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = vec![];
    while began.elapsed() < time {
        thread::sleep(SAMPLE_EVERY.min(time));
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let mib = memory(gateway.program.id());
        samples.push((minutes, mib));
        eprintln!("{minutes:6.2} min  {mib:7.1} MiB  {counts}");
    }
    samples
}

#[test]
#[ignore = "ten minutes at full load: `make soak`"]
fn memory_stays_flat_under_full_load() {
    let vendors: Vec<Mock> = (0..3)
        .map(|n| Mock::start(&["--name", &format!("a{n}")]))
        .collect();
    // Pingora keeps the place of a deadline until it has passed, though nobody waits for it any more:
    // what deadlines take is only flat once the longest has passed.
    let keys = "    retry: {attempts: 3}\n    queue: {timeout: 2s}\n    breaker: {open_for: 200ms}\n    \
                timeouts: {read: 30s, read_stream: 30s}\n";
    let accounts = pool_of(&vendors, keys, |_| ", max_concurrent: 40".to_owned());
    let log = "log: {file: poolgate.log}\n";
    let gateway = Gateway::start(&format!(
        "clients: {{open: true, body_timeout: 30s, write_timeout: 30s, keepalive: 30s}}\n{log}{accounts}"
    ));
    for vendor in &vendors {
        vendor.set(&json!({"cookie": true}));
    }
    let (counts, over) = (Counts::default(), AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        scope.spawn(|| load::run(gateway.address, &counts, &over));
        let samples = watch(&gateway, &counts, time());
        over.store(true, Ordering::SeqCst);
        samples
    });
    let verdict = Verdict::of(&samples);
    eprintln!(
        "{counts}; {:+.2} MiB a minute, {:+.1} %",
        verdict.mib_per_minute,
        verdict.growth * 100.0
    );
    counts.assert_all_kinds_came();
    for name in [
        "poolgate_active_requests",
        "poolgate_queue_waiting",
        "poolgate_connections",
    ] {
        wait_for(&format!("{name} to be 0"), || {
            (gateway.metric(name, &[]) == 0.0).then_some(())
        });
    }
    assert_eq!(gateway.metric("poolgate_panics_total", &[]), 0.0);
    assert!(verdict.is_flat(), "{verdict:?} of {samples:?}");
}

#[test]
fn a_rising_line_is_not_flat_and_a_wavy_one_is() {
    let minutes = |n: u32| f64::from(n) / 12.0;
    let wavy: Vec<Sample> = (0..120)
        .map(|n| (minutes(n), 50.0 + f64::from(n % 7)))
        .collect();
    assert!(Verdict::of(&wavy).is_flat(), "{:?}", Verdict::of(&wavy));
    let rising: Vec<Sample> = (0..120)
        .map(|n| (minutes(n), 50.0 + 2.0 * minutes(n)))
        .collect();
    let verdict = Verdict::of(&rising);
    assert!((verdict.mib_per_minute - 2.0).abs() < 0.01 && !verdict.is_flat());
    let grown: Vec<Sample> = (0..120)
        .map(|n| (minutes(n), 5.0 + 0.2 * minutes(n)))
        .collect();
    assert!(!Verdict::of(&grown).is_flat(), "slow, but a fifth more");
    // What is taken at the start and kept is no leak.
    let settled: Vec<Sample> = (0..120)
        .map(|n| (minutes(n), f64::from(n.min(20))))
        .collect();
    assert!(
        Verdict::of(&settled).is_flat(),
        "{:?}",
        Verdict::of(&settled)
    );
}
