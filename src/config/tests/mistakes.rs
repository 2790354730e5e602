//! Every mistake is told at its place, all at once, and no secret with it.

use std::path::Path;
use std::time::Duration;

use super::super::{Problem, Severity, load};
use super::{account, env, read, with_account};
use crate::clock;

/// `LINE:COLUMN path: message` of every problem.
fn told(text: &str) -> Vec<String> {
    let Err(problems) = read(text) else {
        panic!("accepted:\n{text}")
    };
    let line = |p: &Problem| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message);
    problems.0.iter().map(line).collect()
}

/// `text` has exactly one problem, at `path`, and its message holds `part`.
#[track_caller]
fn one(text: &str, path: &str, part: &str) {
    let told = told(text);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains(&format!(" {path}: ")) && told[0].contains(part),
        "{told:?}"
    );
}

#[test]
fn a_credential_with_nothing_behind_its_kind_is_a_mistake() {
    for credential in ["{api_key: }", "{api_key}", "{bearer: null}", "{}"] {
        let text = format!(
            "pools: {{default: {{accounts: [{{id: a, upstream: openai, credential: {credential}}}]}}}}"
        );
        let problems = crate::config::parse(&text, std::path::Path::new("x"), &|_| None);
        assert!(problems.is_err(), "{credential}");
    }
}

#[test]
fn a_host_name_with_a_port_would_never_be_met() {
    let account = "pools: {p: {accounts: [{id: a, upstream: openai, credential: none}]}}";
    let text = format!("admin: {{hosts: ['gw.example.com:8443']}}\n{account}");
    one(&text, "admin.hosts[0]", "without a port");
    let text = format!("listen: [{{hosts: ['[::1]:80']}}]\n{account}");
    one(&text, "listen[0].hosts[0]", "without a port");
    let text = format!("admin: {{hosts: ['[::1]', 'GW.example.', 'fd00::1']}}\n{account}");
    let config = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.config.admin.hosts, ["::1", "gw.example", "fd00::1"]);
}

#[test]
fn an_item_without_anything_in_it_is_no_account() {
    let text = "pools:\n  default:\n    accounts:\n      - {id: a, upstream: openai}\n      -\n";
    one(
        text,
        "pools.default.accounts[1]",
        "an item without anything",
    );
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = "\
listen:
  - address: localhost:8080
clients:
  max_body: 32
  open: maybe
  keys: [{name: ci, key: 12345}]
  max_conections: 5
routes:
  - {model: x, pool: defualt}
pools:
  default:
    strategy: weigthed
    retry: {attempts: 0, budget: 20}
    timeouts: {read: 10}
    accounts:
      - {id: a, upstream: openai, weight: 1001}
      - {id: a, upstream: https://u:p@x}
      - id: c
        upstream: openai
        credential: {api_key: \"${NOT_SET}\"}
        wieght: 3
";
    let want = [
        "2:14 listen[0].address: must be an address and a port",
        "4:13 clients.max_body: must be a size with its unit",
        "5:9 clients.open: must be one of auto, true, false",
        "6:26 clients.keys[0].key: is read as a number or a truth value here: write it in quotes",
        "7:3 clients.max_conections: unknown key; did you mean `max_connections`?",
        "9:22 routes[0].pool: there is no pool `defualt`; did you mean `default`?",
        "12:15 pools.default.strategy: must be one of round_robin, weighted",
        "13:23 pools.default.retry.attempts: must be a whole number from 1 to 100",
        "13:34 pools.default.retry.budget: must be a share from 0% to 100%",
        "14:22 pools.default.timeouts.read: must be a time with its unit",
        "16:43 pools.default.accounts[0].weight: must be a whole number from 0 to 1000",
        "17:14 pools.default.accounts[1].id: the account `a` exists already, on line 16",
        "17:27 pools.default.accounts[1].upstream: must not hold a user name or password",
        "20:31 pools.default.accounts[2].credential.api_key: the variable NOT_SET is not set",
        "21:9 pools.default.accounts[2].wieght: unknown key; did you mean `weight`?",
    ];
    let told = told(text);
    for (told, want) in told.iter().zip(want) {
        assert!(told.starts_with(want), "told: {told}\nwant: {want}");
    }
    assert_eq!(told.len(), want.len(), "{told:#?}");
}

#[test]
fn a_problem_shows_the_line_and_points_at_the_mistake() {
    let problems =
        read("pools:\n  default:\n    accounts:\n      - {id: a, upstream: openai, wieght: 3}\n");
    assert_eq!(
        problems.err().unwrap().to_string(),
        "/etc/poolgate/poolgate.yaml:4:35: pools.default.accounts[0].wieght: \
         unknown key; did you mean `weight`?\n  \
         |\n4 |       - {id: a, upstream: openai, wieght: *}\n  \
         |                                   ^^^^^^"
    );
}

#[test]
fn text_that_is_not_yaml_is_one_problem_with_its_place() {
    for (text, line) in [
        ("pools: [", 1),
        ("a: b: c", 1),
        ("a:\n\t- b", 2),
        ("a: *nowhere", 1),
        ("a: 1\n---\nb: 2\n", 2),
    ] {
        let told = told(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("{line}:")),
            "{text:?}: {told:?}"
        );
        assert!(told[0].contains("not valid YAML"), "{told:?}");
    }
}

#[test]
fn bombs_are_one_problem_and_take_no_time() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let item = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{item}]\n");
    }
    let start = clock::now();
    for text in [
        bomb,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
    ] {
        assert_eq!(told(&text).len(), 1);
    }
    // Generous: a bomb that goes off takes minutes, or all memory.
    assert!(clock::now() - start < Duration::from_secs(20));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = load(Path::new("/nowhere/poolgate.yaml"), &env)
        .err()
        .unwrap();
    assert!(
        problems
            .to_string()
            .starts_with("/nowhere/poolgate.yaml: cannot be read"),
        "{problems}"
    );
}

#[test]
fn nothing_to_serve_with_is_a_problem() {
    one("", "pools", "needs at least one pool with an account");
    one(
        "pools: {p: {accounts: []}}",
        "pools",
        "needs at least one pool with an account",
    );
    one(
        "pools: {p: {accounts: [{id: a}]}}",
        "pools.p.accounts[0]",
        "`upstream` is missing",
    );
    one(
        "pools: {p: {accounts: [{upstream: openai}]}}",
        "pools.p.accounts[0]",
        "`id` is missing",
    );
    assert!(told("just text")[0].contains("must be a mapping"));
}

#[test]
fn names_that_do_not_exist_are_problems() {
    one(
        &with_account("tiers: {t: {pools: [defualt]}}"),
        "tiers.t.pools[0]",
        "there is no pool `defualt`; did you mean `default`?",
    );
    one(
        &with_account("routes: [{model: m, pool: default, fallback: default_}]"),
        "routes[0].fallback",
        "no pool `default_`",
    );
    one(
        &with_account("clients: {keys: [{name: k, key: s, tier: gold}]}"),
        "clients.keys[0].tier",
        "no tier `gold`",
    );
}

#[test]
fn a_pool_that_is_like_no_other_is_a_warning() {
    let file = with_account("tiers: {t: {pools: [later]}}");
    let Ok(loaded) = read(&file) else {
        panic!("refused")
    };
    let warning = &loaded.remarks[0];
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(warning.message, "there is no pool `later`");
}

#[test]
fn a_key_or_a_name_written_twice_is_a_problem() {
    one(
        "pools: {p: {accounts: [{id: a, upstream: openai}]}, p: {}}",
        "pools.p",
        "written twice",
    );
    one(
        &with_account("clients: {keys: [{name: k, key: s}, {name: k, key: t}]}"),
        "clients.keys[1].name",
        "exists already",
    );
    one(
        &with_account("listen: [{address: '[::]:80'}, {address: '[::]:80'}]"),
        "listen[1].address",
        "already",
    );
    one(
        &with_account("listen: [{address: 127.0.0.1:8081}]"),
        "admin.address",
        "already",
    );
}

#[test]
fn admin_beyond_loopback_needs_tls_or_a_word() {
    one(
        &with_account("admin: {address: 0.0.0.0:8081}"),
        "admin.address",
        "insecure: true",
    );
    assert!(
        read(&with_account(
            "admin: {address: 0.0.0.0:8081, insecure: true}"
        ))
        .is_ok()
    );
}

#[test]
fn an_open_gateway_beyond_loopback_is_remarked() {
    let text = with_account("listen: [{address: 0.0.0.0:8080}]\nclients: {open: true}");
    let remarks = read(&text).unwrap_or_else(|p| panic!("{p}")).remarks;
    assert_eq!(
        (remarks[0].path.as_str(), remarks[0].severity),
        ("clients.open", Severity::Warning)
    );
}

#[test]
fn a_secret_that_is_none_is_a_problem() {
    let path = "pools.default.accounts[0].credential.api_key";
    one(
        &account("upstream: openai, credential: {api_key: ''}"),
        path,
        "must not be empty",
    );
    one(
        &account("upstream: openai, credential: {api_key: '${EMPTY}'}"),
        path,
        "must not be empty",
    );
    one(
        &account("upstream: openai, credential: {api_key: 123}"),
        path,
        "quotes",
    );
    one(
        &account("upstream: openai, credential: {api_key: \"a\\nb\"}"),
        path,
        "control character",
    );
    let told = told(&account(
        "upstream: openai, credential: {api_key: {path: x}}",
    ));
    assert!(
        told[0].contains("`file` is missing") && told[1].contains("unknown key"),
        "{told:?}"
    );
}

#[test]
fn a_credential_is_exactly_one() {
    let path = "pools.default.accounts[0].credential";
    one(
        &account("upstream: openai, credential: {}"),
        path,
        "names no kind",
    );
    one(
        &account("upstream: openai, credential: {api_key: a, bearer: b}"),
        path,
        "more than one",
    );
    one(
        &account("upstream: openai, credential: nothing"),
        path,
        "must be none",
    );
}

#[test]
fn each_limit_counts_one_thing() {
    one(
        &with_account("tiers: {t: {limits: [{window: 1h}]}}"),
        "tiers.t.limits[0]",
        "exactly one",
    );
    one(
        &with_account("tiers: {t: {limits: [{requests: 1, tokens: 2, window: 1h}]}}"),
        "tiers.t.limits[0]",
        "exactly one",
    );
    let told = told(&account(
        "upstream: openai, rate_limits: [{cost: 1, window: 1h}]",
    ));
    assert!(
        told[0].contains("exactly one of requests or tokens"),
        "{told:?}"
    );
    assert!(told[1].contains("cost: unknown key"), "{told:?}");
}

const CANARY: &str = "Hunter2Canary";

#[test]
fn no_problem_shows_a_secret() {
    for text in [
        account(&format!(
            "upstream: openai, credential: {{api_kye: {CANARY}}}"
        )),
        account(&format!("upstream: openai, credential: {CANARY}")),
        account(&format!("upstream: openai, credential: [{CANARY}]")),
        account(&format!(
            "upstream: openai, credential: {{api_key: [{CANARY}]}}"
        )),
        account(&format!(
            "upstream: openai, wieght: 1, credential: {{api_key: {CANARY}}}"
        )),
        account(&format!(
            "upstream: openai, wieght: 1, headers: {{x-key: {CANARY}}}"
        )),
        account(&format!(
            "upstream: openai, credentail: {{api_key: {CANARY}}}"
        )),
        account(&format!(
            "upstream: openai, credential: {{api_key: \"{CANARY}\\n\\0\"}}"
        )),
        account(&format!(
            "upstream: openai, credential: {{api_key: x, api_key: {CANARY}}}"
        )),
        account(&format!(
            "upstream: openai, credential: {{api_key: '${{NOT_SET}}{CANARY}'}}"
        )),
        account(&format!(
            "upstream: openai, credential: {{api_key: '${{NOT-{CANARY}}}'}}"
        )),
        account(&format!(
            "upstream: openai, credential: {{oauth2: {{token_url: 'https://me:{CANARY}@host/', \
             client_id: x, refresh_token: y}}}}"
        )),
        account(&format!("upstream: 'https://me:{CANARY}@host/'")),
        account(&format!("upstream: 'https://host/?key={CANARY}'")),
        with_account(&format!("state: {{redis: 'http://:{CANARY}@x'}}")),
        with_account(&format!(
            "state: {{redis: {{url: 'redis://:{CANARY}@x', kee: 1}}}}"
        )),
        with_account(&format!("egress: {{proxy: 'socks5://:{CANARY}@x'}}")),
        with_account(&format!("notify: [{{webhook: 'ftp://x/{CANARY}'}}]")),
        with_account(&format!("admin: {{token: {CANARY}, tokenn: 1}}")),
        with_account(&format!("clients: {{keys: {CANARY}}}")),
        with_account(&format!("clients: {{keys: [{CANARY}]}}")),
        with_account(&format!("clients: {{keys: [{{name: x, kee: {CANARY}}}]}}")),
        format!("pools: {{p: {{accounts: [{{id: a, credential: {{api_key: {CANARY}}}"),
        format!("admin:\n  token: \"{CANARY}"),
        format!("admin:\n  token:\n    \"{CANARY}\" x"),
    ] {
        let Err(problems) = read(&text) else {
            panic!("accepted: {text}")
        };
        assert!(!problems.to_string().contains(CANARY), "{problems}");
    }
}

#[test]
fn ten_thousand_accounts_are_read_at_once() {
    let mut text = "pools:\n  default:\n    accounts:\n".to_owned();
    for n in 0..10_000 {
        text += &format!(
            "      - {{id: a{n}, upstream: openai, credential: {{api_key: sk-{n}}}, rate_limits: [{{requests: 1, window: 1h}}]}}\n"
        );
    }
    let start = clock::now();
    let loaded = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    // Generous, since this is measured without optimisation.
    assert!(
        clock::now() - start < Duration::from_secs(20),
        "{:?}",
        clock::now() - start
    );
    assert_eq!(loaded.config.pools[0].accounts.len(), 10_000);
    assert_eq!(loaded.remarks, []);
}

#[test]
fn two_programs_cannot_have_one_port() {
    let instance = "instance: {command: [run], port: 9300}";
    let text = format!(
        "pools: {{p: {{accounts: [\n  {{id: a, {instance}}},\n  {{id: b, {instance}}}]}}}}"
    );
    one(
        &text,
        "pools.p.accounts[1].instance.port",
        "the port `9300` exists already, on line 2",
    );
}
