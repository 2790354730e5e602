//! A vendor as a server: accepts connections until it is stopped, gently or not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::answer::answer;
use super::line::{End, Line, Wire};
use super::oauth::Issued;
use super::settings::{BadSettings, Connections, Settings};
use super::tally::{Arrived, Connected, Stats, Tally};
use crate::clock;

/// Where the socket stays when no more files can be opened, or nobody may listen yet.
const BEFORE_ANOTHER_TRY: Duration = Duration::from_millis(10);

/// What all connections of one vendor share.
pub(super) struct State {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) tally: Arc<Tally>,
    pub(super) issued: Issued,
    changed: Notify,
}

impl State {
    pub(super) fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.changed.notify_one();
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            token_requests: self.issued.requests(),
            ..self.tally.snapshot(&self.settings.load().name)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Over,
}

/// A running vendor. Dropped, it is gone at once, and its connections are reset.
pub struct Vendor {
    address: SocketAddr,
    state: Arc<State>,
    phase: watch::Sender<Phase>,
}

impl Vendor {
    /// Listens on `address` (port 0: a free one) within the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be had, or the settings cannot be.
    pub async fn start(address: SocketAddr, settings: Settings) -> io::Result<Vendor> {
        let listener = TcpListener::bind(address).await?;
        Vendor::on(listener, settings)
    }

    /// Serves a listener that is there already.
    ///
    /// # Errors
    /// The settings cannot be.
    pub fn on(listener: TcpListener, settings: Settings) -> io::Result<Vendor> {
        settings.check().map_err(io::Error::other)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            settings: ArcSwap::from_pointee(settings),
            tally: Arc::default(),
            issued: Issued::default(),
            changed: Notify::new(),
        });
        let (phase, watched) = watch::channel(Phase::Serving);
        tokio::spawn(accept(listener, Arc::clone(&state), watched));
        Ok(Vendor {
            address,
            state,
            phase,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it saw so far.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The latest request, as it arrived.
    pub fn last_request(&self) -> Option<Arrived> {
        self.state.tally.last()
    }

    /// How many requests came with this token.
    pub fn requests_of(&self, token: &str) -> u64 {
        self.state.tally.requests_of(token)
    }

    /// The latest request to the token endpoint, as it arrived.
    pub fn last_token_request(&self) -> Option<Arrived> {
        self.state.issued.last()
    }

    /// Every access token that it issued is refused from now on, as expired.
    pub fn expire_tokens(&self) {
        self.state.issued.expire(clock::now());
    }

    /// Forgets what it saw.
    pub fn reset(&self) {
        self.state.tally.reset();
    }

    /// Changes it from the next request on.
    ///
    /// # Errors
    /// The changed settings cannot be; nothing is changed then.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<(), BadSettings> {
        let mut settings = Settings::clone(&self.state.settings.load());
        change(&mut settings);
        settings.check()?;
        self.state.replace(settings);
        Ok(())
    }

    /// Stops to listen, lets answers under way finish for at most `patience`, then closes the rest.
    /// True: all of them finished.
    pub async fn stop(self, patience: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        timeout(patience, self.phase.closed()).await.is_ok()
    }

    /// Gone at once, as after a crash: open connections are reset. Returns when the address is free.
    pub async fn kill(self) {
        self.phase.send_replace(Phase::Over);
        self.phase.closed().await;
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
    }
}

/// Accepts until the phase changes; each connection is a task that holds a copy of `phase`, so that
/// the vendor knows when all are gone.
async fn accept(first: TcpListener, state: Arc<State>, mut phase: watch::Receiver<Phase>) {
    let Ok(address) = first.local_addr() else {
        return;
    };
    let mut listener = Some(first);
    loop {
        let connections = state.settings.load().connections;
        if connections == Connections::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let next = async {
            match &listener {
                Some(listener) => match listener.accept().await {
                    Ok((stream, _)) => Some(stream),
                    Err(_) => {
                        sleep(BEFORE_ANOTHER_TRY).await;
                        None
                    }
                },
                None if connections == Connections::Refuse => std::future::pending().await,
                None => {
                    sleep(BEFORE_ANOTHER_TRY).await;
                    None
                }
            }
        };
        let accepted = tokio::select! {
            stream = next => stream,
            () = state.changed.notified() => None,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        if let Some(stream) = accepted {
            tokio::spawn(connection(stream, Arc::clone(&state), phase.clone()));
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, mut phase: watch::Receiver<Phase>) {
    let open: Connected = state.tally.connect();
    let line = Arc::new(Line::default());
    // Events are small and each must leave at once. A socket that refuses is merely slower.
    let _ = stream.set_nodelay(true);
    let wire = Wire {
        stream,
        line: Arc::clone(&line),
    };
    match state.settings.load().connections {
        Connections::Close => {}
        Connections::Reset => line.end(End::Rst),
        Connections::Hang => {
            let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        }
        // Refused ones never come here, but for one that was accepted before the change.
        Connections::Serve | Connections::Refuse => serve(wire, line, state, phase).await,
    }
    drop(open);
}

async fn serve(wire: Wire, line: Arc<Line>, state: Arc<State>, mut phase: watch::Receiver<Phase>) {
    let goes_on = speak_http(wire, &line, state, &mut phase).await;
    // Taken in any case: it holds a place, and the line itself.
    let Some(successor) = line.successor().filter(|_| goes_on) else {
        return;
    };
    tokio::select! {
        () = successor => {}
        () = line.ended() => {}
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
}

/// False: the connection was ended from this side.
async fn speak_http(
    wire: Wire,
    line: &Arc<Line>,
    state: Arc<State>,
    phase: &mut watch::Receiver<Phase>,
) -> bool {
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(|request| answer(Arc::clone(&state), Arc::clone(line), request));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(wire), service);
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            // How a connection ends is the client's business; the counters have seen it.
            _ = connection.as_mut() => return true,
            () = line.ended() => return false,
            changed = phase.wait_for(|p| *p == Phase::Over || (!draining && *p == Phase::Draining)) => {
                match changed.map(|phase| *phase) {
                    Ok(Phase::Draining) => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    _ => {
                        line.end(End::Rst);
                        return false;
                    }
                }
            }
        }
    }
}
