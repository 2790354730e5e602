//! Reads what poolgate keeps and sends beside its requests: `instances`, `state`, `egress`,
//! `notify`, `log`, `server`.

use std::time::Duration;

use super::form::{
    AUTHORITY, Checked, Flag, Form, NONEMPTY, Number, PathIn, REAL_SPAN, SOME, SPAN, Size, Text,
    Words,
};
use super::model::{
    Egress, Instances, Keep, Level, Log, LogFormat, NoticeFormat, Notify, Redis, Restart, Rotate,
    SecretSource, Server, State,
};
use super::read::Section;
use super::shown::Shown;
use crate::net::Tunnels;
use crate::secret::Secret;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn instances(s: &mut Section<'_, '_>) -> Instances {
    let secs = Duration::from_secs;
    Instances {
        ports: s.get("ports", Ports, (9222, 9421)),
        start_delay: s.get("start_delay", SPAN, secs(2)),
        ready_timeout: s.get("ready_timeout", REAL_SPAN, secs(60)),
        stop_timeout: s.get("stop_timeout", SPAN, secs(5)),
        restart: s.section("restart", |s| Restart {
            enabled: s.get("enabled", Flag, true),
            backoff: s.get("backoff", REAL_SPAN, secs(1)),
            backoff_max: s.get("backoff_max", REAL_SPAN, secs(60)),
            give_up_after: s.get("give_up_after", SOME, 10),
        }),
        pass_env: s.list(
            "pass_env",
            NONEMPTY,
            ["PATH", "HOME", "LANG"].map(String::from).into(),
        ),
        log: s.section("log", |s| rotate(s, 2)),
    }
}

fn rotate(s: &mut Section<'_, '_>, keep: u32) -> Rotate {
    Rotate {
        size: s.get("size", Size(4096), 10 * MIB),
        keep: s.get("keep", Number(0, 1000), keep),
    }
}

/// Of the address of a Unix socket, in bytes (unix(7)).
const SOCKET_PATH: usize = 107;
/// What the socket's name adds to `dir`: `/control/NNNNNNN.poolgate.sock`.
const SOCKET_NAME: usize = 30;

pub(super) fn state(s: &mut Section<'_, '_>) -> State {
    let folder = s.folder();
    let usual = folder.0.join("data");
    let dir = s.get("dir", folder, usual);
    let longest = SOCKET_PATH - SOCKET_NAME;
    if dir.as_os_str().len() > longest {
        s.warn(
            "dir",
            format!(
                "`reload`, `upgrade` and `stop` need a path of at most {longest} bytes, for a socket in it"
            ),
        );
    }
    // Unlike other paths, this one starts at `dir`: the file is made there.
    let key = s.secret("key", PathIn(dir.clone()));
    let key = key.unwrap_or_else(|| SecretSource::File(dir.join("state.key")));
    s.show("key", Shown::secret(&key));
    State {
        dir,
        key,
        redis: redis(s),
        postgres: s.secret_url("postgres", &["postgres", "postgresql"]),
        keep: s.section("keep", |s| Keep {
            requests: s.get("requests", REAL_SPAN, 7 * DAY),
            usage: s.get("usage", REAL_SPAN, 400 * DAY),
            audit: s.get("audit", REAL_SPAN, 400 * DAY),
        }),
    }
}

/// The URL alone, or a section that holds it.
fn redis(s: &mut Section<'_, '_>) -> Option<Redis> {
    const SCHEMES: [&str; 2] = ["redis", "rediss"];
    const PREFIX: &str = "poolgate:";
    const WITHIN: Duration = Duration::from_millis(50);
    // A gateway that has said nothing for seconds counts as dead.
    const LONGEST: Duration = Duration::from_secs(1);
    if s.is_mapping("redis") {
        return s.section("redis", |s| {
            let url = s.secret_url("url", &SCHEMES);
            let folder = s.folder();
            let ca = s.maybe("ca", folder);
            let key_prefix = s.get("key_prefix", Text, PREFIX.to_owned());
            let answer_within = s.get("answer_within", REAL_SPAN, WITHIN);
            if answer_within > LONGEST {
                s.problem("answer_within", "must be at most 1s");
            }
            Some(Redis {
                url: url?,
                ca,
                key_prefix,
                answer_within,
            })
        });
    }
    let url = s.secret_url("redis", &SCHEMES)?;
    Some(Redis {
        url,
        ca: None,
        key_prefix: PREFIX.to_owned(),
        answer_within: WITHIN,
    })
}

pub(super) fn egress(s: &mut Section<'_, '_>) -> Egress {
    let proxy = s.secret_url("proxy", &["http", "https"]);
    if Tunnels::new(proxy.as_ref(), &[]).is_err() {
        s.problem(
            "proxy",
            "must be the URL of a proxy, as http://user:password@host:port",
        );
    }
    Egress {
        proxy,
        no_proxy: s.list("no_proxy", NO_PROXY, Vec::new()),
    }
}

/// A host name, `.example.com`, an address or a range.
const NO_PROXY: Checked = Checked(|text| match text {
    "*" => Ok(text.to_owned()),
    _ if text.contains('/') => super::form::Network.read(text).map(|_| text.to_owned()),
    _ => AUTHORITY.read(text),
});

/// What can be told to a webhook; the last one only to those that ask for it.
const EVENTS: [&str; 6] = [
    "account_down",
    "account_up",
    "breaker_open",
    "needs_login",
    "instance_gave_up",
    "token_expiring",
];

const NOTICES: Words<NoticeFormat> = Words(&[
    ("json", NoticeFormat::Json),
    ("slack", NoticeFormat::Slack),
    ("feishu", NoticeFormat::Feishu),
    ("dingtalk", NoticeFormat::Dingtalk),
]);

pub(super) fn notify(s: &mut Section<'_, '_>) -> Vec<Notify> {
    s.sections("notify", 0, |s| {
        let folder = s.folder();
        let usual = EVENTS[..5].iter().map(ToString::to_string).collect();
        s.expect_written("webhook");
        Notify {
            webhook: s
                .secret_url("webhook", &["https", "http"])
                .unwrap_or_else(|| Secret::new("")),
            secret: s.secret("secret", folder),
            format: s.get("format", NOTICES, NoticeFormat::Json),
            allow_private: s.get("allow_private", Flag, false),
            events: s.list("events", EVENT, usual),
        }
    })
}

const EVENT: Checked = Checked(|text| {
    if EVENTS.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = super::problem::did_you_mean(text, EVENTS);
    Err(format!("must be one of {}{hint}", EVENTS.join(", ")))
});

pub(super) fn log(s: &mut Section<'_, '_>) -> Log {
    let levels = Words(&[
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
    ]);
    let formats = Words(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let folder = s.folder();
    Log {
        level: s.get("level", levels, Level::Info),
        format: s.get("format", formats, LogFormat::Text),
        file: s.maybe("file", folder),
        rotate: s.section("rotate", |s| rotate(s, 5)),
        access: s.get("access", Flag, true),
    }
}

pub(super) fn server(s: &mut Section<'_, '_>) -> Server {
    let header_text = Checked(|text| match super::form::is_header_value(text) {
        true => Ok(text.to_owned()),
        false => Err("must be plain text, since it becomes part of a header".to_owned()),
    });
    Server {
        threads: s.get("threads", Number(0, 1024), 0),
        user_agent_suffix: s.get("user_agent_suffix", header_text, String::new()),
        drain_delay: s.get("drain_delay", SPAN, Duration::ZERO),
        drain_timeout: s.get("drain_timeout", SPAN, Duration::from_secs(600)),
        legacy_metrics: s.get("legacy_metrics", Flag, false),
    }
}

/// `FIRST-LAST`.
struct Ports;

impl Form for Ports {
    type Value = (u16, u16);

    fn read(&self, text: &str) -> Result<(u16, u16), String> {
        let ports = text.split_once('-').and_then(|(first, last)| {
            Some((
                first.trim().parse::<u16>().ok()?,
                last.trim().parse::<u16>().ok()?,
            ))
        });
        match ports {
            Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
            _ => Err("must be a range of ports, such as 9222-9421".to_owned()),
        }
    }

    fn show(&self, (first, last): &(u16, u16)) -> Shown {
        Shown::text(format!("{first}-{last}"))
    }
}
