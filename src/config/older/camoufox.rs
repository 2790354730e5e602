//! The launcher of many browsers (`--multi`): one program for each file of `auth_profiles/active`.

use std::fmt::Write as _;

use super::variables::{admin, host, number, seconds};
use super::{Mistakes, Said, Taken, head, quoted};
use crate::config::Variables;

/// How the programs show their browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Headless,
    Debug,
    VirtualDisplay,
}

impl Screen {
    fn option(self) -> &'static str {
        match self {
            Screen::Headless => "--headless",
            Screen::Debug => "--debug",
            Screen::VirtualDisplay => "--virtual-display",
        }
    }
}

/// `dir`: the folder of auth files, as the configuration is to name it; else what
/// MULTI_INSTANCE_AUTH_DIR says.
///
/// # Errors
/// Every variable that is wrong.
pub fn camoufox(dir: Option<&str>, screen: Screen, env: Variables<'_>) -> Result<Taken, Mistakes> {
    let said = &mut Said::default();
    let address = host(env, 2048, said);
    let named = env("MULTI_INSTANCE_AUTH_DIR").filter(|dir| !dir.is_empty());
    let dir = dir.map(str::to_owned).or(named);
    let dir = dir.unwrap_or_else(|| "auth_profiles/active".to_owned());
    let first = number(env, "MULTI_INSTANCE_START_PORT", 9222, (1024, 65_000), said);
    let delay = number(env, "MULTI_INSTANCE_START_DELAY", 2, (0, 3600), said);
    let ready = seconds(env, "MULTI_INSTANCE_ENDPOINT_TIMEOUT", 45, said);
    let interval = seconds(env, "HEALTH_CHECK_INTERVAL", 30, said);
    let mut text = head("the launcher with --multi");
    let _ = writeln!(
        text,
        "listen:\n  - address: {}\n{}instances:\n  ports: {first}-{}\n  start_delay: {delay}s\n  ready_timeout: {ready}s\n{}\n\
         pools:\n  default:\n    strategy: least_used           # of those that are ready\n    \
         health_check: {{path: /health, interval: {interval}s, timeout: 5s}}",
        quoted(&address.to_string()),
        admin(env, said),
        first + 199,
        super::variables::state(env),
    );
    let _ = writeln!(
        text,
        "    discover:\n      dir: {}\n      glob: \"*.json\"\n      id: \"instance_{{n}}\"\n      account:\n        dialects: [openai]\n        \
         max_concurrent: 1\n        instance:\n          command: [python3, launch_camoufox.py, {}, --active-auth-json, \
         \"{{auth_file}}\", --server-port, \"{{port}}\", --stream-port, \"0\"]",
        quoted(&dir),
        screen.option(),
    );
    if env("CAMOUFOX_WS_ENDPOINT").is_some_and(|url| !url.is_empty()) {
        said.note("CAMOUFOX_WS_ENDPOINT is not used: each program has a browser of its own");
    }
    said.note("GET /v1/instances needs an admin token: it is made in state.dir at the first start");
    said.note(
        "a port that somebody holds is left alone and the next one taken; nobody is killed for it",
    );
    std::mem::take(said).done(text)
}
