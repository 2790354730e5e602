//! What the command line asks of a running gateway, over a socket that only its owner can reach: a line
//! of JSON there, a line of JSON back.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, process, thread};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::{App, upgrade};
use crate::admin::Control;

/// Below `state.dir`.
const FOLDER: &str = "control";
const SOCKET: &str = "poolgate.sock";

/// Who gives an order has it written down already.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest line, in bytes: the live state of the 50,000 accounts that a file may hold.
const LONGEST: u64 = 64 << 20;

/// Orders at a time.
const MOST: usize = 16;

/// An order to a running gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Read the configuration anew.
    Reload,
    /// Let running requests finish, and end. The connection ends with the process.
    Stop,
    /// Start a successor and hand over to it, all within this time.
    Upgrade { patience: Duration },
    /// Hand over to the process that says this.
    TakeOver { successor: u32 },
}

/// What came of an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// It was done, and nothing of it was refused.
    pub done: bool,
    /// What there is to say about it.
    pub lines: Vec<String>,
}

impl Done {
    pub(super) fn well(line: impl Into<String>) -> Done {
        Done {
            done: true,
            lines: vec![line.into()],
        }
    }

    pub(super) fn badly(lines: Vec<String>) -> Done {
        Done { done: false, lines }
    }
}

/// The connection on which an order was given.
pub struct Given {
    line: Line,
}

/// Gives an order to the gateway whose `state.dir` this is, and waits at most `patience` for what comes
/// of it.
///
/// # Errors
/// Nothing runs there, or it does not answer.
pub fn give(state: &Path, order: &Order, patience: Duration) -> Result<(Done, Given)> {
    let mut line = connect(state)?;
    line.send(order)?;
    line.wait_at_most(patience)?;
    let done = line.receive()?;
    Ok((done, Given { line }))
}

/// The process that takes orders for this `state.dir`, where one does and this one may ask.
pub fn process(state: &Path) -> Option<i32> {
    connect(state).ok()?.peer()
}

/// # Errors
/// Nothing runs there.
pub(super) fn connect(state: &Path) -> Result<Line> {
    let path = state.join(FOLDER).join(SOCKET);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => bail!(
            "nothing runs with the state folder {}; `poolgate run` starts the gateway, and \
             `--state DIR` reaches one that was started with another folder",
            state.display()
        ),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    Ok(Line::new(stream)?)
}

impl Given {
    /// Waits until the gateway's process has ended.
    ///
    /// # Errors
    /// It has not within `patience`.
    pub fn wait_for_end(mut self, patience: Duration) -> io::Result<()> {
        self.line.wait_at_most(patience)?;
        match self.line.reader.read(&mut [0]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(e),
            _ => Ok(()),
        }
    }
}

/// Messages over a connection, each on a line of its own.
pub(super) struct Line {
    pub(super) reader: BufReader<UnixStream>,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> io::Result<Line> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Line {
            reader: BufReader::new(stream),
        })
    }

    /// For the next message.
    pub(super) fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        let patience = patience.max(Duration::from_millis(1));
        self.reader.get_ref().set_read_timeout(Some(patience))
    }

    /// The process at the other end; none: it counts its processes otherwise than we do.
    fn peer(&self) -> Option<i32> {
        let peer = getsockopt(self.reader.get_ref(), PeerCredentials);
        peer.ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
    }

    /// Has the process at the other end surely ended?
    pub(super) fn is_alone(&self) -> bool {
        let Some(peer) = self.peer() else {
            return false;
        };
        match fs::read_to_string(format!("/proc/{peer}/stat")) {
            Err(error) => error.kind() == ErrorKind::NotFound,
            // Its parent has not taken note yet (proc(5)).
            Ok(stat) => stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        }
    }

    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        bytes.push(b'\n');
        Ok(self.reader.get_ref().write_all(&bytes)?)
    }

    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self.reader.by_ref().take(LONGEST).read_line(&mut line);
        read.context("no answer")?;
        ensure!(line.ends_with('\n'), "the other side has left");
        Ok(serde_json::from_str(&line)?)
    }
}

/// The socket, for as long as it is ours.
struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Puts a new socket in the place of whatever is there: a crash leaves one behind, and a successor
    /// takes it over.
    fn open(state: &Path) -> Result<(Socket, UnixListener)> {
        let folder = state.join(FOLDER);
        own_folder(&folder)?;
        let path = folder.join(SOCKET);
        let new = folder.join(format!("{}.{SOCKET}", process::id()));
        // It would be left of a process with the same number.
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        Ok((Socket { path, inode }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_ours {
            // Whoever finds it without us is told that nothing runs.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A folder that nobody else can look into or put anything in.
fn own_folder(folder: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
    ensure!(is_ours, "{} is not a folder of ours", folder.display());
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Takes orders until the task is dropped.
pub(super) async fn take(app: &Arc<App>) {
    // Until a successor's time has come its predecessor takes them.
    if app.handing.is_heir.load(Ordering::SeqCst) {
        app.handing.agreed.notified().await;
    }
    let (_socket, listener) = opened(app).await;
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        // Its permit is never taken away, so waiting for one does not fail.
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                // A thread and no task: orders are seldom, wait long, and must not hold up the end.
                thread::spawn(move || {
                    let _place = place;
                    if let Err(error) = serve(&app, stream) {
                        tracing::warn!("an order was not carried out: {error:#}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("no orders can be taken for a moment: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// The socket, as soon as it can be had: without it this gateway serves all the same. Only an heir whose
/// predecessor takes orders is not needed then.
async fn opened(app: &App) -> (Socket, UnixListener) {
    let mut is_told = false;
    loop {
        let opened = Socket::open(&app.first.state.dir);
        let heard = app.handing.reachable.lock().take();
        match opened {
            Ok(opened) => {
                if let Some(told) = heard {
                    let _ = told.send(Ok(()));
                }
                return opened;
            }
            Err(error) => {
                if !is_told {
                    tracing::error!("the command line cannot reach this gateway: {error:#}");
                }
                is_told = true;
                if let Some(told) = heard {
                    let _ = told.send(Err(error));
                }
            }
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

fn serve(app: &Arc<App>, stream: tokio::net::UnixStream) -> Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let mut line = Line::new(stream)?;
    if line.reader.fill_buf()?.is_empty() {
        // Somebody looked whether anybody is here.
        return Ok(());
    }
    let order: Order = line.receive()?;
    match order {
        Order::Reload => {
            let done = reload(app);
            line.send(&done)
        }
        Order::Upgrade { patience } => {
            // The end of the process must not come before the answer.
            let _busy = Busy::new(&app.in_flight);
            line.send(&upgrade::order(app, patience))
        }
        Order::TakeOver { successor } => upgrade::hand_over(app, line, successor),
        Order::Stop => {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM)?;
            let under_way = app.queue().active;
            line.send(&Done::well(format!(
                "stopping, requests under way: {under_way}"
            )))?;
            line.reader.get_ref().set_read_timeout(None)?;
            // Until the asker has gone, or this process.
            let _ = line.reader.read(&mut [0]);
            Ok(())
        }
    }
}

/// Counts as a request under way.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Busy<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn reload(app: &Arc<App>) -> Done {
    match app.reload() {
        Ok(reloaded) => {
            let mut lines = vec!["the configuration was reloaded".to_owned()];
            if !reloaded.needs_upgrade.is_empty() {
                lines.push(format!(
                    "these keys take effect with the next `poolgate upgrade`: {}",
                    reloaded.needs_upgrade.join(", ")
                ));
            }
            Done { done: true, lines }
        }
        Err(problems) => Done::badly(problems),
    }
}
