//! Who may call what: every route, and everybody who may try. The table is the rule; the router and
//! the document are held against it.

use super::{Gateway, TOKEN, account, ask, served};
use axum::Router;
use std::collections::BTreeSet;

/// Route and the least role that may call it; `-` needs none.
const TABLE: &[(&str, &str)] = &[
    ("GET /", "-"),
    ("GET /openapi.json", "-"),
    ("GET /livez", "-"),
    ("GET /readyz", "-"),
    ("GET /health", "-"),
    ("GET /metrics", "metrics"),
    ("POST /api/v1/session", "-"),
    ("GET /api/v1/session", "metrics"),
    ("DELETE /api/v1/session", "metrics"),
    ("GET /api/v1/overview", "viewer"),
    ("GET /api/v1/history", "viewer"),
    ("GET /api/v1/events", "viewer"),
    ("GET /api/v1/accounts", "viewer"),
    ("POST /api/v1/accounts", "admin"),
    ("GET /api/v1/accounts/{id}", "viewer"),
    ("PATCH /api/v1/accounts/{id}", "operator"),
    ("DELETE /api/v1/accounts/{id}", "admin"),
    ("DELETE /api/v1/accounts/{id}/override", "admin"),
    ("POST /api/v1/accounts/{id}/{action}", "operator"),
    ("GET /api/v1/pools", "viewer"),
    ("POST /api/v1/pools/{name}/strategy", "operator"),
    ("POST /api/v1/route", "viewer"),
    ("GET /api/v1/requests", "viewer"),
    ("GET /api/v1/usage", "viewer"),
    ("GET /api/v1/keys", "viewer"),
    ("POST /api/v1/keys", "admin"),
    ("GET /api/v1/keys/{id}", "viewer"),
    ("PATCH /api/v1/keys/{id}", "admin"),
    ("DELETE /api/v1/keys/{id}", "admin"),
    ("POST /api/v1/keys/{id}/rotate", "admin"),
    ("GET /api/v1/slots", "viewer"),
    ("GET /api/v1/instances", "viewer"),
    ("GET /api/v1/instances/{id}/logs", "operator"),
    ("GET /api/v1/config", "viewer"),
    ("POST /api/v1/reload", "operator"),
    ("GET /api/v1/audit", "admin"),
    ("POST /api/v1/notify/test", "operator"),
    ("GET /router/status", "viewer"),
    ("POST /router/health-check", "operator"),
    ("POST /router/set-strategy", "operator"),
    ("GET /accounts/stats", "viewer"),
    ("GET /accounts/{id}", "viewer"),
    ("POST /accounts/{id}/{action}", "operator"),
    ("GET /v1/instances", "viewer"),
    ("GET /api/workers", "viewer"),
    ("GET /api/queue/status", "viewer"),
];

const ROLES: [(&str, &str); 4] = [
    ("metrics", "m3trics"),
    ("viewer", "v1ewer"),
    ("operator", "0perator"),
    ("admin", TOKEN),
];

fn rank(role: &str) -> usize {
    ROLES.iter().position(|(name, _)| *name == role).unwrap()
}

/// The same with names in it.
fn filled(route: &str) -> String {
    let named = route.replace("{id}", "a").replace("{name}", "default");
    named.replace("{action}", "reset")
}

async fn status(router: &Router, route: &str, headers: &[(&str, &str)]) -> u16 {
    let headers = [headers, &[("content-type", "application/json")]].concat();
    let body = match route {
        "PATCH /api/v1/accounts/{id}" => "{\"weight\": 2}",
        _ => "{}",
    };
    let line = filled(route);
    let (method, path) = line.split_once(' ').unwrap();
    // Its head is all there is to see: the stream has no end.
    if path == "/api/v1/events" {
        return super::head(router, method, path, &headers).await;
    }
    ask(router, &line, &headers, body).await.status.as_u16()
}

#[tokio::test]
async fn each_route_lets_in_whom_the_table_says() {
    for (route, least) in TABLE {
        let router = served(Gateway::new(vec![account("a")]));
        let as_told = async |who: &str, headers: &[(&str, &str)], may: bool, refusals: &[u16]| {
            let status = status(&router, route, headers).await;
            let is_refused = matches!(status, 401 | 403);
            assert_eq!(!is_refused, may, "{route} by {who}: {status}");
            assert!(
                may || refusals.contains(&status),
                "{route} by {who}: {status}"
            );
        };
        let is_open = *least == "-";
        // A login without a token is no login.
        let is_login = *route == "POST /api/v1/session";
        as_told("nobody", &[], is_open, &[401]).await;
        as_told(
            "a wrong token",
            &[("authorization", "Bearer wrong")],
            is_open,
            &[401],
        )
        .await;
        as_told(
            "a client's key",
            &[("authorization", "Bearer sk-pg-0123")],
            is_open,
            &[401],
        )
        .await;
        let is_probe = ["GET /livez", "GET /readyz", "GET /health"].contains(route);
        for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
            let bearer = format!("Bearer {TOKEN}");
            let headers = [("authorization", &*bearer), (name, value)];
            as_told("a page of another site", &headers, is_probe, &[403]).await;
        }
        for (role, token) in ROLES {
            let may = is_open || rank(role) >= rank(least);
            let bearer = format!("Bearer {token}");
            as_told(role, &[("authorization", &bearer)], may, &[403]).await;
        }
        assert!(!is_login || is_open);
    }
}

#[tokio::test]
async fn the_table_the_router_and_the_document_have_the_same_routes() {
    let router = served(Gateway::new(vec![account("a")]));
    let document = ask(&router, "GET /openapi.json", &[], "").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let listed = TABLE.iter().map(|(route, _)| (*route).to_owned());
    let listed: BTreeSet<String> = listed.filter(|route| route.contains("/api/v1/")).collect();
    assert_eq!(described, listed);
    for route in &described {
        let (method, path) = route.split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{route} says what it does");
        assert!(operation["responses"]["default"].is_object(), "{route}");
        let status = status(
            &router,
            route,
            &[("authorization", &format!("Bearer {TOKEN}"))],
        )
        .await;
        assert_ne!(status, 405, "{route} is served");
    }
}

#[tokio::test]
async fn every_answer_of_the_document_says_of_what_it_is_made() {
    let router = served(Gateway::new(vec![account("a")]));
    let document = ask(&router, "GET /openapi.json", &[], "").await.json();
    let schemas = &document["components"]["schemas"];
    for reference in document.to_string().split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "there is no schema {name}");
    }
    let mut seen = 0;
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operations = item.as_object().unwrap().values();
        for name in operations
            .clone()
            .map(|operation| &operation["operationId"])
        {
            assert!(names.insert(name.to_string()), "{name} is of two calls");
        }
        for responses in operations.filter_map(|operation| operation["responses"].as_object()) {
            for (status, response) in responses {
                let what = format!("{path}, {status}");
                let kinds = response["content"].as_object();
                assert_eq!(kinds.is_none(), status == "204", "{what} has a body");
                let Some(json) = kinds.and_then(|kinds| kinds.get("application/json")) else {
                    continue;
                };
                let named = json["schema"]["$ref"].as_str().unwrap_or_default();
                let name = named.strip_prefix("#/components/schemas/");
                let schema = &schemas[name.unwrap_or_default()];
                let says = ["properties", "allOf", "oneOf"];
                assert!(
                    says.iter().any(|key| schema.get(key).is_some()),
                    "{what} is of no schema: {json}"
                );
                seen += usize::from(status.starts_with('2'));
            }
        }
    }
    assert!(seen >= 28, "{seen}");
}
