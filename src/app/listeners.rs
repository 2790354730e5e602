//! The Pingora server with its listeners: clients on `listen`, operators on `admin`, and the work
//! in the background.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::background::background_service;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, http_proxy};

use super::{App, ready::Background};
use crate::admin::{AdminApp, router};
use crate::config::{Address, Config};
use crate::proxy::Gateway;

/// Idle connections outnumber all others; 64 KiB for each, Pingora's default, is too much.
const READ_BUFFER: usize = 4 * 1024;

/// The true limit on tries is `retry.attempts`, kept by `proxy`.
const PINGORA_TRIES: usize = 64;

/// Upstream connections kept open, for each thread.
const POOLED_CONNECTIONS: usize = 512;

/// Says which address cannot be bound, before anything starts: Pingora would try for half a minute
/// and then go on without the listener.
pub(super) fn check_free(config: &Config) -> Result<()> {
    let admin = match &config.admin.address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    };
    for address in config
        .listen
        .iter()
        .map(|listen| listen.address)
        .chain(admin)
    {
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    }
    Ok(())
}

pub(super) fn server(app: &Arc<App>) -> Result<Server> {
    let config = app.config.load_full();
    let state = std::path::absolute(&config.state.dir)?;
    let threads = match config.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let conf = ServerConf {
        threads,
        max_retries: PINGORA_TRIES,
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        // `wait_for_end` ends the process as soon as nothing is under way.
        grace_period_seconds: Some(config.server.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        pid_file: state.join("poolgate.pid").to_string_lossy().into_owned(),
        upgrade_sock: state.join("upgrade.sock").to_string_lossy().into_owned(),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server.add_service(clients(app, &config, &server)?);
    server.add_service(operators(app, &config)?);
    server.add_service(background_service(
        "background",
        Background::new(app.clone()),
    ));
    Ok(server)
}

fn clients(app: &Arc<App>, config: &Config, server: &Server) -> Result<Service<Counted>> {
    let gateway = Gateway {
        config: app.config.clone(),
        pools: app.pools.clone(),
        keys: app.keys.clone(),
        resolver: app.resolver.clone(),
        metrics: app.metrics.clone(),
        access: app.access.clone(),
        older: Arc::new(super::control::Older::new(app)),
        body_budget: app.body_budget.clone(),
        in_flight: app.in_flight.clone(),
        refusing: app.refusing.clone(),
    };
    let mut proxy = http_proxy(&server.configuration, gateway);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(config.clients.keepalive);
    proxy.server_options = Some(options);
    let app = Counted {
        inner: Arc::new(proxy),
        open: app.connections.clone(),
        most: max_connections(config),
    };
    let mut service = Service::new("clients".to_owned(), app);
    for listen in &config.listen {
        let address = listen.address.to_string();
        service.add_listener(ListenerConfig::tcp(address).l4_buffer(buffers()));
    }
    Ok(service)
}

fn operators(app: &Arc<App>, config: &Config) -> Result<Service<AdminApp>> {
    let router = router(app.clone(), &app.auth);
    let mut service = Service::new("operators".to_owned(), AdminApp::new(router));
    service.threads = Some(1);
    match &config.admin.address {
        Address::Tcp(address) => {
            service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers()));
        }
        Address::Unix(path) => bail!("admin.address unix:{} is not served yet", path.display()),
    }
    Ok(service)
}

fn buffers() -> L4BufferSettings {
    L4BufferSettings {
        read: Some(READ_BUFFER),
        ..L4BufferSettings::default()
    }
}

/// `clients.max_connections`, or what the limit of open files leaves room for: two for each.
fn max_connections(config: &Config) -> usize {
    const OTHER_FILES: u64 = 512;
    match config.clients.max_connections {
        0 => {
            let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
            let files = limit.map_or(1024, |(soft, _)| soft);
            (files.saturating_sub(OTHER_FILES) / 2).max(64) as usize
        }
        most => most,
    }
}

/// The proxy behind a limit of connections; one too many is closed at once.
struct Counted {
    inner: Arc<HttpProxy<Gateway>>,
    open: Arc<AtomicUsize>,
    most: usize,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ServerApp for Counted {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let open = Open(self.open.clone());
        if self.open.fetch_add(1, Ordering::SeqCst) >= self.most {
            return None;
        }
        let rest = self.inner.process_new(stream, shutdown).await;
        drop(open);
        rest
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.inner).await;
    }
}
