//! Asks the running gateway over HTTP, with the administrator's token.

use std::cmp::Reverse;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::source::known;
use super::table::clean;
use crate::config::{Address, Config, Role, SecretError, SecretSource, TlsFiles, read_secret};
use crate::net::{ask_socket, pinned};
use crate::secret::Secret;

/// The gateway answers these questions from memory; one that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that asks an upstream on its way: a renewal may take 35 s, a probe as long as its timeout.
const UPSTREAMS: Duration = Duration::from_secs(90);
/// The longest answer, in bytes: a page of 1,000 accounts is about 1 MB.
const LONGEST: usize = 64 << 20;

/// The management API of the gateway that a configuration describes.
pub(super) struct Admin {
    server: Server,
    token: Option<Secret>,
    /// Where the token would be.
    token_file: Option<PathBuf>,
}

impl Admin {
    /// # Errors
    /// A token or a certificate that cannot be read.
    pub(super) fn of(config: &Config) -> anyhow::Result<Admin> {
        let source = token_source(config)?;
        let token = match read_secret(&source) {
            Ok(token) => Some(token),
            // The gateway makes it at its first start; whether one runs is seen by asking.
            Err(SecretError::Unreadable { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                None
            }
            Err(problem) => return Err(problem).context("the admin token"),
        };
        if let Address::Unix(path) = &config.admin.address {
            known("admin.address", &path.to_string_lossy())?;
        }
        Ok(Admin {
            server: match &config.admin.address {
                Address::Tcp(address) => {
                    Server::at(*address, config.admin.tls.as_ref()).context("admin.tls")?
                }
                Address::Unix(path) => Server::behind(path),
            },
            token,
            token_file: match source {
                SecretSource::File(path) => Some(path),
                SecretSource::Value(_) => None,
            },
        })
    }

    /// `http://ADDRESS` or `https://ADDRESS`.
    pub(super) fn url(&self) -> &str {
        &self.server.url
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask("POST", path, Some(body)).await
    }

    /// What the gateway asks of an upstream before it answers.
    pub(super) async fn post_and_wait(&self, path: &str) -> anyhow::Result<Value> {
        self.ask_within("POST", path, Some(&json!({})), UPSTREAMS)
            .await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("DELETE", path, None).await
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.ask_within(method, path, body, PATIENCE).await
    }

    async fn ask_within(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.server.base());
        let ask = request(method, &url, self.token.as_ref(), body)?;
        let (status, answer) = match self.server.exchange_within(ask, patience).await {
            Ok(answer) => answer,
            Err(Trouble::Nobody) => bail!(Nobody(self.url().to_owned())),
            Err(trouble) => bail!("{url}: {trouble}"),
        };
        if status.is_success() {
            return serde_json::from_slice(&answer)
                .with_context(|| format!("{url}: the answer is no JSON; is this poolgate?"));
        }
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let said = clean(said["error"]["message"].as_str().unwrap_or_default());
        Err(match (status, &self.token, &self.token_file) {
            (StatusCode::UNAUTHORIZED, None, Some(path)) => anyhow!(
                "{} wants an admin token, and {} does not exist: is this the configuration it runs with?",
                self.url(),
                path.display()
            ),
            (StatusCode::UNAUTHORIZED, ..) => anyhow!(
                "{} does not accept our admin token: is this the configuration it runs with?",
                self.url()
            ),
            // The question was understood, and this is the answer.
            (StatusCode::UNPROCESSABLE_ENTITY, ..) if !said.is_empty() => anyhow!("{said}"),
            _ => anyhow!("{url} answers {status}: {said}"),
        })
    }
}

/// Where a token is that may do most: `admin.token`, that of an administrator, the one that a start made,
/// any other.
fn token_source(config: &Config) -> anyhow::Result<SecretSource> {
    let admin = &config.admin;
    if let Some(source) = &admin.token {
        known_source("admin.token", source)?;
        return Ok(source.clone());
    }
    let made = config.state.dir.join("admin.token");
    let mut others: Vec<_> = admin.tokens.iter().collect();
    // Stable: of those of one role the first.
    others.sort_by_key(|other| Reverse(other.role));
    let other = others
        .iter()
        .find(|other| known_source(&other.name, &other.token).is_ok());
    match other {
        Some(other) if other.role == Role::Admin || !made.exists() => Ok(other.token.clone()),
        _ => {
            known("state.dir", &made.to_string_lossy())?;
            Ok(SecretSource::File(made))
        }
    }
}

fn known_source(key: &str, source: &SecretSource) -> anyhow::Result<()> {
    match source {
        SecretSource::File(path) => known(key, &path.to_string_lossy()),
        SecretSource::Value(value) => known(key, value.expose()),
    }
}

/// Where a server that listens on `address` is reached from this machine.
pub(super) fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// `http://ADDRESS`, or `https://ADDRESS` with TLS.
pub(super) fn base(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// A listener of a gateway on this machine.
pub(super) struct Server {
    /// `http://ADDRESS` or `https://ADDRESS`.
    pub(super) url: String,
    /// Of one with TLS: only the certificate that the configuration names is talked to.
    tls: Option<ClientConfig>,
    /// Of one without an address.
    socket: Option<PathBuf>,
}

impl Server {
    /// # Errors
    /// Its certificate cannot be read.
    pub(super) fn at(address: SocketAddr, tls: Option<&TlsFiles>) -> anyhow::Result<Server> {
        Ok(Server {
            url: base(local(address), tls.is_some()),
            tls: tls.map(|files| pinned(&files.cert)).transpose()?,
            socket: None,
        })
    }

    /// One behind a Unix socket.
    fn behind(path: &Path) -> Server {
        Server {
            url: format!("unix:{}", path.display()),
            tls: None,
            socket: Some(path.to_owned()),
        }
    }

    /// What paths are put behind to be asked for.
    fn base(&self) -> &str {
        match self.socket {
            Some(_) => "http://localhost",
            None => &self.url,
        }
    }

    /// One without TLS.
    pub(super) fn plain(address: SocketAddr) -> Server {
        let url = base(local(address), false);
        Server {
            url,
            tls: None,
            socket: None,
        }
    }

    /// Sends one request over a connection of its own and reads the whole answer.
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        self.exchange_within(request, PATIENCE).await
    }

    /// The same, within this time.
    pub(super) async fn exchange_within(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        if let Some(socket) = &self.socket {
            return over_socket(socket, request, patience).await;
        }
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        let Some(tls) = &self.tls else {
            return exchange(client.build_http(), request, patience).await;
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let connector = connector.https_only().enable_http1().build();
        exchange(client.build(connector), request, patience).await
    }
}

/// No gateway listens where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("nothing runs at {0}; `poolgate run` starts the gateway")]
pub(super) struct Nobody(String);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("nobody listens there")]
    Nobody,
    #[error("another certificate is shown there than the one that the configuration names")]
    Stranger,
    #[error("no answer within {} s", .0.as_secs())]
    Silence(Duration),
    #[error("{0}")]
    Broken(String),
}

/// A request with a JSON body, or none.
pub(super) fn request(
    method: &str,
    url: &str,
    token: Option<&Secret>,
    body: Option<&Value>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let bytes = body.map_or_else(Bytes::new, |json| Bytes::from(json.to_string()));
    let mut request = Request::builder().method(method).uri(url);
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token {
        // The text of this error says nothing of the token.
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    Ok(request.body(Full::new(bytes))?)
}

async fn exchange<C>(
    client: Client<C, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), Trouble>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let exchange = async {
        let response = client.request(request).await.map_err(trouble)?;
        whole(response).await
    };
    tokio::time::timeout(patience, exchange)
        .await
        .unwrap_or(Err(Trouble::Silence(patience)))
}

async fn over_socket(
    path: &Path,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), Trouble> {
    let exchange = async {
        let response = ask_socket(path, request).await;
        let response = response.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Trouble::Nobody,
            _ => Trouble::Broken(error.to_string()),
        })?;
        whole(response).await
    };
    tokio::time::timeout(patience, exchange)
        .await
        .unwrap_or(Err(Trouble::Silence(patience)))
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes), Trouble> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|error| Trouble::Broken(innermost(&*error).to_string()))?;
    Ok((head.status, body.to_bytes()))
}

fn trouble(error: hyper_util::client::legacy::Error) -> Trouble {
    let cause = innermost(&error);
    match cause.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(_)) => Trouble::Stranger,
        None if error.is_connect() => Trouble::Nobody,
        _ => Trouble::Broken(cause.to_string()),
    }
}

/// The cause that says most: libraries wrap it in sentences that say where, not what.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    // What an I/O error wraps is not its source: that is the source of what it wraps.
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let wrapped = wrapped.map(|inner| inner as &(dyn Error + 'static));
    match wrapped.or_else(|| error.source()) {
        Some(deeper) => innermost(deeper),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{Admin, local};
    use crate::config;
    use crate::mock::{Settings, Vendor};
    use std::path::Path;

    fn admin(address: &str, token: &str) -> Admin {
        let text = format!(
            "admin: {{address: \"{address}\", token: {token}}}\n\
             pools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}"
        );
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &|_| None);
        Admin::of(&loaded.ok().unwrap().config).ok().unwrap()
    }

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            let address = local(listens.parse().unwrap());
            assert_eq!(address.to_string(), asked);
        }
    }

    #[tokio::test]
    async fn the_question_carries_the_token_and_a_body_of_json() {
        let vendor = Vendor::start(([127, 0, 0, 1], 0).into(), Settings::default())
            .await
            .unwrap();
        let admin = admin(&vendor.address().to_string(), "the-admin-token");
        let answer = admin
            .post("/mock/echo", &serde_json::json!({"model": "m"}))
            .await
            .unwrap();
        assert_eq!(
            answer["headers"]["authorization"][0],
            "Bearer the-admin-token"
        );
        assert_eq!(answer["headers"]["content-type"][0], "application/json");
        assert_eq!(answer["body_length"], 13);
        let problem = admin.get("/mock/nothing").await.unwrap_err().to_string();
        assert!(problem.contains("404"), "{problem}");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_said_plainly() {
        let vendor = Vendor::start(([127, 0, 0, 1], 0).into(), Settings::default())
            .await
            .unwrap();
        let admin = admin(&vendor.address().to_string(), "the-admin-token");
        vendor.kill().await;
        let problem = admin.get("/api/v1/overview").await.unwrap_err().to_string();
        assert!(problem.starts_with("nothing runs at http://127.0.0.1:"));
    }
}
