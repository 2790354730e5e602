//! What users of the older systems were promised and no other test shows: rows of the checklist.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::support::{
    Gateway, Mock, Program, Vendor, chat, free_address, get, pool, pool_of, post, wait_for,
};

/// Rows 0-17, 0-25: and no other address of this machine leads there.
#[test]
fn a_start_says_where_it_listens_and_listens_nowhere_else() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let said = gateway.log();
    for line in [
        format!("clients:   http://{}", gateway.address),
        format!("operators: http://{}", gateway.admin_address),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    for address in [gateway.address, gateway.admin_address] {
        let other = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), address.port()));
        let refused = get("/livez").try_send(other).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

/// Row 1-09: the six errors of the older pool, each told apart and with what it knew.
#[test]
fn no_account_a_disabled_one_a_failed_renewal_an_open_breaker_an_unknown_and_a_bad_one_differ() {
    let vendors = Mock::several(3, &[]);
    vendors[2].set(&json!({"oauth": {"error": "invalid_grant"}}));
    let url = vendors[2].url();
    let login = format!(
        "      - {{id: login, upstream: \"{url}\", credential: {{oauth2: {{token_url: \"{url}/oauth/token\", \
         client_id: me, client_secret: cs, refresh_token: rt}}}}}}\n"
    );
    let keys = "    breaker: {consecutive_failures: 1}\n    retry: {attempts: 1}\n";
    let gateway = Gateway::start(&(pool(&vendors[..2], keys) + &login));
    gateway.act("a0", "disable");
    wait_for("the login to be over", || {
        (gateway.account("login")["status"] == "needs_login").then_some(())
    });
    let failed = gateway.send(&chat(false).header("x-mock-status", 500));
    assert_eq!(failed.status, 500, "{}", failed.text());
    wait_for("the breaker to open", || {
        (gateway.account("a1")["status"] == "open").then_some(())
    });
    let refused = gateway.send(&chat(false));
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("no_account_available"))
    );
    let asked = gateway.admin(post("/api/v1/route", &json!({"model": "gpt-5"})));
    let asked = asked.json();
    let why = |id: &str| {
        let others = asked["others"].as_array().unwrap().iter();
        let one = { others }.find(|one| one["account"] == id).unwrap();
        one["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(asked["account"], Value::Null);
    assert_eq!(why("a0"), "is disabled");
    assert!(
        why("a1").starts_with("has an open breaker until 20"),
        "{asked}"
    );
    assert!(why("login").starts_with("needs a login"), "{asked}");
    let reason = gateway.account("login")["last_error"].to_string();
    assert!(reason.contains("invalid_grant"), "{reason}");
    assert!(gateway.account("a1")["until"].is_string());
    let unknown = gateway.admin(get("/api/v1/accounts/nobody"));
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["code"]),
        (404, &json!("not_found"))
    );
    assert!(unknown.text().contains("nobody"));
    let bad = json!({"id": "new", "pool": "default", "upstream": "openai", "weight": "two"});
    let bad = gateway.admin(post("/api/v1/accounts", &bad));
    assert_eq!(
        (bad.status, &bad.json()["error"]["code"]),
        (400, &json!("bad_request"))
    );
    assert!(bad.text().contains("weight"), "{}", bad.text());
}

/// Row 1-11: a check that is never answered holds nobody up.
#[test]
fn requests_are_served_while_a_health_check_waits() {
    let silent = Vendor::start();
    let vendors = Mock::several(1, &[]);
    let text = pool(&vendors, "    health_check: {interval: 1h, timeout: 1h}\n")
        + &format!(
            "      - {{id: silent, upstream: \"http://{}\"}}\n",
            silent.address
        );
    let gateway = Gateway::start(&text);
    let check = silent.next();
    assert!(check.head.starts_with("get /health "), "{}", check.head);
    gateway.wait_until_ready();
    gateway.act("silent", "disable");
    for _ in 0..20 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    drop(check);
}

/// Row 4-53: those that wait or have had no answer yet go elsewhere; one that was sent twice says so.
#[test]
fn a_worker_that_is_restarted_loses_no_request() {
    let mut vendors = vec![
        Mock::start(&["--delay", "20ms"]),
        Mock::start(&["--hang", "head"]),
    ];
    let text = pool_of(&vendors, "    strategy: round_robin\n", |_| {
        ", max_concurrent: 1".to_owned()
    });
    let gateway = Gateway::start(&text);
    let tries = thread::scope(|scope| {
        let gateway = &gateway;
        let ask = move |n: usize| {
            let id = format!("r{n}");
            let answer = gateway.send(&chat(false).header("x-request-id", &id));
            assert_eq!(answer.status, 200, "{}", answer.text());
            gateway.tries(&id)
        };
        let sent: Vec<_> = (0..12).map(|n| scope.spawn(move || ask(n))).collect();
        wait_for("the second worker to have a request in hand", || {
            (vendors[1].count("in_flight") == 1).then_some(())
        });
        let gone = vendors.pop().unwrap();
        let address = gone.address;
        drop(gone);
        vendors.push(Mock::start_at(address, &[]));
        sent.into_iter()
            .map(|sent| sent.join().unwrap())
            .collect::<Vec<_>>()
    });
    for tries in &tries {
        let (again, last) = tries.rsplit_once(',').unwrap_or(("", tries));
        assert!(last.ends_with(":success"), "{tries}");
        assert!(again.is_empty() || again == "a1:transient", "{tries}");
    }
    let twice = tries
        .iter()
        .any(|tries| *tries == "a1:transient,a0:success");
    assert!(twice, "{tries:?}");
    assert_eq!(gateway.account("a0")["failures"], 0);
}

/// Rows 1-60, 1-61, 1-63, 1-64, 1-67.
#[test]
fn the_older_pools_metrics_follow_what_happens() {
    let vendors = Mock::several(1, &[]);
    let text = pool(&vendors, "    breaker: {enabled: false}\n");
    let gateway = Gateway::start(&format!("server: {{legacy_metrics: true}}\n{text}"));
    let value = |name: &str, labels: &[&str]| {
        let all = [&["account_id=\"a0\""], labels].concat();
        gateway.metric(&format!("amazonq_{name}"), &all)
    };
    assert_eq!(value("account_available", &[]), 1.0);
    // The first of all: a reset of a connection that was kept is tried again, which is no error of the account.
    assert_eq!(
        gateway.send(&chat(false).header("x-mock-reset", 1)).status,
        502
    );
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(
        gateway
            .send(&chat(false).header("x-mock-status", 500))
            .status,
        500
    );
    wait_for("all three to be counted", || {
        (value("requests_total", &[]) == 3.0).then_some(())
    });
    assert_eq!(value("requests_total", &["status=\"success\""]), 1.0);
    for kind in ["http_error", "network_error"] {
        let label = format!("error_type=\"{kind}\"");
        assert_eq!(value("errors_total", &[&label]), 1.0, "{kind}");
    }
    // An attempt counts once its request is over, which the client may hear of first.
    let stats = |field: &str| gateway.admin(get("/accounts/a0")).json()[field].as_f64();
    for (name, field) in [
        ("account_request_count", "request_count"),
        ("account_error_count", "error_count"),
        ("account_success_count", "success_count"),
    ] {
        wait_for(&format!("{name} and {field} to be the same"), || {
            (Some(value(name, &[])) == stats(field)).then_some(())
        });
    }
    wait_for("none to be active", || {
        (value("active_requests", &[]) == 0.0).then_some(())
    });
    gateway.act("a0", "disable");
    assert_eq!(value("account_available", &[]), 0.0, "at once");
}

/// Debian's nginx, ended when it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rows 0-62, 4-74: the lines of docs/operations.md, at addresses of the test's own.
#[test]
fn behind_nginx_clients_are_known_by_their_addresses_and_events_come_at_once() {
    let (vendor, events) = crate::streaming::vendor_that_waits(20);
    let account = format!("{{id: a, upstream: \"http://{vendor}\"}}");
    let gateway = Gateway::start(&format!(
        "listen: [{{address: \"{{listen}}\", trusted_proxies: [127.0.0.9/32]}}]\n\
         clients: {{open: false, keys: [{{name: me, key: sk-of-mine}}]}}\n\
         pools: {{default: {{accounts: [{account}]}}}}\n"
    ));
    let front = free_address();
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let (_, block) = page.split_once("```nginx\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let block = block
        .replace("listen 443 ssl;", &format!("listen {front};"))
        .replace("127.0.0.1:8080", &gateway.address.to_string())
        // So that its address is another than the client's.
        .replace("proxy_buffering", "proxy_bind 127.0.0.9; proxy_buffering");
    let block: String = block
        .lines()
        .filter(|line| !line.trim_start().starts_with("ssl_certificate"))
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {0}/body;\nproxy_temp_path {0}/proxy;\nfastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u;\nscgi_temp_path {0}/s;\n{block}}}\n",
        folder.path().display()
    );
    let file = folder.path().join("nginx.conf");
    fs::File::create(&file)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let nginx = Command::new("/usr/sbin/nginx")
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(folder.path())
        .args(["-e", "stderr"])
        .stderr(Stdio::inherit())
        .spawn();
    let _nginx = Nginx(nginx.expect("nginx is missing: run `make deps`"));
    wait_for("nginx", || get("/livez").try_send(front).ok());
    assert_eq!(chat(false).send(front).status, 401);
    let request = chat(true)
        .bearer("sk-of-mine")
        .header("x-request-id", "through");
    let mut stream = request.open(front).unwrap();
    assert_eq!(stream.head.header("x-request-id"), Some("through"));
    for n in 0..20 {
        // The next one is written only when this one is here.
        assert_eq!(
            stream.event().unwrap().unwrap().data,
            format!("{{\"n\":{n}}}")
        );
        events.send(()).unwrap();
    }
    assert_eq!(stream.event().unwrap().unwrap().data, "[DONE]");
    assert_eq!(gateway.tries("through"), "a:success");
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains("request_id=through "));
    assert!(line.unwrap().contains(" client=127.0.0.1 "), "{log}");
}

/// Row 1-80: nothing is opened by a start that cannot go on.
#[test]
fn a_bad_configuration_stops_the_start_before_anything_listens() {
    let address = free_address();
    let text =
        format!("listen: [{{address: \"{address}\"}}]\npools: {{p: {{accounts: [{{id: a}}]}}}}\n");
    let mut program = Program::start(&["run"], &[("poolgate.yaml", &text)], &[]);
    assert_eq!(program.wait().code(), Some(1));
    let said = program.output();
    assert!(
        said.contains("pools.p.accounts[0]") && !said.contains("ready"),
        "{said}"
    );
    assert!(get("/livez").try_send(address).is_err());
    assert!(
        !program.folder().join("data").exists(),
        "nor is anything left behind"
    );
}

/// Row 0-08: and the exit status is that of somebody who has what was wanted.
#[test]
fn an_existing_file_is_kept_and_said_to_be() {
    let program = Program::start(&["version"], &[("poolgate.yaml", "# mine\n")], &[]);
    let (code, said, complaints) = program.command(&["init"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(
        format!("{said}{complaints}").contains("exists already and is kept"),
        "{said}"
    );
    let kept = fs::read_to_string(program.folder().join("poolgate.yaml")).unwrap();
    assert_eq!(kept, "# mine\n");
    let (code, said, complaints) = program.command(&["init", "new.yaml"]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    let (code, _, complaints) = program.command(&["check", "-c", "new.yaml"]);
    assert_eq!(code, Some(0), "{complaints}");
}
