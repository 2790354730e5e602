//! What operators of the five older systems and their dashboards find where it always was.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, chat, get, pool, post, wait_for};

fn keys(value: &Value) -> BTreeSet<&str> {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"));
    object.keys().map(String::as_str).collect()
}

fn gateway() -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(2, &[]);
    let keys = "    strategy: round_robin\n";
    (Gateway::start(&pool(&vendors, keys)), vendors)
}

/// The same request to both listeners, with the administrator's token.
fn both(gateway: &Gateway, request: &Request) -> [Answer; 2] {
    let request = request.clone().bearer(&gateway.admin_token());
    [
        request.send(gateway.address),
        request.send(gateway.admin_address),
    ]
}

#[track_caller]
fn shown(gateway: &Gateway, path: &str) -> Value {
    let [listen, admin] = both(gateway, &get(path));
    assert_eq!((listen.status, admin.status), (200, 200), "{path}");
    assert_eq!(listen.json(), admin.json(), "{path} is the same on both");
    admin.json()
}

#[test]
fn the_routers_status_has_its_fields() {
    let (gateway, _vendors) = gateway();
    for _ in 0..4 {
        gateway.send(&chat(false));
    }
    gateway.send(&chat(false).header("x-mock-status", 500));
    let status = shown(&gateway, "/router/status");
    assert_eq!(keys(&status), ["strategy", "instances"].into());
    assert_eq!(status["strategy"], "round_robin");
    let ids: Vec<&Value> = status["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["id"])
        .collect();
    assert_eq!(ids, ["a0", "a1"], "in the order of the configuration");
    let first = &status["instances"][0];
    let fields = [
        "id",
        "port",
        "weight",
        "enabled",
        "status",
        "current_concurrent",
        "max_concurrent",
        "total_requests",
        "failed_requests",
        "last_heartbeat",
    ];
    assert_eq!(keys(first), fields.into());
    assert!(first["port"].is_u64() && first["weight"] == 1 && first["enabled"] == true);
    assert_eq!(
        (&first["current_concurrent"], &first["max_concurrent"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(first["last_heartbeat"], Value::Null, "no probe yet");
    let sum = |field: &str| -> u64 {
        let instances = status["instances"].as_array().unwrap();
        instances
            .iter()
            .map(|instance| instance[field].as_u64().unwrap())
            .sum()
    };
    assert_eq!(
        (sum("total_requests"), sum("failed_requests")),
        (6, 2),
        "the 500 was tried twice"
    );
}

#[test]
fn a_good_probe_is_a_heartbeat_in_unix_seconds() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    health_check: {interval: 1h}\n"));
    let beat = wait_for("the first heartbeat", || {
        gateway.admin(get("/router/status")).json()["instances"][0]["last_heartbeat"].as_f64()
    });
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_secs_f64() - beat).abs() < 30.0, "{beat}");
    assert_eq!(gateway.account("a0")["status"], "healthy");
}

#[test]
fn the_pools_accounts_have_their_fields_and_actions() {
    let (gateway, _vendors) = gateway();
    gateway.send(&chat(false));
    let stats = shown(&gateway, "/accounts/stats");
    let fields = [
        "total_accounts",
        "available_accounts",
        "total_requests",
        "total_errors",
        "total_successes",
        "strategy",
        "circuit_breaker_enabled",
        "accounts",
    ];
    assert_eq!(keys(&stats), fields.into());
    assert_eq!(
        (
            &stats["total_accounts"],
            &stats["total_requests"],
            &stats["total_successes"]
        ),
        (&json!(2), &json!(1), &json!(1))
    );
    let account = shown(&gateway, "/accounts/a1");
    for field in [
        "id",
        "enabled",
        "weight",
        "request_count",
        "error_count",
        "success_count",
        "last_used_at",
        "last_error_at",
        "last_success_at",
        "token_expires_at",
        "circuit_breaker_open",
        "is_available",
    ] {
        assert!(account.get(field).is_some(), "{field}");
    }
    for path in ["/accounts/nobody", "/accounts/nobody/enable"] {
        let request = if path.ends_with("enable") {
            post(path, &json!({}))
        } else {
            get(path)
        };
        assert_eq!(
            both(&gateway, &request).map(|answer| answer.status),
            [404, 404],
            "{path}"
        );
    }
    for (action, available) in [("disable", false), ("enable", true), ("reset", true)] {
        for answer in both(
            &gateway,
            &post(&format!("/accounts/a1/{action}"), &json!({})),
        ) {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(keys(&answer.json()), ["status", "message"].into());
        }
        assert_eq!(
            shown(&gateway, "/accounts/a1")["is_available"],
            available,
            "{action}"
        );
    }
}

#[test]
fn the_instances_and_their_four_numbers() {
    let (gateway, _vendors) = gateway();
    gateway.act("a1", "disable");
    let list = shown(&gateway, "/v1/instances");
    let health = gateway.get("/health").json();
    for number in [
        "total_instances",
        "ready_instances",
        "busy_instances",
        "error_instances",
    ] {
        assert_eq!(list[number], health[number], "{number}");
    }
    let states: Vec<&Value> = list["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["status"])
        .collect();
    assert_eq!(states, ["ready", "disabled"]);
    let fields = [
        "id",
        "status",
        "port",
        "auth_file",
        "ws_endpoint",
        "last_used",
        "error_count",
        "current_request_id",
    ];
    assert_eq!(keys(&list["instances"][0]), fields.into());
    assert_eq!(list["instances"][0]["last_used"], Value::Null);
    gateway.send(&chat(false));
    assert!(shown(&gateway, "/v1/instances")["instances"][0]["last_used"].as_f64() > Some(1.7e9));
}

#[test]
fn an_instance_is_busy_while_it_answers() {
    let vendors = Mock::several(1, &["--hang", "head"]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
    let request = chat(false)
        .header("x-request-id", "mine-7")
        .bytes(gateway.address);
    std::io::Write::write_all(&mut socket, &request).unwrap();
    let busy = || gateway.admin(get("/v1/instances")).json()["instances"][0].clone();
    wait_for("it to be busy", || {
        (busy()["status"] == "busy").then_some(())
    });
    assert_eq!(gateway.get("/health").json()["busy_instances"], 1);
    assert_eq!(
        shown(&gateway, "/router/status")["instances"][0]["current_concurrent"],
        1
    );
    assert_eq!(shown(&gateway, "/api/queue/status")["active"], 1);
    drop(socket);
    wait_for("it to be ready again", || {
        (busy()["status"] == "ready").then_some(())
    });
    assert_eq!(busy()["current_request_id"], Value::Null);
}

#[test]
fn the_workers_and_the_queue() {
    let (gateway, vendors) = gateway();
    for _ in 0..3 {
        gateway.send(&chat(false));
    }
    // The last answer is here a moment before its request is over.
    wait_for("the requests to be over", || {
        let queue = gateway.admin(get("/api/queue/status")).json();
        (queue["completed"] == 3 && queue["active"] == 0).then_some(())
    });
    let workers = shown(&gateway, "/api/workers");
    assert_eq!(
        keys(&workers["workers"][0]),
        ["id", "url", "weight", "stats"].into()
    );
    assert_eq!(workers["workers"][0]["url"], vendors[0].url());
    let stats = &workers["workers"][0]["stats"];
    let fields = [
        "requests",
        "errors",
        "totalResponseTime",
        "averageResponseTime",
        "lastUsed",
        "healthy",
        "currentLoad",
    ];
    assert_eq!(keys(stats), fields.into());
    assert_eq!(
        (&stats["requests"], &stats["healthy"], &stats["currentLoad"]),
        (&json!(2), &json!(true), &json!(0))
    );
    let queue = shown(&gateway, "/api/queue/status");
    let fields = ["waiting", "active", "completed", "failed", "workers"];
    assert_eq!(keys(&queue), fields.into());
    assert_eq!(
        (&queue["waiting"], &queue["completed"], &queue["failed"]),
        (&json!(0), &json!(3), &json!(0))
    );
}

#[test]
fn the_strategy_can_be_changed_while_it_runs() {
    let (gateway, _vendors) = gateway();
    let set = |strategy: &str| {
        let request = post("/router/set-strategy", &json!({"strategy": strategy}));
        gateway.admin(request)
    };
    for name in [
        "weighted",
        "hash",
        "least_connections",
        "random",
        "response_time",
        "least_used",
    ] {
        assert_eq!(set(name).status, 200, "{name}");
        assert_eq!(shown(&gateway, "/router/status")["strategy"], name);
        assert_eq!(gateway.send(&chat(false)).status, 200, "{name}");
    }
    assert_eq!(set("roundrobin").status, 200, "the older spelling");
    assert_eq!(shown(&gateway, "/router/status")["strategy"], "round_robin");
    assert_eq!(set("fastest").status, 400);
}

#[test]
fn older_paths_ask_for_a_token_and_are_never_proxied() {
    let (gateway, vendors) = gateway();
    let paths = [
        get("/router/status"),
        post("/router/health-check", &json!({})),
        post("/router/set-strategy", &json!({"strategy": "hash"})),
        get("/accounts/stats"),
        get("/accounts/a0"),
        post("/accounts/a0/disable", &json!({})),
        get("/v1/instances"),
        get("/api/workers"),
        get("/api/queue/status"),
        get("/metrics"),
    ];
    for request in paths {
        for (with, expected) in [
            (request.clone(), 401),
            (request.clone().bearer("wrong"), 401),
        ] {
            for address in [gateway.address, gateway.admin_address] {
                let answer = with.send(address);
                assert_eq!(answer.status, expected, "{}", answer.text());
            }
        }
    }
    assert_eq!(
        gateway.account("a0")["status"],
        "healthy",
        "nobody disabled it"
    );
    let requests: u64 = vendors.iter().map(|vendor| vendor.count("requests")).sum();
    assert_eq!(requests, 0);
}

#[test]
fn older_paths_can_be_taken_off_the_clients_listener() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!(
        "admin: {{address: \"{{admin}}\", legacy_paths: false}}\n{}",
        pool(&vendors, "")
    ));
    let [listen, _] = both(&gateway, &get("/router/status"));
    assert_eq!(listen.status, 404);
}

#[test]
fn roles_can_do_what_they_may_and_no_more() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!(
        "admin:
  address: \"{{admin}}\"
  token: root-token-000000000000
  tokens:
    - {{name: grafana, token: metrics-token-00000000, role: metrics}}
    - {{name: screen, token: viewer-token-000000000, role: viewer}}
    - {{name: night, token: operator-token-0000000, role: operator}}
{}",
        pool(&vendors, "")
    ));
    let status = |token: &str, request: &Request| {
        request
            .clone()
            .bearer(token)
            .send(gateway.admin_address)
            .status
    };
    let (metrics, reading) = (get("/metrics"), get("/api/v1/accounts"));
    let writing = post("/api/v1/accounts/a0/enable", &json!({}));
    let may =
        |token: &str| [&metrics, &reading, &writing].map(|request| status(token, request) < 300);
    assert_eq!(may("metrics-token-00000000"), [true, false, false]);
    assert_eq!(may("viewer-token-000000000"), [true, true, false]);
    assert_eq!(may("operator-token-0000000"), [true, true, true]);
    assert_eq!(may("root-token-000000000000"), [true, true, true]);
    assert_eq!(
        status("viewer-token-000000000", &writing),
        403,
        "known, but not allowed"
    );
}

#[test]
fn every_metric_appears_once_it_has_a_value() {
    let mut vendors = Mock::several(2, &[]);
    let keys = "    strategy: round_robin
    queue: {max_waiting: 0, timeout: 100ms}
    health_check: {interval: 1h}
";
    let gateway = Gateway::start(&format!(
        "clients: {{open: true, keys: [{{name: ci, key: sk-good}}]}}\n{}",
        pool(&vendors, keys)
    ));
    for _ in 0..4 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    vendors.pop();
    for _ in 0..12 {
        gateway.send(&chat(false));
    }
    let text = gateway.admin(get("/metrics")).text();
    let name = |family: &poolgate::telemetry::Family| {
        let typed = format!("# TYPE {} ", family.name);
        (!text.contains(&typed)).then_some(family.name)
    };
    let missing: BTreeSet<&str> = poolgate::telemetry::Metrics::NAMES
        .iter()
        .filter_map(name)
        .collect();
    // These count what did not happen here.
    let silent = [
        "poolgate_error_answers_total",
        "poolgate_gateways",
        "poolgate_redis_up",
        "poolgate_slot_rotations_total",
        "poolgate_slots_limit",
        "poolgate_slots_used",
        "poolgate_retry_budget_exhausted_total",
        "poolgate_queue_wait_seconds",
        "poolgate_queue_rejected_total",
        "poolgate_token_refresh_total",
        "poolgate_token_expiry_seconds",
        "poolgate_tls_certificate_expiry_seconds",
        "poolgate_store_errors_total",
        "poolgate_instance_up",
        "poolgate_instance_restarts_total",
        "poolgate_notices_dropped_total",
        "poolgate_key_rejections_total",
        "poolgate_config_reloads_total",
    ];
    assert!(missing.is_subset(&silent.into()), "{missing:?}");
    let value = |name, labels: &[&str]| gateway.metric(name, labels);
    assert_eq!(
        value("poolgate_breaker_state", &["account=\"a1\""]),
        2.0,
        "open"
    );
    assert_eq!(
        value("poolgate_breaker_opened_total", &["account=\"a1\""]),
        1.0
    );
    assert_eq!(
        value("poolgate_account_available", &["account=\"a1\""]),
        0.0
    );
    assert_eq!(
        value("poolgate_account_available", &["account=\"a0\""]),
        1.0
    );
    assert_eq!(
        value("poolgate_retries_total", &["outcome=\"transient\""]),
        5.0
    );
    assert!(
        value(
            "poolgate_tokens_total",
            &["account=\"a0\"", "kind=\"input\""]
        ) > 0.0
    );
    assert!(!text.contains("sk-good") && !text.contains("key-0"));
}
