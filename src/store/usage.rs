//! Where requests that are over are written down: off their path, without waiting, without failing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};

use super::gather::{Gather, Kept};
use super::spent::Before;
use super::spool::Writer;
use super::{RequestRecord, Store, gateway};
use crate::clock::{self, Instant};
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
    /// How far apart uses must be for the limits of its key to tell them apart after a restart.
    pub grain: Duration,
}

impl Row {
    /// An account was asked: it counts as used.
    pub(super) fn is_used(&self) -> bool {
        !self.line.tries.is_empty()
    }

    /// An account has worked for it, with a model: it counts in its key's limits. The client may have
    /// left before it saw anything of that.
    pub(super) fn is_spent(&self) -> bool {
        let last = || self.line.tries.last().map(|last| last.outcome);
        let is_served = match self.line.status {
            0 => last() == Some("client_gone"),
            status => status < 400,
        };
        is_served && !matches!(self.line.path, "models" | "count_tokens")
    }
}

/// Rows on their way to the writer: some seconds of a busy gateway.
const ON_THE_WAY: usize = 10_000;

/// So many rows are taken before their second is over.
const MANY: usize = 500;

/// The latest requests, for whoever looks; also those that reached no account.
const LATEST: usize = 1000;

/// How often one who waits for the writer looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The way to the records of usage.
pub struct Usage {
    rows: mpsc::Sender<Row>,
    told: Arc<Told>,
    writer: Name,
}

/// By which name a process writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    /// Of this process alone.
    pub(super) run: i64,
    /// Of its gateway, over restarts.
    pub(super) gateway: String,
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
    /// A process that shares the folder has ended, and may have left something there.
    pub(super) is_left: AtomicBool,
    /// What the database has not taken yet.
    pub(super) unwritten: AtomicUsize,
    /// With the ids that they have in the records.
    pub(super) latest: Mutex<VecDeque<(i64, Row)>>,
    /// What is older counts in no limit any more, in milliseconds; 0: nobody knows.
    pub(super) longest_window: AtomicU64,
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
            is_left: AtomicBool::new(false),
            unwritten: AtomicUsize::new(0),
            latest: Mutex::default(),
            longest_window: AtomicU64::new(0),
        });
        let name = Name {
            run: fastrand::i64(1..),
            gateway: gateway::name(dir),
        };
        let intake = Intake::new(received, told.clone());
        let writer = Writer::new(store, keep, dir, name.clone(), intake);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || runtime.block_on(writer.run()))?;
        Ok(Usage {
            rows,
            told,
            writer: name,
        })
    }

    /// The number by which this process writes.
    pub fn writer(&self) -> i64 {
        self.writer.run
    }

    /// Whom to ask for what was used before this process: this gateway alone, or all of these records.
    pub fn before(&self, of_all: bool) -> Before<'_> {
        Before {
            not_of: self.writer.run,
            of: (!of_all).then_some(&*self.writer.gateway),
            only: None,
        }
    }

    /// Whom to ask for what the process uses that writes by this number.
    pub fn beside(&self, writer: i64) -> Before<'_> {
        Before {
            only: Some(writer),
            ..self.before(true)
        }
    }

    /// What keys have used counts for so long at most, and may be forgotten then.
    pub fn counts_for(&self, longest: Duration) {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let told = &self.told.longest_window;
        told.store(longest.max(1), Ordering::Relaxed);
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
        if before + 1 == MANY {
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

    /// A process that shares the folder has ended: what it could not write is written here.
    pub fn take_left(&self) {
        self.told.is_left.store(true, Ordering::SeqCst);
        self.told.wake.notify_one();
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
    pub fn latest(&self, most: usize) -> Vec<RequestRecord> {
        let latest = self.told.latest.lock();
        let latest = latest.iter().rev().take(most);
        latest
            .map(|(id, row)| RequestRecord::of(*id, row))
            .collect()
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

    pub(super) fn lost(&self, requests: usize) {
        self.metrics.usage_lost(requests as u64);
    }

    fn show(&self, id: i64, row: Row) {
        let mut latest = self.latest.lock();
        if latest.len() >= LATEST {
            latest.pop_front();
        }
        latest.push_back((id, row));
    }
}

/// Takes the rows on their way, and counts them.
pub(super) struct Intake {
    received: mpsc::Receiver<Row>,
    pub(super) told: Arc<Told>,
    pub(super) gather: Gather,
    next_id: i64,
    /// Nothing more will come.
    pub(super) is_over: bool,
    /// So many were lost since somebody asked.
    pub(super) lost: usize,
}

impl Intake {
    fn new(received: mpsc::Receiver<Row>, told: Arc<Told>) -> Self {
        Intake {
            received,
            told,
            gather: Gather::new(clock::now()),
            // Two processes hardly ever begin so near to each other that they meet.
            next_id: fastrand::i64(1..i64::MAX >> 1),
            is_over: false,
            lost: 0,
        }
    }

    /// Takes what was recorded.
    pub(super) fn take(&mut self) {
        let now = clock::now();
        loop {
            match self.received.try_recv() {
                Ok(row) => {
                    self.told.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.count(row, now);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }

    fn count(&mut self, row: Row, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        if row.is_used() {
            match self.gather.take(id, &row, now) {
                Kept::Whole => {}
                Kept::Sum => self.told.metrics.request_row_skipped(),
                Kept::Nothing => {
                    self.told.lost(1);
                    self.lost += 1;
                }
            }
        }
        self.told.show(id, row);
    }

    /// Does this, and takes what is recorded meanwhile: however slow the database is, there is room
    /// for more.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let told = self.told.clone();
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = told.wake.notified() => self.take(),
            }
        }
    }
}
