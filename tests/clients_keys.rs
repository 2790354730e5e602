//! Who may call, and what of a caller and of an account the other side gets to see.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, chat, get, pool, post, wait_for};

const ANTHROPIC: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/gemini-2.5-pro:generateContent";

fn message(path: &str) -> Request {
    post(
        path,
        &json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
    )
}

/// A gateway that knows these keys (YAML of `clients`), and its vendor.
fn gateway(clients: &str) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!("clients: {clients}\n{}", pool(&vendors, "")));
    (gateway, vendors)
}

#[test]
fn a_key_is_found_wherever_a_client_puts_it() {
    let (gateway, _vendors) = gateway("{keys: [{name: ci, key: sk-good-key}]}");
    for (name, value) in [
        ("authorization", "Bearer sk-good-key"),
        ("x-api-key", "sk-good-key"),
        ("api-key", "sk-good-key"),
        ("x-goog-api-key", "sk-good-key"),
    ] {
        let answer = gateway.send(&chat(false).header(name, value));
        assert_eq!(answer.status, 200, "{name}");
        let wrong = value.replace("good", "evil");
        assert_eq!(
            gateway.send(&chat(false).header(name, wrong)).status,
            401,
            "{name}"
        );
    }
    let by_query = |key: &str| {
        gateway
            .send(&message(&format!("{GEMINI}?key={key}")))
            .status
    };
    assert_eq!(
        (by_query("sk-good-key"), by_query("sk-evil-key")),
        (200, 401)
    );
    // The first valid one counts, not the first one.
    let two = chat(false)
        .bearer("dummy")
        .header("x-api-key", "sk-good-key");
    assert_eq!(gateway.send(&two).status, 200);
    assert_eq!(gateway.send(&chat(false)).status, 401);
}

#[test]
fn who_has_no_key_is_told_so_in_its_dialect() {
    let (gateway, vendors) = gateway("{keys: [{name: ci, key: sk-good-key}]}");
    let refused = |request: Request| -> Value {
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(answer.header("x-request-id").is_some());
        answer.json()
    };
    let openai = refused(chat(false).bearer("sk-evil-key"));
    assert_eq!(openai["error"]["code"], "invalid_api_key");
    assert_eq!(openai["error"]["param"], Value::Null);
    let anthropic = refused(message(ANTHROPIC).header("x-api-key", "sk-evil-key"));
    assert_eq!(anthropic["type"], "error");
    assert_eq!(anthropic["error"]["type"], "authentication_error");
    assert!(anthropic["request_id"].is_string());
    let gemini = refused(message(GEMINI).header("x-goog-api-key", "sk-evil-key"));
    assert_eq!(
        (&gemini["error"]["code"], &gemini["error"]["status"]),
        (&json!(401), &json!("UNAUTHENTICATED"))
    );
    for answer in [openai, anthropic, gemini] {
        assert!(!answer.to_string().contains("sk-evil"), "{answer}");
    }
    assert_eq!(vendors[0].count("requests"), 0, "nothing went upstream");
    assert!(!gateway.log().contains("sk-evil"), "{}", gateway.log());
    let unknown = gateway.metric("poolgate_key_rejections_total", &["reason=\"unknown\""]);
    assert_eq!(unknown, 3.0);
}

#[test]
fn the_key_file_is_read_anew_when_it_changes_and_never_opens_the_gate_again() {
    let vendors = Mock::several(1, &[]);
    let configuration = format!("clients: {{keys_file: keys.txt}}\n{}", pool(&vendors, ""));
    let files = [("keys.txt", "# ours\nsk-one\n\n  sk-two  \n")];
    let gateway = Gateway::start_with(&configuration, &files, &[]);
    let status = |key: &str| gateway.send(&chat(false).bearer(key)).status;
    assert_eq!(
        (status("sk-one"), status("sk-two"), status("sk-three")),
        (200, 200, 401)
    );
    assert_eq!(gateway.send(&chat(false)).status, 401);
    let write = |text: &str| fs::write(gateway.program.folder().join("keys.txt"), text).unwrap();
    let becomes = |key: &str, wanted: u16| {
        wait_for(&format!("{key} to get {wanted}"), || {
            (status(key) == wanted).then_some(())
        });
    };
    write("sk-one\nsk-three\n");
    becomes("sk-three", 200);
    assert_eq!((status("sk-one"), status("sk-two")), (200, 401));
    write("");
    becomes("sk-one", 401);
    assert_eq!(
        gateway.send(&chat(false)).status,
        401,
        "an empty file opens nothing"
    );
    write("sk-four\n");
    becomes("sk-four", 200);
}

#[test]
fn an_open_gateway_on_loopback_is_for_programs_of_this_machine_only() {
    let (gateway, vendors) = gateway("{open: auto}");
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(gateway.send(&chat(false).bearer("whatever")).status, 200);
    let port = gateway.address.port();
    for host in ["evil.example".to_owned(), format!("rebound.example:{port}")] {
        let answer = gateway.send(&chat(false).header("host", &host));
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(answer.json()["error"]["code"], "forbidden_origin");
    }
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let answer = gateway.send(&chat(false).header("origin", origin));
        assert_eq!(answer.status, 403, "{origin}");
    }
    let own = chat(false)
        .header("host", format!("localhost:{port}"))
        .header("origin", format!("http://localhost:{port}"));
    assert_eq!(gateway.send(&own).status, 200);
    assert_eq!(vendors[0].count("requests"), 3);
}

#[test]
fn a_gateway_with_keys_asks_for_one_whatever_the_host() {
    let (gateway, _vendors) = gateway("{keys: [{name: ci, key: sk-good-key}]}");
    let foreign = |request: Request| {
        let request = request
            .header("host", "gate.example")
            .header("origin", "https://app.example");
        gateway.send(&request).status
    };
    assert_eq!(foreign(chat(false)), 401);
    assert_eq!(foreign(chat(false).bearer("sk-good-key")), 200);
}

#[test]
fn open_false_and_open_true_mean_what_they_say() {
    let (shut, _vendors) = gateway("{open: false}");
    assert_eq!(shut.send(&chat(false)).status, 401);
    let (open, _vendors) = gateway("{open: true, keys: [{name: ci, key: sk-good-key}]}");
    assert_eq!(open.send(&chat(false)).status, 200);
}

#[test]
fn the_account_is_shown_to_those_who_may_see_it() {
    let (gateway, _vendors) = gateway(
        "{keys: [{name: ops, key: sk-ops, expose_account: true}, {name: app, key: sk-app}]}",
    );
    let shown = |key: &str| {
        let answer = gateway.send(&chat(false).bearer(key));
        answer.header("x-poolgate-account").map(str::to_owned)
    };
    assert_eq!(
        (shown("sk-ops").as_deref(), shown("sk-app")),
        (Some("a0"), None)
    );
}

#[test]
fn a_tier_has_its_pools_and_its_models() {
    let vendors = Mock::several(2, &[]);
    let configuration = format!(
        "clients:
  keys:
    - {{name: small, key: sk-small, tier: small}}
    - {{name: big, key: sk-big, tier: big}}
tiers:
  small: {{pools: [one], models: [\"gpt-4*\"]}}
  big: {{pools: [two]}}
pools:
  one: {{accounts: [{{id: a, upstream: \"{}\"}}]}}
  two: {{accounts: [{{id: b, upstream: \"{}\"}}]}}
",
        vendors[0].url(),
        vendors[1].url()
    );
    let gateway = Gateway::start(&configuration);
    let ask = |key: &str, model: &str| -> Answer {
        let body = json!({"model": model, "messages": []});
        gateway.send(&post("/v1/chat/completions", &body).bearer(key))
    };
    assert_eq!(ask("sk-small", "gpt-4o").status, 200);
    let refused = ask("sk-small", "gpt-5");
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (403, &json!("permission_denied"))
    );
    assert_eq!(ask("sk-big", "gpt-5").status, 200);
    // Hiding the model does not help.
    let hidden = post("/v1/chat/completions", &json!({"messages": []})).bearer("sk-small");
    assert_eq!(gateway.send(&hidden).status, 403);
    let counts = [vendors[0].count("requests"), vendors[1].count("requests")];
    assert_eq!(counts, [1, 1], "each tier has its own pool");
}

#[test]
fn the_vendor_sees_the_accounts_credential_and_none_of_the_clients() {
    let (gateway, _vendors) = gateway("{keys: [{name: ci, key: sk-good-key}]}");
    let request = chat(false)
        .bearer("sk-good-key")
        .header("x-api-key", "sk-other")
        .header("api-key", "sk-other")
        .header("x-goog-api-key", "sk-other")
        .header("proxy-authorization", "Basic c2VjcmV0")
        .header("cookie", "session=secret")
        .header("openai-organization", "org-client")
        .header("openai-project", "proj-client")
        .header("x-goog-user-project", "proj-client")
        .header("x-forwarded-for", "203.0.113.9")
        .header("te", "trailers")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("accept-encoding", "gzip, br")
        .header("anthropic-beta", "beta-1")
        .header("anthropic-version", "2023-06-01")
        .header("openai-beta", "assistants=v2")
        .header("user-agent", "client/1.0")
        .header("x-stainless-lang", "python")
        .header("idempotency-key", "once")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("x-mock-echo", 1);
    let echo = gateway.send(&request).json();
    let headers = echo["headers"].as_object().unwrap();
    let sent = |name: &str| headers.get(name).map(|values| values[0].as_str().unwrap());
    // An `anthropic-version` makes the request one of that dialect, whose key goes in another place.
    assert!(
        sent("authorization") == Some("Bearer key-0") || sent("x-api-key") == Some("key-0"),
        "{headers:?}"
    );
    for name in [
        "api-key",
        "x-goog-api-key",
        "proxy-authorization",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "x-forwarded-for",
        "x-hop",
    ] {
        assert_eq!(sent(name), None, "{name}");
    }
    for (name, value) in [
        ("accept-encoding", "identity"),
        ("anthropic-beta", "beta-1"),
        ("anthropic-version", "2023-06-01"),
        ("openai-beta", "assistants=v2"),
        ("user-agent", "client/1.0"),
        ("x-stainless-lang", "python"),
        ("idempotency-key", "once"),
    ] {
        assert_eq!(sent(name), Some(value), "{name}");
    }
    let trace = sent("traceparent").unwrap();
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{trace}"
    );
    assert!(!echo.to_string().contains("sk-"), "{echo}");
}

#[test]
fn a_key_in_the_query_goes_no_further() {
    let (gateway, _vendors) = gateway("{keys: [{name: ci, key: sk-good-key}]}");
    let request = message(&format!("{GEMINI}?alt=sse&key=sk-good-key")).header("x-mock-echo", 1);
    let echo = gateway.send(&request).json();
    assert_eq!(echo["query"], "alt=sse", "{echo}");
    assert_eq!(echo["headers"]["x-goog-api-key"][0], "key-0", "{echo}");
}

#[test]
fn the_client_sees_nothing_of_the_account() {
    let (gateway, vendors) = gateway("{}");
    vendors[0].set(&json!({"cookie": true, "limit_headers": true}));
    let request = |path| {
        message(path)
            .header("x-mock-header", "anthropic-organization-id: org-1")
            .header("x-mock-header", "openai-organization: org-1")
            .header("x-mock-header", "x-kept: yes")
    };
    for path in ["/v1/chat/completions", ANTHROPIC] {
        let direct = request(path).send(vendors[0].address);
        assert!(direct.header("set-cookie").is_some(), "{direct:?}");
        let answer = gateway.send(&request(path));
        assert_eq!(answer.status, 200);
        let names = answer.header_names();
        let leaked = names.iter().filter(|name| {
            ["set-cookie", "organization", "ratelimit"]
                .iter()
                .any(|part| name.contains(part))
        });
        assert_eq!(leaked.count(), 0, "{names:?}");
        assert_eq!(answer.header("x-kept"), Some("yes"));
    }
}

#[test]
fn limit_headers_pass_where_the_operator_wants_it() {
    let (gateway, vendors) = gateway("{pass_rate_limit_headers: true}");
    vendors[0].set(&json!({"limit_headers": true}));
    let names = gateway.send(&chat(false)).header_names();
    assert!(
        names.iter().any(|name| name.starts_with("x-ratelimit-")),
        "{names:?}"
    );
}

#[test]
fn a_request_keeps_its_id_or_gets_one_and_the_vendor_sees_the_same() {
    let (gateway, _vendors) = gateway("{}");
    let ids = |request: Request| {
        let answer = gateway.send(&request.header("x-mock-echo", 1));
        let seen = answer.json()["headers"]["x-request-id"][0]
            .as_str()
            .unwrap()
            .to_owned();
        (answer.header("x-request-id").unwrap().to_owned(), seen)
    };
    let kept = ids(chat(false).header("x-request-id", "mine-1"));
    assert_eq!(kept, ("mine-1".to_owned(), "mine-1".to_owned()));
    let long = "x".repeat(129);
    for unsafe_id in ["a b", "<script>", &*long] {
        let (said, seen) = ids(chat(false).header("x-request-id", unsafe_id));
        assert!(
            said == seen && said != unsafe_id && !said.is_empty(),
            "{said}"
        );
    }
    let (first, second) = (ids(chat(false)), ids(chat(false)));
    assert_ne!(first, second);
    // Refusals have one too.
    let refused = gateway.send(&get("/nowhere").header("x-request-id", "mine-2"));
    assert_eq!(
        (refused.status, refused.header("x-request-id")),
        (404, Some("mine-2"))
    );
}
