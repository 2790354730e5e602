//! What was imported serves, and the older system's own paths answer as before.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::Older;
use crate::support::{Answer, Mock, Program, Request, chat, free_address, get, post, wait_for};

/// The older program that was started for each account, as far as a gateway sees it.
const LAUNCHER: &str = r#"
import os, sys
port = sys.argv[sys.argv.index("--server-port") + 1]
auth = sys.argv[sys.argv.index("--active-auth-json") + 1]
os.execv(os.environ["POOLGATE"], ["poolgate", "mock", "--port", port, "--name", os.path.basename(auth).split("@")[0]])
"#;

/// A gateway over imported settings.
struct Running {
    program: Program,
    clients: SocketAddr,
    token: String,
}

impl Running {
    /// Runs with these arguments. `state`: the folder that the token is in.
    fn start(older: &Older, arguments: &[&str], clients: SocketAddr, state: &str) -> Running {
        let program = Program::start(arguments, &[], &[("PATH", "/usr/bin:/bin")]);
        let token = older.path(state).join("admin.token");
        Running::once_ready(program, clients, &token)
    }

    fn once_ready(mut program: Program, clients: SocketAddr, token: &Path) -> Running {
        program.wait_until_it_serves(clients, "/livez");
        let token = wait_for("the admin token", || fs::read_to_string(token).ok());
        let running = Running {
            program,
            clients,
            token: token.trim().to_owned(),
        };
        wait_for("it to be ready", || {
            (get("/readyz").send(clients).status == 200).then_some(())
        });
        running
    }

    /// The configuration at `poolgate.yaml`, at ports of its own.
    fn of_file(older: &Older, listen: &str) -> Running {
        let (clients, admin) = (free_address(), free_address());
        older.replace("poolgate.yaml", listen, &clients.to_string());
        let text = older.read("poolgate.yaml");
        older.write(
            "poolgate.yaml",
            &format!("admin: {{address: \"{admin}\"}}\n{text}"),
        );
        let path = older.path("poolgate.yaml");
        Running::start(
            older,
            &["run", "-c", path.to_str().unwrap()],
            clients,
            "data",
        )
    }

    /// Nothing but the older variables, at ports of its own, in an empty folder.
    fn of_variables(older: &Older) -> Running {
        let (clients, admin) = (free_address(), free_address());
        let ports = format!("PORT={}\nADMIN_PORT={}\n", clients.port(), admin.port());
        older.write("dot.env", &(older.read("dot.env") + &ports));
        let program = Program::start(
            &variables_of("run", older).each_ref().map(|it| &**it),
            &[],
            &[],
        );
        let token = program.folder().join("data/admin.token");
        Running::once_ready(program, clients, &token)
    }

    fn send(&self, request: &Request) -> Answer {
        request.send(self.clients)
    }

    #[track_caller]
    fn shown(&self, path: &str) -> Value {
        let answer = get(path).bearer(&self.token).send(self.clients);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

/// The command over the older variables.
fn variables_of(command: &str, older: &Older) -> [String; 4] {
    let file = older.path("dot.env").display().to_string();
    [command, "--env-compat", "--env-file", &file].map(str::to_owned)
}

/// Programs are poolgate's own simulated vendor.
pub(super) fn launcher() -> String {
    let poolgate = Value::from(env!("CARGO_BIN_EXE_poolgate")).to_string();
    LAUNCHER.replace("os.environ[\"POOLGATE\"]", &poolgate)
}

fn with_launcher(older: &Older) {
    older.write("launch_camoufox.py", &launcher());
    older.replace(
        "poolgate.yaml",
        "        instance:\n",
        "        instance:\n          working_dir: .\n",
    );
    older.replace("poolgate.yaml", "interval: 30s", "interval: 1s");
}

/// Rows 0-01, 0-03, 0-14, 0-27, 0-29, 0-32, 0-60, 0-61, 0-70 to 0-78.
#[test]
fn the_routers_accounts_are_served_by_their_programs_behind_its_keys() {
    let older = Older::of("router");
    let file = "multi_account_config.json";
    let ports = [2048, 2049, 2050].map(|old| (old, free_address().port()));
    for (old, new) in ports {
        older.replace(
            file,
            &format!("\"port\": {old}"),
            &format!("\"port\": {new}"),
        );
    }
    older.replace(file, "\"host\": \"0.0.0.0\"", "\"host\": \"127.0.0.1\"");
    let said = older.poolgate(&["import", "multi-account-json", file, "-o", "poolgate.yaml"]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    with_launcher(&older);
    let gateway = Running::of_file(&older, "127.0.0.1:8080");
    wait_for("both programs", || {
        (get("/health").send(gateway.clients).json()["instances"]["healthy"] == 2).then_some(())
    });
    let refused = gateway.send(&chat(false).bearer("sk-nobody"));
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (401, &json!("invalid_api_key"))
    );
    for (key, way) in [
        ("sk-router-one", "authorization"),
        ("sk-router-two", "x-api-key"),
    ] {
        let value = if way == "x-api-key" {
            key.to_owned()
        } else {
            format!("Bearer {key}")
        };
        assert_eq!(
            gateway.send(&chat(false).header(way, value)).status,
            200,
            "{way}"
        );
    }
    let status = gateway.shown("/router/status");
    assert_eq!(status["strategy"], "round_robin");
    let instances = status["instances"].as_array().unwrap();
    let ids: Vec<&Value> = instances.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["account1", "account2", "account3"]);
    let field = |name: &str| {
        instances
            .iter()
            .map(|one| one[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(field("weight"), [2, 1, 1]);
    assert_eq!(field("port"), ports.map(|(_, new)| new));
    assert_eq!(field("enabled"), [true, true, false]);
    assert_eq!(field("max_concurrent"), [3, 3, 3]);
    assert_eq!(field("total_requests"), [1, 1, 0]);
}

/// Rows 1-01, 1-12, 1-21, 1-35, 1-41, 1-51, 1-52, 1-67, 1-71 to 1-75, 1-77, 1-78.
#[test]
fn the_amazon_q_pool_runs_on_its_variables_alone() {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {"refresh_tokens": ["aor-refresh-one", "aor-refresh-two"]}}));
    let older = Older::of("amazonq");
    older.replace("dot.env", "PORT=8080\n", "");
    let url = vendor.url();
    let text = older.read("dot.env");
    older.write(
        "dot.env",
        &format!("{text}AMAZONQ_API_ENDPOINT={url}\nAMAZONQ_TOKEN_ENDPOINT={url}/oauth/token\n"),
    );
    let gateway = Running::of_variables(&older);
    let message = post(
        "/v1/messages",
        &json!({"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}),
    );
    for _ in 0..15 {
        assert_eq!(gateway.send(&message).status, 200);
    }
    let stats = gateway.shown("/accounts/stats");
    assert_eq!(stats["total_accounts"], 3);
    assert_eq!(stats["available_accounts"], 2, "the third is not enabled");
    assert_eq!(stats["total_requests"], 15);
    assert_eq!(stats["circuit_breaker_enabled"], true);
    let of = |id: &str, field: &str| gateway.shown(&format!("/accounts/{id}"))[field].clone();
    assert_eq!(
        (of("primary", "weight"), of("primary", "request_count")),
        (json!(10), json!(10))
    );
    assert_eq!(
        (of("secondary", "weight"), of("secondary", "request_count")),
        (json!(5), json!(5))
    );
    assert_eq!(of("account_3", "enabled"), false);
    let metrics = get("/metrics").bearer(&gateway.token);
    let metrics = gateway.send(&metrics).text();
    assert!(
        metrics.contains("amazonq_account_request_count{account_id=\"primary\"} 10"),
        "{metrics}"
    );
    let status = variables_of("status", &older);
    let (code, out, complaints) = gateway.program.command(&status.each_ref().map(|it| &**it));
    assert_eq!(code, Some(0), "{complaints}");
    assert!(out.contains("account_3"), "{out}");
}

/// Rows 2-01, 2-07, 2-16, 2-22, 2-26 to 2-30, 2-61, 2-63.
#[test]
fn the_launchers_files_are_programs() {
    let older = Older::of("launcher");
    let said = older.poolgate(&[
        "import",
        "auth-dir",
        "auth_profiles/active",
        "-o",
        "poolgate.yaml",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    let first = free_address().port().min(60_000);
    older.replace(
        "poolgate.yaml",
        "ports: 9222-9421",
        &format!("ports: {first}-{}", first + 100),
    );
    older.replace("poolgate.yaml", "start_delay: 2s", "start_delay: 0s");
    with_launcher(&older);
    let gateway = Running::of_file(&older, "127.0.0.1:2048");
    wait_for("both programs", || {
        (get("/health").send(gateway.clients).json()["ready_instances"] == 2).then_some(())
    });
    assert_eq!(gateway.send(&chat(false)).status, 200);
    // An answer is here a moment before its account is free again.
    let list = wait_for("both programs to be free", || {
        let list = gateway.shown("/v1/instances");
        let is_ready = |one: &Value| one["status"] == "ready";
        let all = list["instances"].as_array()?.iter().all(is_ready);
        all.then_some(list)
    });
    assert_eq!(list["total_instances"], 2);
    let instances = list["instances"].as_array().unwrap();
    let field = |name: &str| {
        instances
            .iter()
            .map(|one| one[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(field("id"), ["instance_1", "instance_2"]);
    assert_eq!(
        field("auth_file"),
        ["alice@example.com.json", "bob@example.com.json"]
    );
}

/// Rows 3-02, 3-06, 3-11, 3-24, 3-26, 3-28, 3-44, 3-45.
#[test]
fn the_tiers_accounts_serve_keys_in_slots() {
    let vendor = Mock::start(&[
        "--token",
        "token-of-acc1",
        "--token",
        "token-of-acc2",
        "--token",
        "token-of-vip1",
    ]);
    let older = Older::of("tiers");
    let said = older.poolgate(&[
        "import",
        "account-tier-dir",
        "account",
        "-o",
        "poolgate.yaml",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    older.replace(
        "poolgate.yaml",
        "upstream: anthropic",
        &format!("upstream: \"{}\"", vendor.url()),
    );
    let issued = |arguments: &[&str]| {
        let said = older.poolgate(&[&["keys", "create", "--json"], arguments].concat());
        assert_eq!(said.code, Some(0), "{}", said.complaints);
        let key: Value = serde_json::from_str(&said.out).unwrap();
        key["key"].as_str().unwrap().to_owned()
    };
    let (pooled, bound) = (
        issued(&["--name", "pooled", "--tier", "medium"]),
        issued(&["--name", "vip", "--tier", "high", "--account", "vip1"]),
    );
    assert!(pooled.starts_with("sk-cli-v1-"), "{pooled}");
    let gateway = Running::of_file(&older, "127.0.0.1:8080");
    let message = |key: &str| {
        let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
        gateway.send(&post("/v1/messages", &body).header("x-api-key", key))
    };
    assert_eq!(message("sk-cli-v1-nobody").status, 401);
    for key in [&pooled, &bound] {
        wait_for("the accounts of the files", || {
            (message(key).status == 200).then_some(())
        });
    }
    let used = |id: &str| {
        let slots = older.poolgate(&["slots", "--json"]).out;
        let slots: Value = serde_json::from_str(&slots).unwrap();
        let accounts = slots["accounts"].as_array().unwrap().clone();
        accounts
            .iter()
            .find(|one| one["account"] == id)
            .map(|one| one["used"].as_u64().unwrap())
    };
    let medium: u64 = ["acc1", "acc2"].iter().filter_map(|id| used(id)).sum();
    assert_eq!(
        medium, 1,
        "the key of the tier holds one slot, the bound one none"
    );
}

/// Rows 4-02, 4-29c, 4-31, 4-35, 4-51, 4-52, 4-61.
#[test]
fn the_orchestrators_workers_are_balanced_and_limited() {
    let workers = [Mock::start(&[]), Mock::start(&[])];
    let older = Older::of("orchestrator");
    for (n, worker) in workers.iter().enumerate() {
        let old = format!("http://claude-worker-account{0}:400{0}", n + 1);
        older.replace("dot.env", &old, &worker.url());
    }
    older.replace("dot.env", "\"requests\":50", "\"requests\":3");
    let servers = [
        "REDIS_URL=redis://redis:6379\n",
        "DATABASE_URL=postgres://claude_user:invented@postgres:5432/claude_api\n",
    ];
    servers
        .iter()
        .for_each(|line| older.replace("dot.env", line, ""));
    let gateway = Running::of_variables(&older);
    for _ in 0..12 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    let list = gateway.shown("/api/workers");
    let list = list["workers"].as_array().unwrap();
    let field = |name: &str| list.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    assert_eq!(
        field("id"),
        ["claude-worker-account1", "claude-worker-account2"]
    );
    assert_eq!(field("weight"), [1, 2]);
    // The one of more weight first, until it has reached its own limit.
    assert_eq!(workers.each_ref().map(|one| one.count("requests")), [9, 3]);
    assert_eq!(gateway.shown("/api/queue/status")["completed"], 12);
}
