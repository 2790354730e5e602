//! Pools and accounts, as the rest of the program uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Limit, SecretSource, TlsFiles};
use crate::dialect::Dialect;

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
    /// Counted from a request's head; zero = none.
    pub deadline: Duration,
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
    /// Its upstream takes WebSockets.
    pub websocket: bool,
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
    /// Name (lower case) or address literal (without brackets), and port. Port 0 is that of the
    /// account's instance, known once it runs.
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
#[derive(Clone, PartialEq, Eq)]
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

#[derive(Clone, PartialEq, Eq)]
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

#[derive(Clone, PartialEq, Eq)]
pub struct AwsSsoOidc {
    pub region: String,
    pub token_url: Option<String>,
    pub client_id: String,
    pub client_secret: SecretSource,
    pub refresh_token: SecretSource,
    pub refresh_before: Duration,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Instance {
    pub command: Vec<String>,
    /// None = `auto`.
    pub port: Option<u16>,
    pub auth_file: Option<PathBuf>,
    pub env: BTreeMap<String, SecretSource>,
    pub working_dir: PathBuf,
}

impl Instance {
    /// The base name of its auth file.
    pub fn auth_file_name(&self) -> Option<String> {
        let name = self.auth_file.as_ref()?.file_name()?;
        Some(name.to_string_lossy().into_owned())
    }
}
