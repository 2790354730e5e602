//! The router of AI Studio accounts: `multi_account_config.json`, and its keys in `auth_profiles/key.txt`.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::fields::Fields;
use super::{Mistakes, Said, Taken, head, quoted, strategy_or};
use crate::config::{is_account_id, json};

/// What the router started for each account.
const COMMAND: &str = "[python3, launch_camoufox.py, --headless, --active-auth-json, \"{auth_file}\", \
                       --server-port, \"{port}\", --stream-port, \"0\"]";

/// Is this JSON (comments allowed) the router's file, and no configuration of ours?
pub fn is_router(text: &str) -> bool {
    let read: Result<Value, _> = serde_json::from_str(&json::blank_comments(text));
    read.is_ok_and(|value| value["accounts"].is_array() && value.get("pools").is_none())
}

/// `text`: the file. `keys`: where the file of keys is, as the configuration is to name it; `has_keys`:
/// there are some in it.
///
/// # Errors
/// Every mistake, with the path of its field.
pub fn router(text: &str, keys: &str, has_keys: bool) -> Result<Taken, Mistakes> {
    let value: Value = serde_json::from_str(&json::blank_comments(text))
        .map_err(|error| vec![format!("is not JSON: {error}")])?;
    let said = &mut Said::default();
    let root = Fields::of(Some(&value), "", said);
    let router = Fields::of(root.value("router"), "router", said);
    let mut text = head("multi_account_config.json");
    text += &listen(&router, keys, has_keys, said);
    text += &log(&root, said);
    text += &pool(&root, &router, said);
    router.say_rest(said);
    root.say_rest(said);
    std::mem::take(said).done(text)
}

fn listen(router: &Fields<'_>, keys: &str, has_keys: bool, said: &mut Said) -> String {
    let host = router.text("host", said).unwrap_or("0.0.0.0");
    let host = if host == "localhost" {
        "127.0.0.1"
    } else {
        host
    };
    let port = router.number("port", (1, 65_535), said).unwrap_or(8080);
    let Ok(ip) = host.parse::<std::net::IpAddr>() else {
        said.wrong(format!("router.host: {host:?} is no address"));
        return String::new();
    };
    let address = std::net::SocketAddr::new(ip, port as u16);
    let mut text = format!("listen:\n  - address: {}\n", quoted(&address.to_string()));
    // Watched from the start: keys may come later.
    let _ = writeln!(text, "clients:\n  keys_file: {}", quoted(keys));
    if !has_keys && !ip.is_loopback() {
        text += "  open: true                   # nobody is asked for a key, as before\n";
        said.note(format!(
            "{address} is open to everybody who reaches it, as it was: put keys into {keys}, and take \
             `clients.open` out of an imported file"
        ));
    }
    let restart = router.flag("auto_restart", said).unwrap_or(true);
    let _ = writeln!(text, "instances:\n  restart: {{enabled: {restart}}}");
    said.note("GET /router/status and the like need an admin token: it is made in state.dir at the first start");
    text
}

fn log(root: &Fields<'_>, said: &mut Said) -> String {
    let logging = Fields::of(root.value("logging"), "logging", said);
    let level = match logging.text("level", said) {
        None => "info",
        Some(word) => match word.to_ascii_uppercase().as_str() {
            "DEBUG" => "debug",
            "INFO" => "info",
            "WARNING" | "WARN" => "warn",
            "ERROR" | "CRITICAL" => "error",
            _ => {
                said.wrong(format!(
                    "logging.level: {word:?} is none of DEBUG, INFO, WARNING, ERROR"
                ));
                "info"
            }
        },
    };
    let file = logging
        .text("file", said)
        .unwrap_or("logs/router_manager.log");
    logging.say_rest(said);
    format!("log: {{level: {level}, file: {}}}\n\n", quoted(file))
}

fn pool(root: &Fields<'_>, router: &Fields<'_>, said: &mut Said) -> String {
    let word = router.text("strategy", said);
    let strategy = strategy_or(word, "router.strategy", "round_robin", said);
    let span = (1, 86_400);
    let interval = router.number("health_check_interval", span, said);
    let timeout = router.number("health_check_timeout", span, said);
    let mut text = format!(
        "pools:\n  default:\n    strategy: {strategy}\n    queue: {{max_waiting: 0}}         # all full is a 503 at once\n    \
         health_check: {{path: /health, interval: {}s, timeout: {}s}}\n    accounts:\n",
        interval.unwrap_or(30),
        timeout.unwrap_or(5),
    );
    let accounts = root.value("accounts").and_then(Value::as_array);
    if accounts.is_none_or(Vec::is_empty) {
        said.wrong("accounts: needs at least one account");
    }
    let (mut ids, mut ports) = (HashSet::new(), HashSet::new());
    for (n, account) in accounts.into_iter().flatten().enumerate() {
        let fields = Fields::of(Some(account), &format!("accounts[{n}]"), said);
        if let Some(id) = fields.text("id", said)
            && !ids.insert(id)
        {
            said.wrong(format!("{}: {id:?} exists already", fields.path("id")));
        }
        if let Some(port) = fields.value("port").and_then(Value::as_u64)
            && !ports.insert(port)
        {
            said.wrong(format!("{}: {port} is taken already", fields.path("port")));
        }
        text += &account_of(&fields, said);
    }
    text
}

fn account_of(fields: &Fields<'_>, said: &mut Said) -> String {
    let id = fields.text("id", said).unwrap_or_default();
    if !is_account_id(id) {
        let path = fields.path("id");
        said.wrong(format!(
            "{path}: needs 1 to 64 of the characters A-Z a-z 0-9 . _ @ + -"
        ));
    }
    let auth_file = fields.text("auth_file", said).unwrap_or_default();
    if auth_file.is_empty() {
        said.wrong(format!("{}: is missing", fields.path("auth_file")));
    }
    let port = fields.number("port", (1, 65_535), said);
    if fields.value("port").is_none() {
        said.wrong(format!("{}: is missing", fields.path("port")));
    }
    let weight = fields.number("weight", (0, 1000), said).unwrap_or(1);
    let enabled = fields.flag("enabled", said).unwrap_or(true);
    let most = fields
        .number("max_concurrent", (0, 1_000_000), said)
        .unwrap_or(3);
    fields.say_rest(said);
    format!(
        "      - id: {}\n        dialects: [openai]\n        weight: {weight}\n        enabled: {enabled}\n        \
         max_concurrent: {most}\n        instance:\n          command: {COMMAND}\n          port: {}\n          \
         auth_file: {}\n",
        quoted(id),
        port.unwrap_or_default(),
        quoted(auth_file),
    )
}
