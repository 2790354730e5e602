//! PostgreSQL is away, at the start or later: requests are served all the same, and what was used is
//! in the records in the end, once.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Database, asked};
use crate::support::{
    Gateway, Mock, Postgres, Program, chat, count, get, many, pool, post, wait_for,
};

const KEYS: &str = "clients: {keys: [{name: blue, key: sk-blue}]}\n";

fn configuration(state: &str, vendors: &[Mock]) -> String {
    format!("{KEYS}{state}{}", pool(vendors, ""))
}

/// All of these are served.
fn serve(gateway: &Gateway, count: usize) {
    let request = chat(false).bearer("sk-blue");
    for answer in many(gateway.address, &request, 8, count) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// How many requests count, and how many rows they have.
fn written(server: &Postgres) -> [u64; 2] {
    wait_for("the tables", || {
        let made = server.sql("SELECT to_regclass('requests') IS NOT NULL");
        (made == "t").then_some(())
    });
    let count = "SELECT COALESCE(SUM(requests), 0) FROM usage";
    [count, "SELECT COUNT(*) FROM requests"].map(|count| asked(&server.sql(count)))
}

/// What waits for the database over a restart.
fn left(gateway: &Gateway) -> Vec<PathBuf> {
    let files = std::fs::read_dir(gateway.program.folder().join("data")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_left = |path: &PathBuf| path.extension().is_some_and(|end| end == "spool");
    files.filter(is_left).collect()
}

#[test]
fn nothing_fails_while_the_database_is_away_and_nothing_is_missing_when_it_is_back() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    let gateway = Gateway::start(&configuration(&state, &vendors));
    let some = count(300, 3000);
    serve(&gateway, some);
    server.stop();
    serve(&gateway, some);
    wait_for("the outage to be noticed", || {
        let said = gateway.log();
        said.contains("their usage waits in memory").then_some(())
    });
    serve(&gateway, some);
    // What is asked of the records is refused in words; the rest of the API answers.
    let usage = gateway.admin(get("/api/v1/usage"));
    assert_eq!(usage.status, 503, "{}", usage.text());
    assert!(
        usage.text().contains("PostgreSQL at 127.0.0.1"),
        "{}",
        usage.text()
    );
    let latest = gateway.admin(get("/api/v1/requests?last=5"));
    assert_eq!(latest.json()["requests"].as_array().unwrap().len(), 5);
    assert_eq!(gateway.admin(get("/api/v1/overview")).status, 200);
    server.start_again();
    serve(&gateway, some);
    wait_for("all rows to be written", || {
        (written(&server) == [4 * some as u64; 2]).then_some(())
    });
    let rows = asked(&server.sql("SELECT COUNT(*) FROM usage"));
    assert!(rows <= 2, "they are the sums of an hour: {rows}");
    let skipped = gateway.metric("poolgate_request_rows_skipped_total", &[]);
    assert_eq!(skipped, 0.0);
    assert_eq!(gateway.metric("poolgate_usage_rows_lost_total", &[]), 0.0);
    assert!(gateway.metric("poolgate_store_errors_total", &["store=\"postgres\""]) > 0.0);
}

#[test]
fn a_gateway_starts_without_its_database_and_ends_without_it() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    server.stop();
    let mut gateway = Gateway::start(&configuration(&state, &vendors));
    serve(&gateway, 20);
    let said = gateway.log();
    assert!(said.contains("requests are served; usage waits"), "{said}");
    // Its end waits for nobody, and loses nothing: the next start has it again.
    gateway.program.stop(Signal::SIGTERM);
    let said = gateway.log();
    assert!(
        said.contains("the usage of 20 requests waits in "),
        "{said}"
    );
    let file = left(&gateway).pop().unwrap();
    let copy = std::fs::read(&file).unwrap();
    gateway.start_again();
    serve(&gateway, 20);
    // Nor does it lose anything when it is killed while it waits again.
    gateway.program.signal(Signal::SIGKILL);
    gateway.program.wait();
    gateway.start_again();
    server.start_again();
    wait_for("all to be written", || {
        (written(&server)[0] >= 20 && left(&gateway).is_empty()).then_some(())
    });
    assert_eq!(written(&server), [20, 20], "the last 20 died with it");
    // Nor does anything count twice, should it die before the file is removed.
    gateway.program.stop(Signal::SIGTERM);
    std::fs::write(&file, copy).unwrap();
    std::fs::write(file.with_file_name("usage-1.spool"), "no usage").unwrap();
    gateway.start_again();
    serve(&gateway, 1);
    wait_for("the file to be gone", || {
        (written(&server)[0] == 21 && left(&gateway).is_empty()).then_some(())
    });
    assert_eq!(written(&server), [21, 21]);
    let said = gateway.log();
    assert!(said.contains("cannot be read, and is now "), "{said}");
}

#[test]
fn issued_keys_are_let_in_by_a_gateway_that_starts_while_the_database_is_away() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    let mut gateway = Gateway::start(&configuration(&state, &vendors));
    let (code, key, said) = gateway
        .program
        .command(&["keys", "create", "--name", "one"]);
    assert_eq!(code, Some(0), "{said}");
    let key = key
        .split_whitespace()
        .find(|word| word.starts_with("sk-pg-"));
    let key = key.unwrap().to_owned();
    let ask = |gateway: &Gateway| gateway.send(&chat(false).bearer(&key)).status;
    wait_for("the key to be known", || {
        (ask(&gateway) == 200).then_some(())
    });
    server.stop();
    assert_eq!(ask(&gateway), 200);
    gateway.restart(Signal::SIGTERM);
    assert_eq!(ask(&gateway), 200);
    assert_eq!(gateway.send(&chat(false).bearer("sk-pg-other")).status, 401);
    server.start_again();
    let (code, _, said) = gateway.program.command(&["keys", "revoke", "one"]);
    assert_eq!(code, Some(0), "{said}");
    wait_for("the revocation", || (ask(&gateway) == 401).then_some(()));
    let copy = gateway.program.folder().join("data/keys.copy");
    let kept = std::fs::read_to_string(&copy).unwrap();
    assert!(!kept.contains(&key));
    // Only a gateway follows the keys; whoever else reads them may be late.
    gateway.program.stop(Signal::SIGTERM);
    std::fs::write(&copy, "half a line").unwrap();
    let (code, said, _) = gateway.program.command(&["keys", "list"]);
    assert!(code == Some(0) && said.contains("one"), "{said}");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "half a line");
    server.stop();
    gateway.start_again();
    assert_eq!(ask(&gateway), 503, "it knows none");
    let said = gateway.log();
    assert!(said.contains("a line of it is no key"), "{said}");
}

#[test]
fn limits_go_on_as_soon_as_a_database_is_back_that_was_away_at_the_start() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    let limit = "tiers: {default: {limits: [{requests: 6, window: 1h}]}}\n";
    let mut gateway = Gateway::start(&format!("{limit}{}", configuration(&state, &vendors)));
    serve(&gateway, 4);
    gateway.program.stop(Signal::SIGTERM);
    server.stop();
    gateway.start_again();
    serve(&gateway, 1);
    let said = gateway.log();
    assert!(said.contains("more than they should for now"), "{said}");
    server.start_again();
    wait_for("limits to know what was used", || {
        let said = gateway.log();
        said.contains("limits go on where they were").then_some(())
    });
    let ask = || gateway.send(&chat(false).bearer("sk-blue")).status;
    assert_eq!([ask(), ask()], [200, 429], "five of six were used");
}

#[test]
fn a_start_with_a_wrong_url_or_a_newer_database_ends_with_the_reason() {
    let server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let refused = |url: &str| -> String {
        let text = configuration(&Database::state_of(url, ""), &vendors);
        let text =
            format!("listen: [{{address: 127.0.0.1:0}}]\nadmin: {{address: 127.0.0.1:0}}\n{text}");
        let mut program = Program::start(&["run"], &[("poolgate.yaml", &text)], &[]);
        assert_eq!(program.wait().code(), Some(1));
        let said = program.output();
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    let said = refused(&server.url_with("s3cret-but-wrong"));
    assert!(
        said.contains("password authentication failed for user \"poolgate\""),
        "{said}"
    );
    assert!(
        said.contains(&format!("PostgreSQL at {}", server.address)),
        "{said}"
    );
    let said = refused("mysql://poolgate:s3cret@host/x");
    assert!(said.contains("state.postgres"), "{said}");
    // The right password is taken, and a database of a newer program is left alone.
    let good = Gateway::start(&configuration(
        &Database::state_of(&server.url(), ""),
        &vendors,
    ));
    wait_for("the tables", || {
        let made = server.sql("SELECT to_regclass('format') IS NOT NULL");
        (made == "t").then_some(())
    });
    drop(good);
    server.sql("UPDATE format SET version = 99");
    let said = refused(&server.url());
    assert!(
        said.contains("is in format 99, of a newer poolgate"),
        "{said}"
    );
}

#[test]
fn the_configuration_is_shown_without_the_password() {
    let server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&configuration(
        &Database::state_of(&server.url(), ""),
        &vendors,
    ));
    serve(&gateway, 1);
    let (code, shown, _) = gateway
        .program
        .command(&["check", "--print", "-c", "poolgate.yaml"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("postgres"), "{shown}");
    let latest: Value = gateway.admin(get("/api/v1/requests")).json();
    for text in [shown, latest.to_string(), gateway.log()] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn what_waited_in_a_file_counts_in_the_limits_of_its_keys() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    let limits = "tiers: {default: {limits: [{tokens: 100000, window: 1h}]}}\n";
    let text = format!("{limits}{}", configuration(&state, &vendors));
    let mut gateway = Gateway::start(&text);
    let asks = |tokens: u32| {
        let request = chat(false).bearer("sk-blue");
        request.header("x-mock-usage", format!("{tokens},0"))
    };
    server.stop();
    assert_eq!(gateway.send(&asks(150_000)).status, 200);
    gateway.program.stop(Signal::SIGTERM);
    assert_eq!(left(&gateway).len(), 1);
    server.start_again();
    gateway.start_again();
    wait_for("what was used before to count", || {
        (gateway.send(&asks(1)).status == 429).then_some(())
    });
}

#[test]
fn what_a_predecessor_left_is_written_by_its_successor() {
    let mut server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let state = Database::state_of(&server.url(), "");
    let gateway = Gateway::start(&configuration(&state, &vendors));
    serve(&gateway, 1);
    wait_for("the first to be written", || {
        (written(&server)[0] == 1).then_some(())
    });
    server.stop();
    serve(&gateway, 20);
    gateway.upgrade();
    wait_for("the predecessor to leave what it has", || {
        (left(&gateway).len() == 1).then_some(())
    });
    server.start_again();
    wait_for("all to be written without another start", || {
        (written(&server)[0] == 21 && left(&gateway).is_empty()).then_some(())
    });
}

#[test]
fn accounts_of_the_api_serve_again_once_the_database_is_back_that_was_away_at_the_start() {
    let mut server = Postgres::start();
    let vendors = Mock::several(2, &[]);
    let state = Database::state_of(&server.url(), "");
    let mut gateway = Gateway::start(&configuration(&state, &vendors[..1]));
    let added = serde_json::json!({"pool": "default", "id": "added", "upstream": vendors[1].url(),
        "credential": {"api_key": "k"}});
    let answer = gateway.admin(post("/api/v1/accounts", &added));
    assert_eq!(answer.status, 201, "{}", answer.text());
    gateway.program.stop(Signal::SIGTERM);
    server.stop();
    gateway.start_again();
    // The file's accounts need no records.
    serve(&gateway, 5);
    assert_eq!(gateway.admin(get("/api/v1/accounts/added")).status, 404);
    server.start_again();
    wait_for("the added account to be there again", || {
        let shown = gateway.admin(get("/api/v1/accounts/added"));
        (shown.status == 200).then_some(())
    });
    gateway.act("a0", "disable");
    let before = vendors[1].count("requests");
    serve(&gateway, 5);
    assert_eq!(vendors[1].count("requests"), before + 5);
    server.stop();
    // What an operator orders now is done, and the answer says how long it holds.
    let order = post("/api/v1/accounts/a0/enable", &serde_json::json!({}));
    let done = gateway.admin(order);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["enabled"], true);
    let warning = done.json()["warning"].to_string();
    assert!(warning.contains("PostgreSQL at 127.0.0.1"), "{warning}");
    gateway.act("added", "disable");
    serve(&gateway, 5);
    assert_eq!(vendors[1].count("requests"), before + 5);
}
