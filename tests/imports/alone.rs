//! An older system's variables and nothing else: the gateway runs on them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::Older;
use super::run::launcher;
use crate::support::{Answer, Mock, Program, chat, free_address, get, post, wait_for};

/// A gateway in an empty folder.
struct Alone {
    program: Program,
    clients: SocketAddr,
}

impl Alone {
    /// With these variables in its file, and these in its environment.
    fn start(variables: &str, environment: &[(&str, &str)], files: &[(&str, &str)]) -> Alone {
        let (clients, admin) = (free_address(), free_address());
        let ports = format!("PORT={}\nADMIN_PORT={}\n", clients.port(), admin.port());
        let variables = format!("{variables}{ports}");
        let files = [&[("dot.env", &*variables)], files].concat();
        let mut program = Program::start(
            &["run", "--env-compat", "--env-file", "dot.env"],
            &files,
            environment,
        );
        program.wait_until_it_serves(clients, "/livez");
        let socket = program.folder().join("data/control/poolgate.sock");
        wait_for("it to take orders", || UnixStream::connect(&socket).ok());
        Alone { program, clients }
    }

    fn becomes_ready(&self) {
        wait_for("it to be ready", || {
            (get("/readyz").send(self.clients).status == 200).then_some(())
        });
    }

    fn asked(&self, request: crate::support::Request) -> Answer {
        let token = fs::read_to_string(self.program.folder().join("data/admin.token")).unwrap();
        request.bearer(token.trim()).send(self.clients)
    }

    #[track_caller]
    fn shown(&self, path: &str) -> Value {
        let answer = self.asked(get(path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

fn message() -> crate::support::Request {
    let said = json!([{"role": "user", "content": "Hi"}]);
    post(
        "/v1/messages",
        &json!({"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": said}),
    )
}

fn account(url: &str) -> String {
    format!(
        "AMAZONQ_REFRESH_TOKEN=aor-one\nAMAZONQ_CLIENT_ID=i\nAMAZONQ_CLIENT_SECRET=s\n\
         AMAZONQ_API_ENDPOINT={url}\nAMAZONQ_TOKEN_ENDPOINT={url}/oauth/token\n"
    )
}

/// Rows 1-12, 1-26 to 1-32, 1-50, 1-52, 1-55, 1-85.
#[test]
fn three_variables_are_one_account_whose_breaker_opens_and_closes_as_they_say() {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {"refresh_tokens": ["aor-one"], "rotate": false}}));
    let variables = account(&vendor.url()) + "CIRCUIT_BREAKER_ERROR_THRESHOLD=2\n";
    let gateway = Alone::start(&variables, &[], &[]);
    gateway.becomes_ready();
    // As the image's health check asks: without --env-compat, with the same variables.
    let check = ["healthcheck", "--env-file", "dot.env"];
    let (code, _, complaints) = gateway.program.command(&check);
    assert_eq!(code, Some(0), "{complaints}");
    let of = |field: &str| gateway.shown("/accounts/default")[field].clone();
    assert_eq!(message().send(gateway.clients).status, 200);
    assert_eq!(
        [of("circuit_breaker_open"), of("circuit_breaker_open_until")],
        [json!(false), Value::Null]
    );
    let expires = of("token_expires_at");
    assert!(expires.as_str().unwrap().starts_with("20"), "{expires}");
    fail_twice(&gateway);
    wait_for("the breaker to open", || {
        (of("circuit_breaker_open") == true).then_some(())
    });
    let until = of("circuit_breaker_open_until");
    assert!(until.as_str().unwrap().ends_with('Z'), "{until}");
    assert_eq!(
        [of("is_available"), of("error_count")],
        [json!(false), json!(2)]
    );
    let before = vendor.count("requests");
    let refused = message().send(gateway.clients);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(vendor.count("requests"), before, "nobody asks it");
    let reset = gateway.asked(post("/accounts/default/reset", &json!({})));
    assert_eq!(reset.status, 200, "{}", reset.text());
    assert_eq!(
        [of("circuit_breaker_open"), of("error_count")],
        [json!(false), json!(0)]
    );
    assert_eq!(message().send(gateway.clients).status, 200);
    let variables = variables + "CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1\n";
    let gateway = Alone::start(&variables, &[], &[]);
    gateway.becomes_ready();
    fail_twice(&gateway);
    wait_for("it to recover by itself", || {
        (message().send(gateway.clients).status == 200).then_some(())
    });
    let metrics = gateway.asked(get("/metrics")).text();
    let opened = "amazonq_circuit_breaker_opened_total{account_id=\"default\"} 1";
    assert!(metrics.contains(opened), "{metrics}");
}

#[track_caller]
fn fail_twice(gateway: &Alone) {
    for _ in 0..2 {
        let failed = message().header("x-mock-status", 500);
        assert_eq!(failed.send(gateway.clients).status, 500);
    }
}

/// Rows 1-87, 1-88, 4-22 to 4-24: what `docker run --env-file .env poolgate run --env-compat` does.
#[test]
fn an_image_needs_nothing_but_a_file_of_variables() {
    let image = fs::read_to_string(super::source("deploy/Dockerfile")).unwrap();
    assert!(image.contains("\nENV HOST=0.0.0.0\n"), "{image}");
    assert!(image.contains("\nWORKDIR /var/lib/poolgate\n") && image.contains("\nEXPOSE 8080"));
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {"refresh_tokens": ["aor-one"]}}));
    let gateway = Alone::start(&account(&vendor.url()), &[("HOST", "0.0.0.0")], &[]);
    gateway.becomes_ready();
    // Not the address that a loopback listener would have.
    let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), gateway.clients.port()));
    assert_eq!(get("/health").send(elsewhere).status, 200);
    assert_eq!(message().send(elsewhere).status, 401, "strangers may come");
    let said = gateway.program.output();
    let key = said.split_whitespace().find(|word| word.starts_with("sk-"));
    let key = key.unwrap_or_else(|| panic!("no first key: {said}"));
    assert_eq!(message().bearer(key).send(elsewhere).status, 200);
}

/// Row 4-29c.
#[test]
fn without_a_worker_each_request_is_told_to_come_again() {
    let gateway = Alone::start("WORKERS=[]\n", &[], &[]);
    let refused = chat(false).send(gateway.clients);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "no_account_available");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(get("/health").send(gateway.clients).status, 503);
    assert_eq!(gateway.shown("/api/workers"), json!({"workers": []}));
    let said = gateway.program.output();
    assert!(said.contains("WORKERS: there is no worker"), "{said}");
}

/// Rows 2-12 to 2-16, 2-21 to 2-26, 2-30, 2-61: either name of the variable.
#[test]
fn the_launchers_variables_start_a_program_for_each_file_and_the_log_tells_of_it() {
    let older = Older::of("launcher");
    let folder = older.path("auth_profiles/active");
    // Above those that the system and other tests give.
    let first = fastrand::u16(61_000..64_000);
    for name in ["MULTI_INSTANCE_MODE", "ENABLE_MULTI_INSTANCE"] {
        let text = format!(
            "{name}=true\nMULTI_INSTANCE_AUTH_DIR={}\nMULTI_INSTANCE_START_PORT={first}\n\
             MULTI_INSTANCE_START_DELAY=0\nHEALTH_CHECK_INTERVAL=1\n",
            folder.display()
        );
        let path = [("PATH", "/usr/local/bin:/usr/bin:/bin")];
        let files = [("launch_camoufox.py", &*launcher())];
        let mut gateway = Alone::start(&text, &path, &files);
        gateway.becomes_ready();
        let health = wait_for("both programs", || {
            let health = get("/health").send(gateway.clients).json();
            (health["ready_instances"] == 2).then_some(health)
        });
        assert_eq!(health["multi_instance_mode"], true);
        assert_eq!(
            [
                &health["total_instances"],
                &health["busy_instances"],
                &health["error_instances"]
            ],
            [2, 0, 0]
        );
        let log = wait_for("the word that both are ready", || {
            let log = gateway.program.output();
            log.contains("2 of 2 instances are ready").then_some(log)
        });
        for line in ["multi-instance mode", "2 files of"] {
            assert!(log.contains(line), "{line}: {log}");
        }
        for (id, file) in [("instance_1", "alice"), ("instance_2", "bob")] {
            let of = |line: &&str| line.contains("its program is started") && line.contains(id);
            let line = log
                .lines()
                .find(of)
                .unwrap_or_else(|| panic!("{id}: {log}"));
            assert!(line.contains("port=") && line.contains(&format!("{file}@example.com.json")));
        }
        gateway.program.stop(nix::sys::signal::Signal::SIGTERM);
    }
}
