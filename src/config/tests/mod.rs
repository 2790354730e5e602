//! What a user can rely on when writing a configuration file.

mod documented;
mod mistakes;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    Address, Assignment, CallerId, Config, Credential, EnvFile, Host, LimitUnit, Loaded, Models,
    Problem, Problems, SecretSource, Severity, Strategy, load, parse, print,
};
use crate::dialect::Dialect;

/// Two variables are set; everything else is not.
fn env(name: &str) -> Option<String> {
    match name {
        "CI_KEY" | "HOOK_SECRET" | "OPENAI_KEY_A" | "OPENAI_KEY_B" => Some("sk-short".into()),
        "PORT" => Some("9555".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Problems> {
    parse(text, Path::new("/etc/poolgate/poolgate.yaml"), &env)
}

/// The configuration of `text`, which must be right.
fn good(text: &str) -> Config {
    read(text)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

/// `text` with a pool of one account, so that only `text` can be wrong.
fn with_account(text: &str) -> String {
    format!("{text}\npools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}\n")
}

/// A file whose only account has the keys of `text`.
fn account(text: &str) -> String {
    format!("pools: {{default: {{accounts: [{{id: a, {text}}}]}}}}")
}

#[test]
fn the_smallest_file_is_enough() {
    let loaded = load(Path::new("conf/minimal.yaml"), &env).unwrap_or_else(|p| panic!("{p}"));
    let is_warning = |remark: &Problem| remark.severity == Severity::Warning;
    assert!(loaded.remarks.iter().all(is_warning));
    let config = loaded.config;
    assert_eq!(config.listen[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(
        config.admin.address,
        Address::Tcp("127.0.0.1:8081".parse().unwrap())
    );
    assert_eq!(config.tiers["default"].assignment, Assignment::Any);
    assert_eq!(config.tiers["default"].models, ["*"]);
    let pool = &config.pools[0];
    assert_eq!(
        (pool.name.as_str(), pool.strategy),
        ("default", Strategy::Weighted)
    );
    assert_eq!(
        pool.accounts
            .iter()
            .map(|a| a.id.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(pool.accounts[0].dialects, [Dialect::OpenAi]);
    assert_eq!(
        pool.accounts[0].upstream.host,
        Host::Tcp("api.openai.com".into(), 443)
    );
    let Credential::ApiKey(SecretSource::Value(key)) = &pool.accounts[0].credential else {
        panic!("an API key was written")
    };
    assert_eq!(key.expose(), "sk-short");
}

#[test]
fn variables_stand_for_numbers_too() {
    let config = good(
        "listen: [{address: '127.0.0.1:${PORT}'}]\nlog: {access: '${NO:-false}'}\npools: {p: {accounts: [{id: a, upstream: 'http://x:${PORT}', weight: '${W:-7}'}]}}",
    );
    assert_eq!(config.listen[0].address.port(), 9555);
    assert_eq!(config.pools[0].accounts[0].weight, 7);
    assert!(!config.log.access);
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = good(&with_account(
        "state: {dir: ./kept/}\nadmin: {token: {file: admin.token}}\nlog: {file: ../log/x.log}",
    ));
    assert_eq!(config.state.dir, Path::new("/etc/poolgate/kept"));
    let Some(SecretSource::File(token)) = config.admin.token else {
        panic!("a file was written")
    };
    assert_eq!(token, Path::new("/etc/poolgate/admin.token"));
    let SecretSource::File(key) = config.state.key else {
        panic!("a file is the default")
    };
    assert_eq!(key, Path::new("/etc/poolgate/kept/state.key"));
    assert_eq!(
        config.log.file.as_deref(),
        Some(Path::new("/etc/poolgate/../log/x.log"))
    );
}

#[test]
fn older_names_of_strategies_are_understood() {
    for (name, strategy) in [
        ("round_robin", Strategy::RoundRobin),
        ("roundrobin", Strategy::RoundRobin),
        ("round-robin", Strategy::RoundRobin),
        ("weighted_round_robin", Strategy::Weighted),
        ("least-connections", Strategy::LeastConnections),
        ("response-time", Strategy::ResponseTime),
        ("hash", Strategy::Hash),
    ] {
        let text =
            format!("pools: {{p: {{strategy: {name}, accounts: [{{id: a, upstream: openai}}]}}}}");
        assert_eq!(good(&text).pools[0].strategy, strategy, "{name}");
    }
}

#[test]
fn an_account_inherits_its_pools_health_check_unless_it_says_otherwise() {
    let config = good(
        "pools: {p: {health_check: {path: /up, interval: 5s}, accounts: [
           {id: a, upstream: openai}, {id: b, upstream: openai, health_check: inherit},
           {id: c, upstream: openai, health_check: none},
           {id: d, upstream: openai, health_check: {path: /own}}]}}",
    );
    let accounts = &config.pools[0].accounts;
    let path = |i: usize| {
        accounts[i]
            .health_check
            .as_ref()
            .map(|check| check.path.as_str())
    };
    assert_eq!(
        [path(0), path(1), path(2), path(3)],
        [Some("/up"), Some("/up"), None, Some("/own")]
    );
    // An own check starts from the defaults, not from the pool's.
    assert_eq!(
        accounts[3].health_check.as_ref().unwrap().interval,
        Duration::from_secs(30)
    );
}

#[test]
fn an_account_with_an_instance_needs_no_address() {
    let config = good(&account(
        "instance: {command: [run], port: 9300, env: {A: b}}",
    ));
    let account = &config.pools[0].accounts[0];
    assert_eq!(account.upstream.host, Host::Tcp("127.0.0.1".into(), 9300));
    assert_eq!(account.health_check.as_ref().unwrap().path, "/health");
    assert_eq!(account.instance.as_ref().unwrap().env.len(), 1);
    let config = good(&account_with_auto_port());
    assert_eq!(
        config.pools[0].accounts[0].upstream.host,
        Host::Tcp("127.0.0.1".into(), 0)
    );
    assert_eq!(config.pools[0].accounts[0].upstream.prefix, "/v1");
}

fn account_with_auto_port() -> String {
    account("upstream: 'http://127.0.0.1:{port}/v1', instance: {command: [run]}")
}

#[test]
fn models_are_patterns_or_names_with_the_upstreams_own() {
    let listed = good(&account("upstream: openai, models: [gpt-*, o3]"));
    assert_eq!(
        listed.pools[0].accounts[0].models,
        Models::List(vec!["gpt-*".into(), "o3".into()])
    );
    let mapped = good(&account("upstream: openai, models: {fast: gpt-5-mini}"));
    let names = [("fast".to_owned(), "gpt-5-mini".to_owned())].into();
    assert_eq!(mapped.pools[0].accounts[0].models, Models::Map(names));
}

#[test]
fn limits_say_what_they_count() {
    let config = good(&with_account(
        "tiers: {t: {limits: [{models: '*opus*', cost: 2.5, window: 5h}]}}",
    ));
    let limit = &config.tiers["t"].limits[0];
    assert_eq!((limit.unit, limit.amount), (LimitUnit::Cost, 2.5));
    assert_eq!(limit.window, Duration::from_secs(5 * 3600));
}

#[test]
fn callers_are_told_apart_by_key_session_header_or_body() {
    for (text, want) in [
        ("api_key", CallerId::ApiKey),
        ("session", CallerId::Session),
        ("header:X-User", CallerId::Header("x-user".into())),
        (
            "json:/metadata/user_id",
            CallerId::Json("/metadata/user_id".into()),
        ),
    ] {
        let text =
            format!("pools: {{p: {{hash_on: '{text}', accounts: [{{id: a, upstream: openai}}]}}}}");
        assert_eq!(good(&text).pools[0].hash_on, want);
    }
}

#[test]
fn json_with_comments_and_tabs_is_accepted() {
    let text = "{\n\t// accounts\n\t\"pools\": {\"p\": {\"accounts\": [\n\t\t{\"id\": \"a\", /* here */ \"upstream\": \"openai\", \"wieght\": 1}]}}\n}";
    let problems = parse(text, Path::new("x.json"), &env).err().unwrap();
    assert_eq!(
        (problems.0.len(), problems.0[0].line, problems.0[0].column),
        (1, 4, 48)
    );
    let config = parse(&text.replace("wieght", "weight"), Path::new("x.json"), &env)
        .unwrap()
        .config;
    assert_eq!(config.pools[0].accounts[0].id, "a");
}

#[test]
fn anchors_and_merges_save_repetition() {
    let config = good(
        "pools:\n  p:\n    accounts:\n      - &first {id: a, upstream: openai, weight: 5}\n      - {<<: *first, id: b}\n",
    );
    let accounts = &config.pools[0].accounts;
    assert_eq!((accounts[1].id.as_str(), accounts[1].weight), ("b", 5));
}

#[test]
fn what_check_prints_is_a_file_that_does_the_same() {
    for file in ["conf/minimal.yaml", "conf/poolgate.yaml"] {
        let first = load(Path::new(file), &env)
            .unwrap_or_else(|p| panic!("{p}"))
            .config;
        let printed = print(&first);
        let second = read(&printed).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        assert_eq!(print(&second.config), printed);
        assert!(!printed.contains("sk-short"), "{printed}");
    }
}

#[test]
fn a_literal_dollar_brace_survives_printing() {
    let config = good(&account("instance: {command: [sh, -c, 'echo $${HOME}']}"));
    assert_eq!(
        config.pools[0].accounts[0]
            .instance
            .as_ref()
            .unwrap()
            .command[2],
        "echo ${HOME}"
    );
    let again = good(&print(&config));
    assert_eq!(
        again.pools[0].accounts[0]
            .instance
            .as_ref()
            .unwrap()
            .command[2],
        "echo ${HOME}"
    );
}

#[test]
fn a_word_of_a_command_that_a_variable_stands_for_is_shown_as_it_is_written() {
    let text = account("instance: {command: [conv, '--key=${VENDOR_KEY}', '{port}']}");
    let env = |name: &str| (name == "VENDOR_KEY").then(|| "the-vendors-key".to_owned());
    let load = |text: &str| match parse(text, Path::new("/etc/poolgate/poolgate.yaml"), &env) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}"),
    };
    let printed = print(&load(&text));
    assert!(!printed.contains("the-vendors-key"), "{printed}");
    for config in [load(&text), load(&printed)] {
        let instance = config.pools[0].accounts[0].instance.as_ref().unwrap();
        assert_eq!(instance.command[1], "--key=the-vendors-key");
    }
}

#[test]
fn the_management_api_may_be_behind_a_socket_of_this_machine() {
    let config = good(&with_account("admin: {address: 'unix:admin.sock'}"));
    let Address::Unix(path) = config.admin.address else {
        panic!("a socket");
    };
    assert!(path.is_absolute() && path.ends_with("admin.sock"));
}

#[test]
#[cfg(unix)]
fn a_secret_in_a_file_that_others_may_read_is_remarked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("poolgate.yaml");
    std::fs::write(
        &path,
        account("upstream: openai, credential: {api_key: sk-plain}"),
    )
    .unwrap();
    let remarks = |mode: u32| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        load(&path, &env).unwrap_or_else(|p| panic!("{p}")).remarks
    };
    assert_eq!(remarks(0o600), []);
    let told = remarks(0o644);
    assert_eq!(told[0].path, "pools.default.accounts[0].credential.api_key");
    assert!(!told[0].to_string().contains("sk-plain"), "{}", told[0]);
}

#[test]
fn an_env_file_lies_under_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, "PATH=/nowhere\nPG_TEST_ONLY='x y'\n").unwrap();
    let file = EnvFile::load(&path).unwrap();
    assert_eq!(file.get("PG_TEST_ONLY").as_deref(), Some("x y"));
    assert_ne!(file.get("PATH").as_deref(), Some("/nowhere"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
        let _ = parse(&String::from_utf8_lossy(&bytes), Path::new("x.json"), &env);
    }

    #[test]
    fn no_slip_of_the_finger_makes_the_reader_panic(at in 0usize..12_000, put in "\\PC{0,3}|[\\[\\]{}:,#&*!|>'\"\n\t ]{1,3}", cut in 0usize..4) {
        let text = include_str!("../../../conf/poolgate.yaml");
        let edge = |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
        let (from, to) = (edge(at), edge(at + cut));
        let mistyped = format!("{}{put}{}", &text[..from], &text[to.max(from)..]);
        if let Err(problems) = read(&mistyped) {
            prop_assert!(problems.0.iter().all(|problem| problem.line > 0), "{problems}");
        }
    }
}
