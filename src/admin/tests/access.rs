//! Who is let in, and what everybody is told.

use super::{Gateway, TOKEN, account, ask, auth, call, served};
use crate::admin::{Hosts, legacy_router};
use crate::config::{Address, Admin, Role};
use crate::secret::Secret;

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn every_path_but_the_probes_needs_a_token() {
    let router = served(Gateway::new(vec![account("a")]));
    for path in [
        "GET /metrics",
        "GET /api/v1/accounts",
        "GET /api/v1/accounts/a",
        "GET /api/v1/overview",
        "GET /api/v1/pools",
        "POST /api/v1/accounts/a/disable",
        "POST /api/v1/pools/default/strategy",
        "GET /router/status",
        "POST /router/health-check",
        "POST /router/set-strategy",
        "GET /accounts/stats",
        "GET /accounts/a",
        "POST /accounts/a/disable",
        "GET /v1/instances",
        "GET /api/workers",
        "GET /api/queue/status",
    ] {
        let reply = ask(&router, path, &[], "{}").await;
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer", "{path}");
        assert_eq!(reply.json()["error"]["code"], "unauthorized", "{path}");
        let reply = ask(&router, path, &[("authorization", "Bearer wrong")], "{}").await;
        assert_eq!(reply.status, 401, "{path}");
    }
    for path in ["GET /livez", "GET /readyz", "GET /health"] {
        assert_eq!(
            ask(&router, path, &[("host", "10.0.0.9")], "").await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_role_may_do_what_it_may_and_no_more() {
    let router = served(Gateway::new(vec![account("a")]));
    for (token, metrics, view, write) in [
        ("m3trics", 200, 403, 403),
        ("v1ewer", 200, 200, 403),
        ("0perator", 200, 200, 200),
        (TOKEN, 200, 200, 200),
    ] {
        let bearer = bearer(token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        assert_eq!(
            ask(&router, "GET /metrics", &headers, "").await.status,
            metrics,
            "{token}"
        );
        for path in ["GET /api/v1/accounts", "GET /router/status"] {
            assert_eq!(
                ask(&router, path, &headers, "").await.status,
                view,
                "{token} {path}"
            );
        }
        for path in ["POST /api/v1/accounts/a/enable", "POST /accounts/a/enable"] {
            assert_eq!(
                ask(&router, path, &headers, "").await.status,
                write,
                "{token} {path}"
            );
        }
    }
}

#[tokio::test]
async fn older_paths_take_the_token_in_the_older_headers_too_and_ours_do_not() {
    let router = served(Gateway::new(vec![account("a")]));
    for header in ["x-api-key", "x-admin-key"] {
        let headers = [(header, TOKEN)];
        assert_eq!(
            ask(&router, "GET /accounts/stats", &headers, "")
                .await
                .status,
            200
        );
        assert_eq!(
            ask(&router, "GET /api/v1/accounts", &headers, "")
                .await
                .status,
            401
        );
    }
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_even_with_a_token() {
    let router = served(Gateway::new(vec![account("a")]));
    let bearer = bearer(TOKEN);
    let status = async |name: &str, value: &str| {
        let headers = [("authorization", bearer.as_str()), (name, value)];
        ask(&router, "GET /api/v1/overview", &headers, "").await
    };
    for host in [
        "evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "",
        "a b",
    ] {
        let reply = status("host", host).await;
        assert_eq!(
            (
                reply.status.as_u16(),
                reply.json()["error"]["code"].as_str()
            ),
            (403, Some("forbidden_origin"))
        );
    }
    for host in [
        "localhost",
        "LOCALHOST:1",
        "gateway.example:8081",
        "127.0.0.1:8081",
    ] {
        assert_eq!(status("host", host).await.status, 200, "{host}");
    }
    for origin in [
        "http://evil.example",
        "null",
        "https://gateway.example.evil.example",
    ] {
        assert_eq!(status("origin", origin).await.status, 403, "{origin}");
    }
    assert_eq!(status("origin", "http://localhost:8081").await.status, 200);
}

#[test]
fn an_address_makes_its_own_names() {
    let admin = |address: &str, hosts: &[&str]| Admin {
        address: Address::Tcp(address.parse().unwrap()),
        token: None,
        tokens: Vec::new(),
        tls: None,
        insecure: false,
        hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        legacy_paths: true,
    };
    let names = |hosts: Hosts| match hosts {
        Hosts::These { names, any_address } => (names.join(" "), any_address),
        Hosts::Any => panic!("a TCP address has names"),
    };
    let (listed, any) = names(Hosts::of(&admin("192.0.2.1:8081", &["Gateway.Example"])));
    assert_eq!(
        (listed.as_str(), any),
        ("gateway.example 192.0.2.1 localhost 127.0.0.1 ::1", false)
    );
    assert!(names(Hosts::of(&admin("[::]:8081", &[]))).1);
}

#[tokio::test]
async fn tokens_can_be_exchanged_while_the_router_runs() {
    let auth = auth();
    let on_listen = legacy_router(
        Gateway::new(vec![account("a")]),
        &auth.with_hosts(Hosts::Any),
    );
    let ask = async |token: &str| {
        let bearer = bearer(token);
        let headers = [("authorization", bearer.as_str()), ("host", "any.example")];
        super::ask(&on_listen, "GET /router/status", &headers, "")
            .await
            .status
    };
    assert_eq!(ask(TOKEN).await, 200);
    auth.replace(vec![("new".into(), Secret::new("n3w"), Role::Admin)]);
    assert_eq!(ask(TOKEN).await, 401);
    assert_eq!(ask("n3w").await, 200);
    auth.replace(vec![("empty".into(), Secret::new(""), Role::Admin)]);
    assert_eq!(ask("").await, 401);
}

#[tokio::test]
async fn every_answer_is_safe_to_show_and_never_cached() {
    let router = served(Gateway::new(vec![]));
    for path in ["GET /livez", "GET /nowhere", "GET /metrics", "POST /livez"] {
        let reply = ask(&router, path, &[], "").await;
        assert_eq!(reply.headers["cache-control"], "no-store", "{path}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(reply.headers["content-type"], "application/json", "{path}");
    }
}

#[tokio::test]
async fn a_wrong_parameter_of_a_query_is_named() {
    let router = served(Gateway::new(vec![account("a")]));
    for (line, field) in [
        ("GET /api/v1/requests?last=abc", "last: "),
        ("GET /api/v1/accounts?limit=x", "limit: "),
        ("POST /api/v1/reload?dry_run=yes", "dry_run: "),
        ("GET /api/v1/instances/a/logs?tail=-1", "tail: "),
    ] {
        let reply = call(&router, line, "").await;
        assert_eq!(reply.status, 400, "{line}");
        let message = reply.json()["error"]["message"].clone();
        let message = message.as_str().unwrap().to_owned();
        assert!(message.starts_with(field), "{line}: {message}");
    }
}

#[tokio::test]
async fn what_the_router_refuses_is_an_error_of_ours() {
    let router = served(Gateway::new(vec![account("a")]));
    for (line, body, status, code) in [
        ("GET /nowhere", "", 404, "not_found"),
        ("DELETE /api/v1/overview", "", 405, "method_not_allowed"),
        ("GET /api/v1/accounts/zz", "", 404, "not_found"),
        ("GET /api/v1/accounts/%ff", "", 400, "bad_request"),
        ("GET /api/v1/accounts?limit=x", "", 400, "bad_request"),
        ("GET /api/v1/accounts?limit=0", "", 400, "bad_request"),
        ("POST /api/v1/accounts/a/explode", "", 404, "not_found"),
        (
            "POST /api/v1/pools/default/strategy",
            "{",
            400,
            "bad_request",
        ),
        (
            "POST /api/v1/pools/zz/strategy",
            "{\"strategy\":\"random\"}",
            404,
            "not_found",
        ),
        (
            "POST /api/v1/pools/default/strategy",
            "{\"strategy\":\"best\"}",
            400,
            "bad_request",
        ),
    ] {
        let reply = call(&router, line, body).await;
        let json = reply.json();
        assert_eq!(
            (reply.status.as_u16(), json["error"]["code"].as_str()),
            (status, Some(code)),
            "{line}"
        );
        assert!(json["error"]["message"].is_string());
        assert_eq!(reply.names(""), ["error"]);
    }
    let long = format!("{{\"strategy\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(
        call(&router, "POST /api/v1/pools/default/strategy", &long)
            .await
            .status,
        413
    );
}

#[tokio::test]
async fn a_write_that_a_foreign_page_could_send_is_refused() {
    let router = served(Gateway::new(vec![account("a")]));
    let bearer = bearer(TOKEN);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "text/plain"),
    ];
    for (line, status) in [
        ("POST /api/v1/accounts/a/disable", 415),
        ("PATCH /api/v1/keys/k", 415),
        ("POST /api/v1/reload", 415),
        ("POST /api/v1/session", 415),
        // No route takes these: there is nothing that could be done by them.
        ("POST /api/v1/overview", 405),
        ("PATCH /api/v1/accounts", 405),
        ("PATCH /api/v1/session", 405),
    ] {
        let reply = ask(&router, line, &headers, "").await;
        assert_eq!(reply.status, status, "{line}");
    }
    assert_eq!(
        ask(&router, "POST /accounts/a/disable", &headers, "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_was_added_is_told_so_also_where_it_is_not_seen_yet() {
    let router = served(Gateway::new(vec![]));
    let body = r#"{"pool": "default", "id": "late", "upstream": "openai", "credential": {"api_key": "sk-x"}, "weight": 2}"#;
    let reply = call(&router, "POST /api/v1/accounts", body).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(reply.json()["id"], "late");
    assert!(!reply.body.contains("sk-x"), "{}", reply.body);
    let rows = call(&router, "GET /api/v1/audit", "").await.json();
    assert_eq!(rows["audit"][0]["action"], "accounts.create", "{rows}");
    assert_eq!(rows["audit"][0]["target"], "late");
}
