//! What is shipped for operators: rules and dashboards that a real Prometheus takes, and that tell when
//! something is wrong with a real gateway.

mod alerts;
mod files;
mod prometheus;
mod reference;
mod rules;

use std::collections::BTreeSet;
use std::path::PathBuf;

use poolgate::telemetry::Metrics;
use serde_json::Value;

/// A file of deploy/.
fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

#[track_caller]
fn read(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The metrics and recorded series that an expression names, those of a histogram by its name.
fn named(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c| !is_name(c));
    let own = words.filter(|word| {
        ["poolgate_", "poolgate:", "process_"]
            .iter()
            .any(|start| word.starts_with(start))
    });
    own.map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

/// Every name that there is: the program's metrics, those of the process, the recorded series.
fn known() -> BTreeSet<String> {
    let own = Metrics::NAMES.iter().map(|family| family.name.to_owned());
    let process = [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ];
    let recorded = rules::all()
        .into_iter()
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned));
    own.chain(process.map(str::to_owned))
        .chain(recorded)
        .collect()
}
