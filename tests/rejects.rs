//! Errors that poolgate itself writes: in the shape that the client's own SDK understands, with
//! nothing in it of the accounts behind.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, free_address, get, post};

const KEY: &str = "sk-of-a-test";

/// One request of each dialect.
fn requests() -> [(Dialect, Request); 3] {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    let contents = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    let path = "/v1beta/models/m:generateContent";
    [
        (Dialect::OpenAi, post("/v1/chat/completions", &chat)),
        (Dialect::Anthropic, post("/v1/messages", &chat)),
        (Dialect::Gemini, post(path, &contents)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

/// The words for one error: status, OpenAI's code, Anthropic's type, Gemini's status.
type Words = (u16, &'static str, &'static str, &'static str);

/// The answer is this error in the shape of its dialect, and tells nothing about what is behind.
#[track_caller]
fn assert_is(answer: &Answer, dialect: Dialect, words: Words, secrets: &[String]) {
    let (status, code, kind, google) = words;
    assert_eq!(answer.status, status, "{dialect:?}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = answer.header("x-request-id").unwrap();
    let json = answer.json();
    let error = &json["error"];
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sorted = |names: &[&str]| {
        let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    let mut found = names(error);
    found.sort();
    match dialect {
        Dialect::OpenAi => {
            assert_eq!(found, sorted(&["message", "type", "param", "code"]));
            assert_eq!(
                (&error["code"], &error["param"]),
                (&json!(code), &Value::Null)
            );
        }
        Dialect::Anthropic => {
            assert_eq!(found, sorted(&["type", "message"]));
            assert_eq!(
                (&json["type"], &error["type"]),
                (&json!("error"), &json!(kind))
            );
            assert_eq!(json["request_id"], id);
        }
        Dialect::Gemini => {
            assert_eq!(found, sorted(&["code", "message", "status"]));
            assert_eq!(
                (&error["code"], &error["status"]),
                (&json!(status), &json!(google))
            );
        }
    }
    assert!(error["message"].as_str().unwrap().len() > 20, "{json}");
    let whole = format!("{:?}", answer);
    for secret in secrets {
        assert!(!whole.contains(secret.as_str()), "{secret} in {whole}");
    }
}

/// A gateway over these upstreams, whose accounts have names that can be looked for.
struct House {
    gateway: Gateway,
    secrets: Vec<String>,
}

fn house(upstreams: &[String], clients: &str, keys: &str) -> House {
    let mut secrets = vec!["127.0.0.1".to_owned()];
    let mut accounts = String::new();
    for (n, upstream) in upstreams.iter().enumerate() {
        let (id, token) = (format!("hidden-account-{n}"), format!("hidden-token-{n}"));
        accounts += &format!(
            "      - {{id: {id}, upstream: \"{upstream}\", credential: {{api_key: {token}}}}}\n"
        );
        secrets.extend([id, token, upstream.rsplit(':').next().unwrap().to_owned()]);
    }
    let gateway = Gateway::start(&format!(
        "{clients}pools:\n  default:\n{keys}    accounts:\n{accounts}"
    ));
    House { gateway, secrets }
}

impl House {
    #[track_caller]
    fn assert_each(&self, change: impl Fn(Request) -> Request, words: Words) -> Vec<Answer> {
        let ask = |(dialect, request): (Dialect, Request)| {
            let answer = self.gateway.send(&change(request));
            assert_is(&answer, dialect, words, &self.secrets);
            answer
        };
        requests().into_iter().map(ask).collect()
    }
}

#[test]
fn a_missing_or_wrong_key_is_401() {
    let vendor = Mock::start(&[]);
    let clients = format!("clients: {{keys: [{{name: t, key: {KEY}}}]}}\n");
    let house = house(&[vendor.url()], &clients, "");
    let words = (
        401,
        "invalid_api_key",
        "authentication_error",
        "UNAUTHENTICATED",
    );
    let without = house.assert_each(|request| request, words);
    let wrong = house.assert_each(|request| request.bearer("sk-other"), words);
    for answer in without.iter().chain(&wrong) {
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.text().contains("sk-other"), "{}", answer.text());
    }
    let right = requests()[0].1.clone().bearer(KEY);
    assert_eq!(house.gateway.send(&right).status, 200);
    assert_eq!(vendor.count("requests"), 1);
}

#[test]
fn a_model_that_the_key_may_not_use_is_403() {
    let vendor = Mock::start(&[]);
    let clients = format!(
        "clients: {{keys: [{{name: t, key: {KEY}, tier: small}}]}}\ntiers: {{small: {{models: [\"other*\"]}}}}\n"
    );
    let house = house(&[vendor.url()], &clients, "");
    let words = (
        403,
        "permission_denied",
        "permission_error",
        "PERMISSION_DENIED",
    );
    house.assert_each(|request| request.bearer(KEY), words);
    assert_eq!(vendor.count("requests"), 0);
}

#[test]
fn a_key_that_may_not_use_every_model_has_nothing_done_on_paths_that_nobody_knows() {
    let vendor = Mock::start(&[]);
    let clients = format!(
        "clients: {{paths: any, keys: [{{name: t, key: {KEY}, tier: small}}, {{name: u, key: sk-all}}]}}\n\
         tiers: {{small: {{models: [\"gpt-5\"]}}}}\n"
    );
    let house = house(&[vendor.url()], &clients, "");
    let body = json!({"model": "gpt-5", "Model": "o3", "messages": []});
    for path in [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/images/generations",
    ] {
        let request = post(path, &body);
        let answer = house.gateway.send(&request.clone().bearer(KEY));
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert_eq!(vendor.count("requests"), 0, "{path}");
    }
    let escaped = post("/v1/chat/completion%73", &body).bearer(KEY);
    assert_eq!(house.gateway.send(&escaped).status, 400);
    assert_eq!(vendor.count("requests"), 0);
    // Looking is free, and a key without such a limit may do all.
    let files = get("/v1/files");
    assert_ne!(house.gateway.send(&files.bearer(KEY)).status, 403);
    let images = post("/v1/images/generations", &body);
    assert_ne!(house.gateway.send(&images.bearer("sk-all")).status, 403);
}

#[test]
fn a_path_that_nobody_serves_is_404() {
    let vendor = Mock::start(&[]);
    let house = house(&[vendor.url()], "", "");
    let words = (404, "not_found", "not_found_error", "NOT_FOUND");
    for (dialect, path) in [
        (Dialect::OpenAi, "/v1/no/such/path"),
        (Dialect::Anthropic, "/v1/messages/nothing"),
        (Dialect::Gemini, "/v1beta/nothing"),
        (Dialect::OpenAi, "/elsewhere"),
    ] {
        let answer = house.gateway.send(&post(path, &json!({})));
        assert_is(&answer, dialect, words, &house.secrets);
    }
    assert_eq!(vendor.count("requests"), 0);
}

#[test]
fn too_large_a_body_is_413() {
    let vendor = Mock::start(&[]);
    let house = house(&[vendor.url()], "clients: {max_body: 1KiB}\n", "");
    let words = (
        413,
        "request_too_large",
        "request_too_large",
        "INVALID_ARGUMENT",
    );
    house.assert_each(|request| request.body(vec![b'x'; 2000]), words);
}

#[test]
fn limits_of_all_accounts_are_429_with_the_true_wait() {
    for (wait, advice) in [("45", None), ("90", Some("false"))] {
        let vendors = [Mock::start(&[]), Mock::start(&[])];
        let upstreams: Vec<String> = vendors.iter().map(Mock::url).collect();
        let house = house(&upstreams, "", "    queue: {timeout: 1s}\n");
        let limited = |request: Request| {
            request
                .header("x-mock-status", 429)
                .header("x-mock-retry-after", wait)
        };
        let words = (
            429,
            "rate_limit_exceeded",
            "rate_limit_error",
            "RESOURCE_EXHAUSTED",
        );
        for answer in house.assert_each(limited, words) {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            let stated: u64 = wait.parse().unwrap();
            assert!(
                (stated - 3..=stated).contains(&seconds),
                "{seconds} of {stated}"
            );
            // Beyond a minute a client's own retries would only wait.
            assert_eq!(answer.header("x-should-retry"), advice);
        }
    }
}

#[test]
fn upstreams_that_cannot_be_reached_are_502() {
    let gone: Vec<String> = (0..2)
        .map(|_| format!("http://{}", free_address()))
        .collect();
    let house = house(&gone, "", "    breaker: {enabled: false}\n");
    let words = (502, "upstream_unreachable", "api_error", "UNAVAILABLE");
    house.assert_each(|request| request, words);
}

#[test]
fn upstreams_that_break_off_before_their_answer_are_502() {
    let vendors = [Mock::start(&[]), Mock::start(&[])];
    let upstreams: Vec<String> = vendors.iter().map(Mock::url).collect();
    let house = house(&upstreams, "", "    breaker: {enabled: false}\n");
    let words = (502, "upstream_unreachable", "api_error", "UNAVAILABLE");
    house.assert_each(|request| request.header("x-mock-reset", 1), words);
}

#[test]
fn accounts_that_cannot_serve_are_503() {
    let vendor = Mock::start(&[]);
    let house = house(&[vendor.url()], "", "");
    let words = (
        503,
        "no_account_available",
        "overloaded_error",
        "UNAVAILABLE",
    );
    // Its credential is refused, then it is left alone.
    for answer in house.assert_each(|request| request.header("x-mock-status", 401), words) {
        assert!(answer.header("retry-after").is_some());
    }
    let disable = post("/api/v1/accounts/hidden-account-0/disable", &json!({}));
    assert_eq!(house.gateway.admin(disable).status, 200);
    house.assert_each(|request| request, words);
}

#[test]
fn an_upstream_that_stays_silent_is_504() {
    let vendor = Mock::start(&["--hang", "head"]);
    let keys = "    breaker: {enabled: false}\n    timeouts: {read: 200ms}\n";
    let house = house(&[vendor.url()], "", keys);
    let words = (
        504,
        "upstream_timeout",
        "timeout_error",
        "DEADLINE_EXCEEDED",
    );
    house.assert_each(|request| request, words);
}
