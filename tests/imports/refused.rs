//! Mistakes in older settings: each is named by its field or variable, and nothing is written.

use super::Older;

#[track_caller]
fn refused(older: &Older, arguments: &[&str], words: &[&str]) {
    let said = older.poolgate(&[arguments, &["-o", "poolgate.yaml"]].concat());
    assert_eq!(said.code, Some(1), "{}", said.complaints);
    for word in words {
        assert!(
            said.complaints.contains(word),
            "{word}: {}",
            said.complaints
        );
    }
    assert!(!older.path("poolgate.yaml").exists());
}

/// Rows 0-09 to 0-18 of the checklist.
#[test]
fn a_router_file_with_mistakes_is_refused_with_the_path_of_each() {
    let command = ["import", "multi-account-json", "multi_account_config.json"];
    let name = "multi_account_config.json";
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "\"id\": \"account2\"",
            "\"id\": \"account1\"",
            &["accounts[1].id", "exists already"],
        ),
        (
            "\"port\": 2049",
            "\"port\": 70000",
            &["accounts[1].port", "65535"],
        ),
        (
            "\"port\": 2049",
            "\"port\": 2048",
            &["accounts[1].port", "taken"],
        ),
        (
            "\"weight\": 2",
            "\"weight\": \"two\"",
            &["accounts[0].weight", "whole number"],
        ),
        (
            "\"enabled\": true",
            "\"enabled\": \"yes\"",
            &["accounts[0].enabled", "true or false"],
        ),
        (
            "\"accounts\": [",
            "\"accounts\": [{},",
            &["accounts[0].id", "accounts[0].auth_file: is missing"],
        ),
        (
            "\"level\": \"INFO\"",
            "\"level\": \"LOUD\"",
            &["logging.level", "LOUD"],
        ),
    ];
    for (from, to, words) in cases {
        let older = Older::of("router");
        older.replace(name, from, to);
        refused(&older, &command, words);
    }
    let older = Older::of("router");
    older.write(name, "{\"accounts\": [");
    refused(&older, &command, &["is not JSON"]);
    older.replace(name, "{", "{\"router\": 3, ");
    older.write(name, "{\"accounts\": [], \"router\": 3}");
    refused(
        &older,
        &command,
        &["router: expected an object", "needs at least one account"],
    );
}

/// Rows 0-18, 1-24, 4-34: an unknown strategy was a warning, and is.
#[test]
fn an_unknown_strategy_is_a_note_and_the_older_default() {
    let older = Older::of("router");
    older.replace("multi_account_config.json", "\"roundrobin\"", "\"fastest\"");
    let said = older.poolgate(&["import", "multi-account-json", "multi_account_config.json"]);
    assert!(
        said.complaints
            .contains("router.strategy: \"fastest\" is no strategy"),
        "{}",
        said.complaints
    );
    assert!(said.out.contains("strategy: round_robin"));
}

/// Rows 1-71 to 1-76.
#[test]
fn a_missing_or_bad_variable_is_named() {
    let command = ["import", "amazonq-env", "dot.env"];
    let cases: [(&str, &str, &[&str]); 6] = [
        (
            "AMAZONQ_ACCOUNT_2_REFRESH_TOKEN=aor-refresh-two",
            "",
            &["AMAZONQ_ACCOUNT_2_REFRESH_TOKEN is required"],
        ),
        (
            "AMAZONQ_ACCOUNT_3_CLIENT_SECRET=secret-three",
            "AMAZONQ_ACCOUNT_3_CLIENT_SECRET=",
            &["AMAZONQ_ACCOUNT_3_CLIENT_SECRET"],
        ),
        (
            "AMAZONQ_ACCOUNT_2_ID=secondary",
            "AMAZONQ_ACCOUNT_2_ID=primary",
            &["AMAZONQ_ACCOUNT_2_ID", "exists already"],
        ),
        (
            "AMAZONQ_ACCOUNT_1_WEIGHT=10",
            "AMAZONQ_ACCOUNT_1_WEIGHT=many",
            &["AMAZONQ_ACCOUNT_1_WEIGHT"],
        ),
        (
            "AMAZONQ_ACCOUNT_1_ID=primary",
            "AMAZONQ_ACCOUNT_1_ID=a/b",
            &["AMAZONQ_ACCOUNT_1_ID"],
        ),
        ("PORT=8080", "PORT=eighty", &["PORT"]),
    ];
    for (from, to, words) in cases {
        let older = Older::of("amazonq");
        older.replace("dot.env", from, to);
        refused(&older, &command, words);
    }
    let older = Older::of("amazonq");
    older.write("dot.env", "AMAZONQ_REFRESH_TOKEN=r\n");
    refused(
        &older,
        &command,
        &[
            "AMAZONQ_CLIENT_ID is required",
            "AMAZONQ_CLIENT_SECRET is required",
        ],
    );
    older.write("dot.env", "PORT=8080\n");
    refused(&older, &command, &["AMAZONQ_REFRESH_TOKEN is required"]);
}

#[test]
fn a_mode_that_is_off_selects_no_older_system() {
    let older = Older::of("router");
    older.write("dot.env", "ENABLE_MULTI_INSTANCE=false\n");
    let said = older.poolgate(&["check", "--env-compat", "--env-file", "dot.env"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(
        said.complaints.contains("MULTI_INSTANCE_MODE=true"),
        "{}",
        said.complaints
    );
    let both =
        "MULTI_INSTANCE_MODE=false\nWORKERS=[{\"id\": \"w\", \"url\": \"http://127.0.0.1:9\"}]\n";
    older.write("dot.env", both);
    let said = older.poolgate(&["check", "--env-compat", "--env-file", "dot.env"]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    older.write("dot.env", "MULTI_INSTANCE_MODE=maybe\n");
    let said = older.poolgate(&["check", "--env-compat", "--env-file", "dot.env"]);
    assert!(
        said.complaints
            .contains("MULTI_INSTANCE_MODE: expected true or false"),
        "{}",
        said.complaints
    );
}

#[test]
fn keys_that_cannot_be_read_are_a_mistake_and_not_no_keys() {
    let older = Older::of("router");
    std::fs::write(older.path("auth_profiles/key.txt"), b"sk-\xff\n").unwrap();
    for command in [
        &["check", "-c", "multi_account_config.json"][..],
        &["import", "multi-account-json", "multi_account_config.json"],
    ] {
        let said = older.poolgate(command);
        assert_eq!(said.code, Some(1), "{command:?}: {}", said.out);
        assert!(said.complaints.contains("key.txt"), "{}", said.complaints);
    }
}

/// Rows 4-29c, 4-35, 4-36.
#[test]
fn workers_and_limits_that_make_no_sense_are_refused() {
    let command = ["import", "compose-env", "dot.env"];
    let cases: [(&str, &str, &[&str]); 5] = [
        (
            "\"id\":\"claude-worker-account2\"",
            "\"id\":\"claude-worker-account1\"",
            &["WORKERS[1].id"],
        ),
        (
            "WORKERS=[",
            "WORKERS=[{\"id\":1},",
            &["WORKERS[0].id", "WORKERS[0].url"],
        ),
        ("WORKERS=[", "WORKERS=", &["WORKERS: is not JSON"]),
        (
            "\"window\":\"30m\"",
            "\"window\":\"30 minutes\"",
            &["RATE_LIMITS.account2.window"],
        ),
        (
            "\"requests\":100",
            "\"requests\":0",
            &["RATE_LIMITS.account1.requests"],
        ),
    ];
    for (from, to, words) in cases {
        let older = Older::of("orchestrator");
        older.replace("dot.env", from, to);
        refused(&older, &command, words);
    }
}

/// Rows 2-01, 2-11.
#[test]
fn a_folder_without_files_and_two_screens_at_once_are_refused() {
    let older = Older::of("launcher");
    let both = [
        "import",
        "auth-dir",
        "auth_profiles/active",
        "--headless",
        "--debug",
    ];
    let said = older.poolgate(&both);
    assert_eq!(said.code, Some(2), "{}", said.complaints);
    let said = older.poolgate(&["import", "auth-dir", "auth_profiles/active", "--debug"]);
    assert!(
        said.out.contains("--debug, --active-auth-json"),
        "{}",
        said.out
    );
    std::fs::create_dir(older.path("empty")).unwrap();
    refused(
        &older,
        &["import", "auth-dir", "empty"],
        &["holds no *.json"],
    );
}

#[test]
fn variables_of_no_older_system_are_an_error_that_names_those_looked_for() {
    let older = Older::of("router");
    let said = older.poolgate(&["run", "--env-compat"]);
    assert_eq!(said.code, Some(1));
    for name in ["AMAZONQ_ACCOUNT_COUNT", "WORKERS", "MULTI_INSTANCE_MODE"] {
        assert!(said.complaints.contains(name), "{}", said.complaints);
    }
}
