//! Reads `pools`: how accounts of a pool are chosen, retried, queued for and judged.

use std::path::PathBuf;
use std::time::Duration;

use super::account::account;
use super::clients::PATH;
use super::document::Kind;
use super::form::{
    COUNT, Caller, Checked, Flag, MANY, NONEMPTY, Number, Percent, REAL_SPAN, SOME, SPAN, Size,
    Words,
};
use super::model::{
    Affinity, Breaker, CallerId, Discover, HealthCheck, Pool, Queue, Retry, Strategy, Timeouts,
    Usage,
};
use super::read::Section;

const STRATEGIES: Words<Strategy> = Words(&[
    ("round_robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("least_connections", Strategy::LeastConnections),
    ("least_used", Strategy::LeastUsed),
    ("response_time", Strategy::ResponseTime),
    ("hash", Strategy::Hash),
    ("random", Strategy::Random),
    // What the older systems call them.
    ("roundrobin", Strategy::RoundRobin),
    ("round-robin", Strategy::RoundRobin),
    ("weighted_round_robin", Strategy::Weighted),
    ("least-connections", Strategy::LeastConnections),
    ("least-used", Strategy::LeastUsed),
    ("response-time", Strategy::ResponseTime),
]);

impl Strategy {
    /// The strategy of this name, in any spelling that the file takes.
    pub fn named(name: &str) -> Option<Strategy> {
        let found = STRATEGIES.0.iter().find(|(word, _)| *word == name);
        found.map(|(_, strategy)| *strategy)
    }

    /// Its first name in the file.
    pub fn name(self) -> &'static str {
        let found = STRATEGIES.0.iter().find(|(_, other)| *other == self);
        found.map_or("", |(word, _)| *word)
    }
}

pub(super) fn pools(s: &mut Section<'_, '_>) -> Vec<Pool> {
    // An empty list is a slip; whoever adds accounts by the API says so.
    let mut is_some = false;
    let pools = s.named("pools", Kind::Pool, |name, s| {
        let by_api = s.says("accounts", "none");
        let pool = pool(name, by_api, s);
        is_some |= by_api || !pool.accounts.is_empty() || pool.discover.is_some();
        pool
    });
    if !is_some {
        s.problem("pools", "needs at least one pool with an account");
    }
    pools.into_iter().map(|(_, pool)| pool).collect()
}

/// `by_api`: the file names no account of it.
fn pool(name: &str, by_api: bool, s: &mut Section<'_, '_>) -> Pool {
    let usage = Words(&[("observe", Usage::Observe), ("ask", Usage::Ask)]);
    let mut pool = Pool {
        name: name.to_owned(),
        strategy: s.get("strategy", STRATEGIES, Strategy::Weighted),
        hash_on: s.get("hash_on", Caller, CallerId::ApiKey),
        affinity: s.section("affinity", affinity),
        max_concurrent: s.get("max_concurrent", COUNT, 0),
        retry: s.section("retry", retry),
        queue: s.section("queue", queue),
        breaker: s.section("breaker", breaker),
        timeouts: s.section("timeouts", timeouts),
        usage: s.get("usage", usage, Usage::Observe),
        forward_client_ip: s.get("forward_client_ip", Flag, false),
        health_check: s
            .word_or("health_check", "none", no_check, |s| Some(health_check(s)))
            .flatten(),
        discover: None,
        accounts: Vec::new(),
    };
    let inherited = pool.health_check.as_ref();
    pool.discover = s.optional("discover", |s| discover(s, inherited));
    if !by_api {
        pool.accounts = s.sections("accounts", 0, |s| account(s, inherited, false));
    }
    pool
}

fn no_check(word: &str) -> Result<Option<HealthCheck>, String> {
    match word {
        "none" => Ok(None),
        _ => Err("must be none or a mapping, such as {path: /health}".to_owned()),
    }
}

fn affinity(s: &mut Section<'_, '_>) -> Affinity {
    Affinity {
        on: s.get("on", Caller, CallerId::Session),
        lifetime: s.get("for", SPAN, Duration::from_secs(300)),
        max_entries: s.get("max_entries", Number(1, 100_000_000), 100_000),
    }
}

fn retry(s: &mut Section<'_, '_>) -> Retry {
    Retry {
        attempts: s.get("attempts", Number(1, 100), 3),
        budget: s.get("budget", Percent, 0.2),
        after_sent: s.get("after_sent", Flag, true),
        max_body: s.get("max_body", Size(0), 16 << 20) as usize,
        deadline: s.get("deadline", SPAN, Duration::from_secs(600)),
    }
}

fn queue(s: &mut Section<'_, '_>) -> Queue {
    Queue {
        max_waiting: s.get("max_waiting", MANY, 1000),
        timeout: s.get("timeout", SPAN, Duration::from_secs(30)),
        wait_for_recovery: s.get("wait_for_recovery", Flag, true),
    }
}

fn breaker(s: &mut Section<'_, '_>) -> Breaker {
    let breaker = Breaker {
        enabled: s.get("enabled", Flag, true),
        consecutive_failures: s.get("consecutive_failures", SOME, 5),
        open_for: s.get("open_for", REAL_SPAN, Duration::from_secs(30)),
        open_for_max: s.get("open_for_max", REAL_SPAN, Duration::from_secs(300)),
        half_open_requests: s.get("half_open_requests", SOME, 1),
        slow_start: s.get("slow_start", SPAN, Duration::from_secs(30)),
    };
    if breaker.open_for > breaker.open_for_max {
        let key = if s.has("open_for_max") {
            "open_for_max"
        } else {
            "open_for"
        };
        s.problem(key, "`open_for_max` must not be shorter than `open_for`");
    }
    breaker
}

fn timeouts(s: &mut Section<'_, '_>) -> Timeouts {
    Timeouts {
        connect: s.get("connect", REAL_SPAN, Duration::from_secs(5)),
        read: s.get("read", REAL_SPAN, Duration::from_secs(600)),
        read_stream: s.get("read_stream", REAL_SPAN, Duration::from_secs(180)),
        pooled_idle: s.get("pooled_idle", SPAN, Duration::from_secs(60)),
    }
}

/// Reads a probe, of a pool or of an account.
pub(super) fn health_check(s: &mut Section<'_, '_>) -> HealthCheck {
    HealthCheck {
        method: s.get("method", METHOD, "GET".to_owned()),
        path: s.get("path", PATH, "/health".to_owned()),
        expect: s.get("expect", Number(100, 599), 200),
        with_credential: s.get("with_credential", Flag, false),
        interval: s.get("interval", REAL_SPAN, Duration::from_secs(30)),
        timeout: s.get("timeout", REAL_SPAN, Duration::from_secs(5)),
        unhealthy_after: s.get("unhealthy_after", SOME, 1),
        healthy_after: s.get("healthy_after", SOME, 1),
    }
}

const METHOD: Checked = Checked(|text| match http::Method::from_bytes(text.as_bytes()) {
    Ok(method) if method.as_str().chars().all(|c| c.is_ascii_uppercase()) => Ok(method.to_string()),
    _ => Err("must be a method, such as GET or HEAD".to_owned()),
});

fn discover(s: &mut Section<'_, '_>, inherited: Option<&HealthCheck>) -> Discover {
    let folder = s.folder();
    let dir = s.require("dir", folder, PathBuf::new());
    let glob = s.get("glob", NONEMPTY, "*.json".to_owned());
    let id = s.get("id", TEMPLATE, "instance_{n}".to_owned());
    let account = s.section("account", |s| account(s, inherited, true));
    Discover {
        dir,
        glob,
        id,
        account: Box::new(account),
    }
}

const TEMPLATE: Checked = Checked(|text| {
    if text.contains("{n}") || text.contains("{stem}") {
        return Ok(text.to_owned());
    }
    Err("must hold {n} or {stem}, or all accounts would have one id".to_owned())
});
