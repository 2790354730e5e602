//! The page: its session, its files, what it is told live.

use super::{Gateway, Reply, TOKEN, account, ask, broken, call, served};
use crate::clock;
use crate::pool::Status;
use crate::telemetry::Counts;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn log_in(router: &Router, token: &str) -> Reply {
    let body = json!({"token": token}).to_string();
    ask(router, "POST /api/v1/session", &[JSON], &body).await
}

/// The cookie as a browser sends it, and what writes need.
async fn session(router: &Router, token: &str) -> (String, String) {
    let reply = log_in(router, token).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let cookie = reply.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    (cookie, reply.json()["csrf"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_becomes_a_cookie_that_no_script_and_no_other_site_gets() {
    let router = served(Gateway::new(vec![account("a")]));
    let reply = log_in(&router, TOKEN).await;
    let cookie = reply.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "not over TLS here");
    assert_eq!(reply.json()["role"], "admin");
    let reply = log_in(&router, "wrong").await;
    assert_eq!(reply.status, 401);
    assert!(!reply.headers.contains_key("set-cookie"));
    let (cookie, csrf) = session(&router, "v1ewer").await;
    let reply = ask(&router, "GET /api/v1/session", &[("cookie", &cookie)], "").await;
    assert_eq!(reply.json()["name"], "ann");
    assert_eq!(
        reply.json()["csrf"],
        csrf,
        "a page that is loaded again learns it"
    );
}

#[tokio::test]
async fn a_session_may_do_what_its_token_may_and_writes_only_with_the_pages_own_word() {
    let router = served(Gateway::new(vec![account("a")]));
    let (cookie, csrf) = session(&router, "0perator").await;
    let with = async |line: &str, more: &[(&str, &str)]| {
        let headers = [&[("cookie", &*cookie), JSON], more].concat();
        ask(&router, line, &headers, "{}").await
    };
    assert_eq!(with("GET /api/v1/accounts", &[]).await.status, 200);
    let disable = "POST /api/v1/accounts/a/disable";
    let reply = with(disable, &[]).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error"]["code"]),
        (403, &json!("csrf"))
    );
    let own = ("x-poolgate-csrf", &*csrf);
    assert_eq!(
        with(disable, &[("x-poolgate-csrf", "guess")]).await.status,
        403
    );
    assert_eq!(with(disable, &[own]).await.status, 200);
    assert_eq!(
        with("POST /api/v1/keys", &[own]).await.status,
        403,
        "an operator"
    );
    for site in ["cross-site", "same-site"] {
        let reply = with("GET /api/v1/accounts", &[("sec-fetch-site", site)]).await;
        assert_eq!(
            reply.status, 403,
            "{site}: another port of this machine is the same site"
        );
    }
    assert_eq!(
        with("GET /router/status", &[]).await.status,
        401,
        "older paths know no cookie"
    );
    assert_eq!(with("DELETE /api/v1/session", &[]).await.status, 403);
    let reply = with("DELETE /api/v1/session", &[own]).await;
    assert_eq!(reply.status, 204);
    assert!(
        reply.headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert_eq!(with("GET /api/v1/accounts", &[]).await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let auth = super::auth();
    let gateway = Gateway::new(vec![account("a")]);
    let router = super::super::router(gateway, &auth, super::Site { is_secure: true });
    let reply = log_in(&router, TOKEN).await;
    assert!(
        reply.headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains("; Secure")
    );
    let (cookie, _) = session(&router, TOKEN).await;
    let status = async || {
        ask(&router, "GET /api/v1/accounts", &[("cookie", &cookie)], "")
            .await
            .status
    };
    assert_eq!(status().await, 200);
    auth.replace(vec![(
        "new".into(),
        crate::secret::Secret::new("n3w"),
        crate::config::Role::Admin,
    )]);
    assert_eq!(status().await, 401);
}

#[tokio::test]
async fn the_link_of_a_first_start_lets_one_in_once() {
    let auth = super::auth();
    let router = super::super::router(Gateway::new(vec![]), &auth, super::Site::default());
    let code = auth.invite().unwrap();
    let body = json!({"link": code.expose()}).to_string();
    let reply = ask(&router, "POST /api/v1/session", &[JSON], &body).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["role"]),
        (200, &json!("admin"))
    );
    assert_eq!(
        ask(&router, "POST /api/v1/session", &[JSON], &body)
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn whoever_guesses_tokens_has_ten_tries_a_minute_and_keeps_nobody_out() {
    let router = served(Gateway::new(vec![]));
    for _ in 0..10 {
        assert_eq!(log_in(&router, "guess").await.status, 401);
    }
    let reply = log_in(&router, "another guess").await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error"]["code"]),
        (429, &json!("too_many"))
    );
    assert!(reply.headers.contains_key("retry-after"));
    // Behind a proxy all have one address: whoever knows a token is let in.
    assert_eq!(log_in(&router, TOKEN).await.status, 200);
}

/// What one token's stream says after another role was given to it.
async fn after_a_change(path: &str, token: &str, now: crate::config::Role) -> Option<Bytes> {
    let auth = super::auth();
    let gateway = Gateway::new(vec![account("a")]);
    let router = super::super::router(gateway.clone(), &auth, super::Site::default());
    let request = Request::get(path)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"));
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    // How the browser comes back, and how all stands.
    body.frame().await.unwrap().unwrap();
    if path.contains("logs") {
        body.frame().await.unwrap().unwrap();
    }
    let secret = crate::secret::Secret::new(token);
    auth.replace(vec![("bob".into(), secret, now)]);
    gateway.pulse.operator("somebody", "reload", "");
    let next = tokio::time::timeout(std::time::Duration::from_secs(30), body.frame());
    let frame = next.await.unwrap()?;
    Some(frame.unwrap().into_data().unwrap())
}

#[tokio::test]
async fn a_stream_ends_when_its_token_may_less() {
    use crate::config::Role;
    let logs = "/api/v1/instances/a/logs?follow=true";
    for (path, token, role, goes_on) in [
        ("/api/v1/events", "v1ewer", Role::Viewer, true),
        ("/api/v1/events", "v1ewer", Role::Metrics, false),
        (logs, "0perator", Role::Operator, true),
        (logs, "0perator", Role::Viewer, false),
    ] {
        let more = after_a_change(path, token, role).await;
        assert_eq!(more.is_some(), goes_on, "{path} {role:?}: {more:?}");
    }
}

#[tokio::test]
async fn the_page_brings_a_policy_and_is_not_sent_twice() {
    let router = served(Gateway::new(vec![]));
    let page = ask(&router, "GET /", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(
        page.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let known = [("if-none-match", page.headers["etag"].to_str().unwrap())];
    let again = ask(&router, "GET /", &known, "").await;
    assert_eq!((again.status.as_u16(), &*again.body), (304, ""));
    let reply = ask(&router, "GET /", &[("host", "evil.example")], "").await;
    assert_eq!(reply.status, 403, "no name of another's leads here");
    let request = Request::get("/")
        .header("host", "localhost")
        .header("accept-encoding", "br, gzip");
    let packed = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text)
        .unwrap();
    assert_eq!(text, page.body);
}

/// The next events of a stream, by name.
async fn read(body: &mut Body, until: &str) -> Vec<(String, Value)> {
    let mut text = String::new();
    while !text.contains(&format!("event: {until}\n")) || !text.ends_with("\n\n") {
        let frame = body.frame().await.unwrap().unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let name = field("event: ")?.to_owned();
        Some((name, serde_json::from_str(field("data: ")?).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn whoever_listens_is_told_what_changes_and_the_numbers() {
    let gateway = Gateway::new(vec![account("a"), account("b")]);
    let router = served(gateway.clone());
    let began = clock::moment();
    gateway.pulse.look(&*gateway, began);
    let request = Request::get("/api/v1/events")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"));
    let answer = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let first = read(&mut body, "numbers").await;
    assert_eq!(first[0].0, "accounts");
    assert_eq!(first[0].1["changed"].as_array().unwrap().len(), 2);
    gateway.pulse.look(&*gateway, began);
    read(&mut body, "numbers").await;
    gateway.change("a", |it| *it = broken("a"));
    *gateway.counts.lock() = Counts {
        requests: 20,
        errors: 4,
        tokens: 100,
    };
    let mut later = began;
    later.now += Duration::from_secs(2);
    gateway.pulse.look(&*gateway, later);
    let told = read(&mut body, "numbers").await;
    let of = |name: &str| {
        told.iter()
            .find(|(other, _)| other == name)
            .map(|(_, data)| data)
    };
    let state = of("state").unwrap();
    assert_eq!(
        (&state["account"], &state["from"], &state["to"]),
        (&json!("a"), &json!("healthy"), &json!("open"))
    );
    let changed = of("accounts").unwrap()["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "b is as it was");
    let numbers = of("numbers").unwrap();
    assert_eq!(numbers["requests_per_second"], 10.0);
    assert_eq!(numbers["errors_per_second"], 2.0);
    assert_eq!(numbers["first_byte_ms"], json!({"p50": 120, "p95": 900}));
    assert_eq!(numbers["by_status"], json!({"healthy": 1, "open": 1}));
    let overview = call(&router, "GET /api/v1/overview", "").await.json();
    assert_eq!(overview["events"][0]["to"], Status::Open.name());
    assert_eq!(overview["rates"], *numbers);
}

#[tokio::test]
async fn not_everybody_can_listen_at_once_and_a_place_is_free_again() {
    let router = served(Gateway::new(vec![]));
    let listen = async || {
        let request = Request::get("/api/v1/events")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {TOKEN}"));
        router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    };
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(listen().await);
    }
    assert_eq!(listen().await.status(), 429);
    open.pop();
    assert_eq!(listen().await.status(), 200);
}
