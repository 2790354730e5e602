//! The book of slots in Redis, for all gateways over it. Its steps are the scripts `slots_*.lua`.
//!
//! Redis may lose everything. Each gateway knows the book as it read it last, and the records have a
//! copy: from both it is put together again, before any key gets a slot that it had not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{Script, ScriptInvocation};
use tokio::sync::watch;

use super::{Away, SETTLES, Shared};
use crate::store::{Ask, Assignment, Change, Ledger, LedgerError, Placed};

/// The middle of `TIER_pool:slots:ACCOUNT`, which users of the older system look up.
const LEGACY: &str = "_pool:slots:";

/// A step is begun again when it met a book that was lost, or is being put together.
const TRIES: usize = 4;

/// So many slots are put back in one go, for a script holds up all others.
const MOST: usize = 500;

/// What the book says to a step.
type Words = Vec<String>;

pub(super) struct Scripts {
    place: Script,
    release: Script,
    touch: Script,
    book: Script,
    restore: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            place: Script::new(include_str!("slots_place.lua")),
            release: Script::new(include_str!("slots_release.lua")),
            touch: Script::new(include_str!("slots_touch.lua")),
            book: Script::new(include_str!("slots_book.lua")),
            restore: Script::new(include_str!("slots_restore.lua")),
        }
    }
}

/// The book.
pub struct SharedSlots {
    shared: Arc<Shared>,
    /// Where a copy is kept.
    records: Arc<dyn Ledger>,
    /// Tiers whose slots can also be looked up by the older system's names.
    legacy: ArcSwap<Vec<String>>,
    /// The book as this process read it last, and what it did since.
    known: Mutex<HashMap<Arc<str>, Assignment>>,
    /// Since when the book is whole to which that was told; milliseconds, 0 = none yet.
    told: AtomicI64,
    /// What the copy is to say.
    copy: watch::Sender<Vec<Assignment>>,
}

impl From<Away> for LedgerError {
    fn from(away: Away) -> Self {
        LedgerError(away.to_string())
    }
}

impl SharedSlots {
    /// The book in this Redis, with a copy in the records.
    pub fn new(shared: Arc<Shared>, records: Arc<dyn Ledger>) -> Self {
        SharedSlots {
            shared,
            records,
            legacy: ArcSwap::default(),
            known: Mutex::default(),
            told: AtomicI64::new(0),
            copy: watch::Sender::default(),
        }
    }

    /// These tiers' slots are kept under the older system's names, too (`legacy_redis_names`). What is
    /// there of other tiers stays as it is.
    pub fn keep_legacy_names(&self, tiers: Vec<String>) {
        self.legacy.store(Arc::new(tiers));
    }

    /// Keeps the copy in the records, for ever.
    pub async fn keep_copy(&self) {
        const AGAIN: Duration = Duration::from_secs(1);
        let mut wanted = self.copy.subscribe();
        let mut copied: Option<Vec<Assignment>> = None;
        loop {
            let book = wanted.borrow_and_update().clone();
            let is_read = self.told.load(Ordering::SeqCst) != 0;
            match self.copy(copied.as_deref(), &book).await {
                Ok(()) => {
                    // What the records had before is looked at with the first book that is one.
                    copied = is_read.then_some(book);
                    if wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!("the records have no new copy of the book of slots: {error}");
                    copied = None;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Brings the records from what was copied last to `book`.
    async fn copy(
        &self,
        before: Option<&[Assignment]>,
        book: &[Assignment],
    ) -> Result<(), LedgerError> {
        if self.told.load(Ordering::SeqCst) == 0 {
            // Nothing was read yet.
            return Ok(());
        }
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

    /// Does one step, as often as it meets a book that has lost what this process knows.
    async fn step(
        &self,
        operation: &'static str,
        script: &Script,
        prepare: impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<Words, LedgerError> {
        let mut why = "the book of slots is being put together".to_owned();
        for _ in 0..TRIES {
            let mut call = script.prepare_invoke();
            for name in ["held", "facts"] {
                call.key(self.name(name));
            }
            prepare(&mut call);
            let words: Words = match self.shared.ask(operation, &call).await {
                Ok(words) => words,
                // One answer that is late is no loss yet, and a key may have nothing else to go by.
                Err(away) => {
                    why = away.to_string();
                    match self.shared.is_up() {
                        true => continue,
                        false => break,
                    }
                }
            };
            let born: i64 = words
                .get(1)
                .and_then(|born| born.parse().ok())
                .unwrap_or_default();
            let word = words.first().map(String::as_str);
            self.learn(born).await?;
            if word == Some("lost") {
                continue;
            }
            if word != Some("settling") {
                return Ok(words);
            }
            let left = words
                .get(2)
                .and_then(|left| left.parse().ok())
                .unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(left).min(SETTLES)).await;
        }
        Err(LedgerError(why))
    }

    /// A book that was born then has been met; 0: there is none.
    async fn learn(&self, born: i64) -> Result<(), LedgerError> {
        match self.told.load(Ordering::SeqCst) {
            told if told == born && born != 0 => Ok(()),
            // Whoever has just begun has nothing to tell a book that is whole.
            0 if born != 0 => {
                self.told.store(born, Ordering::SeqCst);
                Ok(())
            }
            _ => self.put_together().await,
        }
    }

    /// Tells the book all that is known here. Other gateways do the same, in any order.
    async fn put_together(&self) -> Result<(), LedgerError> {
        let mut known = self.known.lock().clone();
        if known.is_empty() {
            // A process that has just begun: what it knows is in the records, and while those are away
            // there is no book yet.
            let copy = self.records.all().await?;
            known.extend(copy.into_iter().map(|slot| (slot.key.clone(), slot)));
        }
        let known: Vec<Assignment> = known.into_values().collect();
        let born = self.put_back(&known).await?;
        if !known.is_empty() {
            tracing::info!(
                slots = known.len(),
                "the book of slots in Redis is told what is known here"
            );
        }
        self.told.store(born, Ordering::SeqCst);
        Ok(())
    }

    async fn put_back(&self, known: &[Assignment]) -> Result<i64, LedgerError> {
        let mut born = 0;
        let chunks = known.chunks(MOST).chain(known.is_empty().then_some(known));
        for chunk in chunks {
            let mut call = self.shared.scripts.slots.restore.prepare_invoke();
            call.key(self.name("held")).key(self.name("facts"));
            let legacy = self.legacy.load();
            call.arg(self.name("on"))
                .arg(LEGACY)
                .arg(legacy.len())
                .arg(&**legacy);
            for slot in chunk {
                call.arg(&*slot.key).arg(&*slot.tier).arg(&*slot.account);
                call.arg(slot.last_rotation)
                    .arg(slot.next_rotation)
                    .arg(slot.last_used);
                call.arg(slot.previous_account.as_deref().unwrap_or_default());
            }
            let words: Words = self.shared.ask("slots", &call).await?;
            born = words
                .get(1)
                .and_then(|born| born.parse().ok())
                .unwrap_or_default();
        }
        Ok(born)
    }

    fn name(&self, of: &str) -> String {
        match of {
            // What follows are the tier and the account.
            "on" => self.shared.key("slots", ":on:"),
            of => self.shared.key("slots", &format!(":{of}")),
        }
    }

    fn knows(&self, assignment: &Assignment) {
        let mut known = self.known.lock();
        known.insert(assignment.key.clone(), assignment.clone());
    }
}

#[async_trait]
impl Ledger for SharedSlots {
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        let on = self.name("on");
        let words = self.step("slots", &self.shared.scripts.slots.place, |call| {
            call.key(self.name("given"));
            for candidate in ask.candidates {
                call.key(format!("{on}{}:{}", ask.tier, candidate.account));
            }
            let legacy = self.legacy.load().iter().any(|tier| *tier == *ask.tier);
            call.arg(ask.key)
                .arg(ask.tier)
                .arg(ask.limit)
                .arg(ask.rotate_every);
            call.arg(SETTLES.as_millis() as u64).arg(&on);
            call.arg(if legacy { LEGACY } else { "" });
            call.arg(self.told.load(Ordering::SeqCst));
            for candidate in ask.candidates {
                call.arg(&*candidate.account).arg(candidate.rank);
            }
        });
        let words = words.await?;
        let placed = match words.first().map(String::as_str) {
            Some("held") => held(ask, &words),
            Some("full") => {
                // A key whose time was over has lost its slot.
                self.known.lock().remove(ask.key);
                let oldest = words.get(2).and_then(|ms| ms.parse::<i64>().ok());
                let oldest = oldest.filter(|ms| *ms >= 0);
                Some(Placed::Full {
                    next_release: oldest.map(|last| last.saturating_add(ask.idle_release)),
                })
            }
            _ => None,
        };
        if let Some(Placed::Held { assignment, .. }) = &placed {
            self.knows(assignment);
        }
        placed.ok_or_else(unreadable)
    }

    async fn release(
        &self,
        key: &str,
        account: &str,
        unused_since: Option<i64>,
    ) -> Result<bool, LedgerError> {
        let words = self.step("slots", &self.shared.scripts.slots.release, |call| {
            let since = unused_since.map(|ms| ms.to_string()).unwrap_or_default();
            call.arg(key).arg(account).arg(since).arg(self.name("on"));
            call.arg(LEGACY).arg(&**self.legacy.load());
        });
        let freed = words.await?.first().is_some_and(|word| word == "freed");
        if freed {
            self.known.lock().remove(key);
        }
        Ok(freed)
    }

    async fn touch(&self, used: &[(Arc<str>, i64)]) -> Result<(), LedgerError> {
        for some in used.chunks(MOST) {
            let words = self.step("slots", &self.shared.scripts.slots.touch, |call| {
                call.arg(self.name("on"));
                for (key, at) in some {
                    call.arg(&**key).arg(at);
                }
            });
            words.await?;
        }
        let mut known = self.known.lock();
        for (key, at) in used {
            if let Some(slot) = known.get_mut(key) {
                slot.last_used = slot.last_used.max(*at);
            }
        }
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Assignment>, LedgerError> {
        let words = self.step("slots", &self.shared.scripts.slots.book, |call| {
            call.arg(self.name("on"));
        });
        let words = words.await?;
        let (slots, rest) = words.get(2..).unwrap_or_default().as_chunks::<7>();
        let book: Option<Vec<Assignment>> = slots.iter().map(read).collect();
        let mut book = book.filter(|_| rest.is_empty()).ok_or_else(unreadable)?;
        book.sort_by(|a, b| (&a.key, &a.tier).cmp(&(&b.key, &b.tier)));
        let by_key = book.iter().map(|slot| (slot.key.clone(), slot.clone()));
        *self.known.lock() = by_key.collect();
        self.copy.send_replace(book.clone());
        Ok(book)
    }

    async fn version(&self) -> Result<u64, LedgerError> {
        let facts = self.name("facts");
        let mut ask = redis::cmd("HMGET");
        ask.arg(&facts).arg("version").arg("born");
        for _ in 0..2 {
            let found: Vec<Option<i64>> = self.shared.ask_one("slots", &ask).await?;
            let number = |at: usize| found.get(at).copied().flatten().unwrap_or_default();
            self.learn(number(1)).await?;
            if number(1) != 0 {
                return Ok(number(0).unsigned_abs());
            }
        }
        Err(LedgerError(
            "the book of slots is being put together".to_owned(),
        ))
    }

    async fn restore(&self, known: &[Assignment]) -> Result<(), LedgerError> {
        self.put_back(known).await.map(drop)
    }
}

fn unreadable() -> LedgerError {
    LedgerError("the book of slots in Redis cannot be read".to_owned())
}

fn held(ask: &Ask<'_>, words: &[String]) -> Option<Placed> {
    let [_, _, change, account, last, next, used, previous] = words else {
        return None;
    };
    let change = match change.as_str() {
        "none" => Change::None,
        "first" => Change::First,
        "rotated" => Change::Rotated,
        _ => return None,
    };
    let slot = [ask.key, ask.tier, account, last, next, used, previous].map(str::to_owned);
    let assignment = read(&slot)?;
    Some(Placed::Held { assignment, change })
}

fn read(words: &[String; 7]) -> Option<Assignment> {
    let [key, tier, account, last, next, used, previous] = words;
    Some(Assignment {
        key: key.as_str().into(),
        tier: tier.as_str().into(),
        account: account.as_str().into(),
        last_rotation: last.parse().ok()?,
        next_rotation: next.parse().ok()?,
        last_used: used.parse().ok()?,
        previous_account: Some(previous)
            .filter(|it| !it.is_empty())
            .map(|it| it.as_str().into()),
    })
}
