//! The rules for Prometheus and Grafana's dashboard, as files.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::{known, named, read, shipped, yaml};

/// Every rule that is shipped.
pub(super) fn all() -> Vec<Value> {
    let file = yaml("prometheus/poolgate.rules.yml");
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// The names of the alerts.
pub(super) fn alerts() -> BTreeSet<String> {
    let rules = all();
    let names = rules.iter().filter_map(|rule| rule["alert"].as_str());
    names.map(str::to_owned).collect()
}

/// The expressions of a dashboard's panels, with the title of each.
pub(super) fn panels() -> Vec<(String, String)> {
    let board: Value = serde_json::from_str(&read("grafana/poolgate.json")).unwrap();
    let mut expressions = vec![];
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap().to_owned();
            expressions.push((title.to_owned(), expression));
        }
    }
    expressions
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    let run = Command::new("promtool").args(arguments).output();
    let run = run.expect("promtool is missing: run `make deps`");
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{arguments:?}: {said}");
}

#[track_caller]
fn path(name: &str) -> String {
    shipped(name).display().to_string()
}

#[test]
fn prometheus_takes_the_rules_and_each_alert_fires_when_its_fault_is_there() {
    promtool(&["check", "rules", &path("prometheus/poolgate.rules.yml")]);
    promtool(&["test", "rules", &path("prometheus/poolgate.tests.yml")]);
}

#[test]
fn prometheus_takes_the_configuration() {
    promtool(&[
        "check",
        "config",
        "--syntax-only",
        &path("prometheus/prometheus.yml"),
    ]);
}

#[test]
fn each_alert_has_a_test_and_is_explained() {
    let tests = yaml("prometheus/poolgate.tests.yml");
    let mut fired = BTreeSet::new();
    for group in tests["tests"].as_array().unwrap() {
        for test in group["alert_rule_test"].as_array().into_iter().flatten() {
            let fires = test["exp_alerts"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            fired.extend(fires.then(|| test["alertname"].as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(fired, alerts());
    let page = std::fs::read_to_string(shipped("../docs/operations.md")).unwrap();
    let silent: Vec<_> = alerts()
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(silent.is_empty(), "docs/operations.md lacks {silent:?}");
}

#[test]
fn each_alert_says_how_bad_and_what_it_is() {
    for rule in all().iter().filter(|rule| rule["alert"].is_string()) {
        let severity = rule["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("critical" | "warning")),
            "{}",
            rule["alert"]
        );
        assert!(
            rule["annotations"]["summary"].is_string(),
            "{}",
            rule["alert"]
        );
    }
}

#[test]
fn rules_and_panels_name_only_metrics_that_there_are() {
    let known = known();
    let rules = all();
    let rules = rules
        .iter()
        .map(|rule| ("a rule", rule["expr"].as_str().unwrap().to_owned()));
    let panels = panels();
    let panels = panels
        .iter()
        .map(|(title, expression)| (title.as_str(), expression.clone()));
    for (place, expression) in rules.chain(panels) {
        let unknown: Vec<_> = named(&expression).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{place}: {unknown:?} in {expression}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<_> = panels()
        .iter()
        .flat_map(|(_, expression)| named(expression))
        .collect();
    let missing: Vec<_> = known()
        .into_iter()
        .filter(|name| name.starts_with("poolgate_") && !shown.contains(name))
        // What it says is in the accounts' states.
        .filter(|name| name != "poolgate_breaker_state")
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn the_panels_of_the_dashboard_do_not_overlap() {
    let board: Value = serde_json::from_str(&read("grafana/poolgate.json")).unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["id"]);
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} is over another", panel["title"]);
            }
        }
    }
}
