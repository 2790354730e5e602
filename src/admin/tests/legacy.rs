//! The older systems' clients find their fields, all of them and by their names.

use super::{Gateway, account, broken, call, served, sorted};
use crate::admin::is_legacy_path;
use crate::pool::{AccountView, Status};
use serde_json::{Value, json};

async fn get(accounts: Vec<AccountView>, path: &str) -> super::Reply {
    let reply = call(&served(Gateway::new(accounts)), &format!("GET {path}"), "").await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply
}

#[tokio::test]
async fn router_status() {
    let disabled = AccountView {
        enabled: false,
        status: Status::Disabled,
        ..account("c")
    };
    let unknown = AccountView {
        status: Status::Unknown,
        ..broken("d")
    };
    let reply = get(
        vec![account("b"), broken("a"), disabled, unknown],
        "/router/status",
    )
    .await;
    assert_eq!(reply.names(""), sorted("strategy instances"));
    let json = reply.json();
    assert_eq!(json["strategy"], "round_robin");
    assert_eq!(
        json["instances"][0],
        json!({
            "id": "b", "port": 2048, "weight": 2, "enabled": true, "status": "healthy",
            "current_concurrent": 1, "max_concurrent": 3, "total_requests": 10,
            "failed_requests": 2, "last_heartbeat": 6.0,
        })
    );
    assert_eq!(json["instances"][1]["id"], "a", "in the order of the file");
    assert_eq!(json["instances"][1]["status"], "unhealthy");
    assert_eq!(json["instances"][1]["last_heartbeat"], Value::Null);
    assert_eq!(json["instances"][2]["enabled"], false);
    assert_eq!(json["instances"][3]["status"], "unknown");
}

#[tokio::test]
async fn router_health_check_probes_now() {
    let gateway = Gateway::new(vec![account("a")]);
    let reply = call(&served(gateway.clone()), "POST /router/health-check", "").await;
    assert_eq!(reply.json(), json!({"status": "completed"}));
    assert_eq!(*gateway.probed.lock(), [None]);
}

#[tokio::test]
async fn router_set_strategy_takes_the_older_spelling() {
    let router = served(Gateway::new(vec![account("a")]));
    call(
        &router,
        "POST /router/set-strategy",
        "{\"strategy\":\"random\"}",
    )
    .await;
    assert_eq!(
        call(&router, "GET /router/status", "").await.json()["strategy"],
        "random"
    );
    let reply = call(
        &router,
        "POST /router/set-strategy",
        "{\"strategy\":\"roundrobin\"}",
    )
    .await;
    assert_eq!(
        reply.json(),
        json!({"status": "success", "strategy": "round_robin"})
    );
    let reply = call(
        &router,
        "POST /router/set-strategy",
        "{\"strategy\":\"best\"}",
    )
    .await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.json()["detail"]
            .as_str()
            .unwrap()
            .starts_with("strategy: ")
    );
}

#[tokio::test]
async fn accounts_stats() {
    let reply = get(vec![account("a"), broken("b")], "/accounts/stats").await;
    let mut json = reply.json();
    let accounts = json["accounts"].take();
    assert_eq!(accounts.as_array().map(Vec::len), Some(2));
    assert_eq!(
        json,
        json!({
            "total_accounts": 2, "available_accounts": 1, "total_requests": 13, "total_errors": 5,
            "total_successes": 8, "strategy": "round_robin", "circuit_breaker_enabled": true,
            "accounts": null,
        })
    );
}

#[tokio::test]
async fn an_account_of_the_name_stats_hides_nothing() {
    let reply = get(vec![account("stats")], "/accounts/stats").await;
    assert_eq!(reply.json()["total_accounts"], 1);
}

#[tokio::test]
async fn one_account() {
    let reply = get(vec![account("a"), broken("b")], "/accounts/a").await;
    assert_eq!(
        reply.json(),
        json!({
            "id": "a", "enabled": true, "weight": 2, "request_count": 10, "error_count": 2,
            "success_count": 8, "last_used_at": "1970-01-01T00:00:05.000Z",
            "last_error_at": "1970-01-01T00:00:04.000Z",
            "last_success_at": "1970-01-01T00:00:05.000Z", "token_expires_at": null,
            "circuit_breaker_open": false, "circuit_breaker_open_until": null, "is_available": true,
        })
    );
    let json = get(vec![broken("b")], "/accounts/b").await.json();
    assert_eq!(json["circuit_breaker_open"], true);
    assert_eq!(
        json["circuit_breaker_open_until"],
        "1970-01-01T00:01:00.000Z"
    );
}

#[tokio::test]
async fn enable_disable_and_reset() {
    let router = served(Gateway::new(vec![broken("a")]));
    for (action, done) in [
        ("disable", "disabled"),
        ("enable", "enabled"),
        ("reset", "reset"),
    ] {
        let reply = call(&router, &format!("POST /accounts/a/{action}"), "").await;
        let expected = json!({"status": "success", "message": format!("Account a {done}")});
        assert_eq!((reply.status.as_u16(), reply.json()), (200, expected));
        let reply = call(&router, &format!("POST /accounts/zz/{action}"), "").await;
        assert_eq!(reply.status, 404);
        assert!(reply.json()["detail"].is_string() && reply.json()["error"]["code"].is_string());
    }
    let json = call(&router, "GET /accounts/a", "").await.json();
    assert_eq!(
        (&json["error_count"], &json["circuit_breaker_open"]),
        (&json!(0), &json!(false))
    );
}

#[tokio::test]
async fn instances_and_health_give_the_same_numbers() {
    let idle = AccountView {
        in_flight: 0,
        mishaps: 0,
        current_request: None,
        ..account("c")
    };
    let plain = AccountView {
        has_instance: false,
        ..account("d")
    };
    let router = served(Gateway::new(vec![account("a"), broken("b"), idle, plain]));
    let json = call(&router, "GET /v1/instances", "").await.json();
    let health = call(&router, "GET /health", "").await.json();
    for (name, n) in [
        ("total_instances", 3),
        ("ready_instances", 1),
        ("busy_instances", 1),
        ("error_instances", 1),
    ] {
        assert_eq!(
            (&json[name], &health[name]),
            (&json!(n), &json!(n)),
            "{name}"
        );
    }
    assert_eq!(
        json["instances"][0],
        json!({
            "id": "a", "status": "busy", "port": 2048, "auth_file": "a@example.com.json",
            "ws_endpoint": null, "last_used": 5.0, "error_count": 2, "current_request_id": "req-1",
        })
    );
    assert_eq!(json["instances"][1]["status"], "error");
    assert_eq!(json["instances"][1]["last_used"], Value::Null);
    assert_eq!(json["instances"][2]["current_request_id"], Value::Null);
    assert_eq!(json["instances"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn workers_and_queue() {
    let stats = json!({
        "requests": 10, "errors": 2, "totalResponseTime": 2000.0, "averageResponseTime": 250.0,
        "lastUsed": "1970-01-01T00:00:05.000Z", "healthy": true, "currentLoad": 1,
    });
    let json = get(vec![account("a"), broken("b")], "/api/workers")
        .await
        .json();
    assert_eq!(
        json["workers"][0],
        json!({"id": "a", "url": "http://127.0.0.1:2048", "weight": 2, "stats": stats})
    );
    assert_eq!(json["workers"][1]["stats"]["lastUsed"], Value::Null);
    assert_eq!(json["workers"][1]["stats"]["healthy"], false);
    let json = get(vec![account("a")], "/api/queue/status").await.json();
    let expected =
        json!({"waiting": 1, "active": 2, "completed": 3, "failed": 4, "workers": {"a": stats}});
    assert_eq!(json, expected);
}

#[test]
fn only_their_own_paths_are_kept_from_being_proxied() {
    for path in [
        "/router/status",
        "/accounts/a/enable",
        "/v1/instances",
        "/api/workers",
        "/metrics",
    ] {
        assert!(is_legacy_path(path), "{path}");
    }
    for path in [
        "/v1/messages",
        "/v1/models",
        "/accounts",
        "/health",
        "/api/hello",
        "/router/other",
    ] {
        assert!(!is_legacy_path(path), "{path}");
    }
}
