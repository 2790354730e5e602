//! One health check: a request, and whether the answer has the expected status.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use tokio::net::{TcpStream, UnixStream};

use crate::config::{self, Host};
use crate::credential::Injection;
use crate::net::{Resolver, Tunnel, Tunnels};
use crate::pool::Account;

/// A check of one account. It does not use Pingora's own `HttpHealthCheck`: that one makes a
/// connector, with all root certificates, for each account.
pub(super) struct Probe<'a> {
    account: &'a Account,
    check: &'a config::HealthCheck,
    connector: &'a Arc<Connector>,
    resolver: &'a Arc<Resolver>,
    tunnels: &'a Tunnels,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        account: &'a Account,
        check: &'a config::HealthCheck,
        connector: &'a Arc<Connector>,
        resolver: &'a Arc<Resolver>,
        tunnels: &'a Tunnels,
    ) -> Self {
        Probe {
            account,
            check,
            connector,
            resolver,
            tunnels,
        }
    }

    /// Says in words what was wrong.
    pub(super) async fn run(&self) -> Result<(), String> {
        let mut tunnel = None;
        let backend = match &self.account.config.upstream.host {
            Host::Tcp(host, port) => {
                let is_near = self.account.config.instance.is_some();
                let way = self.tunnels.way(self.resolver, host, *port, is_near);
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
        self.check(&backend).await.map_err(|e| words(&e))
    }

    fn request(&self) -> Result<RequestHeader> {
        let upstream = &self.account.config.upstream;
        let path = format!("{}{}", upstream.prefix, self.check.path);
        let mut head = RequestHeader::build(self.check.method.as_str(), path.as_bytes(), None)?;
        let host = match &upstream.host {
            Host::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Host::Tcp(host, port) => format!("{host}:{port}"),
            Host::Unix(_) => "localhost".to_owned(),
        };
        head.insert_header(HOST, host)?;
        if self.check.with_credential {
            let secrets = self.account.credential.secrets();
            for (name, value) in secrets.headers() {
                head.insert_header(name.clone(), value.clone())?;
            }
            let dialect = self.account.config.dialects.first().copied();
            let injection =
                dialect.map(|dialect| self.account.credential.injection(&secrets, dialect));
            if let Some(Injection::Header(name, value)) = injection {
                head.insert_header(name, value)?;
            }
        }
        Ok(head)
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
        peer.options.connection_timeout = Some(self.check.timeout);
        peer.options.total_connection_timeout = Some(self.check.timeout);
        peer.options.read_timeout = Some(self.check.timeout);
        peer.options.write_timeout = Some(self.check.timeout);
        if let Some(tls) = &self.account.tls {
            tls.put_on(&mut peer)
                .map_err(|problem| Error::explain(ErrorType::InvalidCert, problem))?;
        }
        Ok(peer)
    }
}

#[async_trait]
impl HealthCheck for Probe<'_> {
    /// Over a new connection each time: an open one would hide that no new one can be made.
    async fn check(&self, target: &Backend) -> Result<()> {
        let peer = self.peer(target)?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session.set_read_timeout(peer.options.read_timeout);
        session.set_write_timeout(peer.options.write_timeout);
        session
            .write_request_header(Box::new(self.request()?))
            .await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        session.shutdown().await;
        if status == self.check.expect {
            return Ok(());
        }
        Error::e_explain(
            ErrorType::HTTPStatus(status),
            format!("expected {}", self.check.expect),
        )
    }

    fn health_threshold(&self, success: bool) -> usize {
        (if success {
            self.check.healthy_after
        } else {
            self.check.unhealthy_after
        }) as usize
    }
}

/// Takes the upstream a connection?
pub(super) async fn connect(account: &Account, resolver: &Arc<Resolver>) -> Result<(), String> {
    match &account.config.upstream.host {
        Host::Tcp(host, port) => {
            let address = resolver.resolve(host, *port).await;
            let address = address.map_err(|e| e.to_string())?;
            TcpStream::connect(address).await.map(drop)
        }
        Host::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
    .map_err(|e| e.to_string())
}

fn words(error: &Error) -> String {
    match &error.context {
        Some(context) => format!("{}: {}", error.etype().as_str(), context.as_str()),
        None => error.etype().as_str().to_owned(),
    }
}
