//! The way to an account's upstream for what poolgate asks there by itself: over connections of its
//! own, with the account's credential where that is wanted.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;

use crate::config::Host;
use crate::credential::Injection;
use crate::dialect::Dialect;
use crate::net::{Resolver, Tunnel, Tunnels};
use crate::pool::Account;

/// What every way needs.
pub(super) struct Net {
    pub(super) resolver: Arc<Resolver>,
    pub(super) tunnels: Arc<Tunnels>,
    /// One for all: each has its own copy of the system's root certificates.
    pub(super) connector: Connector,
}

/// The way to one account's upstream.
pub(super) struct Way<'a> {
    pub(super) account: &'a Account,
    pub(super) net: &'a Net,
    /// Of each step.
    pub(super) timeout: Duration,
}

impl Net {
    pub(super) fn new(resolver: Arc<Resolver>, tunnels: Arc<Tunnels>) -> Self {
        Net {
            resolver,
            tunnels,
            connector: Connector::new(None),
        }
    }
}

impl Way<'_> {
    /// The upstream's address; in words, why there is none.
    pub(super) async fn backend(&self) -> Result<Backend, String> {
        let mut tunnel = None;
        let backend = match &self.account.config.upstream.host {
            Host::Tcp(host, port) => {
                let is_near = self.account.config.instance.is_some();
                let Net {
                    resolver, tunnels, ..
                } = self.net;
                let way = tunnels.way(resolver, host, *port, is_near);
                let (address, through) = way.await.map_err(|e| e.to_string())?;
                tunnel = through;
                Backend::new(&address.to_string())
            }
            Host::Unix(path) => Backend::new(&format!("unix:{}", path.display())),
        };
        let mut backend = backend.map_err(|e| words(&e))?;
        if let Some(tunnel) = tunnel {
            backend.ext.insert(tunnel);
        }
        Ok(backend)
    }

    /// A request's head; `path` follows the upstream's prefix.
    pub(super) fn head(&self, method: &str, path: &str) -> Result<RequestHeader> {
        let upstream = &self.account.config.upstream;
        let path = format!("{}{path}", upstream.prefix);
        let mut head = RequestHeader::build(method, path.as_bytes(), None)?;
        let host = match &upstream.host {
            Host::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Host::Tcp(host, port) => format!("{host}:{port}"),
            Host::Unix(_) => "localhost".to_owned(),
        };
        head.insert_header(HOST, host)?;
        Ok(head)
    }

    /// Puts the account's own headers and its credential on.
    pub(super) fn sign(&self, head: &mut RequestHeader, dialect: Option<Dialect>) -> Result<()> {
        let credential = &self.account.credential;
        let secrets = credential.secrets();
        for (name, value) in secrets.headers() {
            head.insert_header(name.clone(), value.clone())?;
        }
        match dialect.map(|dialect| credential.injection(&secrets, dialect)) {
            Some(Injection::Header(name, value)) => head.insert_header(name, value),
            Some(Injection::Query(name, value)) => {
                let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
                let mark = if target.contains('?') { '&' } else { '?' };
                let value = utf8_percent_encode(value.expose(), NON_ALPHANUMERIC);
                let target = format!("{target}{mark}{name}={value}");
                head.set_raw_path(target.as_bytes())
            }
            Some(Injection::None) | None => Ok(()),
        }
    }

    fn peer(&self, backend: &Backend) -> Result<HttpPeer> {
        let upstream = &self.account.config.upstream;
        let name = match (&self.account.config.tls.server_name, &upstream.host) {
            (Some(name), _) => name.clone(),
            (None, Host::Tcp(host, _)) => host.clone(),
            (None, Host::Unix(_)) => String::new(),
        };
        // The address is put in afterwards, so that no name is ever resolved here.
        let mut peer = HttpPeer::new((std::net::Ipv4Addr::UNSPECIFIED, 0), upstream.tls, name);
        peer._address = backend.addr.clone();
        if let Some(tunnel) = backend.ext.get::<Tunnel>() {
            peer.options.custom_l4 = Some(Arc::new(tunnel.clone()));
        }
        peer.options.connection_timeout = Some(self.timeout);
        peer.options.total_connection_timeout = Some(self.timeout);
        peer.options.read_timeout = Some(self.timeout);
        peer.options.write_timeout = Some(self.timeout);
        if let Some(tls) = &self.account.tls {
            tls.put_on(&mut peer)
                .map_err(|problem| Error::explain(ErrorType::InvalidCert, problem))?;
        }
        Ok(peer)
    }

    /// Sends the request over a new connection and reads the head of its answer.
    pub(super) async fn send(&self, backend: &Backend, head: RequestHeader) -> Result<HttpSession> {
        let peer = self.peer(backend)?;
        let (mut session, _) = self.net.connector.get_http_session(&peer).await?;
        session.set_read_timeout(peer.options.read_timeout);
        session.set_write_timeout(peer.options.write_timeout);
        session.write_request_header(Box::new(head)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        Ok(session)
    }
}

/// The status of an answer whose head was read.
pub(super) fn status(session: &HttpSession) -> u16 {
    let head = session.response_header();
    head.map_or(0, |head| head.status.as_u16())
}

/// What went wrong, without an address beyond what Pingora itself says.
pub(super) fn words(error: &Error) -> String {
    match &error.context {
        Some(context) => format!("{}: {}", error.etype().as_str(), context.as_str()),
        None => error.etype().as_str().to_owned(),
    }
}
