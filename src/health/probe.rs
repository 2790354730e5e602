//! One health check: a request, and whether the answer has the expected status.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use tokio::net::{TcpStream, UnixStream};

use super::way::{Net, Way, status, words};
use crate::config::{self, Host};
use crate::net::Resolver;
use crate::pool::Account;

/// A check of one account. It does not use Pingora's own `HttpHealthCheck`: that one makes a
/// connector, with all root certificates, for each account.
pub(super) struct Probe<'a> {
    way: Way<'a>,
    check: &'a config::HealthCheck,
}

impl<'a> Probe<'a> {
    pub(super) fn new(account: &'a Account, check: &'a config::HealthCheck, net: &'a Net) -> Self {
        let way = Way {
            account,
            net,
            timeout: check.timeout,
        };
        Probe { way, check }
    }

    /// Says in words what was wrong.
    pub(super) async fn run(&self) -> Result<(), String> {
        let backend = self.way.backend().await?;
        self.check(&backend).await.map_err(|e| words(&e))
    }

    fn request(&self) -> Result<RequestHeader> {
        let mut head = self.way.head(&self.check.method, &self.check.path)?;
        if self.check.with_credential {
            let dialect = self.way.account.config.dialects.first();
            self.way.sign(&mut head, dialect.copied())?;
        }
        Ok(head)
    }
}

#[async_trait]
impl HealthCheck for Probe<'_> {
    /// Over a new connection each time: an open one would hide that no new one can be made.
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut session = self.way.send(target, self.request()?).await?;
        let status = status(&session);
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
