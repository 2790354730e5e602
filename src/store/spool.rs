//! The writer of usage: what was gathered waits in memory while the database is away, and in a file when
//! the gateway ends meanwhile; what is too old is deleted in small steps.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::gather::Item;
use super::left::{self, Left};
use super::usage::{Intake, Name};
use super::{Store, StoreError, millis};
use crate::clock::{self, Instant};
use crate::config::Keep;

/// The longest that a request waits for others, where there are not too many.
const SECOND: Duration = Duration::from_secs(1);

/// Items of one transaction; and even a slow database takes so few in its time.
const BATCH: usize = 500;
const LEAST: usize = 16;

/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Steps of a sweep before new rows get their turn.
const STEPS: usize = 10;

/// The writer's task.
pub(super) struct Writer {
    store: Store,
    keep: Keep,
    dir: PathBuf,
    name: Name,
    intake: Intake,
    /// What is being written: first what other processes left.
    waiting: VecDeque<Left>,
    /// The number of the next item of this process.
    next_item: i64,
    /// How many are written at a time: fewer to a database that is too slow for more.
    batch: usize,
    is_away: bool,
    /// Of what is written now something was refused, and the log was told.
    is_refused: bool,
    written: Instant,
    sweep_at: Instant,
    /// The last time that it was looked how late it is.
    looked: Instant,
    /// The log was told that the clock may be wrong.
    is_ahead: bool,
}

impl Writer {
    pub(super) fn new(store: Store, keep: Keep, dir: &Path, name: Name, intake: Intake) -> Self {
        let now = clock::now();
        Writer {
            store,
            keep,
            dir: dir.to_owned(),
            name,
            intake,
            waiting: VecDeque::new(),
            next_item: 1,
            batch: BATCH,
            is_away: false,
            is_refused: false,
            written: now,
            sweep_at: now,
            looked: now,
            is_ahead: false,
        }
    }

    /// Until nobody can record any more.
    pub(super) async fn run(mut self) {
        self.take_left();
        let told = self.intake.told.clone();
        loop {
            let answered = told.answered.load(Ordering::SeqCst);
            let is_ending = || told.is_ending.load(Ordering::SeqCst);
            if told.asked.load(Ordering::SeqCst) == answered && !is_ending() {
                // Woken for many rows, or for somebody who waits.
                let _ = tokio::time::timeout(SECOND, told.wake.notified()).await;
            }
            if told.is_left.swap(false, Ordering::SeqCst) {
                self.take_left();
            }
            let asked = told.asked.load(Ordering::SeqCst);
            let is_last = is_ending();
            self.intake.take();
            let is_over = self.intake.is_over || is_last;
            if is_over || asked > answered || clock::now() >= self.written + self.patience() {
                self.write().await;
                self.written = clock::now();
                told.answered.fetch_max(asked, Ordering::SeqCst);
            }
            if is_over {
                self.leave();
                told.has_ended.store(true, Ordering::SeqCst);
                return;
            }
            if !self.is_away && clock::now() >= self.sweep_at {
                self.sweep().await;
            }
        }
    }

    fn patience(&self) -> Duration {
        match self.waiting.is_empty() {
            true => self.intake.gather.patience(),
            false => SECOND,
        }
    }

    /// Writes all that was gathered by now, or as much as the database takes.
    async fn write(&mut self) {
        let mut is_sealed = false;
        let mut error = None;
        self.is_refused = false;
        while error.is_none() {
            if self.waiting.is_empty() {
                // What comes meanwhile has its turn the next time.
                if is_sealed || !self.seal() {
                    break;
                }
                is_sealed = true;
            }
            error = self.write_some().await.err();
        }
        let unwritten = self.waiting.iter().map(|left| left.items.len()).sum();
        let told = &self.intake.told;
        told.unwritten.store(unwritten, Ordering::SeqCst);
        self.note(error.as_ref());
    }

    /// False: there is nothing.
    fn seal(&mut self) -> bool {
        let items = self.intake.gather.seal();
        if items.is_empty() {
            return false;
        }
        let first = self.next_item;
        self.next_item += items.len() as i64;
        match self.waiting.back_mut() {
            Some(own) if own.file.is_none() => own.items.extend(items),
            _ => self.waiting.push_back(Left {
                writer: self.name.clone(),
                first,
                items,
                file: None,
            }),
        }
        true
    }

    async fn write_some(&mut self) -> Result<(), StoreError> {
        let Some(left) = self.waiting.front_mut() else {
            return Ok(());
        };
        let count = left.items.len().min(self.batch);
        let some = &left.items.make_contiguous()[..count];
        let now = millis(clock::wall());
        let added = self.store.add(&left.writer, left.first, some, now);
        let told = self.intake.told.clone();
        let added = async {
            tokio::select! {
                added = added => added,
                () = told.give_up.notified() => Err(self.store.away("this gateway ends")),
            }
        };
        let added = self.intake.meanwhile(added).await;
        self.batch = match added {
            Ok(()) => (self.batch * 2).min(BATCH),
            // Which of them it is is found out by halves.
            Err(StoreError::Refused { .. }) => (count / 2).max(1),
            Err(_) => (count / 2).max(LEAST),
        };
        match added {
            Ok(()) => self.is_done(count),
            Err(error @ StoreError::Refused { .. }) if count == 1 => self.lose(&error),
            Err(StoreError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// So many of the first need not wait any more.
    fn is_done(&mut self, count: usize) {
        let Some(left) = self.waiting.front_mut() else {
            return;
        };
        left.items.drain(..count);
        left.first += count as i64;
        if left.items.is_empty() {
            left.forget();
            self.waiting.pop_front();
        }
    }

    /// The first is refused for good, and all others would wait behind it for ever.
    fn lose(&mut self, error: &StoreError) {
        let first = self.waiting.front().and_then(|left| left.items.front());
        let requests = first.map_or(0, Item::requests).max(1);
        self.intake.told.lost(requests);
        if !self.is_refused {
            tracing::error!(
                "usage that can never be written is lost, and counted as lost: {error}"
            );
        }
        self.is_refused = true;
        self.is_done(1);
    }

    /// Says once that the database went away, and once that it is back.
    fn note(&mut self, error: Option<&StoreError>) {
        match (error, self.is_away) {
            (Some(error), false) => {
                tracing::warn!("requests are served, and their usage waits in memory: {error}");
            }
            (None, true) => {
                let lost = std::mem::take(&mut self.intake.lost);
                tracing::info!(lost, "the usage that waited is written");
            }
            _ => {}
        }
        self.is_away = error.is_some();
        self.intake.gather.be_coarse(self.is_away);
    }

    /// Deletes what is older than it is to be kept, some of it if there is much; and looks for what processes
    /// left that ended meanwhile.
    async fn sweep(&mut self) {
        self.take_left();
        let now = match self.sweep_time().await {
            Ok(now) => now,
            Err(error) => return self.is_not_swept(&error),
        };
        let longest = self.intake.told.longest_window.load(Ordering::Relaxed);
        let longest = (longest > 0).then(|| Duration::from_millis(longest));
        for _ in 0..STEPS {
            let forgot = self.store.forget(&self.keep, longest, now);
            match self.intake.meanwhile(forgot).await {
                Ok(true) => {}
                Ok(false) => {
                    self.sweep_at = clock::now() + SWEEP_EVERY;
                    return;
                }
                Err(error) => return self.is_not_swept(&error),
            }
        }
    }

    fn is_not_swept(&mut self, error: &StoreError) {
        tracing::warn!("old records are not deleted: {error}");
        self.sweep_at = clock::now() + SWEEP_EVERY;
    }

    /// How late it is, for records that are too old. A clock that jumps ahead must not delete them all.
    async fn sweep_time(&mut self) -> Result<i64, StoreError> {
        const DAY: i64 = 86_400_000;
        let (now, wall) = (clock::now(), millis(clock::wall()));
        let passed = now.saturating_duration_since(self.looked);
        let time = self.store.sweep_time(wall, passed);
        let time = self.intake.meanwhile(time).await?;
        self.looked = now;
        let days = (wall - time) / DAY;
        if days > 1 && !self.is_ahead {
            tracing::warn!(
                "old records were last deleted {days} days ago, says the clock: should it be wrong, set it \
                 right; they go at a day of them an hour"
            );
        }
        self.is_ahead = days > 1;
        Ok(time)
    }

    /// What cannot be written before the end waits in a file for the next start.
    fn leave(&mut self) {
        self.seal();
        let Some(own) = self.waiting.pop_back_if(|left| left.file.is_none()) else {
            return;
        };
        let requests: usize = own.items.iter().map(Item::requests).sum();
        match own.save(&self.dir) {
            Ok(path) => tracing::warn!(
                "the usage of {requests} requests waits in {} for the database",
                path.display()
            ),
            Err(error) => {
                self.intake.told.lost(requests);
                tracing::error!("the usage of {requests} requests is lost: {error}");
            }
        }
    }

    /// Takes what other processes could not write. Nothing is being written now.
    fn take_left(&mut self) {
        for left in left::all(&self.dir) {
            if self.waiting.iter().all(|known| known.file != left.file) {
                // Before what is of this process, to which more is added.
                self.waiting.push_front(left);
            }
        }
    }
}
