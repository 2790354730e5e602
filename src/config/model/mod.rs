//! The validated configuration: what the rest of the program uses.
//!
//! Field names and nesting are those of `conf/poolgate.yaml`; every value here is already checked,
//! every path absolute, every `${NAME}` replaced. Only [`super::load`] makes one of these.

mod pool;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wildmatch::WildMatch;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::shown::Shown;
use crate::secret::Secret;

pub use pool::*;

/// The whole file.
#[derive(Clone)]
pub struct Config {
    pub listen: Vec<Listen>,
    pub admin: Admin,
    pub clients: Clients,
    pub tiers: BTreeMap<String, Tier>,
    pub routes: Vec<Route>,
    pub prices: Vec<Price>,
    /// In the order of the file.
    pub pools: Vec<Pool>,
    pub instances: Instances,
    pub state: State,
    pub egress: Egress,
    pub notify: Vec<Notify>,
    pub log: Log,
    pub server: Server,
    /// All of the above as it is written, defaults filled in and secrets masked: what
    /// `check --print` and `GET /api/v1/config` show.
    pub effective: Shown,
}

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A secret as written: in the file itself (or from `${NAME}`), or in a file of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    Value(Secret),
    File(PathBuf),
}

impl SecretSource {
    /// The file that holds it, if one does.
    pub fn file(&self) -> Option<&Path> {
        match self {
            SecretSource::File(path) => Some(path),
            SecretSource::Value(_) => None,
        }
    }
}

/// Certificate and key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub trusted_proxies: Vec<IpNet>,
    /// Accepted Host names, lower case; empty = any.
    pub hosts: Vec<String>,
}

#[derive(Clone)]
pub struct Admin {
    pub address: Address,
    pub token: Option<SecretSource>,
    pub tokens: Vec<AdminToken>,
    pub tls: Option<TlsFiles>,
    pub insecure: bool,
    pub hosts: Vec<String>,
    pub legacy_paths: bool,
}

impl Admin {
    /// Is a token of the role admin configured?
    pub fn names_admin(&self) -> bool {
        self.token.is_some() || self.tokens.iter().any(|other| other.role == Role::Admin)
    }
}

#[derive(Clone)]
pub struct AdminToken {
    pub name: String,
    pub token: SecretSource,
    pub role: Role,
}

/// What an admin token may do; each role may do what the lower ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Metrics,
    Viewer,
    Operator,
    Admin,
}

#[derive(Clone)]
pub struct Clients {
    pub open: Open,
    pub keys_file: Option<PathBuf>,
    pub keys: Vec<FixedKey>,
    pub key_prefix: String,
    pub pass_rate_limit_headers: bool,
    pub paths: Paths,
    /// 0 = (open-file limit - 512) / 2.
    pub max_connections: usize,
    /// 0 = no limit.
    pub max_concurrent_per_key: u32,
    pub max_header: usize,
    pub max_body: usize,
    pub buffer_budget: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub keepalive: Duration,
}

/// Whether clients need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// No key is asked while none exists and every `listen` is loopback.
    Auto,
    Always,
    /// No key is asked as long as there never was one: the older router's file, whose keys are beside it.
    UntilKeys,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    Inference,
    Any,
}

#[derive(Clone)]
pub struct FixedKey {
    pub name: String,
    pub key: SecretSource,
    pub tier: String,
    /// The account that alone serves it.
    pub account: Option<String>,
    pub expose_account: bool,
}

#[derive(Clone, Debug)]
pub struct Tier {
    pub pools: Vec<String>,
    pub models: Vec<String>,
    pub assignment: Assignment,
    pub slots_per_account: u32,
    pub rotate_every: Duration,
    pub idle_release: Duration,
    pub legacy_redis_names: bool,
    pub priority: i32,
    pub max_concurrent: u32,
    pub key_days: u32,
    pub limits: Vec<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    Any,
    Slots,
    Bound,
}

/// One limit: `amount` of `unit` in each sliding `window`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Pattern of model names; `*` for an account's limits.
    pub models: String,
    pub unit: LimitUnit,
    pub amount: f64,
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitUnit {
    Requests,
    Tokens,
    Cost,
}

#[derive(Clone, Debug)]
pub struct Route {
    /// Patterns; none = any.
    pub path: Option<WildMatch>,
    pub model: Option<WildMatch>,
    /// The value that replaces `model` in the request.
    pub rename: Option<String>,
    pub pool: String,
    pub fallback: Option<String>,
}

/// Per million tokens.
#[derive(Clone, Debug)]
pub struct Price {
    pub models: String,
    pub input: f64,
    pub cached: f64,
    pub output: f64,
}

#[derive(Clone)]
pub struct Instances {
    pub ports: (u16, u16),
    pub start_delay: Duration,
    pub ready_timeout: Duration,
    pub stop_timeout: Duration,
    pub restart: Restart,
    pub pass_env: Vec<String>,
    pub log: Rotate,
}

#[derive(Clone, Debug)]
pub struct Restart {
    pub enabled: bool,
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub give_up_after: u32,
}

/// Rotation of a log file by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    pub size: u64,
    pub keep: u32,
}

#[derive(Clone)]
pub struct State {
    pub dir: PathBuf,
    /// Encrypts what is kept; made at first start when its file is missing.
    pub key: SecretSource,
    pub redis: Option<Redis>,
    pub postgres: Option<Secret>,
    pub keep: Keep,
}

#[derive(Clone)]
pub struct Redis {
    pub url: Secret,
    pub ca: Option<PathBuf>,
    pub key_prefix: String,
    /// What takes longer is late: a request goes on without it.
    pub answer_within: Duration,
}

#[derive(Clone, Debug)]
pub struct Keep {
    pub requests: Duration,
    pub usage: Duration,
    pub audit: Duration,
}

#[derive(Clone)]
pub struct Egress {
    pub proxy: Option<Secret>,
    pub no_proxy: Vec<String>,
}

/// Who a webhook belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeFormat {
    /// Nobody in particular: our own JSON.
    Json,
    Slack,
    /// Feishu and Lark.
    Feishu,
    Dingtalk,
}

#[derive(Clone)]
pub struct Notify {
    pub webhook: Secret,
    pub secret: Option<SecretSource>,
    pub format: NoticeFormat,
    pub allow_private: bool,
    pub events: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
    pub file: Option<PathBuf>,
    pub rotate: Rotate,
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Server {
    /// 0 = one per core.
    pub threads: usize,
    pub user_agent_suffix: String,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub legacy_metrics: bool,
}
