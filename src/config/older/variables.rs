//! Variables as the older systems read them, and which system they are of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Mistakes, Said, Screen, Taken, amazonq, camoufox, compose};
use crate::config::Variables;

/// The configuration that the variables of one of the older systems ask for.
///
/// # Errors
/// Variables of no system or of two, and every one that is missing or wrong.
pub fn from_variables(env: Variables<'_>) -> Result<Taken, Mistakes> {
    let set = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    let amazon = set("AMAZONQ_ACCOUNT_COUNT") || set("AMAZONQ_REFRESH_TOKEN");
    let workers = set("WORKERS");
    let said = &mut Said::default();
    let older = flag(env, "ENABLE_MULTI_INSTANCE", false, said);
    let instances = flag(env, "MULTI_INSTANCE_MODE", older, said);
    if !said.mistakes.is_empty() {
        return Err(std::mem::take(&mut said.mistakes));
    }
    match (amazon, workers, instances) {
        (true, false, false) => amazonq(env, None),
        (false, true, false) => compose(env),
        (false, false, true) => camoufox(None, Screen::Headless, env),
        (false, false, false) => Err(vec![
            "none of the older systems' variables is set: AMAZONQ_ACCOUNT_COUNT or AMAZONQ_REFRESH_TOKEN, \
             WORKERS, MULTI_INSTANCE_MODE=true"
                .to_owned(),
        ]),
        _ => Err(vec![
            "variables of several older systems are set (AMAZONQ_…, WORKERS, MULTI_INSTANCE_MODE): run a gateway \
             for each, or import them one by one"
                .to_owned(),
        ]),
    }
}

/// `true` and `false`, as the older systems wrote them.
pub(super) fn flag(env: Variables<'_>, name: &str, default: bool, said: &mut Said) -> bool {
    let Some(word) = env(name).filter(|word| !word.trim().is_empty()) else {
        return default;
    };
    match word.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => true,
        "false" | "0" | "no" | "off" => false,
        _ => {
            said.wrong(format!("{name}: expected true or false"));
            default
        }
    }
}

/// A whole number within these bounds.
pub(super) fn number(
    env: Variables<'_>,
    name: &str,
    default: u64,
    (least, most): (u64, u64),
    said: &mut Said,
) -> u64 {
    let Some(word) = env(name).filter(|word| !word.trim().is_empty()) else {
        return default;
    };
    match word.trim().parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => number,
        _ => {
            said.wrong(format!(
                "{name}: expected a whole number of {least} to {most}"
            ));
            default
        }
    }
}

/// At least one, at most a day.
pub(super) fn seconds(env: Variables<'_>, name: &str, default: u64, said: &mut Said) -> u64 {
    number(env, name, default, (1, 86_400), said)
}

/// Where `HOST` and `PORT` say. The older systems listened on every address and asked nobody for a key;
/// here that is loopback, unless `HOST` says otherwise.
pub(super) fn host(env: Variables<'_>, port: u16, said: &mut Said) -> SocketAddr {
    let port = number(env, "PORT", port.into(), (1, 65_535), said) as u16;
    let host = env("HOST").filter(|host| !host.trim().is_empty());
    let ip = match host.as_deref() {
        None => {
            said.note(
                "it listens on this machine only; HOST=0.0.0.0 opens it to others, who need a key then \
                 (`poolgate keys create`)",
            );
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
        Some("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(host) => host.trim().parse().ok(),
    };
    if ip.is_none() {
        said.wrong("HOST: expected an address, such as 0.0.0.0");
    }
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
}

/// `admin`, where ADMIN_PORT asks for another port; the older systems had no port of its own for it.
pub(super) fn admin(env: Variables<'_>, said: &mut Said) -> String {
    match number(env, "ADMIN_PORT", 8081, (1, 65_535), said) {
        8081 => String::new(),
        port => format!("admin:\n  address: 127.0.0.1:{port}\n"),
    }
}

/// `state` with the servers that REDIS_URL and DATABASE_URL name.
pub(super) fn state(env: Variables<'_>) -> String {
    let set = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    let mut text = String::new();
    for (key, name) in [("redis", "REDIS_URL"), ("postgres", "DATABASE_URL")] {
        if set(name) {
            text += &format!("  {key}: \"${{{name}}}\"\n");
        }
    }
    match text.is_empty() {
        true => text,
        false => format!("state:\n{text}"),
    }
}
