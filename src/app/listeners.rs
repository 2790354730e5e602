//! The Pingora server with its listeners: clients on `listen`, operators on `admin`, and the work
//! in the background.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::Stream;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, Server, ShutdownWatch};
use pingora_core::services;
use pingora_core::services::background::background_service;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use tokio::runtime::Handle;

use super::programs::Programs;
use super::systemd::Workers;
use super::tls::Handshakes;
use super::upgrade::{Inherited, Sockets};
use super::{App, ready::Background};
use crate::admin::{AdminApp, Site, router};
use crate::config::{Address, Config};
use crate::health::Catalogue;
use crate::proxy::{Connections, Corks, Gateway};

/// None: the readers of heads and bodies, and TLS, have buffers of their own, and connections that
/// only wait outnumber all others. Pingora's default is 64 KiB for each.
const READ_BUFFER: usize = 0;

/// Longer than any time to drain.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The true limit on tries is `retry.attempts`, kept by `proxy`.
const PINGORA_TRIES: usize = 64;

/// Upstream connections kept open, for each thread.
const POOLED_CONNECTIONS: usize = 512;

/// Those that listen: for clients and for operators.
pub(super) const SERVICES: usize = 2;

/// Says which address cannot be bound, before anything starts: Pingora would try for half a minute
/// and then go on without the listener.
pub(super) fn check_free<'a>(addresses: impl Iterator<Item = &'a String>) -> Result<()> {
    for address in addresses {
        match Path::new(address).is_absolute() {
            // What nobody answers at was left behind.
            true => ensure!(
                UnixStream::connect(address).is_err(),
                "cannot listen on {address}: somebody does already"
            ),
            false => drop(
                TcpListener::bind(address)
                    .with_context(|| format!("cannot listen on {address}"))?,
            ),
        }
    }
    Ok(())
}

/// With sockets that a predecessor listens on already.
pub(super) fn server(app: &Arc<App>, inherited: Inherited) -> Result<Server> {
    let config = app.config.load_full();
    let threads = match config.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let conf = ServerConf {
        threads,
        max_retries: PINGORA_TRIES,
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        // `wait_for_end` ends the process, as soon as nothing is under way or `drain_timeout` is over,
        // as it is by then.
        grace_period_seconds: Some(FOREVER.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let sockets = Sockets::new(inherited, app.handing.sockets.clone());
    let sockets = server.add_service(sockets);
    let programs = server.add_service(Programs::new(app.clone()));
    let clients = server.add_service(clients(app, &config, &server)?);
    clients.add_dependency(&sockets);
    clients.add_dependency(&programs);
    let operators = operators(app, &config)?;
    server.add_service(operators).add_dependency(&sockets);
    server.add_service(background_service(
        "background",
        Background::new(app.clone()),
    ));
    Ok(server)
}

fn clients(app: &Arc<App>, config: &Config, server: &Server) -> Result<Entrance> {
    let gateway = Gateway {
        config: app.config.clone(),
        pools: app.pools.clone(),
        keys: app.keys.clone(),
        slots: app.slots.clone(),
        tally: super::shared::tally(app),
        resolver: app.resolver.clone(),
        tunnels: app.tunnels.clone(),
        catalogue: Arc::new(Catalogue::new(app.resolver.clone(), app.tunnels.clone())),
        metrics: app.metrics.clone(),
        access: app.access.clone(),
        usage: app.usage.clone(),
        older: Arc::new(super::control::Older::new(app)),
        body_budget: app.body_budget.clone(),
        in_flight: app.in_flight.clone(),
        refusing: app.refusing.clone(),
        leaving: app.leaving.clone(),
    };
    let door = Arc::new(Door {
        connections: Connections {
            gateway: gateway.clone(),
        },
        handshakes: app.certificates.clients()?,
        open: app.connections.clone(),
        workers: app.workers.clone(),
        most: max_connections(config),
    });
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(config.clients.keepalive);
    // Each connection goes through the door, which hands to Pingora what it may read by itself.
    options.force_custom = true;
    let corks = Corks::new(&server.configuration);
    let mut service = ProxyServiceBuilder::new(&server.configuration, gateway)
        .name("clients")
        .custom(
            corks,
            Arc::new(move |proxy, stream, shutdown| {
                let (door, shutdown) = (door.clone(), shutdown.clone());
                Box::pin(async move {
                    door.admit(&proxy, stream, &shutdown).await;
                    None
                })
            }),
        )
        .server_options(options)
        .build();
    let patience = patience(config.clients.write_timeout);
    for listen in &config.listen {
        let address = listen.address.to_string();
        let config = ListenerConfig::tcp(address).l4_buffer(buffers());
        let mut options = patience.clone();
        // Whatever this machine's default is: `[::]` means both families.
        options.ipv6_only = listen.address.is_ipv6().then_some(false);
        service.add_listener(config.tcp_socket_options(options));
    }
    let closed = app.handing.closed.clone();
    Ok(Entrance { service, closed })
}

/// Clients that are gone without a word, or do not read. Pingora limits the time that a body's writes
/// take, but not a head's; of both the kernel knows, whatever is being written.
fn patience(write_timeout: Duration) -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 6,
        user_timeout: write_timeout,
    });
    options
}

fn operators(app: &Arc<App>, config: &Config) -> Result<Service<Office>> {
    let site = Site {
        is_secure: config.admin.tls.is_some(),
    };
    let office = Office {
        app: Arc::new(AdminApp::new(
            router(app.clone(), &app.auth, site),
            app.leaving.clone(),
        )),
        open: app.operators.clone(),
        handshakes: app.certificates.operators(config)?,
        closed: app.handing.closed.clone(),
    };
    let mut service = Service::new("operators".to_owned(), office);
    service.threads = Some(1);
    match &config.admin.address {
        Address::Tcp(address) => {
            service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers()));
        }
        // Whoever runs the gateway may reach it, and nobody else.
        Address::Unix(path) => {
            let listener = ListenerConfig::uds(path.display().to_string());
            let ours = Permissions::from_mode(0o600);
            service.add_listener(listener.permissions(ours).l4_buffer(buffers()));
        }
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

/// The clients' listeners, which says when they are closed.
struct Entrance {
    service: Service<HttpProxy<Gateway, Corks>>,
    /// Counts services that accept no more.
    closed: Arc<AtomicUsize>,
}

#[async_trait]
impl services::Service for Entrance {
    async fn start_service(
        &mut self,
        sockets: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners: usize,
    ) {
        let service = &mut self.service;
        services::Service::start_service(service, sockets, shutdown, listeners).await;
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn name(&self) -> &str {
        services::Service::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        services::Service::threads(&self.service)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        services::Service::listen_addresses(&self.service)
    }
}

/// A limit of connections; one too many is closed at once.
struct Door {
    connections: Connections,
    handshakes: Handshakes,
    open: Arc<AtomicUsize>,
    workers: Workers,
    most: usize,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Door {
    /// One connection until its end.
    async fn admit(
        &self,
        proxy: &Arc<HttpProxy<Gateway, Corks>>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) {
        let _open = Open(self.open.clone());
        self.workers.get_or_init(Handle::current);
        if self.open.fetch_add(1, Ordering::SeqCst) >= self.most {
            return;
        }
        let config = self.connections.gateway.config.load();
        let within = config.clients.header_timeout;
        drop(config);
        if let Some(stream) = self.handshakes.secure(stream, within).await {
            self.connections.serve(proxy, stream, shutdown).await;
        }
    }
}

/// The management API, behind TLS where it is configured.
struct Office {
    app: Arc<AdminApp>,
    open: Arc<AtomicUsize>,
    handshakes: Handshakes,
    closed: Arc<AtomicUsize>,
}

#[async_trait]
impl ServerApp for Office {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        const HANDSHAKE: Duration = Duration::from_secs(15);
        /// One too many is closed at once: it could only be a mistake, or somebody who means ill.
        const MOST: usize = 256;
        let _open = Open(self.open.clone());
        if self.open.fetch_add(1, Ordering::SeqCst) >= MOST {
            return None;
        }
        let stream = self.handshakes.secure(stream, HANDSHAKE).await?;
        ServerApp::process_new(&self.app, stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
        ServerApp::cleanup(&*self.app).await;
    }
}
