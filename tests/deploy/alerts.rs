//! A gateway in which everything goes wrong at once, and what its Prometheus says of it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use super::prometheus::Prometheus;
use super::rules;
use crate::support::{
    Authority, Gateway, Mock, Redis, Request, chat, free_address, post, wait_for,
};

/// Of no fault that a test could make within seconds; promtool shows that they fire.
const NOT_MADE: [&str; 3] = [
    "PoolgateFilesRunningOut",
    "PoolgatePanicked",
    "PoolgateUsageRowsLost",
];

/// A chat that goes to the pool of this name.
fn to(pool: &str) -> Request {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let body = json!({"model": pool, "messages": messages});
    post("/v1/chat/completions", &body)
}

/// A pool for each fault. `gone` is where nobody listens.
fn configuration(vendors: &[Mock; 4], gone: SocketAddr, redis: &Redis) -> String {
    let [well, busy, slow, login] = vendors.each_ref().map(Mock::url);
    let names = ["gone", "busy", "slow", "login", "budget", "file", "program"];
    let routes: String = names
        .iter()
        .map(|name| format!("  - {{model: {name}, pool: {name}}}\n"))
        .collect();
    format!(
        "listen: [{{address: \"{{listen}}\"}}, {{address: \"{tls}\", tls: {{cert: cert.pem, key: key.pem}}}}]
admin: {{address: \"{{admin}}\", tokens: [{{name: prometheus, token: {TOKEN}, role: metrics}}]}}
clients: {{open: true}}
state: {{dir: data, redis: \"{redis}\"}}
notify: [{{webhook: \"{well}/no-such-path\", allow_private: true}}]
routes:
{routes}pools:
  default:
    accounts: [{{id: well, upstream: \"{well}\", credential: none}}]
  gone:
    accounts: [{{id: gone, upstream: \"http://{gone}\", credential: none}}]
  busy:
    queue: {{max_waiting: 0}}
    accounts: [{{id: busy, upstream: \"{busy}\", credential: none, max_concurrent: 1}}]
  slow:
    accounts: [{{id: slow, upstream: \"{slow}\", credential: none}}]
  login:
    accounts:
      - {{id: login, upstream: \"{login}\", credential: {{oauth2: {{token_url: \"{login}/oauth/token\", client_id: me, client_secret: s, refresh_token: r}}}}}}
  budget:
    breaker: {{enabled: false}}
    accounts:
      - {{id: budget-1, upstream: \"http://{gone}\", credential: none}}
      - {{id: budget-2, upstream: \"http://{gone}\", credential: none}}
  file:
    accounts: [{{id: file, upstream: \"{well}\", credential: {{json_file: {{path: login.json, token: /token, expires: /expires}}}}}}]
  program:
    accounts: [{{id: program, upstream: \"http://127.0.0.1:{{port}}\", credential: none, instance: {{command: [\"false\"], port: {port}}}}}]
",
        tls = free_address(),
        redis = redis.url(),
        port = free_address().port(),
    )
}

const TOKEN: &str = "metrics-token-of-prometheus";

/// Everything that does not fail by itself.
fn make_faults(gateway: &Gateway, busy: &Mock, prometheus: &Prometheus) {
    // The accounts of the pool are full, and nobody may wait.
    let mut holding = TcpStream::connect(gateway.address).unwrap();
    holding
        .write_all(&to("busy").bytes(gateway.address))
        .unwrap();
    wait_for("the account to be full", || {
        (busy.count("in_flight") == 1).then_some(())
    });
    assert_eq!(gateway.send(&to("busy")).status, 503);
    for _ in 0..30 {
        assert_eq!(gateway.send(&to("budget")).status, 502);
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    for _ in 0..6 {
        let refused = gateway.send(&to("gone")).status;
        assert!(refused == 502 || refused == 503, "{refused}");
        // They share a histogram with the quick ones.
        assert_eq!(gateway.send(&to("slow")).status, 200);
    }
    // What rises later is seen as an increase.
    wait_for("the failures to be scraped", || {
        let seen = prometheus.ask("poolgate_requests_total{account='budget-1'}");
        (!seen.is_empty()).then_some(())
    });
    for _ in 0..60 {
        assert_eq!(gateway.send(&to("budget")).status, 502);
    }
    gateway.program.write("poolgate.yaml", "pools: 3\n");
    gateway.program.signal(nix::sys::signal::Signal::SIGHUP);
}

fn gateway(vendors: &[Mock; 4], redis: &Redis) -> Gateway {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
    let login = json!({"token": "t", "expires": soon.to_string()}).to_string();
    let issued = Authority::new().issue_until("localhost", 2026, 1, 1);
    let files = [
        ("login.json", &*login),
        ("cert.pem", &*issued.cert),
        ("key.pem", &*issued.key),
    ];
    let text = configuration(vendors, free_address(), redis);
    Gateway::start_with(&text, &files, &[("PATH", "/usr/bin:/bin")])
}

/// Rows 0-51, 1-89, 4-20 of the checklist.
#[test]
fn each_alert_fires_when_its_fault_is_made() {
    let vendors = [
        Mock::start(&[]),
        Mock::start(&["--hang", "head"]),
        Mock::start(&["--delay", "400ms"]),
        Mock::start(&[]),
    ];
    vendors[3].set(&json!({"oauth": {"error": "invalid_grant"}}));
    let mut redis = Redis::start();
    let gateway = gateway(&vendors, &redis);
    let nobody = free_address();
    let prometheus = Prometheus::start(&[gateway.admin_address, nobody], TOKEN);
    // Judged once with the first scrape in it.
    let quiet = wait_for("the first scrape", || {
        let firing = prometheus.firing();
        let scraped = firing.iter().any(|(_, about)| about == "login");
        scraped.then_some(firing)
    });
    for unfounded in [
        "PoolgateErrorRate",
        "PoolgateRedisAway",
        "PoolgateReloadFailed",
    ] {
        assert!(
            !quiet.iter().any(|(name, _)| name == unfounded),
            "{quiet:?}"
        );
    }

    make_faults(&gateway, &vendors[1], &prometheus);
    redis.stop();
    let absent = "PoolgateAbsent".to_owned();
    let mut expected = rules::alerts();
    expected.retain(|name| !NOT_MADE.contains(&&**name) && *name != absent);
    prometheus.wait_until_firing(&expected);
    let firing = prometheus.firing();
    for (name, about) in [
        (
            "PoolgateNoAccountAvailable",
            ["gone", "login", "program"].as_slice(),
        ),
        ("PoolgateAccountNeedsLogin", &["login"]),
        ("PoolgateBreakerOpen", &["gone"]),
        ("PoolgateTokenExpiring", &["file"]),
        ("PoolgateProgramDown", &["program"]),
        ("PoolgateQueueRejecting", &["busy"]),
        ("PoolgateRetryBudgetExhausted", &["budget"]),
    ] {
        let told = firing.iter().filter(|(other, _)| other == name);
        let told: Vec<&str> = told.map(|(_, about)| about.as_str()).collect();
        assert_eq!(told, about, "{name}");
    }
    panels_are_answered(&prometheus);

    prometheus.watch(&[]);
    prometheus.wait_until_firing(&BTreeSet::from([absent]));
}

/// Grafana would ask the same, with its variables replaced.
fn panels_are_answered(prometheus: &Prometheus) {
    let asked = |expression: &str| {
        [
            ("$__rate_interval", "1m"),
            ("$instance", ".*"),
            ("$pool", ".*"),
            ("$account", ".*"),
        ]
        .iter()
        .fold(expression.to_owned(), |text, (variable, value)| {
            text.replace(variable, value)
        })
    };
    // Of these nothing happened here.
    let silent = [
        "Health probes that failed, a minute",
        "Keys that changed their account, an hour",
        "Requests refused because of their key, a minute",
        "Slots",
        "Tokens: time left",
        "Until an account may be used again",
        "Wait for an account, p95",
        "What should not be, in an hour",
        "Who runs",
    ];
    // A rate needs two looks at what has just come to be.
    for (title, expression) in rules::panels() {
        let is_answered = || !prometheus.ask(&asked(&expression)).is_empty();
        if !silent.contains(&title.as_str()) {
            wait_for(&format!("data in {title:?}"), || {
                is_answered().then_some(())
            });
        }
    }
}
