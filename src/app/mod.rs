//! The composition root: a configuration becomes parts, and the parts become a Pingora server.

mod accounts;
mod activation;
mod control;
mod keys;
mod listeners;
mod news;
mod orders;
mod programs;
mod ready;
mod records;
mod reload;
mod renewals;
mod roster;
mod said;
mod shared;
mod signals;
mod slots;
mod state;
mod systemd;
mod tls;
mod upgrade;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::server::{ExecutionPhase, ListenFds, RunArgs, Server};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore};

pub use keys::{keys_may_be_issued, records};
pub use renewals::token_cache;

use crate::admin::{Auth, Pulse};
use crate::clock::{self, Instant};
use crate::config::{self, Config};
use crate::health::Health;
use crate::instance::{Discovery, Instances};
use crate::key::{Keys, Slots};
use crate::net::{Proxies, Resolver, Tunnels};
use crate::notify::Notices;
use crate::pool::{Groups, Moment, Pool};
use crate::store::{Store, Usage};
use crate::telemetry::{self, Access, Metrics};

pub use orders::{Done, Given, Order, give, process};
pub use roster::added_accounts;
pub use state::prepare_dir;
pub use upgrade::Predecessor;

/// How `run` was called.
pub struct Options {
    pub config: Config,
    /// The file to read again on a reload.
    pub config_path: Option<PathBuf>,
    pub env_file: Option<PathBuf>,
    /// Say where it listens on standard output.
    pub announce: bool,
    /// The running gateway whose place this one takes.
    pub predecessor: Option<Predecessor>,
}

/// Everything that lives as long as the process.
pub(crate) struct App {
    config: Arc<ArcSwap<Config>>,
    /// As it was at the start, which some of it stays.
    first: Arc<Config>,
    pools: Arc<ArcSwap<Vec<Arc<Pool>>>>,
    /// What their accounts share.
    groups: Arc<Groups>,
    keys: Arc<Keys>,
    slots: Arc<Slots>,
    issued: keys::Issued,
    resolver: Arc<Resolver>,
    tunnels: Arc<Tunnels>,
    metrics: Arc<Metrics>,
    access: Access,
    health: Health,
    instances: Arc<Instances>,
    discovery: Discovery,
    /// Who changes which accounts and keys there are.
    changes_accounts: Mutex<()>,
    /// What the API said of accounts.
    book: roster::Book,
    pulse: Pulse,
    auth: Auth,
    certificates: tls::Certificates,
    store: Arc<Store>,
    usage: Arc<Usage>,
    renewals: renewals::Renewals,
    /// With other gateways, where there is a Redis.
    sharing: Option<shared::Sharing>,
    notices: Arc<Notices>,
    body_budget: Arc<Semaphore>,
    in_flight: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    workers: systemd::Workers,
    /// Not ready, and soon gone.
    draining: Arc<AtomicBool>,
    /// Nothing new is taken on any more.
    refusing: Arc<AtomicBool>,
    /// A successor serves; connections are left to their end, and told so.
    leaving: Arc<AtomicBool>,
    /// Connections of operators.
    operators: Arc<AtomicUsize>,
    handing: Handing,
    config_path: Option<PathBuf>,
    env_file: Option<PathBuf>,
    /// One reload at a time.
    reloading: Mutex<()>,
    began: Moment,
    /// By this process or one before it.
    served_since: Instant,
}

/// What an upgrade needs.
#[derive(Default)]
struct Handing {
    /// Where this program was started from: another version may be there by now.
    program: Option<PathBuf>,
    /// The listening sockets.
    sockets: Arc<OnceLock<ListenFds>>,
    is_ordered: AtomicBool,
    is_under_way: AtomicBool,
    /// Whoever ordered an upgrade is told what came of it.
    told: Mutex<Option<mpsc::Sender<Handed>>>,
    is_over: Notify,
    /// How many of [`listeners::SERVICES`] have closed their listeners.
    closed: Arc<AtomicUsize>,
    /// Until this process serves.
    predecessor: Mutex<Option<Predecessor>>,
    /// There was one.
    is_heir: AtomicBool,
    /// What it used meanwhile.
    heritage: upgrade::Heritage,
    /// It has handed over.
    agreed: Notify,
    /// Told when orders come to this process.
    reachable: Mutex<Option<mpsc::Sender<Result<()>>>>,
}

/// The process that serves now, or why none took over.
type Handed = Result<u32, Vec<String>>;

impl App {
    fn leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// How long this process, and those before it, have served the accounts.
    fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.served_since)
    }

    fn build(options: Options, access: Access, age: Duration) -> Result<App> {
        // Whatever changes from here on is read again.
        let began = clock::moment();
        let now = began.now;
        let config = options.config;
        state::prepare_dir(&config.state.dir)?;
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock::wall()).context("metrics")?;
        let metrics = Arc::new(metrics);
        records::check(&config.state)?;
        let store = Arc::new(Store::of(&config.state)?.counted(metrics.clone()));
        let usage = records::usage(&config.state, &metrics)?;
        let tunnels = tunnels(&config)?;
        // What was before this process has its place in time, too.
        let served_since = now.checked_sub(age).unwrap_or(now);
        let instances = Instances::in_state(&config.state.dir);
        let discovery = Discovery::in_state(&config.state.dir);
        discovery.look(&config);
        accounts::check_some(&config, &discovery)?;
        let groups = Arc::default();
        let (issued, keys) = keys::Issued::read(&config)?;
        let book = roster::Book::at_start(&config, &issued)?;
        let pools: Vec<_> = accounts::settings(&config, &discovery, &instances, &book)
            .iter()
            .map(|pool| Pool::among(&groups, pool, &metrics, served_since))
            .collect();
        let sharing = shared::Sharing::new(&config, &store, &metrics, &pools)?;
        let renewals = renewals::Renewals::new(metrics.clone(), sharing.as_ref());
        renewals.prepare(&config, &store).context("tokens")?;
        let first = Arc::new(config);
        let config = &*first;
        let ledger = shared::ledger(sharing.as_ref(), &store);
        let slots = Arc::new(Slots::new(ledger, metrics.clone(), now));
        let resolver = Arc::new(Resolver::default());
        let proxies = proxies(config);
        let notices = Notices::new(
            &config.notify,
            state::host_name(),
            &proxies,
            metrics.clone(),
        );
        Ok(App {
            notices: Arc::new(notices?),
            auth: state::admin_auth(config)?,
            certificates: tls::Certificates::open(config)?,
            health: Health::new(resolver.clone(), tunnels.clone()),
            instances,
            discovery,
            changes_accounts: Mutex::new(()),
            book,
            pulse: Pulse::default(),
            store,
            usage: Arc::new(usage),
            renewals,
            sharing,
            body_budget: body_budget(config),
            config: Arc::new(ArcSwap::new(first.clone())),
            first,
            pools: Arc::new(ArcSwap::from_pointee(pools)),
            groups,
            keys,
            slots,
            issued,
            resolver,
            tunnels,
            metrics,
            access,
            in_flight: Arc::default(),
            connections: Arc::default(),
            workers: Arc::default(),
            draining: Arc::default(),
            refusing: Arc::default(),
            leaving: Arc::default(),
            operators: Arc::default(),
            handing: Handing {
                program: upgrade::of_this_process(),
                ..Handing::default()
            },
            served_since,
            config_path: options.config_path,
            env_file: options.env_file,
            reloading: Mutex::default(),
            began,
        })
    }
}

fn tunnels(config: &Config) -> Result<Arc<Tunnels>> {
    let egress = &config.egress;
    let tunnels = Tunnels::new(egress.proxy.as_ref(), &egress.no_proxy)?;
    Ok(Arc::new(tunnels))
}

/// In KiB, which the bodies that are kept share.
fn body_budget(config: &Config) -> Arc<Semaphore> {
    let kib = config.clients.buffer_budget / 1024;
    Arc::new(Semaphore::new(kib.clamp(1, Semaphore::MAX_PERMITS)))
}

/// What poolgate itself asks leaves through the configured proxy, or those of the environment.
pub fn proxies(config: &Config) -> Proxies {
    let egress = &config.egress;
    match &egress.proxy {
        Some(proxy) => Proxies::configured(proxy.clone(), &egress.no_proxy),
        None => Proxies::of(config::process_env),
    }
}

/// Runs the gateway until a signal or a successor ends it; requests under way then finish first.
///
/// # Errors
/// Something that the configuration asks for cannot be had: an address in use, a folder that
/// cannot be written, a secret that cannot be read.
pub fn run(mut options: Options) -> Result<()> {
    let log = telemetry::init(&options.config.log).context("the log cannot be opened")?;
    state::leave_no_core();
    let mut predecessor = options.predecessor.take();
    let (app, server) = match prepare(options, log.access(), predecessor.as_mut()) {
        Ok(prepared) => prepared,
        Err(error) => {
            if let Some(predecessor) = predecessor {
                predecessor.disappoint(vec![format!("{error:#}")]);
            }
            return Err(error);
        }
    };
    let is_heir = &app.handing.is_heir;
    is_heir.store(predecessor.is_some(), Ordering::SeqCst);
    *app.handing.predecessor.lock() = predecessor;
    let phases = server.watch_execution_phase();
    let signals = signals::Signals::new(app.clone());
    let thread = std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(signals),
            })
        })
        .context("no thread for the server")?;
    wait_for_end(&app, phases, thread);
    // A successor looks after them.
    if !app.leaving() {
        stop_instances(&app)?;
    }
    tracing::info!("stopped");
    log.flush();
    Ok(())
}

/// Everything but the first connection.
fn prepare(
    options: Options,
    access: Access,
    mut predecessor: Option<&mut Predecessor>,
) -> Result<(Arc<App>, Server)> {
    let announce = options.announce;
    let is_first = state::makes_token(&options.config);
    let age = predecessor.as_ref().map(|predecessor| predecessor.age);
    let app = Arc::new(App::build(options, access, age.unwrap_or_default())?);
    telemetry::count_panics(app.metrics.clone());
    let config = app.config.load_full();
    let used = upgrade::addresses(&config);
    let inherited = match predecessor.as_mut() {
        Some(predecessor) => predecessor.sockets(&used),
        None => activation::sockets(&used)?,
    };
    let free = used
        .iter()
        .filter(|address| !inherited.contains_key(*address));
    listeners::check_free(free)?;
    keys::issue_first(&app)?;
    if announce {
        state::announce(&config, &app.auth, is_first);
    }
    let server = listeners::server(&app, inherited)?;
    if let Some(predecessor) = predecessor {
        predecessor.inherit(&app)?;
    }
    // What a predecessor's requests have used is written down by now.
    keys::remember(&app)?;
    Ok((app, server))
}

/// No program outlives a gateway that is stopped.
fn stop_instances(app: &App) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    runtime.block_on(app.instances.stop(&app.config.load().instances));
    Ok(())
}

/// Returns once the server has stopped listening and its requests are done, or have had their
/// time. Pingora itself would sleep through the whole of that time.
fn wait_for_end(
    app: &App,
    mut phases: tokio::sync::broadcast::Receiver<ExecutionPhase>,
    server: std::thread::JoinHandle<()>,
) {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    const QUIET_LOOKS: u32 = 10;
    /// The end of an answer over HTTP/2 may still lie here when its request is over, and its client be slow: so long the
    /// connection has, which ends by itself then.
    const LAST_BYTES: Duration = Duration::from_secs(5);
    loop {
        match phases.blocking_recv() {
            Ok(
                ExecutionPhase::ShutdownGracePeriod
                | ExecutionPhase::ShutdownRuntimes
                | ExecutionPhase::Terminated,
            ) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    let deadline: Instant = clock::now() + app.config.load().server.drain_timeout;
    // A head may be half read, or the last bytes of an answer still on their way.
    let (mut quiet, mut last_request) = (0, clock::now());
    while quiet < QUIET_LOOKS && clock::now() < deadline && !server.is_finished() {
        let clients = app.connections.load(Ordering::SeqCst);
        let connected = clients + app.operators.load(Ordering::SeqCst);
        if app.in_flight.load(Ordering::SeqCst) > 0 {
            last_request = clock::now();
        }
        let is_told = clock::now().saturating_duration_since(last_request) > LAST_BYTES;
        let busy = app.in_flight.load(Ordering::SeqCst) > 0
            || app.renewals.is_busy()
            || app.notices.is_busy()
            || (!app.leaving() && app.instances.serve_another(&app.pools.load()))
            || (app.leaving() && connected > 0)
            || (clients > 0 && !is_told);
        quiet = if busy { 0 } else { quiet + 1 };
        std::thread::sleep(LOOK_EVERY);
    }
    app.renewals.end(renewals::LONGEST);
    shared::leave(app);
    app.usage.end(records::LAST_ROWS);
    app.notices.close();
}
