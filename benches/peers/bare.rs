//! Pingora as it comes: one upstream, no filter. What poolgate costs is measured against this.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy};

/// Small, as for any proxy of many connections; Pingora's default is 64 KiB for each.
const READ_BUFFER: usize = 4 * 1024;

/// As poolgate has it.
const POOLED_CONNECTIONS: usize = 512;

struct Bare(SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Proxies from `listen` to `upstream` with one thread until a signal ends it.
pub(crate) fn run(listen: &str, upstream: SocketAddr) {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = http_proxy(&server.configuration, Bare(upstream));
    let mut service = Service::new("bare".to_owned(), proxy);
    let buffers = L4BufferSettings {
        read: Some(READ_BUFFER),
        ..L4BufferSettings::default()
    };
    service.add_listener(ListenerConfig::tcp(listen.to_owned()).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever();
}
