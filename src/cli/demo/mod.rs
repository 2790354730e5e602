//! `poolgate demo`: six simulated accounts, the gateway in front of them and a little traffic, all in
//! one process that leaves nothing behind.

mod accounts;
mod traffic;
mod welcome;

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::mock::Vendor;
use crate::{app, config, net};

/// See it work: six simulated accounts, a gateway and a little traffic
///
/// Needs no key, no configuration and no network. Ctrl-C ends it and leaves nothing behind.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate demo --port 18080 --admin-port 18081")]
pub(super) struct Demo {
    /// Where clients connect; 0 is a free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where status, metrics and management are; 0 is a free port
    #[arg(long, default_value_t = 8081)]
    admin_port: u16,
}

/// What the demo is made of.
struct Stage {
    gateway: SocketAddr,
    admin: SocketAddr,
    /// The gateway's state and its configuration; gone when the demo ends.
    folder: PathBuf,
}

impl Demo {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let gateway = loopback(self.port, "--port")?;
        let admin = loopback(self.admin_port, "--admin-port")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Before there is a folder that a signal could leave behind.
        let early = Early::watch(&runtime)?;
        let folder = tempfile::Builder::new()
            .prefix("poolgate-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("no folder for the demo's state")?;
        let stage = Stage {
            gateway,
            admin,
            folder: folder.path().to_owned(),
        };
        let around = Surroundings::start(runtime, early, stage)?;
        let text = accounts::configuration(gateway, admin, folder.path(), &around.upstreams);
        let served = serve(&text, folder.path());
        around.stop();
        served?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Signals that ask for the end before the gateway listens to them itself.
struct Early {
    interrupt: Signal,
    terminate: Signal,
}

impl Early {
    /// From now on these signals end nothing by themselves.
    fn watch(runtime: &Runtime) -> io::Result<Early> {
        let _inside = runtime.enter();
        Ok(Early {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn arrives(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The loopback address with `port`, if nobody has it.
fn loopback(port: u16, option: &str) -> anyhow::Result<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    net::vacant(address).map_err(|error| {
        anyhow!("{address} cannot be listened on: {error}; choose another port with {option}")
    })
}

/// Runs the gateway until it is asked to stop. The configuration is also written down, so that
/// `poolgate status -c` finds the gateway.
fn serve(text: &str, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("poolgate.yaml");
    std::fs::write(&path, text)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    let loaded = config::parse(text, &path, &|_| None)?;
    app::run(app::Options {
        config: loaded.config,
        config_path: Some(path),
        env_file: None,
        announce: false,
        predecessor: None,
    })
}

/// Everything around the gateway: vendors and clients, on a thread and a runtime of their own, since
/// the gateway keeps the main thread to itself.
struct Surroundings {
    upstreams: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Surroundings {
    fn start(runtime: Runtime, early: Early, stage: Stage) -> anyhow::Result<Surroundings> {
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let work = async move {
            let vendors = match vendors().await {
                Ok(vendors) => vendors,
                Err(error) => return ready.send(Err(error)).unwrap_or_default(),
            };
            let addresses = vendors.iter().map(Vendor::address).collect();
            if ready.send(Ok(addresses)).is_ok() {
                tokio::select! {
                    () = live(&stage, early) => {}
                    _ = stopped => {}
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("demo".to_owned())
            .spawn(move || runtime.block_on(work))?;
        let upstreams = started.recv().context("the simulated vendors")??;
        Ok(Surroundings {
            upstreams,
            stop,
            thread,
        })
    }

    fn stop(self) {
        drop(self.stop);
        // It can only have panicked, and has said so then.
        let _ = self.thread.join();
    }
}

async fn vendors() -> anyhow::Result<Vec<Vendor>> {
    let mut vendors = Vec::new();
    for settings in accounts::vendors()? {
        let vendor = Vendor::start((Ipv4Addr::LOCALHOST, 0).into(), settings).await;
        vendors.push(vendor.context("a simulated vendor")?);
    }
    Ok(vendors)
}

/// Waits until the gateway serves, welcomes the user and calls the gateway from then on.
async fn live(stage: &Stage, mut early: Early) {
    let asked_to_stop = tokio::select! {
        () = welcome::served(stage) => false,
        () = early.arrives() => true,
    };
    if asked_to_stop {
        // The gateway was not listening to signals then; now it is.
        welcome::served(stage).await;
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM);
        return;
    }
    welcome::say(stage);
    traffic::flow(stage.gateway).await;
}
