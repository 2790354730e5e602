//! The running gateway's side: it starts a successor where it is told to, hands over to one that asks,
//! and finishes its requests only when that one serves.

use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::super::listeners::SERVICES;
use super::super::orders::{Done, Line};
use super::super::{App, Handed, systemd};
use super::{Chosen, Left, News, STEP, Used, places, sockets};
use crate::admin::Control;
use crate::clock::{self, Instant};
use crate::limit::More;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Listeners close within microseconds, where the processor is free.
const CLOSING: Duration = Duration::from_secs(10);

/// A message of a process that has just ended may still be on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Set for as long as it lives.
struct Claim<'a>(&'a AtomicBool);

impl<'a> Claim<'a> {
    fn of(flag: &'a AtomicBool) -> Option<Claim<'a>> {
        (!flag.swap(true, Ordering::SeqCst)).then_some(Claim(flag))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Starts a successor and waits until it serves, or is known not to. At most `patience` goes by.
pub(in crate::app) fn order(app: &Arc<App>, patience: Duration) -> Done {
    let Some(_only) = Claim::of(&app.handing.is_ordered) else {
        return Done::badly(vec!["an upgrade is under way already".to_owned()]);
    };
    if std::process::id() == 1 {
        let why = "this gateway is the first process of a container, which ends with it: \
                   replace the container";
        return Done::badly(vec![why.to_owned()]);
    }
    if app.config_path.is_none() {
        return Done::badly(vec!["this gateway was started without a file".to_owned()]);
    }
    let (told, tells) = mpsc::channel();
    *app.handing.told.lock() = Some(told);
    let ended = match start(app) {
        Err(error) => Err(vec![format!("no successor can be started: {error}")]),
        Ok(mut child) => wait(app, &mut child, &tells, patience).inspect_err(|_| {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }),
    };
    *app.handing.told.lock() = None;
    match ended {
        Ok(successor) => Done::well(format!(
            "process {successor} serves now; process {} finishes its requests and ends",
            std::process::id()
        )),
        Err(mut lines) => {
            lines.push("nothing has changed: the gateway goes on as it was".to_owned());
            tracing::error!("no upgrade: {}", lines.join("\n"));
            Done::badly(lines)
        }
    }
}

/// The program that is where this one was when it started, with the same arguments and environment.
fn start(app: &App) -> Result<Child> {
    let Some(program) = &app.handing.program else {
        bail!("it is not known which program this is");
    };
    let mut upgrade = OsString::from("--upgrade=");
    upgrade.push(std::path::absolute(&app.first.state.dir)?);
    let own = std::env::args_os().skip(1);
    let own = own.filter(|text| !text.as_encoded_bytes().starts_with(b"--upgrade"));
    Ok(Command::new(program)
        .args(own)
        .arg(upgrade)
        // It names this process; without it whoever runs here may feed systemd's watchdog.
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .spawn()?)
}

fn wait(
    app: &App,
    child: &mut Child,
    tells: &mpsc::Receiver<Handed>,
    patience: Duration,
) -> Result<u32, Vec<String>> {
    let deadline = clock::now() + patience;
    loop {
        match tells.recv_timeout(LOOK_EVERY) {
            Ok(handed) => return handed,
            Err(RecvTimeoutError::Disconnected) => return Err(vec!["an upgrade was lost".into()]),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            let why = match tells.recv_timeout(LAST_WORDS) {
                Ok(Err(lines)) => lines,
                _ => vec![],
            };
            let ended = format!("the successor ended with {status} before it could serve");
            return Err([why, vec![ended]].concat());
        }
        // Whoever takes the other end first decides: this order is over, or the successor serves.
        if clock::now() >= deadline && app.handing.told.lock().take().is_some() {
            let seconds = patience.as_secs_f64();
            return Err(vec![format!(
                "the successor did not serve within {seconds} s"
            )]);
        }
    }
}

/// Hands over to the process that asks on `line`.
///
/// # Errors
/// It does not take over, and nothing has changed.
pub(in crate::app) fn hand_over(app: &Arc<App>, mut line: Line, successor: u32) -> Result<()> {
    let claim = Claim::of(&app.handing.is_under_way);
    ensure!(claim.is_some(), "another process takes over already");
    ensure!(!app.draining() && !app.leaving(), "this gateway is ending");
    tracing::info!(successor, "a successor prepares to take over");
    let is_ordered = app.handing.told.lock().is_some();
    let done = lead(app, &mut line);
    // Decided here: whoever ordered this does not end the successor from now on.
    let told = app.handing.told.lock().take();
    let in_time = || {
        ensure!(!is_ordered || told.is_some(), "it came too late");
        Ok(())
    };
    let copied = match done.and_then(|copied| in_time().map(|()| copied)) {
        Ok(copied) => copied,
        Err(error) => {
            if let Some(told) = told {
                // Whoever ordered it may have given up.
                let _ = told.send(Err(vec![format!("{error:#}")]));
            }
            return Err(error.context("a successor did not take over"));
        }
    };
    tracing::info!(
        successor,
        "a successor serves; this process finishes its requests"
    );
    systemd::tell(&[sd_notify::NotifyState::MainPid(successor)]);
    // The connections' tasks must know before they are told to stop.
    app.leaving.store(true, Ordering::SeqCst);
    app.handing.is_over.notify_one();
    wait_until_closed(app);
    if let Some(told) = told {
        let _ = told.send(Ok(successor));
    }
    // For ever: the sockets are another's now.
    std::mem::forget(claim);
    // Requests were taken here until now. A successor that has gone already counts nothing.
    let _ = line.send(&used_since(app, copied));
    places::share(app, line)
}

/// Whoever ordered the upgrade finds none but the successor behind the addresses from here on.
fn wait_until_closed(app: &App) {
    let closed = || app.handing.closed.load(Ordering::SeqCst) >= SERVICES;
    let deadline = clock::now() + CLOSING;
    while !closed() && clock::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Callers who are at home somewhere, and as many answers, that a successor is told of: each takes some 30 bytes of
/// a message of 64 MB, in which 50,000 accounts must find room as well.
const CALLERS: usize = 400_000;

/// What was used is written down meanwhile, unless the database is away.
const FLUSH: Duration = Duration::from_secs(2);

/// What the successor was told, and when.
type Copied = (Left, Instant);

/// Up to the moment from which the other one is answerable for new connections.
fn lead(app: &App, line: &mut Line) -> Result<Copied> {
    let Some(table) = app.handing.sockets.get() else {
        bail!("this gateway has not begun to listen yet");
    };
    let age = app.age();
    sockets::send(line.reader.get_ref(), table, age.as_millis() as u64)?;
    step(line, &News::Prepared)?;
    // The successor reads what each key has used.
    app.usage.flush(FLUSH);
    let now = clock::now();
    let left = left(app, now);
    line.send(&left)?;
    step(line, &News::Serving)?;
    ensure!(!app.draining(), "this gateway was told to end");
    line.send(&true)?;
    step(line, &News::Reachable)?;
    Ok((left, now))
}

/// What accounts have used of their limits after the copy of their state.
fn used_since(app: &App, (left, then): Copied) -> Used {
    let now = clock::now();
    let mut more = More::new();
    for pool in app.pools.load().iter() {
        pool.used_since(&left.accounts, then, now, &mut more);
    }
    Used { more }
}

fn left(app: &App, now: Instant) -> Left {
    let pools = app.pools.load();
    let callers = CALLERS / pools.len().max(1);
    let config = app.config.load();
    let strategies = config.pools.iter().filter_map(|written| {
        let pool = pools.iter().find(|pool| *pool.name == *written.name)?;
        let chosen = pool.settings().strategy;
        (chosen != written.strategy).then(|| Chosen {
            pool: written.name.clone(),
            written: written.strategy.name().to_owned(),
            chosen: chosen.name().to_owned(),
        })
    });
    Left {
        accounts: pools
            .iter()
            .flat_map(|pool| pool.bequeath(callers, now))
            .collect(),
        strategies: strategies.collect(),
        told: app.notices.told(),
        writer: Some(app.usage.writer()),
    }
}

fn step(line: &mut Line, expected: &News) -> Result<()> {
    line.wait_at_most(STEP)?;
    match (line.receive()?, expected) {
        (News::Failed { lines }, _) => bail!("{}", lines.join("\n")),
        (News::Prepared, News::Prepared)
        | (News::Serving, News::Serving)
        | (News::Reachable, News::Reachable) => Ok(()),
        (news, _) => bail!("the successor says {news:?} too early"),
    }
}
