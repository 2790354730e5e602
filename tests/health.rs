//! What load balancers and monitors ask, and what health checks do to accounts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, chat, get, pool, post, wait_for};

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn health_is_one_object_for_all_and_needs_no_key() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&format!("clients: {{open: false}}\n{}", pool(&vendors, "")));
    let answer = gateway.get("/health");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let health = answer.json();
    let expected = [
        "status",
        "degraded",
        "timestamp",
        "instances",
        "accounts",
        "multi_instance_mode",
        "total_instances",
        "ready_instances",
        "busy_instances",
        "error_instances",
        "queue",
        "redis",
    ];
    assert_eq!(keys(&health), expected.into());
    assert_eq!(
        health["instances"],
        json!({"total": 2, "healthy": 2, "unhealthy": 0})
    );
    assert_eq!(
        health["accounts"],
        json!({"total": 2, "available": 2, "unavailable": 0})
    );
    assert_eq!(
        keys(&health["queue"]),
        ["waiting", "active", "completed", "failed"].into()
    );
    let text = answer.text();
    assert!(
        !text.contains("a0") && !text.contains("127.0.0.1"),
        "counts only: {text}"
    );
}

#[test]
fn health_and_readiness_follow_the_accounts() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    // An answer to /health may be a tenth of a second old.
    let becomes = |expected: (u16, &str, bool, u16)| {
        wait_for(&format!("{expected:?}"), || {
            let (health, ready) = (gateway.get("/health"), gateway.get("/readyz"));
            let body = health.json();
            let degraded = body["degraded"].as_bool();
            let same = body["status"] == expected.1 && degraded == Some(expected.2);
            (same && (health.status, ready.status) == (expected.0, expected.3)).then_some(())
        });
    };
    becomes((200, "healthy", false, 200));
    gateway.act("a0", "disable");
    becomes((200, "healthy", true, 200));
    gateway.act("a1", "disable");
    becomes((503, "unhealthy", true, 503));
    assert_eq!(
        gateway.get("/livez").status,
        200,
        "the process lives all the same"
    );
    let refused = gateway.send(&chat(false));
    assert_eq!(
        (refused.status, refused.header("retry-after").is_some()),
        (503, true)
    );
    assert_eq!(refused.json()["error"]["code"], "no_account_available");
    gateway.act("a1", "enable");
    becomes((200, "healthy", true, 200));
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

#[test]
fn an_account_that_only_waits_is_ready_for_balancers() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    queue: {timeout: 1s}\n"));
    let limited = chat(false)
        .header("x-mock-status", 429)
        .header("x-mock-retry-after", 120);
    for request in [limited, chat(false)] {
        // Whoever asks next is told the time that is left, not asked to try at once.
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 429, "{}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((100..=120).contains(&wait), "{wait}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(gateway.get("/readyz").status, 200);
    }
    assert_eq!(vendors[0].count("requests"), 1);
    gateway.act("a0", "reset");
    for _ in 0..5 {
        assert_eq!(
            gateway
                .send(&chat(false).header("x-mock-status", 500))
                .status,
            500
        );
    }
    assert_eq!(gateway.account("a0")["status"], "open");
    assert_eq!(gateway.get("/readyz").status, 200, "it will be tried again");
    assert_eq!(gateway.send(&chat(false)).status, 503);
}

#[test]
fn probes_of_real_clients_are_answered() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!("clients: {{open: false}}\n{}", pool(&vendors, "")));
    for path in ["/", "/api/hello", "/livez", "/readyz"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.len() < 100, "{path}");
        let head = gateway.send(&crate::support::Request::new("HEAD", path));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    assert_eq!(vendors[0].count("requests"), 0);
}

const CHECKED: &str = "    health_check: {interval: 300ms, timeout: 500ms}\n";

#[track_caller]
fn becomes(gateway: &Gateway, id: &str, status: &str) -> Duration {
    let begun = Instant::now();
    wait_for(&format!("{id} to be {status}"), || {
        (gateway.account(id)["status"] == status).then_some(())
    });
    begun.elapsed()
}

#[test]
fn a_vendor_that_dies_is_noticed_and_one_that_comes_back_too() {
    let mut vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&pool(&vendors, CHECKED));
    becomes(&gateway, "a0", "healthy");
    becomes(&gateway, "a1", "healthy");
    assert!(gateway.metric("poolgate_health_probes_total", &["outcome=\"success\""]) >= 2.0);
    let address = vendors.pop().unwrap().address;
    let noticed = becomes(&gateway, "a1", "unhealthy");
    // Interval, its jitter, the step of a quarter of a second, timeout.
    assert!(noticed < Duration::from_millis(1_500), "{noticed:?}");
    let before = vendors[0].count("requests");
    for _ in 0..6 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    assert_eq!(vendors[0].count("requests"), before + 6);
    assert!(
        gateway.account("a1")["last_error"]
            .as_str()
            .unwrap()
            .contains("health check")
    );
    let _back = Mock::start_at(address, &[]);
    becomes(&gateway, "a1", "healthy");
}

#[test]
fn a_vendor_that_says_it_is_ill_or_says_nothing_is_unhealthy() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, CHECKED));
    becomes(&gateway, "a0", "healthy");
    vendors[0].set(&json!({"health": 500}));
    becomes(&gateway, "a0", "unhealthy");
    assert_eq!(gateway.send(&chat(false)).status, 503);
    assert_eq!(gateway.get("/readyz").status, 503);
    vendors[0].set(&json!({"health": 200}));
    becomes(&gateway, "a0", "healthy");
    assert!(vendors[0].count("health_checks") >= 3);
}

#[test]
fn an_operator_can_have_all_checked_at_once() {
    let vendors = Mock::several(1, &[]);
    let keys = "    health_check: {interval: 1h}\n";
    let gateway = Gateway::start(&pool(&vendors, keys));
    becomes(&gateway, "a0", "healthy");
    vendors[0].set(&json!({"health": 503}));
    let answer = gateway.admin(post("/router/health-check", &json!({})));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": "completed"}))
    );
    assert_eq!(
        gateway.account("a0")["status"],
        "unhealthy",
        "when the answer is here, it is so"
    );
    let status = gateway.admin(get("/router/status")).json();
    assert_eq!(status["instances"][0]["status"], "unhealthy");
}

#[test]
fn without_a_health_check_nobody_is_probed() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    assert_eq!(gateway.account("a0")["status"], "healthy");
    assert_eq!(vendors[0].count("health_checks"), 0);
}
