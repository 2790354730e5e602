//! Connections to upstreams through a proxy, which Pingora does not make by itself: its own CONNECT goes
//! to a proxy at a Unix socket only.

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::{ErrorType, OrErr, Result};

use crate::net::{NearEnd, Tunnel};

/// The peer's `total_connection_timeout` limits it. Errors do not say where the proxy is.
#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let dug = self.dig().await;
        match dug.or_err(ErrorType::ConnectError, "through the proxy")? {
            NearEnd::Tcp(stream) => Ok(stream.into()),
            NearEnd::Unix(stream) => Ok(stream.into()),
        }
    }
}
