//! The pool of tiers: a folder of account files for each tier, keys in slots that rotate.

use std::fmt::Write as _;

use super::{Mistakes, Said, Taken, head, quoted};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Tiers {
    /// The folder, as the configuration is to name it.
    pub dir: String,
    /// Its folders: `medium`, `high` …
    pub names: Vec<String>,
}

/// `redis`: the address of the pool's Redis, as a text with `${NAME}` or without.
///
/// # Errors
/// No folder of a tier.
pub fn medium(found: &Tiers, redis: Option<&str>) -> Result<Taken, Mistakes> {
    let said = &mut Said::default();
    if found.names.is_empty() {
        said.wrong(format!(
            "{}: holds no folder of a tier, such as medium",
            found.dir
        ));
    }
    let mut text = head("the pool of tiers");
    text +=
        "listen:\n  - address: 127.0.0.1:8080\nclients:\n  open: false\n  key_prefix: sk-cli-v1-\n";
    if let Some(url) = redis {
        let _ = writeln!(text, "state:\n  redis: {}", serde_json::Value::from(url));
    }
    text += "\ntiers:\n";
    for name in &found.names {
        text += &tier(name, redis.is_some());
    }
    text += "\npools:\n";
    for name in &found.names {
        let _ = writeln!(
            text,
            "  {}:\n    discover:\n      dir: {}\n      id: \"{{stem}}\"\n      account:\n        upstream: anthropic\n        \
             credential: {{json_file: {{path: \"{{auth_file}}\", token: /claudeAiOauth/accessToken, expires: \
             /claudeAiOauth/expiresAt}}}}",
            quoted(name),
            quoted(&format!("{}/{name}", found.dir.trim_end_matches('/'))),
        );
    }
    say_differences(found, redis, said);
    std::mem::take(said).done(text)
}

fn tier(name: &str, legacy: bool) -> String {
    let limits = |opus: u32, sonnet: u32| {
        format!(
            "    limits:\n      - {{models: \"*opus*\", requests: {opus}, window: 5h}}\n      \
             - {{models: \"*sonnet*\", requests: {sonnet}, window: 5h}}\n"
        )
    };
    let rest = match name {
        "high" => {
            "    assignment: bound              # each key has its account\n".to_owned()
                + &limits(10, 50)
        }
        "supreme" => "    assignment: bound\n".to_owned() + &limits(15, 75),
        _ => format!(
            "    assignment: slots\n    slots_per_account: 2\n    rotate_every: 24h\n    key_days: 30\n    \
             legacy_redis_names: {legacy}\n"
        ),
    };
    format!("  {0}:\n    pools: [{0}]\n{rest}", quoted(name))
}

fn say_differences(found: &Tiers, redis: Option<&str>, said: &mut Said) {
    said.note(
        "the account files must be kept fresh by whoever writes them now: tokens that belong to a vendor's own program \
         are not renewed here",
    );
    said.note(
        "keys: write the hashes `client_keys:*` of its Redis as JSON, one a line, and `poolgate keys import FILE.jsonl`",
    );
    if redis.is_none() {
        said.note(
            "without --redis the names `medium_pool:slots:…` and `key_rotation:…` are not kept",
        );
    } else {
        said.note("`key_rotation:…` is named by the key's id, not by the key: a key in Redis could be read there");
    }
    if found.names.len() > 1 {
        said.note(
            "an account's id is its file's name: two tiers must not have a file of the same name",
        );
    }
    said.note("`medium.sh pool 60` is `poolgate keys create --tier medium --days 60`; `medium.sh ACCOUNT` is `… --account ACCOUNT`");
    said.note("words in an answer disable no account any more; blacklisted accounts: `POST /api/v1/accounts/ID/reset`");
}
