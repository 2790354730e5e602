//! Reads `clients`, `tiers`, `routes` and `prices`: who may ask, for what, and where it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use wildmatch::WildMatch;

use super::document::Kind;
use super::form::{
    Amount, COUNT, Checked, Flag, Form, ID, MANY, NONEMPTY, Number, RANK, REAL_SPAN, SPAN, Size,
    Text, Words,
};
use super::model::{
    Assignment, Clients, FixedKey, Limit, LimitUnit, Listen, Open, Paths, Price, Route, Tier,
};
use super::read::Section;

const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;

/// Pingora takes a head of at most 1 MiB (`MAX_HEADER_SIZE`), counting what was read along with it.
const LONGEST_HEAD: usize = 512 << 10;

pub(super) fn clients(s: &mut Section<'_, '_>, listeners: &[Listen]) -> Clients {
    let open = Words(&[
        ("auto", Open::Auto),
        ("true", Open::Always),
        ("false", Open::Never),
    ]);
    let paths = Words(&[("inference", Paths::Inference), ("any", Paths::Any)]);
    let secs = Duration::from_secs;
    let folder = s.folder();
    let clients = Clients {
        open: s.get("open", open, Open::Auto),
        keys_file: s.maybe("keys_file", folder),
        keys: s.sections("keys", 0, fixed_key),
        key_prefix: s.get("key_prefix", KEY_PREFIX, "sk-pg-".to_owned()),
        pass_rate_limit_headers: s.get("pass_rate_limit_headers", Flag, false),
        paths: s.get("paths", paths, Paths::Inference),
        max_connections: s.get("max_connections", MANY, 0),
        max_concurrent_per_key: s.get("max_concurrent_per_key", COUNT, 0),
        max_header: s.get("max_header", Size(KIB), 32 * KIB) as usize,
        max_body: s.get("max_body", Size(KIB), 32 * KIB * KIB) as usize,
        buffer_budget: s.get("buffer_budget", Size(KIB), KIB * KIB * KIB) as usize,
        header_timeout: s.get("header_timeout", REAL_SPAN, secs(15)),
        body_timeout: s.get("body_timeout", REAL_SPAN, secs(60)),
        write_timeout: s.get("write_timeout", REAL_SPAN, secs(120)),
        keepalive: s.get("keepalive", SPAN, secs(60)),
    };
    let beyond_loopback = listeners
        .iter()
        .any(|listener| !listener.address.ip().is_loopback());
    if clients.max_header > LONGEST_HEAD {
        s.problem("max_header", "must be at most 512KiB");
    }
    if clients.open == Open::Always && beyond_loopback {
        s.warn(
            "open",
            "everybody who reaches `listen` may use the accounts: no key is asked",
        );
    }
    clients
}

fn fixed_key(s: &mut Section<'_, '_>) -> FixedKey {
    let name = s.require("name", ID, String::new());
    s.define("name", Kind::Key, &name);
    let key = s.require_secret("key");
    let tier = s.get("tier", ID, DEFAULT_TIER.to_owned());
    s.refer("tier", Kind::Tier, &tier);
    let account = s.maybe("account", ID);
    if let Some(account) = &account {
        s.refer("account", Kind::Account, account);
    }
    FixedKey {
        name,
        key,
        tier,
        account,
        expose_account: s.get("expose_account", Flag, false),
    }
}

/// The beginning of issued keys: it must survive in a header and in a URL.
const KEY_PREFIX: Checked = Checked(|text| {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match text.len() {
        0..=32 if text.chars().all(safe) => Ok(text.to_owned()),
        _ => Err("must be at most 32 of the characters A-Z a-z 0-9 - _".to_owned()),
    }
});

/// The tier that exists without being written: every pool, every model.
const DEFAULT_TIER: &str = "default";

pub(super) fn tiers(s: &mut Section<'_, '_>) -> BTreeMap<String, Tier> {
    let mut tiers: BTreeMap<String, Tier> = s
        .named("tiers", Kind::Tier, |_, s| tier(s))
        .into_iter()
        .collect();
    if !tiers.contains_key(DEFAULT_TIER) {
        let tier = s.imply(Kind::Tier, DEFAULT_TIER, tier);
        tiers.insert(DEFAULT_TIER.to_owned(), tier);
    }
    tiers
}

fn tier(s: &mut Section<'_, '_>) -> Tier {
    let assignments = Words(&[
        ("any", Assignment::Any),
        ("slots", Assignment::Slots),
        ("bound", Assignment::Bound),
    ]);
    let pools = s.list("pools", ID, Vec::new());
    s.refer_all("pools", Kind::Pool);
    Tier {
        pools,
        models: s.list("models", NONEMPTY, vec!["*".to_owned()]),
        assignment: s.get("assignment", assignments, Assignment::Any),
        slots_per_account: s.get("slots_per_account", Number(1, 1_000_000), 2),
        rotate_every: s.get("rotate_every", REAL_SPAN, DAY),
        idle_release: s.get("idle_release", REAL_SPAN, DAY),
        legacy_redis_names: s.get("legacy_redis_names", Flag, false),
        priority: s.get("priority", RANK, 0),
        max_concurrent: s.get("max_concurrent", COUNT, 0),
        key_days: s.get("key_days", Number(0, 36_500), 0),
        limits: s.sections("limits", 0, |s| limit(s, true)),
    }
}

/// One limit; those of tiers may be of some models only, and of cost.
pub(super) fn limit(s: &mut Section<'_, '_>, of_tier: bool) -> Limit {
    let models = if of_tier {
        s.get("models", NONEMPTY, "*".to_owned())
    } else {
        "*".to_owned()
    };
    let requests = s
        .maybe("requests", Amount)
        .map(|amount| (LimitUnit::Requests, amount));
    let tokens = s
        .maybe("tokens", Amount)
        .map(|amount| (LimitUnit::Tokens, amount));
    let cost = if of_tier {
        s.maybe("cost", Amount)
    } else {
        None
    };
    let cost = cost.map(|amount| (LimitUnit::Cost, amount));
    let amounts = [s.has("requests"), s.has("tokens"), of_tier && s.has("cost")];
    if s.is_written() && amounts.iter().filter(|written| **written).count() != 1 {
        let units = if of_tier {
            "requests, tokens or cost"
        } else {
            "requests or tokens"
        };
        s.problem_here(format!("a limit counts exactly one of {units}"));
    }
    let window = s.require("window", REAL_SPAN, DAY);
    let (unit, amount) = requests
        .or(tokens)
        .or(cost)
        .unwrap_or((LimitUnit::Requests, 0.0));
    Limit {
        models,
        unit,
        amount,
        window,
    }
}

pub(super) fn routes(s: &mut Section<'_, '_>) -> Vec<Route> {
    s.sections("routes", 0, |s| {
        let path = s.maybe("path", PATH);
        let model = s.maybe("model", NONEMPTY);
        if s.is_written() && !s.has("path") && !s.has("model") {
            s.problem_here("a route needs a `path` or a `model` to match");
        }
        let rename = s.maybe("as", NONEMPTY);
        let pool = s.require("pool", ID, String::new());
        s.refer("pool", Kind::Pool, &pool);
        let fallback = s.maybe("fallback", ID);
        if let Some(fallback) = &fallback {
            s.refer("fallback", Kind::Pool, fallback);
        }
        let pattern = |text: String| WildMatch::new(&text);
        Route {
            path: path.map(pattern),
            model: model.map(pattern),
            rename,
            pool,
            fallback,
        }
    })
}

/// A path of a request, or a pattern of paths.
pub(super) const PATH: Checked = Checked(|text| match text {
    _ if text.starts_with('/') && Text.read(text)?.is_ascii() => Ok(text.to_owned()),
    _ => Err("must be a path, such as /v1/embeddings".to_owned()),
});

pub(super) fn prices(s: &mut Section<'_, '_>) -> Vec<Price> {
    s.sections("prices", 0, |s| {
        let models = s.require("models", NONEMPTY, "*".to_owned());
        let input = s.require("input", Amount, 0.0);
        // Without a price of their own, cached tokens cost what others cost.
        let cached = s.get("cached", Amount, input);
        Price {
            models,
            input,
            cached,
            output: s.require("output", Amount, 0.0),
        }
    })
}
