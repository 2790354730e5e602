//! A new configuration while requests run: all of a good file is put in force, nothing of a bad one.

use std::fmt::Write;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Connection, Gateway, Mock, chat, count, get, pool, post, wait_for};

/// The file as it is.
fn file(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.program.folder().join("poolgate.yaml")).unwrap()
}

/// Two mistakes, on two lines.
const MISTAKES: &str = "server: {threads: many}\nlog: {level: loud}\n";

#[test]
fn a_reload_is_answered_with_what_came_of_it() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&pool(&vendors[..1], ""));
    let one = file(&gateway);
    let two = one.replace(&pool(&vendors[..1], ""), &pool(&vendors, ""));
    gateway.program.write("poolgate.yaml", &two);
    let (code, said, _) = gateway.program.command(&["reload"]);
    assert_eq!(
        (code, &*said),
        (Some(0), "the configuration was reloaded\n")
    );
    for id in ["a0", "a1"] {
        assert_eq!(gateway.account(id)["status"], "healthy");
    }
    gateway.program.write("poolgate.yaml", &one);
    let answer = gateway.admin(post("/api/v1/reload", &Value::Null));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let expected = (&json!(true), &json!([]));
    assert_eq!((&answer["reloaded"], &answer["needs_upgrade"]), expected);
    let change = &answer["changes"][0];
    assert_eq!(change["path"], "pools.default.accounts[a1]");
    assert_eq!(change["after"], Value::Null);
    assert_eq!(gateway.admin(get("/api/v1/accounts/a1")).status, 404);
    assert_eq!(
        gateway.metric("poolgate_config_reloads_total", &["success"]),
        2.0
    );
}

#[test]
fn a_bad_file_changes_nothing_and_every_mistake_is_said() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let bad = MISTAKES.to_owned() + &file(&gateway).replace("id: a0", "id: b0");
    gateway.program.write("poolgate.yaml", &bad);
    let (code, out, complaints) = gateway.program.command(&["reload"]);
    assert_eq!((code, &*out), (Some(1), ""));
    let answer = gateway.admin(post("/api/v1/reload", &Value::Null));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["error"]["code"], "invalid_configuration");
    assert_eq!(answer["problems"].as_array().unwrap().len(), 2);
    for said in [complaints, answer["error"]["message"].to_string()] {
        assert!(
            said.contains("server.threads") && said.contains("log.level"),
            "{said}"
        );
    }
    assert_eq!(gateway.account("a0")["status"], "healthy");
    assert_eq!(
        gateway.metric("poolgate_config_last_reload_successful", &[]),
        0.0
    );
    gateway.program.signal(Signal::SIGHUP);
    wait_for("the second failure", || {
        let failures = gateway.metric("poolgate_config_reloads_total", &["failure"]);
        (failures == 2.0).then_some(())
    });
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

#[test]
fn what_cannot_change_while_it_runs_is_named_and_the_rest_is_in_force() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let other = crate::support::free_address();
    let text = file(&gateway)
        .replace(&gateway.address.to_string(), &other.to_string())
        .replace("id: a0", "id: b0");
    let text = format!("server: {{threads: 3, drain_timeout: 1s}}\n{text}");
    gateway.program.write("poolgate.yaml", &text);
    let (code, said, _) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0));
    let named = said.lines().last().unwrap();
    assert!(
        named.ends_with("`poolgate upgrade`: listen, server.threads"),
        "{said}"
    );
    assert_eq!(gateway.account("b0")["status"], "healthy");
    assert!(get("/livez").try_send(other).is_err());
    let answer = gateway.admin(post("/api/v1/reload", &Value::Null)).json();
    // Said by each reload until the upgrade, not only by the first one.
    assert_eq!(answer["needs_upgrade"], json!(["listen", "server.threads"]));
}

#[test]
fn twenty_reloads_good_and_bad_cost_no_request_and_no_count() {
    let vendors = Mock::several(3, &[]);
    let gateway = Gateway::start(&pool(&vendors[..2], "    max_concurrent: 64\n"));
    let two = file(&gateway);
    let three = two.clone()
        + &format!(
            "      - {{id: a2, upstream: \"{}\", credential: {{api_key: k}}}}\n",
            vendors[2].url()
        );
    let bad = MISTAKES.to_owned() + &two;
    let (over, first) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = |keeps: bool| {
        let mut served = 0u32;
        let mut connection = Connection::open(gateway.address).unwrap();
        while !over.load(Ordering::SeqCst) {
            if !keeps {
                connection = Connection::open(gateway.address).unwrap();
            }
            let answer = connection.send(&chat(served % 2 == 1)).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            served += 1;
            first.store(true, Ordering::SeqCst);
        }
        served
    };
    let served: u32 = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|n| scope.spawn(move || client(n % 2 == 0)))
            .collect();
        wait_for("the first answer", || {
            first.load(Ordering::SeqCst).then_some(())
        });
        for round in 0..20 {
            let (text, good) = [(&three, true), (&bad, false), (&two, true)][round % 3];
            gateway.program.write("poolgate.yaml", text);
            let answer = gateway.admin(post("/api/v1/reload", &Value::Null));
            assert_eq!(answer.status == 200, good, "{}", answer.text());
        }
        over.store(true, Ordering::SeqCst);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    // Those that stayed have counted on: no account of theirs began anew.
    let counted = |id: &str| gateway.account(id)["requests"].as_u64().unwrap();
    let asked: u64 = vendors[..2]
        .iter()
        .map(|vendor| vendor.count("requests"))
        .sum();
    assert_eq!(counted("a0") + counted("a1"), asked);
    assert!(u64::from(served) >= asked);
    wait_for("every place to be given back", || {
        let active = gateway.metric("poolgate_active_requests", &[]);
        (active == 0.0).then_some(())
    });
}

#[test]
fn a_request_on_an_account_that_is_taken_away_goes_on_to_its_end() {
    let vendors = Mock::several(2, &["--gap", "50ms", "--events", "20"]);
    let gateway = Gateway::start(&pool(&vendors[..1], ""));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    let text = file(&gateway)
        .replace("id: a0", "id: b0")
        .replace(&vendors[0].url(), &vendors[1].url());
    gateway.program.write("poolgate.yaml", &text);
    assert_eq!(gateway.program.command(&["reload"]).0, Some(0));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(vendors[1].count("requests"), 1);
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    assert_eq!(vendors[0].count("aborted"), 0);
}

#[test]
fn thousands_of_accounts_are_read_anew_beside_the_requests() {
    let vendors = Mock::several(1, &[]);
    let number = count(2_000, 10_000);
    let accounts = |weight: u32| {
        let mut text = "pools:\n  default:\n    accounts:\n".to_owned();
        for n in 0..number {
            let url = vendors[0].url();
            writeln!(
                text,
                "      - {{id: a{n}, upstream: \"{url}\", weight: {weight}}}"
            )
            .unwrap();
        }
        text
    };
    let gateway = Gateway::start(&accounts(1));
    let head = file(&gateway).replace(&accounts(1), "");
    let over = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut connection = Connection::open(gateway.address).unwrap();
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::SeqCst) {
                let begun = Instant::now();
                assert_eq!(connection.send(&chat(false)).unwrap().status, 200);
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        for weight in 2..6 {
            gateway
                .program
                .write("poolgate.yaml", &(head.clone() + &accounts(weight)));
            let answer = gateway.admin(post("/api/v1/reload", &Value::Null));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        over.store(true, Ordering::SeqCst);
        client.join().unwrap()
    });
    assert_eq!(gateway.account("a7")["weight"], 5);
    eprintln!("longest of a request during reloads of {number} accounts: {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[test]
fn an_admin_token_that_changes_in_its_file_or_by_a_reload_is_the_only_one_that_is_let_in() {
    let vendors = Mock::several(1, &[]);
    let configuration = format!(
        "admin: {{address: \"{{admin}}\", token: {{file: admin.txt}}}}\n{}",
        pool(&vendors, "")
    );
    let gateway = Gateway::start_with(&configuration, &[("admin.txt", "the-first-token")], &[]);
    let status = |token: &str| {
        let ask = get("/api/v1/accounts").bearer(token);
        ask.send(gateway.admin_address).status
    };
    assert_eq!(status("the-first-token"), 200);
    gateway.program.write("admin.txt", "the-second-token");
    wait_for("the second token to be let in", || {
        (status("the-second-token") == 200).then_some(())
    });
    assert_eq!(status("the-first-token"), 401);
    let text = file(&gateway).replace("{file: admin.txt}", "the-third-token");
    gateway.program.write("poolgate.yaml", &text);
    assert_eq!(gateway.program.command(&["reload"]).0, Some(0));
    assert_eq!(
        (status("the-second-token"), status("the-third-token")),
        (401, 200)
    );
}

#[test]
fn a_stop_by_command_returns_when_the_gateway_has_ended_and_without_one_says_so() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "10"]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    let (code, said, _) = gateway.program.command(&["stop"]);
    assert_eq!(code, Some(0));
    assert!(said.ends_with("stopped\n"), "{said}");
    assert_eq!(gateway.program.wait().code(), Some(0));
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    for command in ["stop", "reload"] {
        let (code, _, complaints) = gateway.program.command(&[command]);
        assert_eq!(code, Some(1));
        assert!(complaints.contains("nothing runs"), "{complaints}");
    }
}

#[test]
fn only_its_owner_reaches_the_socket_for_orders() {
    use std::os::unix::fs::PermissionsExt;
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let folder = gateway.program.folder().join("data/control");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    wait_for("the socket", || {
        folder.join("poolgate.sock").exists().then_some(())
    });
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("poolgate.sock")), 0o600);
}
