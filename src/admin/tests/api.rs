//! What `/api/v1`, `/health` and `/metrics` say.

use super::{Gateway, account, ask, broken, call, served, sorted};
use serde_json::json;

#[tokio::test]
async fn an_account_is_shown_with_its_whole_state() {
    let router = served(Gateway::new(vec![account("a"), broken("b")]));
    let reply = call(&router, "GET /api/v1/accounts/a", "").await;
    assert_eq!(
        reply.names(""),
        sorted(
            "id pool status since until last_error enabled available weight priority in_flight \
             max_concurrent requests successes failures consecutive_failures tokens breaker \
             cooling_until cooling_models limited_by rate_limits last_used last_success last_failure last_heartbeat response_ms upstream \
             credential instance dialects models source override recent"
        )
    );
    let json = reply.json();
    assert_eq!(json["status"], "healthy");
    assert_eq!(json["since"], "1970-01-01T00:00:01.000Z");
    assert_eq!(
        json["response_ms"],
        json!({"ewma": 250.0, "p50": 200.0, "p99": 900.0})
    );
    assert_eq!(json["credential"]["kind"], "api_key");
    let program = json!({"pid": 4711, "port": 2048, "restarts": 1, "state": "busy"});
    assert_eq!(json["instance"], program);
    let json = call(&router, "GET /api/v1/accounts/b", "").await.json();
    assert_eq!(
        json["breaker"],
        json!({"state": "open", "until": "1970-01-01T00:01:00.000Z"})
    );
    assert_eq!(json["response_ms"], json!(null));
}

#[tokio::test]
async fn accounts_come_in_pages_in_the_order_of_the_file() {
    let router = served(Gateway::new(vec![account("b"), account("a"), account("c")]));
    let first = call(&router, "GET /api/v1/accounts?limit=2", "")
        .await
        .json();
    assert_eq!(
        (&first["accounts"][0]["id"], &first["next"]),
        (&json!("b"), &json!("a"))
    );
    let second = call(&router, "GET /api/v1/accounts?limit=2&cursor=a", "")
        .await
        .json();
    assert_eq!(
        (&second["accounts"][0]["id"], &second["next"]),
        (&json!("c"), &json!(null))
    );
}

#[tokio::test]
async fn disabling_enabling_and_resetting_show_at_once() {
    let router = served(Gateway::new(vec![broken("a")]));
    let off = call(&router, "POST /api/v1/accounts/a/disable", "")
        .await
        .json();
    assert_eq!(
        (&off["enabled"], &off["status"]),
        (&json!(false), &json!("disabled"))
    );
    let on = call(&router, "POST /api/v1/accounts/a/enable", "")
        .await
        .json();
    assert_eq!(on["enabled"], true);
    let reset = call(&router, "POST /api/v1/accounts/a/reset", "")
        .await
        .json();
    assert_eq!(
        (&reset["failures"], &reset["breaker"]["state"]),
        (&json!(0), &json!("closed"))
    );
    for action in ["enable", "disable", "reset", "probe"] {
        let reply = call(&router, &format!("POST /api/v1/accounts/zz/{action}"), "").await;
        assert_eq!(reply.status, 404, "{action}");
    }
}

#[tokio::test]
async fn an_order_that_is_in_force_and_not_written_down_is_no_failure() {
    let gateway = Gateway::new(vec![account("unkept")]);
    let router = served(gateway);
    let off = call(&router, "POST /api/v1/accounts/unkept/disable", "").await;
    assert_eq!(
        (off.status.as_u16(), &off.json()["enabled"]),
        (200, &json!(false))
    );
    let warning = off.json()["warning"].to_string();
    assert!(
        warning.contains("forgotten with the next start"),
        "{warning}"
    );
    let older = call(&router, "POST /accounts/unkept/enable", "").await;
    let message = older.json()["message"].to_string();
    assert!(
        message.contains("unkept enabled; it is in force"),
        "{message}"
    );
}

#[tokio::test]
async fn one_account_can_be_probed_now() {
    let gateway = Gateway::new(vec![account("a")]);
    let router = served(gateway.clone());
    assert_eq!(
        call(&router, "POST /api/v1/accounts/a/probe", "")
            .await
            .status,
        200
    );
    assert_eq!(*gateway.probed.lock(), [Some("a".to_owned())]);
}

#[tokio::test]
async fn pools_show_and_change_their_strategy() {
    let router = served(Gateway::new(vec![account("a")]));
    let reply = call(&router, "GET /api/v1/pools", "").await;
    assert_eq!(
        reply.names("/pools/0"),
        sorted("name strategy breaker_enabled accounts available in_flight waiting max_waiting")
    );
    let reply = call(
        &router,
        "POST /api/v1/pools/default/strategy",
        "{\"strategy\":\"random\"}",
    )
    .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["strategy"]),
        (200, &json!("random"))
    );
}

#[tokio::test]
async fn the_overview_adds_up() {
    let router = served(Gateway::new(vec![account("a"), broken("b")]));
    let json = call(&router, "GET /api/v1/overview", "").await.json();
    assert_eq!(
        json["accounts"],
        json!({"total": 2, "available": 1, "unavailable": 1})
    );
    assert_eq!(json["by_status"], json!({"healthy": 1, "open": 1}));
    let totals =
        json!({"requests": 13, "successes": 8, "failures": 5, "tokens": 2000, "in_flight": 1});
    assert_eq!(json["totals"], totals);
    let slots = json!({"accounts": 2, "slots": 4, "used": 1, "free": 3, "percent": 25});
    assert_eq!(json["slots"], slots);
    assert_eq!(
        (&json["status"], &json["degraded"]),
        (&json!("healthy"), &json!(true))
    );
}

#[tokio::test]
async fn health_and_readiness_follow_the_accounts_and_the_drain() {
    let gateway = Gateway::new(vec![account("a")]);
    let router = served(gateway.clone());
    let probe = async |path: &str| {
        let reply = ask(&router, path, &[], "").await;
        (
            reply.status.as_u16(),
            reply.json()["status"].as_str().map(String::from).unwrap(),
        )
    };
    assert_eq!(probe("GET /livez").await, (200, "ok".into()));
    assert_eq!(probe("GET /readyz").await, (200, "ready".into()));
    assert_eq!(probe("GET /health").await, (200, "healthy".into()));
    *gateway.draining.lock() = true;
    assert_eq!(probe("GET /livez").await, (200, "ok".into()));
    assert_eq!(probe("GET /readyz").await, (503, "draining".into()));
    assert_eq!(probe("GET /health").await, (503, "unhealthy".into()));
    *gateway.draining.lock() = false;
    call(&router, "POST /api/v1/accounts/a/disable", "").await;
    assert_eq!(probe("GET /readyz").await, (503, "not_ready".into()));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let router = served(Gateway::new(vec![]));
    let reply = call(&router, "GET /metrics", "").await;
    assert_eq!(
        reply.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(reply.body, "poolgate_build_info{version=\"1\"} 1\n");
}

#[tokio::test]
async fn a_dry_run_names_the_account_and_why_not_the_others() {
    let router = served(Gateway::new(vec![account("a"), account("b")]));
    let route = async |body: &str| call(&router, "POST /api/v1/route", body).await;
    let reply = route(r#"{"model":"gpt-5"}"#).await;
    let others = json!([{"account": "b", "reason": "is disabled"}]);
    assert_eq!(
        reply.json(),
        json!({"pool": "default", "account": "a", "others": others})
    );
    let reply = route(r#"{"model":"other"}"#).await;
    assert_eq!(reply.status, 422);
    assert_eq!(reply.json()["error"]["code"], "not_routed");
    assert_eq!(route(r#"{"modell":"x"}"#).await.status, 400);
}

#[tokio::test]
async fn trying_the_webhooks_says_what_came_of_each() {
    let router = served(Gateway::new(vec![account("a")]));
    let tried = call(&router, "POST /api/v1/notify/test", "").await.json();
    let hooks = json!([
        {"host": "up.test", "delivered": true, "error": null},
        {"host": "down.test", "delivered": false, "error": "the hook answers 500"},
    ]);
    assert_eq!(tried["hooks"], hooks);
}
