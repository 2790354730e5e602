//! The pool of Amazon Q accounts: its `.env`.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::variables::{admin, flag, host, number, seconds};
use super::{Mistakes, Said, Taken, head, quoted, strategy_or};
use crate::config::{Variables, is_account_id};

const ENDPOINT: &str = "https://q.us-east-1.amazonaws.com/";
const TOKENS: &str = "https://oidc.us-east-1.amazonaws.com/token";
/// More are a slip of the keyboard.
const MOST: u64 = 1000;

/// `env`: the pool's variables. `upstream`: the converter that speaks Amazon Q's protocol for us.
///
/// # Errors
/// Every variable that is missing or wrong.
pub fn amazonq(env: Variables<'_>, upstream: Option<&str>) -> Result<Taken, Mistakes> {
    let said = &mut Said::default();
    let address = host(env, 8080, said);
    let word = env("LOAD_BALANCE_STRATEGY");
    let strategy = strategy_or(word.as_deref(), "LOAD_BALANCE_STRATEGY", "weighted", said);
    let failures = number(env, "CIRCUIT_BREAKER_ERROR_THRESHOLD", 5, (1, 1000), said);
    let recovery = seconds(env, "CIRCUIT_BREAKER_RECOVERY_TIMEOUT", 300, said);
    let breaker = flag(env, "CIRCUIT_BREAKER_ENABLED", true, said);
    // Checks were of the gateway's own numbers, not of accounts: there is nothing to ask.
    seconds(env, "HEALTH_CHECK_INTERVAL", 300, said);
    let mut text = head("the Amazon Q pool");
    let _ = writeln!(
        text,
        "listen:\n  - address: {}\n{}server:\n  legacy_metrics: true           # the ten amazonq_* names\n\n\
         pools:\n  default:\n    strategy: {strategy}\n    retry: {{attempts: 3}}\n    breaker: {{enabled: {breaker}, \
         consecutive_failures: {failures}, open_for: {recovery}s, open_for_max: {recovery}s}}\n    accounts:",
        quoted(&address.to_string()),
        admin(env, said),
    );
    let upstream = upstream_of(env, upstream);
    for account in accounts(env, said) {
        text += &account.written(&upstream, env);
    }
    say_differences(env, &upstream, said);
    std::mem::take(said).done(text)
}

/// One account, and what the names of its variables begin with.
struct Account {
    id: String,
    prefix: String,
    weight: u64,
    enabled: bool,
}

fn upstream_of(env: Variables<'_>, given: Option<&str>) -> String {
    let theirs = || env("AMAZONQ_API_ENDPOINT").filter(|url| !url.is_empty());
    let url = given.map(str::to_owned).or_else(theirs);
    let url = url.unwrap_or_else(|| ENDPOINT.to_owned());
    url.trim_end_matches('/').to_owned()
}

fn accounts(env: Variables<'_>, said: &mut Said) -> Vec<Account> {
    let count = number(env, "AMAZONQ_ACCOUNT_COUNT", 0, (0, MOST), said);
    let single = Account {
        id: "default".to_owned(),
        prefix: "AMAZONQ_".to_owned(),
        weight: 10,
        enabled: true,
    };
    let numbered = |n: u64, said: &mut Said| {
        let prefix = format!("AMAZONQ_ACCOUNT_{n}_");
        let id = env(&format!("{prefix}ID")).filter(|id| !id.is_empty());
        Account {
            id: id.unwrap_or_else(|| format!("account_{n}")),
            weight: number(env, &format!("{prefix}WEIGHT"), 10, (0, 1000), said),
            enabled: flag(env, &format!("{prefix}ENABLED"), true, said),
            prefix,
        }
    };
    let accounts: Vec<Account> = match count {
        0 => vec![single],
        _ => (1..=count).map(|n| numbered(n, said)).collect(),
    };
    let mut ids = HashSet::new();
    for account in &accounts {
        let prefix = &account.prefix;
        for name in ["REFRESH_TOKEN", "CLIENT_ID", "CLIENT_SECRET"] {
            if env(&format!("{prefix}{name}")).is_none_or(|value| value.trim().is_empty()) {
                said.wrong(format!("{prefix}{name} is required"));
            }
        }
        if !is_account_id(&account.id) {
            said.wrong(format!(
                "{prefix}ID: needs 1 to 64 of the characters A-Z a-z 0-9 . _ @ + -"
            ));
        }
        if !ids.insert(account.id.as_str()) {
            said.wrong(format!("{prefix}ID: {:?} exists already", account.id));
        }
    }
    accounts
}

impl Account {
    fn written(&self, upstream: &str, env: Variables<'_>) -> String {
        let Account {
            id,
            prefix,
            weight,
            enabled,
        } = self;
        let tokens = env("AMAZONQ_TOKEN_ENDPOINT").filter(|url| !url.is_empty());
        let tokens = tokens.unwrap_or_else(|| TOKENS.to_owned());
        format!(
            "      - id: {}\n        upstream: {}\n        weight: {weight}\n        enabled: {enabled}\n        credential:\n          \
             aws_sso_oidc:\n            token_url: {}\n            client_id: \"${{{prefix}CLIENT_ID}}\"\n            \
             client_secret: \"${{{prefix}CLIENT_SECRET}}\"\n            refresh_token: \"${{{prefix}REFRESH_TOKEN}}\"\n",
            quoted(id),
            quoted(upstream),
            quoted(&tokens),
        )
    }
}

fn say_differences(env: Variables<'_>, upstream: &str, said: &mut Said) {
    if upstream.contains("amazonaws.com") {
        said.note(
            "Amazon Q's own protocol is not spoken here: give `--upstream` (or AMAZONQ_API_ENDPOINT) the address of a \
             converter that speaks Anthropic's or OpenAI's",
        );
    }
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    if set("ZERO_INPUT_TOKEN_MODELS") {
        said.note("ZERO_INPUT_TOKEN_MODELS has no counterpart: tokens are counted as the upstream states them");
    }
    let numbered = (1..=MOST).take_while(|n| set(&format!("AMAZONQ_ACCOUNT_{n}_REFRESH_TOKEN")));
    let mut arns = numbered.map(|n| format!("AMAZONQ_ACCOUNT_{n}_PROFILE_ARN"));
    if set("AMAZONQ_PROFILE_ARN") || arns.any(|name| set(&name)) {
        said.note("PROFILE_ARN belongs into the converter: it is a part of Amazon Q's protocol");
    }
    if set("HEALTH_CHECK_INTERVAL") {
        said.note("HEALTH_CHECK_INTERVAL is not needed: what it refreshed is always true here");
    }
    said.note(
        "/accounts/… and /metrics need an admin token: it is made in state.dir at the first start",
    );
    said.note("the renewed tokens of ~/.amazonq_token_cache: `poolgate import amazonq-env ~/.amazonq_token_cache`");
}
