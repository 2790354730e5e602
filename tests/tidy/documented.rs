//! What a user can set or see is written down: every key in conf/poolgate.yaml, every metric in
//! docs/metrics.md, and nothing there that does not exist.

use std::collections::BTreeSet;
use std::fs;

use poolgate::config::known_keys;
use poolgate::telemetry::Metrics;

use super::source::{root, words};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn each_configuration_key_is_in_the_reference() {
    let reference = read("conf/poolgate.yaml");
    // `key: value`, and `{one | other, third}` in a comment where keys exclude each other.
    let keys: BTreeSet<&str> = words(&reference)
        .filter(|(at, word)| {
            reference[at + word.len()..]
                .trim_start()
                .starts_with([':', '|', ','])
        })
        .map(|(_, word)| word)
        .collect();
    let known = known_keys();
    let missing: Vec<&String> = known
        .iter()
        .filter(|key| {
            let own = key.rsplit('.').next().unwrap().trim_end_matches("[]");
            own != "*" && !keys.contains(own)
        })
        .collect();
    assert!(!known.is_empty());
    assert!(missing.is_empty(), "conf/poolgate.yaml lacks: {missing:?}");
}

#[test]
fn the_table_of_metrics_is_the_one_the_program_has() {
    let page = read("docs/metrics.md");
    let written: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("| `poolgate_"))
        .map(|line| line.split('|').take(3).collect::<Vec<_>>().join("|"))
        .collect();
    let known: Vec<String> = Metrics::NAMES
        .iter()
        .map(|family| format!("| `{}` | {}", family.name, family.labels.join(", ")))
        .collect();
    let bare = |rows: &[String]| -> BTreeSet<String> {
        rows.iter().map(|row| row.trim_end().to_owned()).collect()
    };
    let (written, known) = (bare(&written), bare(&known));
    let missing: Vec<_> = known.difference(&written).collect();
    let stale: Vec<_> = written.difference(&known).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/metrics.md lacks {missing:#?} and has too much: {stale:#?}"
    );
}
