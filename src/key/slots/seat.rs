//! What requests read of one key's slot, without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Instant;
use crate::store::Assignment;

/// One key's place, as this process knows it. It outlives the index of keys. Times are milliseconds
/// since [`super::Slots`] began, and 0 is never.
#[derive(Debug)]
pub struct Seat {
    held: ArcSwapOption<Held>,
    /// Which of this process' looks into the book it shows.
    look: Mutex<u64>,
    last_used: AtomicU64,
    /// The last use that the book was told.
    pub(super) told_use: AtomicU64,
    /// When the log was told of a use.
    pub(super) logged: AtomicU64,
    /// When its key was moved because of a request that failed.
    pub(super) fled: AtomicU64,
    /// Requests under way.
    under_way: AtomicU32,
    pub(super) full: ArcSwapOption<Full>,
    /// So often the book said nothing to the key, and it had no account to stay on.
    pub(super) unanswered: AtomicU64,
    /// Of all who would ask the book one does, and the others wait for what it says.
    pub(super) turn: Semaphore,
}

/// The account that a key holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) assignment: Assignment,
    /// The book is asked again from then on. On this process' own clock: setting the other one right
    /// rotates nothing.
    pub(super) due: Instant,
}

/// The book said that all slots are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub(super) since: u64,
    /// Milliseconds since 1970.
    pub(super) next_release: Option<i64>,
}

impl Default for Seat {
    fn default() -> Self {
        Seat {
            held: ArcSwapOption::default(),
            look: Mutex::default(),
            last_used: AtomicU64::new(0),
            told_use: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            fled: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            full: ArcSwapOption::default(),
            unanswered: AtomicU64::new(0),
            turn: Semaphore::new(1),
        }
    }
}

impl Seat {
    /// What the key holds, if that is still its own at this time.
    pub(super) fn held(&self, now: Instant) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| now < held.due)
    }

    /// What the key holds, or held last.
    pub(super) fn last_held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// Puts down what a look into the book showed, unless that of a later look is shown. `held` is
    /// told what the key held before. Returns whether it was put down.
    pub(super) fn show(&self, look: u64, held: impl FnOnce(Option<&Held>) -> Option<Held>) -> bool {
        let mut shown = self.look.lock();
        if *shown > look {
            return false;
        }
        *shown = look;
        let held = held(self.held.load().as_deref());
        self.held.store(held.map(Arc::new));
        true
    }

    /// Counts a request of the key, until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>, ticks: u64) -> Seated {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.last_used.fetch_max(ticks.max(1), Ordering::SeqCst);
        Seated { seat: self.clone() }
    }

    /// When it was used last: now, while a request is under way.
    pub(super) fn last_used(&self, ticks: u64) -> Option<u64> {
        if self.under_way.load(Ordering::SeqCst) > 0 {
            self.last_used.fetch_max(ticks, Ordering::SeqCst);
        }
        let last = self.last_used.load(Ordering::SeqCst);
        (last > 0).then_some(last)
    }
}

/// A request of a key that is under way.
#[derive(Debug)]
pub struct Seated {
    seat: Arc<Seat>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seat.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
