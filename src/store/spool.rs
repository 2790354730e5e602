//! The writer of usage: rows wait in memory while the database is away, for a bounded number of them,
//! and in a file when the gateway ends meanwhile; what is too old is deleted in small steps.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::usage::{BATCH, Row, Told};
use super::{RequestRecord, Store, StoreError, millis};
use crate::clock::{self, Instant};
use crate::config::Keep;

/// The longest that a row waits for others.
const SECOND: Duration = Duration::from_secs(1);

/// Rows that wait in memory: half an hour of 50 requests a second, some 40 MB.
const MOST: usize = 100_000;

/// Even a slow database takes so many in its time.
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
    received: mpsc::Receiver<Row>,
    told: Arc<Told>,
    /// Those that the database has not taken yet, the oldest first.
    spool: VecDeque<Arc<RequestRecord>>,
    /// So many of the first ones may have been taken, in a call whose answer was lost.
    doubtful: usize,
    /// How many are written at a time: fewer to a database that is too slow for more.
    batch: usize,
    next_id: i64,
    is_away: bool,
    lost: usize,
    sweep_at: Instant,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        keep: Keep,
        dir: &Path,
        received: mpsc::Receiver<Row>,
        told: Arc<Told>,
    ) -> Self {
        Writer {
            store,
            keep,
            dir: dir.to_owned(),
            received,
            told,
            spool: VecDeque::new(),
            doubtful: 0,
            batch: BATCH,
            // Two processes hardly ever begin so near to each other that they meet.
            next_id: fastrand::i64(1..i64::MAX >> 1),
            is_away: false,
            lost: 0,
            sweep_at: clock::now(),
        }
    }

    /// Until nobody can record any more.
    pub(super) async fn run(mut self) {
        self.take_left();
        loop {
            // Woken for a full batch, or for somebody who waits.
            let _ = tokio::time::timeout(SECOND, self.told.wake.notified()).await;
            let asked = self.told.asked.load(Ordering::SeqCst);
            let is_ending = self.told.is_ending.load(Ordering::SeqCst);
            let is_over = self.receive() || is_ending;
            self.write().await;
            self.told.answered.fetch_max(asked, Ordering::SeqCst);
            if is_over {
                self.leave();
                self.told.has_ended.store(true, Ordering::SeqCst);
                return;
            }
            if !self.is_away && clock::now() >= self.sweep_at {
                self.sweep().await;
            }
        }
    }

    /// Takes what was recorded. True: nothing will be any more.
    fn receive(&mut self) -> bool {
        loop {
            match self.received.try_recv() {
                Ok(row) => {
                    self.told.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.take(row);
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn take(&mut self, row: Row) {
        let request = Arc::new(RequestRecord::of(self.next_id, row));
        self.next_id += 1;
        self.told.show(request.clone());
        if !request.is_used() {
            return;
        }
        self.spool.push_back(request);
        if self.spool.len() > MOST {
            self.spool.pop_front();
            self.doubtful = self.doubtful.saturating_sub(1);
            self.told.lost(1);
            self.lost += 1;
        }
        self.told
            .unwritten
            .store(self.spool.len(), Ordering::SeqCst);
    }

    /// Writes all that waits, or as much as the database takes.
    async fn write(&mut self) {
        while !self.spool.is_empty() {
            let rows = self.spool.len().min(self.batch);
            let batch = &self.spool.make_contiguous()[..rows];
            let added = tokio::select! {
                added = self.store.add_requests(batch, self.doubtful > 0) => added,
                () = self.told.give_up.notified() => Err(self.store.away("this gateway ends")),
            };
            match added {
                Ok(()) => {
                    self.spool.drain(..rows);
                    self.batch = (self.batch * 2).min(BATCH);
                    self.doubtful = self.doubtful.saturating_sub(rows);
                }
                Err(error) => {
                    self.doubtful = self.doubtful.max(rows);
                    self.batch = (self.batch / 2).max(LEAST);
                    self.note(Some(&error));
                    break;
                }
            }
        }
        self.told
            .unwritten
            .store(self.spool.len(), Ordering::SeqCst);
        if self.spool.is_empty() {
            self.note(None);
        }
    }

    /// Says once that the database went away, and once that it is back.
    fn note(&mut self, error: Option<&StoreError>) {
        match (error, self.is_away) {
            (Some(error), false) => {
                tracing::warn!("requests are served, and their usage waits in memory: {error}");
            }
            (None, true) => {
                let lost = std::mem::take(&mut self.lost);
                tracing::info!(lost, "the usage that waited is written");
            }
            _ => {}
        }
        self.is_away = error.is_some();
    }

    /// Deletes what is older than it is to be kept, some of it if there is much.
    async fn sweep(&mut self) {
        let now = millis(clock::wall());
        for _ in 0..STEPS {
            match self.store.forget(&self.keep, now).await {
                Ok(true) => {}
                Ok(false) => {
                    self.sweep_at = clock::now() + SWEEP_EVERY;
                    return;
                }
                Err(error) => {
                    tracing::warn!("old records are not deleted: {error}");
                    self.sweep_at = clock::now() + SWEEP_EVERY;
                    return;
                }
            }
        }
    }

    /// What cannot be written before the end waits in a file for the next start.
    fn leave(&mut self) {
        if self.spool.is_empty() {
            return;
        }
        let rows = self.spool.len();
        match self.save() {
            Ok(path) => tracing::warn!(
                "{rows} rows of usage wait in {} for the database",
                path.display()
            ),
            Err(error) => {
                self.told.lost(rows);
                tracing::error!("{rows} rows of usage are lost: {error}");
            }
        }
    }

    fn save(&mut self) -> io::Result<PathBuf> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let mut lines = io::BufWriter::new(file.as_file_mut());
        for row in self.spool.drain(..) {
            serde_json::to_writer(&mut lines, &*row)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
        drop(lines);
        file.as_file().sync_all()?;
        let path = self.dir.join(format!("usage-{:x}.spool", self.next_id));
        file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }

    /// Takes the rows that processes before this one could not write.
    fn take_left(&mut self) {
        let Ok(files) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for path in files.flatten().map(|file| file.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let is_left = |name: &str| name.starts_with("usage-") && name.ends_with(".spool");
            if !name.is_some_and(is_left) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let rows = text.lines().map(serde_json::from_str::<RequestRecord>);
            let room = MOST - self.spool.len();
            let rows = rows.map_while(Result::ok).map(Arc::new);
            self.spool.extend(rows.take(room));
            // Whoever ends before they are written leaves them again.
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("{}: {error}", path.display());
            }
        }
        self.doubtful = self.spool.len();
    }
}
