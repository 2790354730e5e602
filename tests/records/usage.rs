//! What was used is written down, summed up, shown and at last deleted; over both databases.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Database, asked, wait_until_used};
use crate::support::{Gateway, Mock, Request, chat, get, pool, post, ranked, wait_for};

const KEYS: &str = "clients: {keys: [{name: blue, key: sk-blue}, {name: red, key: sk-red}]}\n";

fn by(gateway: &Gateway, by: &str) -> Vec<Value> {
    let answer = gateway.admin(get(&format!("/api/v1/usage?by={by}")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["usage"].as_array().unwrap().clone()
}

fn latest(gateway: &Gateway, last: u32) -> Vec<Value> {
    let answer = gateway.admin(get(&format!("/api/v1/requests?last={last}")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["requests"].as_array().unwrap().clone()
}

#[test]
fn requests_are_summed_up_by_what_is_asked_for_and_outlive_the_gateway() {
    for database in Database::both() {
        let vendors = Mock::several(1, &[]);
        let text = format!("{KEYS}{}{}", database.state(), pool(&vendors, ""));
        let mut gateway = Gateway::start(&text);
        for (key, times) in [("sk-blue", 3), ("sk-red", 2)] {
            for _ in 0..times {
                assert_eq!(gateway.send(&chat(false).bearer(key)).status, 200);
            }
        }
        wait_until_used(&gateway, 5);
        let keys = by(&gateway, "key");
        let names: Vec<_> = keys
            .iter()
            .map(|row| (&row["key"], &row["requests"]))
            .collect();
        assert_eq!(
            names,
            [(&json!("blue"), &json!(3)), (&json!("red"), &json!(2))]
        );
        let input = |row: &Value| row["tokens"]["input"].as_u64().unwrap();
        assert!(input(&keys[0]) > 0);
        assert_eq!(input(&keys[0]) * 2, input(&keys[1]) * 3);
        gateway.restart(Signal::SIGTERM);
        assert_eq!(gateway.send(&chat(false).bearer("sk-red")).status, 200);
        wait_until_used(&gateway, 6);
        let all = by(&gateway, "account,model");
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0]["account"], "a0");
        assert_eq!(all[0]["model"], "gpt-5");
        assert_eq!(all[0]["requests"], 6);
        assert_eq!(by(&gateway, "day").len(), 1);
        let (code, said, _) = gateway.program.command(&["usage", "--by", "key"]);
        assert_eq!(code, Some(0));
        assert!(
            said.starts_with("KEY ") && said.contains("\nblue "),
            "{said}"
        );
        let none = gateway.admin(get("/api/v1/usage?from=2031-01-01"));
        assert_eq!(none.json()["usage"], json!([]));
        for wrong in ["by=colour", "from=yesterday", "limit=0"] {
            let answer = gateway.admin(get(&format!("/api/v1/usage?{wrong}")));
            assert_eq!(answer.status, 400, "{wrong}");
        }
    }
}

#[test]
fn the_latest_requests_say_which_accounts_were_tried_and_why() {
    let (_vendors, text) = ranked("");
    let mut gateway = Gateway::start(&format!("{KEYS}{text}"));
    let blue = |request: Request| request.bearer("sk-blue");
    let limited = blue(chat(false))
        .header("x-mock-status", 429)
        .header("x-mock-only", "a0")
        .header("x-request-id", "first-of-all");
    assert_eq!(gateway.send(&limited).status, 200);
    assert_eq!(gateway.send(&blue(chat(true))).status, 200);
    assert_eq!(gateway.send(&chat(false).bearer("sk-unknown")).status, 401);
    wait_until_used(&gateway, 2);
    let check = |gateway: &Gateway| {
        let requests = latest(gateway, 10);
        assert_eq!(
            requests.len(),
            2,
            "of strangers nothing is kept: {requests:?}"
        );
        let first = &requests[1];
        assert_eq!(first["id"], "first-of-all");
        assert_eq!(first["key"], "blue");
        assert_eq!(first["account"], "a1");
        assert_eq!(
            first["tries"],
            json!([
                {"account": "a0", "outcome": "rate_limited"},
                {"account": "a1", "outcome": "success"}
            ])
        );
        assert_eq!(first["status"], 200);
        assert!(first["tokens"]["output"].as_u64().unwrap() > 0);
        assert_eq!(latest(gateway, 1), requests[..1]);
    };
    check(&gateway);
    gateway.restart(Signal::SIGTERM);
    check(&gateway);
    let (code, said, _) = gateway.program.command(&["requests", "--last", "1"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains(" blue ") && !said.contains("first-of-all"),
        "{said}"
    );
}

#[test]
fn a_successor_finds_what_was_used_before_it_and_the_last_of_its_predecessor() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!("{KEYS}{}", pool(&vendors, "")));
    let ask = || gateway.send(&chat(false).bearer("sk-blue"));
    assert_eq!(ask().status, 200);
    gateway.upgrade();
    wait_until_used(&gateway, 1);
    assert_eq!(ask().status, 200);
    wait_until_used(&gateway, 2);
}

#[test]
fn what_is_older_than_it_is_to_be_kept_is_deleted() {
    for database in Database::both() {
        let vendors = Mock::several(1, &[]);
        let keep = "keep: {requests: 7d, usage: 400d, audit: 30d}";
        let state = database.state_with(keep);
        let text = format!("{KEYS}{state}{}", pool(&vendors, ""));
        let mut gateway = Gateway::start(&text);
        assert_eq!(gateway.send(&chat(false).bearer("sk-blue")).status, 200);
        wait_until_used(&gateway, 1);
        gateway.program.stop(Signal::SIGTERM);
        // The one request, 8 days ago; and its hour, 401 days ago; and more of them than one step.
        let sql = "INSERT INTO requests SELECT n.n, request, key, account, pool, model, path, tries, \
                   status, error, tokens_in, tokens_out, tokens_cached, cost, estimated, \
                   began - 8 * 86400000, first_byte, duration FROM requests, \
                   (WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500) \
                    SELECT n FROM n) n; \
                   INSERT INTO usage SELECT hour - 401 * CAST(86400000 AS BIGINT), key, account, \
                   model, requests, tokens_in, tokens_out, tokens_cached, cost, estimated FROM usage; \
                   INSERT INTO audit VALUES (1, 1, 'a', 'b', 'c', 'd', '')";
        database.sql(&gateway, sql);
        let count = |gateway: &Gateway, table: &str| {
            asked(&database.sql(gateway, &format!("SELECT COUNT(*) FROM {table}")))
        };
        assert_eq!(count(&gateway, "requests"), 2501);
        gateway.start_again();
        wait_for("old rows to be gone", || {
            let left = ["requests", "usage", "audit"].map(|table| count(&gateway, table));
            (left == [1, 1, 0]).then_some(())
        });
        assert_eq!(by(&gateway, "key")[0]["requests"], 1);
        assert_eq!(gateway.send(&chat(false).bearer("sk-blue")).status, 200);
    }
}

#[test]
fn a_row_that_the_database_refuses_for_good_is_lost_and_those_behind_it_are_written() {
    for database in Database::both() {
        let vendors = Mock::several(1, &[]);
        let text = format!("{}{}", database.state(), pool(&vendors, ""));
        let gateway = Gateway::start(&text);
        assert_eq!(gateway.send(&chat(false)).status, 200);
        wait_until_used(&gateway, 1);
        // What somebody did to the database: no further row of this model can be written.
        database.sql(&gateway, "CREATE UNIQUE INDEX one_each ON requests (model)");
        for _ in 0..3 {
            assert_eq!(gateway.send(&chat(false)).status, 200);
        }
        let body = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]});
        assert_eq!(
            gateway.send(&post("/v1/chat/completions", &body)).status,
            200
        );
        wait_until_used(&gateway, 5);
        let models = database.sql(&gateway, "SELECT model FROM requests ORDER BY model");
        assert_eq!(models, "gpt-4\ngpt-5");
        assert_eq!(gateway.metric("poolgate_usage_rows_lost_total", &[]), 3.0);
        assert!(gateway.log().contains("refuses what is written: "));
    }
}

#[test]
fn a_request_that_is_refused_is_shown_with_what_is_known_of_it() {
    let vendors = Mock::several(1, &[]);
    let keys = "clients: {open: false, keys: [{name: blue, key: sk-blue}]}\n\
                tiers: {default: {models: [gpt-4]}}\n";
    let gateway = Gateway::start(&format!("{keys}{}", pool(&vendors, "")));
    assert_eq!(gateway.send(&chat(false).bearer("sk-nobodys")).status, 401);
    assert_eq!(gateway.send(&chat(false).bearer("sk-blue")).status, 403);
    let rows = wait_for("it to be shown", || {
        let rows = latest(&gateway, 5);
        (!rows.is_empty()).then_some(rows)
    });
    let shown = |row: &Value| ["key", "path", "model", "status"].map(|name| row[name].clone());
    let forbidden = [json!("blue"), json!("chat"), json!("gpt-5"), json!(403)];
    assert_eq!(shown(&rows[0]), forbidden);
    // Of strangers nothing is kept but the line of the log; their bodies are not read.
    assert_eq!(rows.len(), 1);
    let unknown = "method=POST path=chat status=401 ";
    wait_for("its line", || gateway.log().contains(unknown).then_some(()));
}
