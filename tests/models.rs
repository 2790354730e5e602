//! The list of models: put together of what all accounts serve, in the caller's dialect, without asking
//! a vendor more often than needed.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mock, Request, get, pool, pool_of};

/// A vendor that has these models.
fn vendor(models: &[&str]) -> Mock {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"models": models}));
    vendor
}

/// As a client of this dialect asks for the list, or for one model of it.
fn asked(dialect: &str, one: &str) -> Request {
    match dialect {
        "anthropic" => get(&format!("/v1/models{one}")).header("anthropic-version", "2023-06-01"),
        "gemini" => get(&format!("/v1beta/models{one}")),
        _ => get(&format!("/v1/models{one}")),
    }
}

/// The names on a list, in its order.
#[track_caller]
fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let entries = list["data"].as_array().or(list["models"].as_array());
    let name = |entry: &Value| {
        let name = entry["id"].as_str().or(entry["name"].as_str()).unwrap();
        name.trim_start_matches("models/").to_owned()
    };
    entries.unwrap().iter().map(name).collect()
}

#[test]
fn the_lists_of_all_accounts_are_one_in_each_dialect() {
    let vendors = [vendor(&["m-1", "m-2"]), vendor(&["m-2", "m-3"])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    for dialect in ["openai", "anthropic", "gemini"] {
        for _ in 0..5 {
            let answer = gateway.send(&asked(dialect, ""));
            assert_eq!(names(&answer), ["m-1", "m-2", "m-3"], "{dialect}");
            assert!(answer.header("x-request-id").is_some());
        }
        let one = gateway.send(&asked(dialect, "/m-3"));
        assert_eq!(one.status, 200, "{}", one.text());
        let key = if dialect == "gemini" { "name" } else { "id" };
        assert!(one.json()[key].as_str().unwrap().ends_with("m-3"));
        let none = gateway.send(&asked(dialect, "/m-4"));
        assert_eq!(none.status, 404, "{}", none.text());
        let error = none.json()["error"].clone();
        match dialect {
            "openai" => assert_eq!(error["code"], "not_found"),
            "anthropic" => assert_eq!(error["type"], "not_found_error"),
            _ => assert_eq!(error["status"], "NOT_FOUND"),
        }
    }
    let list = gateway.send(&asked("openai", "")).json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["object"], "model");
    let list = gateway.send(&asked("anthropic", "")).json();
    assert_eq!(
        (&list["has_more"], &list["last_id"]),
        (&json!(false), &json!("m-3"))
    );
    for vendor in &vendors {
        // Once for each dialect.
        assert_eq!(vendor.count("requests"), 3);
    }
    // Who asks for a head alone asks whether an account answers.
    let head = gateway.send(&Request::new("HEAD", "/v1/models"));
    assert!(head.body.is_empty(), "{}", head.text());
    let asked: u64 = vendors.iter().map(|vendor| vendor.count("requests")).sum();
    assert_eq!(asked, 2 * 3 + 1);
}

#[test]
fn one_upstreams_list_is_passed_on_as_it_is() {
    let vendor = vendor(&["m-1"]);
    let account = |id| format!("{{id: {id}, upstream: '{}'}}", vendor.url());
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{accounts: [{}, {}]}}}}",
        account("a"),
        account("b")
    ));
    let own = get("/v1/models").send(vendor.address);
    assert_eq!(gateway.get("/v1/models").body, own.body);
    let echo = gateway.send(&get("/v1/models?after=x").header("x-mock-echo", 1));
    assert!(echo.text().contains("after=x"), "{}", echo.text());
}

#[test]
fn what_is_configured_is_not_asked_for() {
    let vendors = [vendor(&["real-1", "other"]), vendor(&["unasked"])];
    let models = ["models: ['real-*', own]", "models: {public: secret-name}"];
    let gateway = Gateway::start(&pool_of(&vendors, "", |n| format!(", {}", models[n])));
    let list = gateway.get("/v1/models");
    assert_eq!(names(&list), ["real-1", "own", "public"]);
    assert!(!list.text().contains("secret-name"));
    assert_eq!(vendors[1].count("requests"), 0);
}

#[test]
fn names_that_routes_give_are_listed_and_what_a_key_may_not_use_is_not() {
    let vendors = [
        vendor(&["gpt-5", "gpt-5-mini", "claude-x"]),
        vendor(&["claude-x", "claude-y"]),
    ];
    let before = "clients:
  keys:
    - {name: all, key: key-of-all}
    - {name: few, key: key-of-few, tier: few}
tiers:
  few: {models: ['fast', 'gpt-5']}
routes:
  - {model: fast, as: gpt-5-mini, pool: a}
  - {model: gone, as: nowhere, pool: b}
  - {model: 'claude-*', pool: b}
";
    let pool = |name: &str, n: usize, models: &str| {
        format!(
            "  {name}: {{accounts: [{{id: {name}, upstream: '{}'{models}}}]}}\n",
            vendors[n].url()
        )
    };
    let (a, b) = (pool("a", 0, ""), pool("b", 1, ", models: ['claude-*']"));
    let gateway = Gateway::start(&format!("{before}pools:\n{a}{b}"));
    let list = |key: &str| names(&gateway.send(&get("/v1/models").bearer(key)));
    // `claude-x` of pool `a` is out of reach, and that of `b` is not.
    assert_eq!(
        list("key-of-all"),
        ["gpt-5", "gpt-5-mini", "claude-x", "claude-y", "fast"]
    );
    assert_eq!(list("key-of-few"), ["gpt-5", "fast"]);
    let one = |id: &str| gateway.send(&get(&format!("/v1/models/{id}")).bearer("key-of-few"));
    assert_eq!(one("fast").json()["id"], "fast");
    assert_eq!(one("claude-x").status, 404);
    assert_eq!(gateway.get("/v1/models").status, 401);
}

#[test]
fn an_account_that_cannot_answer_is_left_out_and_without_any_the_client_is_told() {
    let vendors = [vendor(&["m-1"]), vendor(&["m-2"]), vendor(&["m-3"])];
    vendors[0].set(&json!({"connections": "reset"}));
    vendors[1].set(&json!({"behaviour": {"status": "500"}}));
    let gateway = Gateway::start(&pool(&vendors, ""));
    assert_eq!(names(&gateway.get("/v1/models")), ["m-3"]);
    // Whether there is such a model nobody knows.
    assert_eq!(gateway.get("/v1/models/m-1").status, 503);
    vendors[2].set(&json!({"connections": "reset"}));
    assert_eq!(names(&gateway.get("/v1/models")), ["m-3"], "it is kept");
    let silent = Gateway::start(&pool(&vendors, ""));
    let answer = silent.get("/v1/models");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "no_account_available");
    assert!(answer.header("retry-after").is_some());
    // What happens to lists happens to nothing else.
    assert_eq!(gateway.account("a1")["failures"], 0);
}
