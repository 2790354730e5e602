//! The life of one account's program, as one task:
//!
//! ```text
//! starting -> ready -> (ends, hangs) error -> (a growing wait) starting
//!                                          -> (too often in a row) failed
//! cannot be started (no auth file, port in use) -> failed, until it can
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::program::{Phase, Program};
use super::turn::Turn;
use super::{Instances, Owner, output};
use crate::backoff::Backoff;
use crate::clock;
use crate::config;
use crate::pool::{Account, Pool};

/// How often it is looked whether something changed.
const TICK: Duration = Duration::from_millis(200);

/// How often a program that was started is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked whether what was in the way of a start has gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked whether requests under way are done.
const LOOK_AT_REQUESTS: Duration = Duration::from_millis(50);

/// A program that was ready for so long starts with a clean record when it fails again; longer if
/// its restarts are further apart.
const STEADY: Duration = Duration::from_secs(30);

pub(super) struct Supervisor {
    pub(super) instances: Arc<Instances>,
    pub(super) owner: Arc<dyn Owner>,
    pub(super) program: Arc<Program>,
    /// For the first start.
    pub(super) turn: Option<Turn>,
    /// The account as it was seen last, for when it is gone.
    pub(super) seen: Mutex<Option<(Arc<Pool>, Arc<Account>)>>,
}

/// An account that wants its program to run.
pub(super) struct Seat {
    pub(super) pool: Arc<Pool>,
    pub(super) account: Arc<Account>,
    pub(super) instance: config::Instance,
}

enum Wish {
    Run(Seat),
    Rest,
    Leave,
}

/// Why a program does not serve any more, or does not begin to.
pub(super) enum End {
    /// Something else is wanted; requests under way have this long.
    Changed(Duration),
    /// It was not even started: something is in the way that may go.
    Cannot(String),
    Failed(String),
}

impl Supervisor {
    /// Runs until the account is gone or has no program any more.
    pub(super) async fn run(mut self) {
        if let Some(found) = self.instances.found(&self.program.id) {
            self.program.started(found);
        }
        loop {
            let turn = self.turn.take();
            match self.wish() {
                Wish::Leave => {
                    self.end(self.drain_timeout()).await;
                    return;
                }
                Wish::Rest => {
                    self.end(self.drain_timeout()).await;
                    self.program.show(Phase::Disabled, None);
                    while matches!(self.wish(), Wish::Rest) {
                        tokio::time::sleep(TICK).await;
                    }
                }
                Wish::Run(seat) => {
                    let end = self.serve(&seat, turn).await;
                    self.after(end, &seat).await;
                }
            }
        }
    }

    fn wish(&self) -> Wish {
        let Some((pool, account)) = self.place() else {
            return Wish::Leave;
        };
        match account.config.instance.clone() {
            None => Wish::Leave,
            Some(_) if !account.config.enabled => Wish::Rest,
            Some(instance) => Wish::Run(Seat {
                pool,
                account,
                instance,
            }),
        }
    }

    /// The account as it is now.
    fn place(&self) -> Option<(Arc<Pool>, Arc<Account>)> {
        let pools = self.owner.pools();
        let found = |pool: &Arc<Pool>| Some((pool.clone(), pool.account_named(&self.program.id)?));
        let found = pools.iter().find_map(found);
        if found.is_some() {
            self.seen.lock().clone_from(&found);
        }
        found
    }

    /// Where the account is now, or was last: it may have come to another pool since `seat`.
    pub(super) fn last_place(&self, seat: &Seat) -> (Arc<Pool>, Arc<Account>) {
        let seen = self.place().or_else(|| self.seen.lock().clone());
        seen.unwrap_or_else(|| (seat.pool.clone(), seat.account.clone()))
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        self.owner.config().server.drain_timeout
    }

    /// Has the program run until it ends or should.
    async fn serve(&self, seat: &Seat, turn: Option<Turn>) -> End {
        // What could not be started is shown as that until it can.
        if self.program.phase() != Phase::Failed {
            self.program.show(Phase::Starting, None);
        }
        let started = tokio::select! {
            started = self.running(seat, turn) => started,
            patience = self.changed(seat) => return End::Changed(patience),
        };
        let running = match started {
            Ok(running) => running,
            Err(end) => return end,
        };
        self.owner.listens(&self.program.id, running.port);
        tokio::select! {
            biased;
            how = running.process.ended() => End::Failed(how),
            patience = self.changed(seat) => End::Changed(patience),
            why = self.watch() => End::Failed(why),
        }
    }

    pub(super) fn stop_timeout(&self) -> Duration {
        self.owner.config().instances.stop_timeout
    }

    /// Returns when something else is wanted than this program, with the time that requests under
    /// way have.
    async fn changed(&self, seat: &Seat) -> Duration {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.program.wake.notified() => {}
            }
            if self.program.asked.swap(false, Ordering::SeqCst) {
                return self.stop_timeout();
            }
            match self.wish() {
                Wish::Run(now) if now.instance == seat.instance => {}
                _ => return self.drain_timeout(),
            }
        }
    }

    /// Lets the account serve once its program is ready; returns why it should not any more.
    async fn watch(&self) -> String {
        let settings = &self.owner.config().instances;
        let mut said = String::new();
        let ready = tokio::time::timeout(settings.ready_timeout, self.ready(&mut said));
        if ready.await.is_err() {
            return format!("was not ready within {:?}: {said}", settings.ready_timeout);
        }
        let id = &self.program.id;
        let steady = STEADY.max(settings.restart.backoff_max);
        let since = clock::now();
        self.program.show(Phase::Ready, None);
        tracing::info!(account = &**id, "its program is ready");
        loop {
            if let Some((pool, account)) = self.place() {
                if let Some(why) = account.health_failure() {
                    return format!("does not answer as it should: {why}");
                }
                // Also where the account is a new one of the same name.
                if account.awaits_program() {
                    pool.program_up(id);
                }
            }
            if clock::now().saturating_duration_since(since) >= steady {
                self.program.failures.store(0, Ordering::Relaxed);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Returns when the program's own health path answers as it should.
    async fn ready(&self, said: &mut String) {
        loop {
            if let Some((pool, account)) = self.place() {
                match self.owner.health().ask(&account).await {
                    // One that was found running may serve already, and has its state.
                    Ok(()) if !account.awaits_program() && account.health_failure().is_none() => {
                        return;
                    }
                    Ok(()) => return pool.program_up(&self.program.id),
                    Err(why) => *said = why,
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn after(&self, end: End, seat: &Seat) {
        let id = &self.program.id;
        match end {
            End::Changed(patience) => {
                self.program.failures.store(0, Ordering::Relaxed);
                self.end(patience).await;
            }
            End::Cannot(why) => {
                if self.program.show(Phase::Failed, Some(&why)) {
                    self.last_place(seat).0.program_down(id, Some(&why));
                    tracing::error!(account = &**id, "its program {why}");
                }
                self.wait(LOOK_AGAIN, seat).await;
            }
            End::Failed(why) => {
                // First of all nobody is sent there any more.
                let said = format!("its program {why}");
                self.last_place(seat).0.program_down(id, Some(&said));
                self.program.show(Phase::Error, Some(&why));
                if let Some(running) = self.program.running() {
                    running.process.stop(self.stop_timeout()).await;
                    self.program.over(&self.instances.folder);
                }
                self.failed(&why, seat).await;
            }
        }
    }

    /// Waits until the program may be started again, or gives it up.
    async fn failed(&self, why: &str, seat: &Seat) {
        let id = &self.program.id;
        let restart = self.owner.config().instances.restart.clone();
        let failures = self.program.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let log = output::log_path(&self.instances.folder, id);
        let log = log.display();
        if restart.enabled && failures < restart.give_up_after {
            let backoff = Backoff {
                first: restart.backoff,
                factor: 2.0,
                most: restart.backoff_max,
            };
            let wait = backoff.wait(failures, fastrand::f64());
            tracing::error!(
                account = &**id,
                failures,
                "its program {why}; it is started again in {wait:.1?}; it may say more in {log}"
            );
            self.wait(wait, seat).await;
            return;
        }
        self.program.show(Phase::Failed, None);
        tracing::error!(
            account = &**id,
            failures,
            "its program {why}; it is not started again; it may say more in {log}"
        );
        let (pool, _) = self.last_place(seat);
        self.owner.gave_up(&pool, id);
        self.changed(seat).await;
        self.program.failures.store(0, Ordering::Relaxed);
    }

    /// Waits so long, or until something else is wanted.
    async fn wait(&self, longest: Duration, seat: &Seat) {
        if tokio::time::timeout(longest, self.changed(seat))
            .await
            .is_ok()
        {
            self.program.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Ends the program when its requests are done, also those of a poolgate before this one, or have
    /// had their time.
    pub(super) async fn end(&self, patience: Duration) {
        let Some(running) = self.program.running() else {
            return;
        };
        let seen = self.seen.lock().clone();
        if let Some((pool, account)) = seen {
            pool.program_down(&self.program.id, None);
            let until = clock::now() + patience;
            while account.places_held() > 0 && clock::now() < until {
                tokio::time::sleep(LOOK_AT_REQUESTS).await;
            }
        }
        running.process.stop(self.stop_timeout()).await;
        self.program.over(&self.instances.folder);
        self.program.show(Phase::Stopped, None);
        // Who leaves is not looked at again: these are its last words.
        let (instances, program) = (self.instances.clone(), self.program.clone());
        let rotate = self.owner.config().instances.log;
        let follow = move || program.follow(&instances.folder, rotate);
        let _ = tokio::task::spawn_blocking(follow).await;
        tracing::info!(account = &*self.program.id, "its program is stopped");
    }
}
