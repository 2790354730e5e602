//! The newest token of each account: on the disk, or here as long as the disk refuses it.
//!
//! What could not be saved belongs to no task: the one that got it may end before the disk is well
//! again, as with a reload, and the next one must not spend a refresh token that is dead.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::credential::cache::{Saved, Slot, TokenCache, Unreadable};
use crate::telemetry::Metrics;

/// Before a token that cannot be saved is used all the same.
const SAVES_AT_ONCE: u32 = 3;

/// What is kept of all accounts' tokens.
pub struct Kept {
    cache: TokenCache,
    /// By account; at most one of each.
    unsaved: Mutex<HashMap<String, Saved>>,
    /// Accounts whose newest token other gateways may not have.
    ungiven: Mutex<HashSet<String>>,
    metrics: Arc<Metrics>,
}

impl Kept {
    /// What `cache` keeps; its errors are counted.
    pub fn new(cache: TokenCache, metrics: Arc<Metrics>) -> Self {
        Kept {
            cache,
            unsaved: Mutex::default(),
            ungiven: Mutex::default(),
            metrics,
        }
    }

    /// The newest that is known of the account.
    pub(super) fn load(&self, id: &str) -> Result<Option<Saved>, Unreadable> {
        let loaded = self.cache.load(id).inspect_err(|_| self.count("load"));
        let unsaved = self.unsaved.lock().get(id).cloned();
        match unsaved {
            Some(unsaved) if !is_newer(&loaded, &unsaved) => Ok(Some(unsaved)),
            _ => loaded,
        }
    }

    /// Would the account's token be lost with this process?
    pub(super) fn is_unsaved(&self, id: &str) -> bool {
        self.unsaved.lock().contains_key(id)
    }

    /// Saves what could not be saved when it came.
    pub(super) fn settle(&self, id: &str) -> io::Result<()> {
        // Held over the save: another task might else save a newer one before this one is there.
        let mut unsaved = self.unsaved.lock();
        let Some(saved) = unsaved.get(id) else {
            return Ok(());
        };
        if !is_newer(&self.cache.load(id), saved) {
            let saved = self.cache.save(id, saved);
            saved.inspect_err(|_| self.count("save"))?;
            tracing::info!(account = id, "the new token is on the disk now");
        }
        unsaved.remove(id);
        Ok(())
    }

    /// The same for all accounts, as often as a stop can wait for: once.
    pub fn settle_all(&self) {
        let ids: Vec<String> = self.unsaved.lock().keys().cloned().collect();
        for id in ids {
            if let Err(error) = self.settle(&id) {
                tracing::error!(account = id, "its last token is lost: {error}");
            }
        }
    }

    /// Do other gateways have the account's newest token? Returns whether that is news.
    pub(super) fn set_given(&self, id: &str, is_given: bool) -> bool {
        let mut ungiven = self.ungiven.lock();
        match is_given {
            true => ungiven.remove(id),
            false => ungiven.insert(id.to_owned()),
        }
    }

    pub(super) fn is_ungiven(&self, id: &str) -> bool {
        self.ungiven.lock().contains(id)
    }

    /// A token as it may leave this machine.
    pub(super) fn seal(&self, id: &str, saved: &Saved) -> io::Result<Vec<u8>> {
        self.cache.seal(id, saved)
    }

    /// One that was sealed elsewhere under the same key.
    pub(super) fn unseal(&self, id: &str, sealed: &[u8]) -> Result<Saved, Unreadable> {
        self.cache.unseal(id, sealed)
    }

    /// Room for the next token.
    pub(super) fn ready(&self, id: &str) -> io::Result<Slot> {
        self.cache.ready(id)
    }

    /// What could not be made ready.
    pub(super) fn was_not_ready(&self) {
        self.count("prepare");
    }

    /// What a process left that died since.
    pub(super) fn take_up(&self) -> io::Result<()> {
        self.cache.take_up()
    }

    /// Puts a new token where room was made for it.
    pub(super) fn keep(&self, id: &str, slot: Slot, saved: &Saved) {
        let mut written = slot.write(saved);
        for _ in 0..SAVES_AT_ONCE {
            if written.is_ok() {
                return;
            }
            // In another file: what the disk refused once it may take the next time.
            written = self.cache.save(id, saved);
        }
        if let Err(error) = written {
            self.count("save");
            tracing::error!(
                account = id,
                "a new token is not on the disk yet, and would be lost with this process: {error}"
            );
            self.unsaved.lock().insert(id.to_owned(), saved.clone());
        }
    }

    fn count(&self, operation: &'static str) {
        self.metrics.store_error("tokens", operation);
    }
}

/// Is what was found on the disk later than `saved`, as of another process?
fn is_newer(found: &Result<Option<Saved>, Unreadable>, saved: &Saved) -> bool {
    let found = found.as_ref().ok().and_then(Option::as_ref);
    found.is_some_and(|found| found.saved_at > saved.saved_at)
}
