//! The ten `amazonq_*` metrics of the older pool (`server.legacy_metrics`), worked out from ours at
//! each scrape, so that its graphs and alerts go on.

use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use super::families::{self, Family, label};

/// Label values in the order of the label names, and a value.
type Rows = BTreeMap<Vec<String>, f64>;

/// The older names for the families in `ours`; one without a value is left out.
pub(super) fn derive(ours: &[MetricFamily]) -> Vec<MetricFamily> {
    let find = |family: &Family| ours.iter().find(|f| f.name() == family.name);
    let (mut requests, mut errors, mut counts) =
        (Rows::new(), Rows::new(), [(); 3].map(|()| Rows::new()));
    for metric in find(&families::REQUESTS).map_or(&[][..], |f| f.get_metric()) {
        let (account, outcome) = (label_of(metric, "account"), label_of(metric, "outcome"));
        let n = metric.get_counter().get_value();
        let status = match outcome.as_str() {
            // The client left: neither good nor bad news of the account.
            "client_gone" => continue,
            "success" => "success",
            _ => "error",
        };
        let key = vec![account.clone(), status.to_owned()];
        *requests.entry(key).or_default() += n;
        let [all, failed, good] = &mut counts;
        *all.entry(vec![account.clone()]).or_default() += n;
        *failed.entry(vec![account.clone()]).or_default() +=
            if status == "error" { n } else { 0.0 };
        *good.entry(vec![account.clone()]).or_default() +=
            if status == "success" { n } else { 0.0 };
        if status == "error" {
            *errors
                .entry(vec![account, error_type(&outcome).to_owned()])
                .or_default() += n;
        }
    }
    split_transient(&mut errors, find(&families::ERROR_ANSWERS));
    let refreshes = find(&families::TOKEN_REFRESHES).map_or_else(Rows::new, |f| {
        let status = |m: &Metric| {
            if label_of(m, "outcome") == "success" {
                "success"
            } else {
                "error"
            }
        };
        let row = |m: &Metric| {
            (
                vec![label_of(m, "account"), status(m).to_owned()],
                m.get_counter().get_value(),
            )
        };
        f.get_metric().iter().map(row).collect()
    });
    let [all, failed, good] = counts;
    let id = &["account_id"][..];
    [
        counter(
            "amazonq_requests_total",
            &["account_id", "status"],
            requests,
        ),
        counter(
            "amazonq_errors_total",
            &["account_id", "error_type"],
            errors,
        ),
        renamed(find(&families::DURATIONS), "amazonq_response_seconds"),
        renamed(find(&families::ACTIVE), "amazonq_active_requests"),
        renamed(find(&families::AVAILABLE), "amazonq_account_available"),
        renamed(
            find(&families::BREAKER_OPENED),
            "amazonq_circuit_breaker_opened_total",
        ),
        counter(
            "amazonq_token_refresh_total",
            &["account_id", "status"],
            refreshes,
        ),
        rows("amazonq_account_request_count", MetricType::GAUGE, id, all),
        rows("amazonq_account_error_count", MetricType::GAUGE, id, failed),
        rows("amazonq_account_success_count", MetricType::GAUGE, id, good),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The older pool's four kinds of error.
fn error_type(outcome: &str) -> &'static str {
    match outcome {
        "rate_limited" | "quota_dead" => "rate_limit",
        "auth_expired" | "auth_dead" => "token_refresh",
        "transient" | "broken_stream" => "network_error",
        _ => "http_error",
    }
}

/// Of transient failures some are answers.
fn split_transient(errors: &mut Rows, answers: Option<&MetricFamily>) {
    for metric in answers.map_or(&[][..], |f| f.get_metric()) {
        let n = metric.get_counter().get_value();
        let of = |kind: &str| vec![label_of(metric, "account"), kind.to_owned()];
        *errors.entry(of("http_error")).or_default() += n;
        let network = errors.entry(of("network_error")).or_default();
        *network = (*network - n).max(0.0);
    }
}

fn label_of(metric: &Metric, name: &str) -> String {
    let found = metric.get_label().iter().find(|l| l.name() == name);
    found.map(|l| l.value().to_owned()).unwrap_or_default()
}

/// The same values under an older name, `account` being `account_id` there.
fn renamed(family: Option<&MetricFamily>, name: &str) -> Option<MetricFamily> {
    let mut family = family?.clone();
    family.set_name(name.to_owned());
    for pair in family.mut_metric().iter_mut().flat_map(|m| m.mut_label()) {
        if pair.name() == "account" {
            pair.set_name("account_id".to_owned());
        }
    }
    Some(family)
}

fn counter(name: &str, labels: &[&str], values: Rows) -> Option<MetricFamily> {
    rows(name, MetricType::COUNTER, labels, values)
}

fn rows(name: &str, kind: MetricType, labels: &[&str], values: Rows) -> Option<MetricFamily> {
    if values.is_empty() {
        return None;
    }
    let metrics = values.into_iter().map(|(of, value)| {
        let mut metric = Metric::default();
        metric.set_label(
            labels
                .iter()
                .zip(&of)
                .map(|(name, value)| label(name, value))
                .collect(),
        );
        if kind == MetricType::GAUGE {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        } else {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help("As the older pool counted it.".to_owned());
    family.set_metric(metrics.collect());
    family.set_field_type(kind);
    Some(family)
}
