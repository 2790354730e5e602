//! `conf/poolgate.yaml` holds every key, and what it shows as defaults are the defaults.

use std::path::Path;

use super::super::{Config, Shown, known_keys, load};
use super::{env, good, with_account};

const TEXT: &str = include_str!("../../../conf/poolgate.yaml");

fn documented() -> Config {
    load(Path::new("conf/poolgate.yaml"), &env)
        .unwrap_or_else(|p| panic!("{p}"))
        .config
}

#[test]
fn the_whole_documented_file_is_accepted() {
    load(Path::new("conf/poolgate.yaml"), &env).unwrap_or_else(|p| panic!("{p}"));
}

#[test]
fn every_known_key_is_documented() {
    for key in known_keys() {
        let name = key.rsplit(['.', '*']).next().unwrap_or_default();
        let written = |end: &str| {
            TEXT.match_indices(&format!("{name}{end}")).any(|(at, _)| {
                TEXT[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|c| !c.is_alphanumeric() && c != '_')
            })
        };
        // `{models, requests | tokens | cost, window}` is how a comment lists keys.
        let ends = [":", ",", " |", "}"];
        assert!(
            name.is_empty() || ends.iter().any(|end| written(end)),
            "{key} is not documented"
        );
    }
}

/// What the file shows only as an example, or derives from an example.
const EXAMPLES: [&str; 15] = [
    "listen[0].tls",
    "admin.token",
    "admin.tls",
    "clients.keys_file",
    "clients.keys",
    "tiers",
    "routes",
    "pools.default.health_check",
    "pools.default.discover",
    "pools.default.accounts[0].id",
    "pools.default.accounts[0].upstream",
    "pools.default.accounts[0].dialects",
    "pools.default.accounts[0].rate_limits",
    "pools.default.accounts[0].instance",
    "notify",
];

#[test]
fn every_documented_default_is_the_default() {
    let (mut shown, mut assumed) = (Vec::new(), Vec::new());
    flatten(&documented().effective, "", &mut shown);
    let minimal = load(Path::new("conf/minimal.yaml"), &env).unwrap_or_else(|p| panic!("{p}"));
    flatten(&minimal.config.effective, "", &mut assumed);
    let mut compared = 0;
    for (path, value) in shown {
        let is_example = EXAMPLES.iter().any(|example| path.starts_with(example));
        let other_pool = path.starts_with("pools.") && !path.starts_with("pools.default.");
        if is_example || other_pool {
            continue;
        }
        let default = assumed.iter().find(|(other, _)| *other == path);
        if path != "pools.default.accounts[0].credential" {
            assert_eq!(default.map(|(_, value)| value), Some(&value), "{path}");
            compared += 1;
        }
    }
    assert!(compared > 80, "only {compared} defaults were compared");
}

fn flatten(shown: &Shown, path: &str, leaves: &mut Vec<(String, Shown)>) {
    match shown {
        Shown::Map(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(value, &path, leaves);
            }
        }
        Shown::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(item, &format!("{path}[{index}]"), leaves);
            }
        }
        leaf => leaves.push((path.to_owned(), leaf.clone())),
    }
}

#[test]
fn examples_show_defaults_too_where_they_say_nothing_else() {
    let file = documented();
    let (shown, default) = (&file.tiers["medium"], &file.tiers["default"]);
    assert_eq!(shown.slots_per_account, default.slots_per_account);
    assert_eq!(
        (shown.rotate_every, shown.idle_release),
        (default.rotate_every, default.idle_release)
    );
    assert_eq!(
        (shown.priority, shown.max_concurrent),
        (default.priority, default.max_concurrent)
    );
    assert_eq!(
        (shown.key_days, &shown.models),
        (default.key_days, &default.models)
    );
    let small = good("pools: {p: {health_check: {}, accounts: [{id: a, upstream: openai}]}}");
    assert_eq!(file.pools[0].health_check, small.pools[0].health_check);
    let found = good("pools: {p: {discover: {dir: x, account: {upstream: openai}}}}");
    let (shown, default) = (
        file.pools[0].discover.as_ref(),
        found.pools[0].discover.as_ref(),
    );
    assert_eq!(
        shown.map(|d| (&d.glob, &d.id)),
        default.map(|d| (&d.glob, &d.id))
    );
    let notified = good(&with_account("notify: [{webhook: 'https://x/y'}]"));
    assert_eq!(file.notify[0].events, notified.notify[0].events);
}
