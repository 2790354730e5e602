//! Three have a copy of the book of slots, and this says which of them is right when.
//!
//! - **Redis**, as long as it shows the edition that this process saw last, and no older version of it.
//!   An edition ends with the server's run: one that was started again or promoted may have come with an
//!   old copy, and begins a new edition.
//! - **This process' memory**, where Redis shows anything else. What is known here goes into the new
//!   edition; the other gateways do the same, and until all had the time for it no key gets a slot that
//!   it had not.
//! - **The records**, where Redis has no book and this process has just begun and remembers nothing.
//!
//! With Redis away nobody is right: the slots that are known stay as they are, and no new one is given.
//! The records would do for this gateway alone, but the others have records of their own, or reach Redis
//! still; and that no more keys than that are on one account holds always, or it is no promise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Assignment, Ledger, LedgerError};

/// Which book it is. A book that has lost something has another `born`, or a lower `version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edition {
    /// Milliseconds, by the server's clock; 0 = none was met yet.
    pub(super) born: i64,
    /// The highest that was seen.
    pub(super) version: i64,
    /// The one at which it was read as a whole; 0 = it was not yet.
    pub(super) read: i64,
}

#[derive(Default)]
struct Memory {
    edition: Edition,
    /// As the book was read last, and what this process did since.
    slots: HashMap<Arc<str>, Assignment>,
}

pub(super) struct Copies {
    memory: Mutex<Memory>,
    records: Arc<dyn Ledger>,
    /// What the records are to say.
    wanted: watch::Sender<Vec<Assignment>>,
}

impl Copies {
    pub(super) fn new(records: Arc<dyn Ledger>) -> Self {
        Copies {
            memory: Mutex::default(),
            records,
            wanted: watch::Sender::default(),
        }
    }

    /// The edition that was told all that is known here.
    pub(super) fn edition(&self) -> Edition {
        self.memory.lock().edition
    }

    /// A book that is whole says so of itself.
    pub(super) fn met(&self, born: i64, version: i64) {
        let mut memory = self.memory.lock();
        let edition = &mut memory.edition;
        // Whoever has just begun has nothing to tell a book that is whole.
        if edition.born == 0 {
            edition.born = born;
        }
        if edition.born == born {
            edition.version = edition.version.max(version);
        }
    }

    /// This edition was told all that is known here.
    pub(super) fn told(&self, born: i64, version: i64) {
        self.memory.lock().edition = Edition {
            born,
            version,
            read: 0,
        };
    }

    /// The whole book, as it was at this version of this edition.
    pub(super) fn read(&self, born: i64, version: i64, book: &[Assignment]) {
        let mut memory = self.memory.lock();
        let Edition {
            born: known,
            version: seen,
            ..
        } = memory.edition;
        // What this process did meanwhile is not in it; the next reading shows both.
        if known != born || version < seen {
            return;
        }
        memory.edition.read = version;
        let by_key = book.iter().map(|slot| (slot.key.clone(), slot.clone()));
        memory.slots = by_key.collect();
        drop(memory);
        self.wanted.send_replace(book.to_vec());
    }

    pub(super) fn holds(&self, slot: &Assignment) {
        let mut memory = self.memory.lock();
        memory.slots.insert(slot.key.clone(), slot.clone());
    }

    pub(super) fn holds_none(&self, key: &str) {
        self.memory.lock().slots.remove(key);
    }

    pub(super) fn used(&self, used: &[(Arc<str>, i64)]) {
        let mut memory = self.memory.lock();
        for (key, at) in used {
            if let Some(slot) = memory.slots.get_mut(key) {
                slot.last_used = slot.last_used.max(*at);
            }
        }
    }

    /// What a book is to be told that is not the one that this process knows. `is_gone`: there is none.
    ///
    /// # Errors
    /// It is in the records, and they cannot be read: until they can be there is no book.
    pub(super) async fn known(&self, is_gone: bool) -> Result<Vec<Assignment>, LedgerError> {
        let slots: Vec<Assignment> = self.memory.lock().slots.values().cloned().collect();
        match slots.is_empty() && is_gone {
            true => self.records.all().await,
            false => Ok(slots),
        }
    }

    /// Keeps the copy in the records, for ever.
    pub(super) async fn keep_records(&self) {
        const AGAIN: Duration = Duration::from_secs(1);
        let mut wanted = self.wanted.subscribe();
        let mut copied: Option<Vec<Assignment>> = None;
        loop {
            // Until a book was read there is nothing to copy.
            if self.edition().read != 0 {
                let book = wanted.borrow_and_update().clone();
                match self.copy(copied.as_deref(), &book).await {
                    Ok(()) => copied = Some(book),
                    Err(error) => {
                        tracing::debug!("the records have no new copy of the slots: {error}");
                        copied = None;
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    /// Brings the records from what was copied last to `book`.
    async fn copy(
        &self,
        before: Option<&[Assignment]>,
        book: &[Assignment],
    ) -> Result<(), LedgerError> {
        let before = match before {
            Some(before) => before.to_vec(),
            None => self.records.all().await?,
        };
        let same = |a: &Assignment, b: &Assignment| {
            (&a.tier, &a.account, a.last_rotation, a.next_rotation)
                == (&b.tier, &b.account, b.last_rotation, b.next_rotation)
        };
        let now: HashMap<&str, &Assignment> = book.iter().map(|slot| (&*slot.key, slot)).collect();
        let kept: HashMap<&str, &Assignment> =
            before.iter().map(|slot| (&*slot.key, slot)).collect();
        for old in &before {
            if now.get(&*old.key).is_none_or(|slot| !same(slot, old)) {
                self.records.release(&old.key, &old.account, None).await?;
            }
        }
        let is_new = |slot: &&Assignment| kept.get(&*slot.key).is_none_or(|old| !same(slot, old));
        let new: Vec<Assignment> = book.iter().filter(is_new).cloned().collect();
        match new.is_empty() {
            true => Ok(()),
            false => self.records.restore(&new).await,
        }
    }
}
