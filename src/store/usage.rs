//! Where requests that are over are written down: off their path, without waiting, without failing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::spool::Writer;
use super::{RequestRecord, Store};
use crate::clock;
use crate::config::Keep;
use crate::dialect;
use crate::telemetry::{AccessLine, Metrics};

/// A request that is over.
#[derive(Debug)]
pub struct Row {
    pub line: AccessLine,
    /// The key's id; `-` where no key was asked.
    pub key: Arc<str>,
    /// As the vendor stated it, or else as `estimated`.
    pub usage: dialect::Usage,
    /// In billionths.
    pub cost: u64,
    pub estimated: bool,
}

/// Rows on their way to the writer: some seconds of a busy gateway.
const ON_THE_WAY: usize = 10_000;

/// So many rows are written before their second is over.
pub(super) const BATCH: usize = 500;

/// The latest requests, for whoever looks; also those that reached no account.
const LATEST: usize = 1000;

/// How often one who waits for the writer looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The way to the records of usage.
pub struct Usage {
    rows: mpsc::Sender<Row>,
    told: Arc<Told>,
}

/// What the writer and its askers tell each other.
pub(super) struct Told {
    metrics: Arc<Metrics>,
    /// Rows on the way.
    pub(super) waiting: AtomicUsize,
    pub(super) wake: Notify,
    /// How often somebody asked that all be written, and how many of them have their answer.
    pub(super) asked: AtomicU64,
    pub(super) answered: AtomicU64,
    /// Nothing more will be recorded; and what was, is written or left for the next start.
    pub(super) is_ending: AtomicBool,
    pub(super) has_ended: AtomicBool,
    /// The database has had its time.
    pub(super) give_up: Notify,
    /// Rows that the database has not taken yet.
    pub(super) unwritten: AtomicUsize,
    pub(super) latest: Mutex<VecDeque<Arc<RequestRecord>>>,
}

impl Usage {
    /// Starts the writer, on a thread of its own: its connections to `store` need a runtime that lives
    /// as long as they, and no request waits for a worker that it has. `dir`: where rows wait that
    /// could not be written before the end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        store: Store,
        keep: Keep,
        dir: &Path,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Usage> {
        let (rows, received) = mpsc::channel(ON_THE_WAY);
        let told = Arc::new(Told {
            metrics,
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            give_up: Notify::new(),
            unwritten: AtomicUsize::new(0),
            latest: Mutex::default(),
        });
        let writer = Writer::new(store, keep, dir, received, told.clone());
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || runtime.block_on(writer.run()))?;
        Ok(Usage { rows, told })
    }

    /// Writes a request down, soon. One that finds too many others before it is lost, and counted.
    pub fn record(&self, row: Row) {
        // Counted before the writer can count it off.
        let before = self.told.waiting.fetch_add(1, Ordering::Relaxed);
        if self.rows.try_send(row).is_err() {
            self.told.waiting.fetch_sub(1, Ordering::Relaxed);
            self.told.lost(1);
            return;
        }
        // The writer looks each second; being woken for each row would cost the request more than
        // the rest of this.
        if before + 1 == BATCH {
            self.told.wake.notify_one();
        }
    }

    /// Waits until what was recorded before this call is written, for at most so long. False: it is
    /// not.
    pub async fn flushed(&self, most: Duration) -> bool {
        let asked = self.ask();
        let deadline = clock::now() + most;
        while !self.told.has_answered(asked) && clock::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.told.has_answered(asked) && self.told.unwritten.load(Ordering::SeqCst) == 0
    }

    /// The same, for whoever may hold up a thread.
    pub fn flush(&self, most: Duration) {
        let asked = self.ask();
        let deadline = clock::now() + most;
        while !self.told.has_answered(asked) && clock::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Nothing is recorded any more. Waits until all that was is written, or left for the next start
    /// because the database is away; for at most so long.
    pub fn end(&self, most: Duration) {
        self.told.is_ending.store(true, Ordering::SeqCst);
        self.told.wake.notify_one();
        let began = clock::now();
        let has_ended_by = |deadline| {
            while !self.told.has_ended.load(Ordering::SeqCst) && clock::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
            self.told.has_ended.load(Ordering::SeqCst)
        };
        if !has_ended_by(began + most / 2) {
            self.told.give_up.notify_one();
            has_ended_by(began + most);
        }
    }

    /// The latest requests of this process, the latest first; also those that reached no account.
    pub fn latest(&self, most: usize) -> Vec<Arc<RequestRecord>> {
        let latest = self.told.latest.lock();
        latest.iter().rev().take(most).cloned().collect()
    }

    fn ask(&self) -> u64 {
        let asked = self.told.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.told.wake.notify_one();
        asked
    }
}

impl Told {
    fn has_answered(&self, asked: u64) -> bool {
        self.answered.load(Ordering::SeqCst) >= asked
    }

    pub(super) fn lost(&self, rows: usize) {
        self.metrics.usage_lost(rows as u64);
    }

    /// Shows a request to whoever asks for the latest.
    pub(super) fn show(&self, request: Arc<RequestRecord>) {
        let mut latest = self.latest.lock();
        if latest.len() >= LATEST {
            latest.pop_front();
        }
        latest.push_back(request);
    }
}
