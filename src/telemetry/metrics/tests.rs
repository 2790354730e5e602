//! What a scrape shows.

use super::{AccountLive, BreakerLive, Live, Metrics, PoolLive};
use crate::dialect::Usage;
use std::time::{Duration, SystemTime};

const OUTCOMES: &[&str] = &["success", "rate_limited", "client_gone"];

fn metrics() -> Metrics {
    Metrics::new("1.2.3", SystemTime::UNIX_EPOCH).unwrap()
}

fn live() -> Live {
    Live {
        accounts: vec![AccountLive {
            id: "a".into(),
            pool: "default".into(),
            status: "open",
            active: 2,
            available: false,
            breaker: BreakerLive::Open,
            cooldown: Duration::from_millis(1500),
            token_expiry: Some(-2.5),
            instance_up: Some(true),
        }],
        pools: vec![PoolLive {
            name: "default".into(),
            waiting: 3,
        }],
        keys: vec![("medium".into(), 4)],
        slots: vec![("a".into(), 1, 2)],
        redis: Some((true, 3)),
        connections: vec![("idle", 5)],
        certificate_expiry: Some(86_400.0),
    }
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

#[test]
fn a_request_is_counted_by_account_pool_and_outcome() {
    let metrics = metrics();
    let account = metrics.account("a", "default", OUTCOMES);
    account.request(0, Duration::from_millis(700));
    account.request(1, Duration::from_secs(3));
    account.first_byte(Duration::from_millis(70));
    account.tokens(&Usage {
        input: 10,
        output: 5,
        cached: 0,
    });
    account.breaker_opened();
    account.probe(true);
    let text = metrics.encode(&Live::default(), false);
    for line in [
        "poolgate_requests_total{account=\"a\",outcome=\"success\",pool=\"default\"} 1",
        "poolgate_requests_total{account=\"a\",outcome=\"rate_limited\",pool=\"default\"} 1",
        "poolgate_request_duration_seconds_bucket{account=\"a\",le=\"0.5\"} 0",
        "poolgate_request_duration_seconds_bucket{account=\"a\",le=\"1\"} 1",
        "poolgate_request_duration_seconds_bucket{account=\"a\",le=\"120\"} 2",
        "poolgate_request_duration_seconds_sum{account=\"a\"} 3.7",
        "poolgate_time_to_first_byte_seconds_count{account=\"a\"} 1",
        "poolgate_tokens_total{account=\"a\",kind=\"input\"} 10",
        "poolgate_tokens_total{account=\"a\",kind=\"output\"} 5",
        "poolgate_breaker_opened_total{account=\"a\"} 1",
        "poolgate_health_probes_total{account=\"a\",outcome=\"success\"} 1",
        "poolgate_build_info{version=\"1.2.3\"} 1",
        "poolgate_config_last_reload_successful 1",
        "process_start_time_seconds 0",
    ] {
        assert!(has(&text, line), "{line} is missing:\n{text}");
    }
}

#[test]
fn state_is_what_is_true_at_the_scrape() {
    let metrics = metrics();
    let text = metrics.encode(&live(), false);
    for line in [
        "poolgate_active_requests{account=\"a\"} 2",
        "poolgate_account_available{account=\"a\"} 0",
        "poolgate_breaker_state{account=\"a\"} 2",
        "poolgate_cooldown_seconds{account=\"a\"} 1.5",
        "poolgate_queue_waiting{pool=\"default\"} 3",
        "poolgate_keys_active{tier=\"medium\"} 4",
        "poolgate_slots_used{account=\"a\"} 1",
        "poolgate_slots_limit{account=\"a\"} 2",
        "poolgate_connections{state=\"idle\"} 5",
    ] {
        assert!(has(&text, line), "{line} is missing:\n{text}");
    }
    assert!(
        !metrics
            .encode(&Live::default(), false)
            .contains("poolgate_active_requests")
    );
}

#[test]
fn what_a_pool_counts() {
    let metrics = metrics();
    let pool = metrics.pool("default", OUTCOMES);
    pool.retry(1);
    pool.queued(Duration::from_millis(20));
    pool.queue_rejected("timeout");
    pool.retry_budget_exhausted();
    metrics.key_rejected("expired");
    metrics.config_reloaded(false);
    let text = metrics.encode(&Live::default(), false);
    for line in [
        "poolgate_retries_total{outcome=\"rate_limited\",pool=\"default\"} 1",
        "poolgate_queue_wait_seconds_bucket{pool=\"default\",le=\"0.05\"} 1",
        "poolgate_queue_rejected_total{pool=\"default\",reason=\"timeout\"} 1",
        "poolgate_retry_budget_exhausted_total{pool=\"default\"} 1",
        "poolgate_key_rejections_total{reason=\"expired\"} 1",
        "poolgate_config_reloads_total{outcome=\"failure\"} 1",
        "poolgate_config_last_reload_successful 0",
    ] {
        assert!(has(&text, line), "{line} is missing:\n{text}");
    }
}

#[test]
fn one_account_has_one_set_of_counters_over_reloads() {
    let metrics = metrics();
    metrics
        .account("a", "default", OUTCOMES)
        .request(0, Duration::ZERO);
    metrics
        .account("a", "default", OUTCOMES)
        .request(0, Duration::ZERO);
    let text = metrics.encode(&Live::default(), false);
    assert!(has(
        &text,
        "poolgate_requests_total{account=\"a\",outcome=\"success\",pool=\"default\"} 2"
    ));
}

#[test]
fn a_forgotten_account_leaves_nothing_even_when_a_request_ends_later() {
    let metrics = metrics();
    let account = metrics.account("gone", "default", OUTCOMES);
    account.request(0, Duration::ZERO);
    account.tokens(&Usage {
        input: 1,
        output: 1,
        cached: 1,
    });
    account.token_refresh(false);
    metrics.forget_account("gone");
    account.request(0, Duration::ZERO);
    account.request(1, Duration::ZERO);
    account.first_byte(Duration::ZERO);
    account.probe(false);
    assert!(!metrics.encode(&Live::default(), true).contains("gone"));
    metrics
        .account("gone", "default", OUTCOMES)
        .request(0, Duration::ZERO);
    let text = metrics.encode(&Live::default(), false);
    assert!(has(
        &text,
        "poolgate_requests_total{account=\"gone\",outcome=\"success\",pool=\"default\"} 1"
    ));
}

#[test]
fn an_account_that_moved_to_another_pool_is_shown_there_only() {
    let metrics = metrics();
    metrics
        .account("a", "old", OUTCOMES)
        .request(0, Duration::ZERO);
    metrics
        .account("a", "new", OUTCOMES)
        .request(0, Duration::ZERO);
    let text = metrics.encode(&Live::default(), false);
    assert!(
        !text.contains("pool=\"old\"") && text.contains("pool=\"new\""),
        "{text}"
    );
}

#[test]
fn the_older_pools_ten_names_are_shown_when_asked_for() {
    let metrics = metrics();
    let account = metrics.account("a", "default", OUTCOMES);
    account.request(0, Duration::from_millis(700));
    account.request(1, Duration::ZERO);
    account.request(2, Duration::ZERO);
    account.breaker_opened();
    account.token_refresh(true);
    assert!(!metrics.encode(&live(), false).contains("amazonq_"));
    let text = metrics.encode(&live(), true);
    for line in [
        "amazonq_requests_total{account_id=\"a\",status=\"success\"} 1",
        "amazonq_requests_total{account_id=\"a\",status=\"error\"} 1",
        "amazonq_errors_total{account_id=\"a\",error_type=\"rate_limit\"} 1",
        "amazonq_response_seconds_bucket{account_id=\"a\",le=\"0.1\"} 2",
        "amazonq_active_requests{account_id=\"a\"} 2",
        "amazonq_account_available{account_id=\"a\"} 0",
        "amazonq_circuit_breaker_opened_total{account_id=\"a\"} 1",
        "amazonq_token_refresh_total{account_id=\"a\",status=\"success\"} 1",
        "amazonq_account_request_count{account_id=\"a\"} 2",
        "amazonq_account_error_count{account_id=\"a\"} 1",
        "amazonq_account_success_count{account_id=\"a\"} 1",
    ] {
        assert!(has(&text, line), "{line} is missing:\n{text}");
    }
}

#[test]
fn each_name_is_there_once_with_the_prefix_and_bounded_labels() {
    let known = [
        "account",
        "pool",
        "outcome",
        "reason",
        "tier",
        "kind",
        "state",
        "version",
        "store",
        "operation",
        "class",
        "status",
    ];
    for (n, family) in Metrics::NAMES.iter().enumerate() {
        assert!(family.name.starts_with("poolgate_"));
        assert!(
            family.labels.iter().all(|l| known.contains(l)),
            "{family:?}"
        );
        assert!(
            Metrics::NAMES[..n].iter().all(|f| f.name != family.name),
            "{} twice",
            family.name
        );
    }
}

#[test]
fn answers_are_counted_by_the_class_of_their_status() {
    let metrics = metrics();
    let said = [101, 200, 201, 304, 404, 429, 429, 503, 599, 0, 777];
    said.iter().for_each(|status| metrics.responded(*status));
    let text = metrics.encode(&Live::default(), false);
    for (class, count) in [
        ("1xx", 1),
        ("2xx", 2),
        ("3xx", 1),
        ("4xx", 1),
        ("429", 2),
        ("5xx", 2),
        ("none", 2),
    ] {
        let line = format!("poolgate_responses_total{{class=\"{class}\"}} {count}");
        assert!(has(&text, &line), "{line}\n{text}");
    }
}

#[test]
fn an_account_has_one_status() {
    let text = metrics().encode(&live(), false);
    let line = "poolgate_account_status{account=\"a\",pool=\"default\",status=\"open\"} 1";
    assert!(has(&text, line), "{text}");
}
