//! The validated configuration: what the rest of the program uses.
//!
//! Field names and nesting are those of `conf/poolgate.yaml`; every value here is already checked,
//! every path absolute, every `${NAME}` replaced. Only [`super::load`] makes one of these.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::dialect::Dialect;
use crate::secret::Secret;

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
}

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A secret as written: in the file itself (or from `${NAME}`), or in a file of its own.
#[derive(Clone)]
pub enum SecretSource {
    Value(Secret),
    File(PathBuf),
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
#[derive(Clone, Debug)]
pub struct Limit {
    /// Pattern of model names; `*` for an account's limits.
    pub models: String,
    pub unit: LimitUnit,
    pub amount: f64,
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    Requests,
    Tokens,
    Cost,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub path: Option<String>,
    pub model: Option<String>,
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
pub struct Pool {
    pub name: String,
    pub strategy: Strategy,
    pub hash_on: CallerId,
    pub affinity: Affinity,
    /// 0 = no limit.
    pub max_concurrent: u32,
    pub retry: Retry,
    pub queue: Queue,
    pub breaker: Breaker,
    pub timeouts: Timeouts,
    pub usage: Usage,
    pub forward_client_ip: bool,
    pub health_check: Option<HealthCheck>,
    pub discover: Option<Discover>,
    pub accounts: Vec<Account>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    RoundRobin,
    Weighted,
    LeastConnections,
    LeastUsed,
    ResponseTime,
    Hash,
    Random,
}

/// What tells one caller from another, for `hash_on` and `affinity.on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerId {
    ApiKey,
    Session,
    /// Lower case.
    Header(String),
    /// A JSON pointer into the request body (RFC 6901).
    Json(String),
}

#[derive(Clone, Debug)]
pub struct Affinity {
    pub on: CallerId,
    /// Counted from the last use; zero = off.
    pub lifetime: Duration,
    pub max_entries: usize,
}

#[derive(Clone, Debug)]
pub struct Retry {
    pub attempts: u32,
    /// Share of requests, 0.0 to 1.0.
    pub budget: f64,
    pub after_sent: bool,
    pub max_body: usize,
}

#[derive(Clone, Debug)]
pub struct Queue {
    pub max_waiting: usize,
    pub timeout: Duration,
    pub wait_for_recovery: bool,
}

#[derive(Clone, Debug)]
pub struct Breaker {
    pub enabled: bool,
    pub consecutive_failures: u32,
    pub open_for: Duration,
    pub open_for_max: Duration,
    pub half_open_requests: u32,
    pub slow_start: Duration,
}

#[derive(Clone, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub read_stream: Duration,
    pub pooled_idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Observe,
    Ask,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub method: String,
    pub path: String,
    pub expect: u16,
    pub with_credential: bool,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_after: u32,
    pub healthy_after: u32,
}

#[derive(Clone)]
pub struct Discover {
    pub dir: PathBuf,
    pub glob: String,
    pub id: String,
    pub account: Box<Account>,
}

#[derive(Clone)]
pub struct Account {
    pub id: String,
    pub upstream: Upstream,
    /// Never empty: what was written, or what was inferred.
    pub dialects: Vec<Dialect>,
    pub credential: Credential,
    /// Lower-case names.
    pub headers: Vec<(String, SecretSource)>,
    pub weight: u32,
    pub priority: i32,
    /// 0 = no limit.
    pub max_concurrent: u32,
    pub enabled: bool,
    pub models: Models,
    pub health_check: Option<HealthCheck>,
    /// Empty = none.
    pub limit_group: String,
    pub rate_limits: Vec<Limit>,
    pub tls: UpstreamTls,
    pub instance: Option<Instance>,
}

/// Where an account's requests go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    pub tls: bool,
    pub host: Host,
    /// Path prefix without a slash at its end; empty = none.
    pub prefix: String,
    /// The prefix holds a version (`/v1`, `/v1beta/openai`) and so replaces the request's.
    pub prefix_has_version: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Name or address literal (without brackets), and port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Which models an account serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Models {
    /// Patterns; `*` stands for any run of characters.
    List(Vec<String>),
    /// Name asked -> name at this upstream.
    Map(BTreeMap<String, String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    pub server_name: Option<String>,
    pub ca: Option<PathBuf>,
    pub client: Option<TlsFiles>,
}

/// What proves us to the upstream. Exactly one kind per account.
#[derive(Clone)]
pub enum Credential {
    None,
    ApiKey(SecretSource),
    Bearer(SecretSource),
    Header {
        name: String,
        value: SecretSource,
    },
    Query {
        name: String,
        value: SecretSource,
    },
    OAuth2(OAuth2),
    AwsSsoOidc(AwsSsoOidc),
    GoogleServiceAccount {
        file: PathBuf,
        scope: String,
    },
    JsonFile {
        path: PathBuf,
        token: String,
        expires: Option<String>,
    },
}

#[derive(Clone)]
pub struct OAuth2 {
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Option<SecretSource>,
    /// Absent: the client_credentials grant.
    pub refresh_token: Option<SecretSource>,
    pub scope: String,
    pub auth: ClientAuth,
    pub format: TokenFormat,
    pub refresh_before: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Basic,
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFormat {
    Form,
    Json,
}

#[derive(Clone)]
pub struct AwsSsoOidc {
    pub region: String,
    pub token_url: Option<String>,
    pub client_id: String,
    pub client_secret: SecretSource,
    pub refresh_token: SecretSource,
    pub refresh_before: Duration,
}

#[derive(Clone)]
pub struct Instance {
    pub command: Vec<String>,
    /// None = `auto`.
    pub port: Option<u16>,
    pub auth_file: Option<PathBuf>,
    pub env: BTreeMap<String, SecretSource>,
    pub working_dir: PathBuf,
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
    pub key: Option<SecretSource>,
    pub redis: Option<Redis>,
    pub postgres: Option<Secret>,
    pub keep: Keep,
}

#[derive(Clone)]
pub struct Redis {
    pub url: Secret,
    pub ca: Option<PathBuf>,
    pub key_prefix: String,
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

#[derive(Clone)]
pub struct Notify {
    pub webhook: Secret,
    pub secret: Option<SecretSource>,
    pub format: String,
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
