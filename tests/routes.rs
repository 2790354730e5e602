//! Which pool a request goes to: by path, by model, under another name, and where that one cannot serve.

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{Answer, Gateway, Mock, Request, post, wait_for};

/// Pools `a`, `b` … of one simulated vendor each, and this before them.
fn gateway(before: &str, pools: usize) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(pools, &[]);
    let mut text = format!("{before}\npools:\n");
    for (name, vendor) in ('a'..).zip(&vendors) {
        text += &format!(
            "  {name}: {{accounts: [{{id: {name}, upstream: '{}', credential: {{api_key: key-{name}}}}}]}}\n",
            vendor.url()
        );
    }
    (Gateway::start(&text), vendors)
}

fn chat(model: &str) -> Request {
    post(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "user", "content": "é"}], "model": model}),
    )
}

/// Which pool was asked, by its account's key, `-` for none; what came there.
fn asked(gateway: &Gateway, request: Request) -> (char, Value) {
    let answer = gateway.send(&request.header("x-mock-echo", 1));
    let echo = answer.json();
    let key = |name: &str| echo["headers"][name][0].as_str()?.chars().last();
    let which = key("authorization").or_else(|| key("x-goog-api-key"));
    (which.unwrap_or('-'), echo)
}

/// Of a body, as the simulated vendor tells it.
fn hash(body: &str) -> String {
    format!("{:016x}", xxh3_64(body.as_bytes()))
}

#[test]
fn path_and_model_decide_and_the_first_that_matches_wins() {
    let routes = "routes:
  - {path: /v1/embeddings, pool: b}
  - {model: 'claude-*', pool: c}
  - {model: 'claude-opus-*', pool: b}";
    let (gateway, _vendors) = gateway(routes, 3);
    let pool_of = |request| asked(&gateway, request).0;
    let embed = |path| post(path, &json!({"model": "claude-embed", "input": "x"}));
    assert_eq!(pool_of(embed("/v1/embeddings")), 'b');
    assert_eq!(pool_of(embed("/embeddings")), 'b', "the same path");
    assert_eq!(pool_of(chat("claude-opus-4")), 'c');
    assert_eq!(pool_of(chat("gpt-5")), 'a');
    let list = gateway.get("/v1/models").json();
    assert_eq!(list["object"], "list", "one of all pools");
    let gemini = "/v1beta/models/claude-x:generateContent";
    assert_eq!(pool_of(post(gemini, &json!({"contents": []}))), 'c');
}

#[test]
fn an_alias_changes_the_name_of_the_model_and_nothing_else() {
    let (gateway, _vendors) = gateway("routes: [{model: fast, as: gpt-5-mini, pool: b}]", 2);
    let (pool, echo) = asked(&gateway, chat("fast"));
    assert_eq!(pool, 'b');
    let sent = r#"{"messages":[{"content":"é","role":"user"}],"model":"gpt-5-mini"}"#;
    assert_eq!(echo["body_xxh3"], hash(sent));
    let gemini = "/v1beta/models/fast:generateContent";
    let (_, echo) = asked(&gateway, post(gemini, &json!({"contents": []})));
    assert_eq!(echo["path"], "/v1beta/models/gpt-5-mini:generateContent");
    let (_, echo) = asked(&gateway, chat("slow"));
    assert_eq!(echo["body_xxh3"], hash(&sent.replace("gpt-5-mini", "slow")));
}

#[test]
fn where_the_pool_cannot_serve_its_fallback_does() {
    let routes = "routes: [{model: m, pool: b, fallback: c}, {model: n, pool: b}]";
    let (gateway, vendors) = gateway(routes, 3);
    let pool_of = |model| asked(&gateway, chat(model)).0;
    assert_eq!(pool_of("m"), 'b');
    gateway.act("b", "disable");
    assert_eq!(pool_of("m"), 'c');
    assert_eq!(pool_of("n"), '-');
    gateway.act("b", "enable");
    // An attempt that fails leads on, too.
    vendors[1].set(&json!({"connections": "reset"}));
    let answer = gateway.send(&chat("m"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What then becomes of the request that waits.
enum Then {
    PlaceIsFree,
    FallbackServes,
}

/// A request to a pool whose one place a stream holds for so long, and whose fallback is disabled.
fn waits(timeout: &str, then: Then) -> Answer {
    let vendors = Mock::several(2, &[]);
    let [near, far] = [0, 1].map(|n: usize| vendors[n].url());
    let gateway = Gateway::start(&format!(
        "routes: [{{model: m, pool: near, fallback: far}}]\npools:\n  \
         near: {{queue: {{timeout: {timeout}}}, accounts: [{{id: near, upstream: '{near}', max_concurrent: 1}}]}}\n  \
         far: {{accounts: [{{id: far, upstream: '{far}'}}]}}"
    ));
    gateway.act("far", "disable");
    let message = json!({"role": "user", "content": "Hello"});
    let stream = json!({"model": "m", "stream": true, "messages": [message]});
    let stream = post("/v1/chat/completions", &stream).header("x-mock-hang", "1");
    let holder = stream.open(gateway.address).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| gateway.send(&chat("m")));
        wait_for("one to wait", || {
            (gateway.metric("poolgate_queue_waiting", &[]) == 1.0).then_some(())
        });
        match then {
            Then::PlaceIsFree => drop(holder),
            Then::FallbackServes => gateway.act("far", "enable"),
        }
        waiter.join().unwrap()
    })
}

#[test]
fn where_the_fallback_cannot_serve_either_the_pool_is_waited_for() {
    let answer = waits("60s", Then::PlaceIsFree);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_the_pool_gives_up_its_fallback_may_still_serve() {
    let answer = waits("3s", Then::FallbackServes);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_route_holds_only_for_keys_whose_tier_has_its_pool() {
    let before = "clients:
  keys: [{name: x, key: key-x, tier: some}, {name: y, key: key-y}]
tiers: {some: {pools: [a, c]}}
routes: [{model: m, pool: b, fallback: c}, {model: m, pool: c}]";
    let (gateway, _vendors) = gateway(before, 3);
    let pool_of = |key| asked(&gateway, chat("m").bearer(key)).0;
    assert_eq!((pool_of("key-x"), pool_of("key-y")), ('c', 'b'));
}

#[test]
fn a_dry_run_goes_the_same_way() {
    let (gateway, _vendors) = gateway("routes: [{model: fast, as: gpt-5-mini, pool: b}]", 2);
    let ask = |model| post("/api/v1/route", &json!({"model": model}));
    assert_eq!(gateway.admin(ask("fast")).json()["account"], "b");
    assert_eq!(gateway.admin(ask("slow")).json()["account"], "a");
}

#[test]
fn a_fallback_is_asked_as_often_as_it_allows_whatever_was_asked_before() {
    let vendors = Mock::several(5, &["--status", "500"]);
    let account = |n: usize| format!("{{id: a{n}, upstream: '{}'}}", vendors[n].url());
    let keys = "breaker: {enabled: false}, retry: {attempts: 2}";
    let gateway = Gateway::start(&format!(
        "routes: [{{model: m, pool: near, fallback: far}}]\npools:\n  \
         near: {{{keys}, strategy: round_robin, accounts: [{}, {}, {}]}}\n  \
         far: {{{keys}, strategy: round_robin, accounts: [{}, {}]}}\n",
        account(0),
        account(1),
        account(2),
        account(3),
        account(4)
    ));
    let tries = || {
        let answer = gateway.send(&chat("m"));
        (
            answer.status,
            gateway.tries(answer.header("x-request-id").unwrap()),
        )
    };
    let two_each = "a0:transient,a1:transient,a3:transient,a4:transient";
    assert_eq!(tries(), (500, two_each.to_owned()));
    vendors[4].set(&json!({"behaviour": {}}));
    let (status, tried) = tries();
    assert_eq!(status, 200);
    assert!(
        tried.starts_with("a2:transient,a0:transient,") && tried.ends_with("a4:success"),
        "{tried}"
    );
}

#[test]
fn where_the_budget_for_failures_is_spent_the_fallback_still_serves() {
    let vendors = Mock::several(3, &[]);
    vendors[0].set(&json!({"behaviour": {"status": "500"}}));
    vendors[1].set(&json!({"behaviour": {"status": "500"}}));
    let account = |n: usize| format!("{{id: a{n}, upstream: '{}'}}", vendors[n].url());
    let gateway = Gateway::start(&format!(
        "routes: [{{model: m, pool: near, fallback: far}}]\npools:\n  \
         near: {{breaker: {{enabled: false}}, accounts: [{}, {}]}}\n  far: {{accounts: [{}]}}\n",
        account(0),
        account(1),
        account(2)
    ));
    for _ in 0..60 {
        assert_eq!(gateway.send(&chat("m")).status, 200);
    }
}

#[test]
fn a_model_that_cannot_be_renamed_is_refused_and_never_sent_by_its_wrong_name() {
    let routes = "routes: [{model: fast, as: gpt-5-mini, pool: b}]";
    let (gateway, vendors) = gateway(routes, 2);
    // Longer than what is read of a body whose length nobody states.
    let long = |model: &str| {
        let content = "x".repeat(100_000);
        let messages = json!([{"role": "user", "content": content}]);
        let text = format!("{{\"model\": \"{model}\", \"messages\": {messages}}}");
        post("/v1/chat/completions", &json!({})).body(text)
    };
    let refused = gateway.send(&long("fast").chunked());
    assert_eq!(refused.status, 413, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "request_too_large");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("Content-Length"), "{message}");
    assert_eq!(vendors[1].count("requests"), 0);
    assert_eq!(gateway.account("b")["failures"], 0, "it is not to blame");
    assert_eq!(gateway.send(&long("fast")).status, 200, "with its length");
    assert_eq!(gateway.send(&long("slow").chunked()).status, 200);
}

#[test]
fn a_model_that_the_pool_does_not_have_is_asked_of_its_fallback_from_then_on() {
    let (gateway, vendors) = gateway("routes: [{model: m, pool: a, fallback: b}]", 2);
    vendors[0].set(&json!({"behaviour": {"body": "model_not_found"}}));
    for _ in 0..3 {
        let answer = gateway.send(&chat("m"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = [&vendors[0], &vendors[1]].map(|vendor| vendor.count("requests"));
    assert_eq!(seen, [1, 3]);
}
