//! What becomes of each older setting: its default where it is left out, its value where it is said.

use super::Older;

/// The configuration that an import prints.
#[track_caller]
fn imported(older: &Older, arguments: &[&str]) -> String {
    let said = older.poolgate(&[&["import"], arguments].concat());
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    said.out
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

/// Each of the older names of strategies is one of ours.
#[track_caller]
fn strategies(imported: impl Fn(&str) -> String, names: &[(&str, &str)]) {
    for (name, ours) in names {
        let text = imported(&format!("LOAD_BALANCE_STRATEGY={name}\n"));
        holds(&text, &[&format!("strategy: {ours}\n")]);
    }
}

/// Rows 0-04, 0-11 to 0-23, 0-34, 0-50.
#[test]
fn what_the_routers_file_leaves_out_is_as_it_was_and_what_it_says_is_taken() {
    let older = Older::of("router");
    let file = "multi_account_config.json";
    let command = ["multi-account-json", file];
    let account = r#""id": "a", "auth_file": "auth_profiles/saved/account1.json", "port": 2048"#;
    older.write(file, &format!("{{\"accounts\": [{{{account}}}]}}"));
    let defaults = [
        "0.0.0.0:8080",
        "strategy: round_robin",
        "interval: 30s",
        "timeout: 5s",
        "weight: 1",
        "max_concurrent: 3",
        "enabled: true",
        "port: 2048",
        "auth_profiles/saved/account1.json",
        "level: info",
        "logs/router_manager.log",
        "size: 10MiB",
        "keep: 5",
    ];
    let effective = |older: &Older| {
        let said = older.poolgate(&["check", "-c", file, "--print"]);
        assert_eq!(said.code, Some(0), "{}", said.complaints);
        said.out
    };
    let text = imported(&older, &command);
    let shown = effective(&older);
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in defaults {
        let is_there = text.contains(part) || flat(&shown).contains(&flat(part));
        assert!(is_there, "{part} is missing:\n{text}\n{shown}");
    }
    older.write(
        file,
        &format!(
            "{{\"accounts\": [{{{account}, \"weight\": 7, \"max_concurrent\": 9, \"enabled\": false}}], \
             \"router\": {{\"port\": 9090, \"host\": \"127.0.0.1\", \"strategy\": \"weighted\", \
             \"health_check_interval\": 60, \"health_check_timeout\": 8, \"auto_restart\": false}}, \
             \"logging\": {{\"level\": \"ERROR\", \"file\": \"other/one.log\"}}}}"
        ),
    );
    let text = imported(&older, &command);
    let said = [
        "127.0.0.1:9090",
        "strategy: weighted",
        "interval: 60s",
        "timeout: 8s",
        "weight: 7",
        "max_concurrent: 9",
        "enabled: false",
        "level: error",
        "other/one.log",
    ];
    holds(&text, &said);
    holds(&flat(&effective(&older)), &["restart: enabled: false"]);
}

/// Rows 1-12, 1-21, 1-24, 1-26, 1-27, 1-33, 1-73a, 1-74, 1-76, 1-78.
#[test]
fn the_amazon_q_variables_are_taken_by_their_values() {
    let older = Older::of("amazonq");
    let alone = "AMAZONQ_REFRESH_TOKEN=r\nAMAZONQ_CLIENT_ID=i\nAMAZONQ_CLIENT_SECRET=s\n";
    let of = |more: &str| {
        older.write("dot.env", &format!("{alone}{more}"));
        imported(&older, &["amazonq-env", "dot.env"])
    };
    let text = of("");
    assert_eq!(text.matches("- id:").count(), 1, "{text}");
    let defaults = [
        "id: \"default\"",
        "127.0.0.1:8080",
        "strategy: weighted",
        "weight: 10",
        "enabled: true, consecutive_failures: 5, open_for: 300s, open_for_max: 300s",
        "attempts: 3",
    ];
    holds(&text, &defaults);
    let text = of(
        "PORT=9191\nCIRCUIT_BREAKER_ENABLED=false\nCIRCUIT_BREAKER_ERROR_THRESHOLD=2\n\
         CIRCUIT_BREAKER_RECOVERY_TIMEOUT=9\nAMAZONQ_TOKEN_ENDPOINT=http://127.0.0.1:1/token\n",
    );
    let said = [
        "127.0.0.1:9191",
        "enabled: false, consecutive_failures: 2, open_for: 9s, open_for_max: 9s",
        "token_url: \"http://127.0.0.1:1/token\"",
    ];
    holds(&text, &said);
    let names = [
        ("round_robin", "round_robin"),
        ("weighted_round_robin", "weighted"),
        ("LEAST_USED", "least_used"),
        ("random", "random"),
        ("round-robin", "round_robin"),
        ("least-connections", "least_connections"),
        ("nonsense", "weighted"),
    ];
    strategies(of, &names);
}

/// Rows 4-30 to 4-36, 4-61, 4-82.
#[test]
fn the_orchestrators_variables_are_taken_by_their_values() {
    let older = Older::of("orchestrator");
    let of = |more: &str| {
        let workers = (1..=4).map(|n| format!(r#"{{"id":"w{n}","url":"http://w{n}:400{n}"}}"#));
        let workers = workers.collect::<Vec<_>>().join(",");
        let limit =
            |n: usize, span: &str| format!(r#""w{n}":{{"requests":{n},"window":"{span}"}}"#);
        let limits = [
            limit(1, "30s"),
            limit(2, "5m"),
            limit(3, "2h"),
            limit(4, "1d"),
        ]
        .join(",");
        older.write(
            "dot.env",
            &format!("WORKERS=[{workers}]\nRATE_LIMITS={{{limits}}}\n{more}"),
        );
        imported(&older, &["compose-env", "dot.env"])
    };
    let text = of("");
    let defaults = [
        "127.0.0.1:3000",
        "strategy: least_connections",
        "max_concurrent: 10\n",
        "path: /health, interval: 10s, timeout: 5s",
        "weight: 1",
        "{requests: 1, window: 30s}",
        "{requests: 2, window: 5m}",
        "{requests: 3, window: 2h}",
        "{requests: 4, window: 1d}",
    ];
    holds(&text, &defaults);
    holds(&of("QUEUE_CONCURRENCY=3\n"), &["max_concurrent: 3\n"]);
    let names = [
        ("round-robin", "round_robin"),
        ("weighted", "weighted"),
        ("response-time", "response_time"),
        ("nonsense", "least_connections"),
    ];
    strategies(of, &names);
}

/// Rows 2-10, 2-50, 2-62, 2-63.
#[test]
fn the_launchers_variables_and_flags_are_taken_by_their_values() {
    let older = Older::of("launcher");
    let folder = "auth_profiles/active";
    let text = imported(&older, &["auth-dir", folder]);
    let defaults = [
        "127.0.0.1:2048",
        "ports: 9222-9421",
        "start_delay: 2s",
        "interval: 30s",
        "--headless",
        "max_concurrent: 1\n",
    ];
    holds(&text, &defaults);
    let text = imported(&older, &["auth-dir", folder, "--virtual-display"]);
    holds(&text, &["launch_camoufox.py, --virtual-display,"]);
    older.write(
        "dot.env",
        "MULTI_INSTANCE_MODE=true\nMULTI_INSTANCE_AUTH_DIR=auth_profiles/active\n\
         HEALTH_CHECK_INTERVAL=7\nCAMOUFOX_WS_ENDPOINT=ws://127.0.0.1:1/x\nPORT=2222\n",
    );
    let said = older.poolgate(&["check", "--env-compat", "--env-file", "dot.env", "--print"]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    let told = said.complaints.contains("CAMOUFOX_WS_ENDPOINT is not used");
    assert!(told, "{}", said.complaints);
    holds(&said.out, &["interval: 7s", "127.0.0.1:2222"]);
}
