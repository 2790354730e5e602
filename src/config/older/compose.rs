//! The orchestrator of workers in containers: WORKERS, RATE_LIMITS, LOAD_BALANCE_STRATEGY.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::fields::Fields;
use super::variables::{admin, host, number, state};
use super::{Mistakes, Said, Taken, head, quoted, strategy_or};
use crate::config::{Variables, is_account_id};

/// `env`: the orchestrator's variables.
///
/// # Errors
/// Every variable that is missing or wrong.
pub fn compose(env: Variables<'_>) -> Result<Taken, Mistakes> {
    let said = &mut Said::default();
    let address = host(env, 3000, said);
    let word = env("LOAD_BALANCE_STRATEGY");
    let strategy = strategy_or(
        word.as_deref(),
        "LOAD_BALANCE_STRATEGY",
        "least_connections",
        said,
    );
    let most = number(env, "QUEUE_CONCURRENCY", 10, (1, 1_000_000), said);
    let workers = workers(env, said);
    let mut text = head("the orchestrator of workers");
    let _ = writeln!(
        text,
        "listen:\n  - address: {}\n{}{}\npools:\n  default:\n    strategy: {strategy}\n    max_concurrent: {most}\n    \
         retry: {{attempts: 3}}\n    queue: {{timeout: 120s}}\n    health_check: {{path: /health, interval: 10s, timeout: 5s}}\n    \
         accounts:{}",
        quoted(&address.to_string()),
        admin(env, said),
        state(env),
        if workers.is_empty() { " none" } else { "" },
    );
    text += &workers;
    say_differences(env, said);
    std::mem::take(said).done(text)
}

/// A variable that holds JSON.
fn json(env: Variables<'_>, name: &str, said: &mut Said) -> Option<Value> {
    let text = env(name).filter(|text| !text.trim().is_empty())?;
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            said.wrong(format!("{name}: is not JSON: {error}"));
            None
        }
    }
}

fn workers(env: Variables<'_>, said: &mut Said) -> String {
    if env("WORKERS").is_none_or(|text| text.trim().is_empty()) {
        said.wrong("WORKERS is required: [{\"id\", \"url\", \"weight\"}]");
        return String::new();
    }
    let limits = json(env, "RATE_LIMITS", said);
    if limits.as_ref().is_some_and(|value| !value.is_object()) {
        said.wrong("RATE_LIMITS: expected an object of {requests, window}");
    }
    let limits = limits.as_ref().and_then(Value::as_object);
    let Some(value) = json(env, "WORKERS", said) else {
        return String::new();
    };
    let Some(list) = value.as_array() else {
        said.wrong("WORKERS: expected a list of {id, url, weight}");
        return String::new();
    };
    if list.is_empty() {
        said.note("WORKERS: there is no worker; each request is answered 503 until one is added by the API");
    }
    let mut ids = HashSet::new();
    let mut text = String::new();
    for (n, worker) in list.iter().enumerate() {
        let fields = Fields::of(Some(worker), &format!("WORKERS[{n}]"), said);
        let id = fields.text("id", said).unwrap_or_default();
        if !is_account_id(id) {
            said.wrong(format!(
                "{}: needs 1 to 64 of the characters A-Z a-z 0-9 . _ @ + -",
                fields.path("id")
            ));
        }
        if !ids.insert(id) {
            said.wrong(format!("{}: {id:?} exists already", fields.path("id")));
        }
        let url = fields.text("url", said).unwrap_or_default();
        if url.is_empty() {
            said.wrong(format!("{}: is missing", fields.path("url")));
        }
        let weight = fields.number("weight", (0, 1000), said).unwrap_or(1);
        fields.say_rest(said);
        let _ = writeln!(
            text,
            "      - id: {}\n        upstream: {}\n        weight: {weight}\n        max_concurrent: 1          # a worker answers one at a time\n        \
             credential: none",
            quoted(id),
            quoted(url.trim_end_matches('/')),
        );
        if let Some((name, limit)) = limits.and_then(|limits| limit_of(limits, id)) {
            text += &rate_limit(name, limit, said);
        }
    }
    say_unused(limits, &ids, said);
    text
}

type Limits = serde_json::Map<String, Value>;

/// Limits named the account; a worker's id is that, or ends with it (`claude-worker-account1`).
fn limit_of<'a>(limits: &'a Limits, id: &str) -> Option<(&'a str, &'a Value)> {
    let of = |name: &str| {
        id == name
            || id
                .strip_suffix(name)
                .is_some_and(|rest| rest.ends_with('-'))
    };
    let found = limits.iter().find(|(name, _)| of(name));
    found.map(|(name, limit)| (name.as_str(), limit))
}

fn rate_limit(name: &str, limit: &Value, said: &mut Said) -> String {
    let fields = Fields::of(Some(limit), &format!("RATE_LIMITS.{name}"), said);
    let requests = fields
        .number("requests", (1, 1_000_000_000), said)
        .unwrap_or(50);
    let window = fields.text("window", said).unwrap_or("1h");
    let (digits, unit) =
        window.split_at(window.len() - window.chars().next_back().map_or(0, char::len_utf8));
    let is_span =
        digits.parse::<u64>().is_ok_and(|n| n > 0) && ["s", "m", "h", "d"].contains(&unit);
    if !is_span {
        said.wrong(format!(
            "{}: expected a time such as 30s, 5m, 1h, 1d",
            fields.path("window")
        ));
    }
    fields.say_rest(said);
    format!("        rate_limits: [{{requests: {requests}, window: {window}}}]\n")
}

fn say_unused(limits: Option<&Limits>, ids: &HashSet<&str>, said: &mut Said) {
    for name in limits.into_iter().flat_map(Limits::keys) {
        let of = |id: &&&str| {
            **id == name
                || id
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('-'))
        };
        if ids.iter().find(of).is_none() {
            said.note(format!("RATE_LIMITS.{name}: no worker of this name"));
        }
    }
}

fn say_differences(env: Variables<'_>, said: &mut Said) {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    said.note(
        "the workers must speak OpenAI's or Anthropic's dialect: `POST /process` is not spoken, and `/api/chat`, \
         `/api/job/ID`, `/api/sessions/ID` (jobs that are asked for later) have no counterpart",
    );
    if set("JWT_SECRET") {
        said.note(
            "JWT_SECRET is not used: the management API has tokens of its own (`admin.token`)",
        );
    }
    if set("POSTGRES_PASSWORD") && !set("DATABASE_URL") {
        said.note(
            "POSTGRES_PASSWORD alone says no address: DATABASE_URL does, with the password in it",
        );
    }
    if (1..=9).any(|n| set(&format!("CLAUDE_PASSWORD_{n}")) || set(&format!("CLAUDE_EMAIL_{n}"))) {
        said.note("CLAUDE_EMAIL_n and CLAUDE_PASSWORD_n are the workers' own: they are neither read nor kept");
    }
    said.note("/api/workers and /api/queue/status need an admin token: it is made in state.dir at the first start");
}
