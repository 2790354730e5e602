//! The book of slots in Redis, for all gateways over it. Its steps are the scripts beside this file, each
//! behind `book.lua`; what is done where Redis has lost the book, or an older one came back, is in
//! [`copies`].

mod copies;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use redis::{Script, ScriptInvocation};

use super::{Away, SETTLES, Shared};
use crate::clock;
use crate::store::{Ask, Assignment, Change, Ledger, LedgerError, Placed};
use copies::Copies;

/// A step is begun again when it met a book that was lost, or is being put together.
const TRIES: usize = 4;

/// Who has nothing else to go by waits so many times as long as others, for all of one step together.
const PATIENCE: u32 = 4;

/// So many slots are put back in one go, for a script holds up all others.
const MOST: usize = 500;

/// What the book says to a step: word, `born`, version, and more.
type Words = Vec<String>;

pub(super) struct Scripts {
    look: Script,
    all: Script,
    place: Script,
    release: Script,
    touch: Script,
    restore: Script,
}

/// A step behind what all have in common.
macro_rules! step {
    ($file:literal) => {
        Script::new(concat!(include_str!("book.lua"), include_str!($file)))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            look: step!("look.lua"),
            all: step!("all.lua"),
            place: step!("place.lua"),
            release: step!("release.lua"),
            touch: step!("touch.lua"),
            restore: step!("restore.lua"),
        }
    }
}

/// The book.
pub struct SharedSlots {
    shared: Arc<Shared>,
    copies: Copies,
    /// Tiers whose slots can also be looked up by the older system's names, as a list in JSON.
    legacy: ArcSwap<String>,
}

impl From<Away> for LedgerError {
    fn from(away: Away) -> Self {
        LedgerError::away(away.to_string())
    }
}

impl SharedSlots {
    /// The book in this Redis, with a copy in the records.
    pub fn new(shared: Arc<Shared>, records: Arc<dyn Ledger>) -> Self {
        SharedSlots {
            shared,
            copies: Copies::new(records),
            legacy: ArcSwap::from_pointee("[]".to_owned()),
        }
    }

    /// These tiers' slots are kept under the older system's names, too (`legacy_redis_names`). What is
    /// there of other tiers stays as it is.
    pub fn keep_legacy_names(&self, tiers: &[String]) {
        let list = serde_json::Value::from(tiers).to_string();
        self.legacy.store(Arc::new(list));
    }

    /// Keeps the copy in the records, for ever.
    pub async fn keep_copy(&self) {
        self.copies.keep_records().await;
    }

    /// One call of a script, with what all of them are given.
    async fn call(
        &self,
        script: &Script,
        patience: Duration,
        prepare: impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<Words, Away> {
        let run = self.shared.run().await;
        let edition = self.copies.edition();
        let mut call = script.prepare_invoke();
        call.key(self.name("held")).key(self.name("facts"));
        call.arg(&*run).arg(edition.born).arg(edition.version);
        call.arg(self.name("on")).arg(&**self.legacy.load());
        prepare(&mut call);
        self.shared.ask_patiently("slots", patience, &call).await
    }

    /// Does one step, as often as it meets a book that has lost what this process knows. `waits`: for a
    /// book that is being put together, and for an answer that is late.
    async fn step(
        &self,
        script: &Script,
        waits: bool,
        prepare: impl Fn(&mut ScriptInvocation<'_>),
    ) -> Result<Words, LedgerError> {
        let mut patience = match waits {
            true => self.shared.answer_within() * PATIENCE,
            false => Duration::ZERO,
        };
        for _ in 0..TRIES {
            let asked = clock::now();
            let words: Words = self.call(script, patience, &prepare).await?;
            patience = patience.saturating_sub(clock::now().saturating_duration_since(asked));
            let (born, version) = (number(&words, 1), number(&words, 2));
            match words.first().map(String::as_str) {
                Some("lost") => self.put_together(born == 0).await?,
                Some("settling") => {
                    self.copies.met(born, version);
                    if !waits {
                        break;
                    }
                    let left = u64::try_from(number(&words, 3)).unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(left).min(SETTLES)).await;
                }
                _ => {
                    self.copies.met(born, version);
                    return Ok(words);
                }
            }
        }
        Err(LedgerError::failed(
            "the book of slots is being put together",
        ))
    }

    /// Tells the book all that is known here. Other gateways do the same, in any order.
    async fn put_together(&self, is_gone: bool) -> Result<(), LedgerError> {
        let known = self.copies.known(is_gone).await?;
        let (born, version) = self.put_back(&known).await?;
        if !known.is_empty() {
            let slots = known.len();
            tracing::info!(
                slots,
                "the book of slots in Redis is told what is known here"
            );
        }
        self.copies.told(born, version);
        Ok(())
    }

    /// Returns which edition it was put into, and the version that this made.
    async fn put_back(&self, known: &[Assignment]) -> Result<(i64, i64), LedgerError> {
        let mut edition = None;
        // Also one that knows nothing says so.
        let last = known.chunks(MOST).count().saturating_sub(1);
        for at in 0..=last {
            let chunk = known.chunks(MOST).nth(at).unwrap_or_default();
            let read = self.copies.edition().read;
            let is_end = u8::from(at == last);
            let restore = &self.shared.scripts.slots.restore;
            let words = self.call(restore, Duration::ZERO, |call| {
                call.arg(read).arg(is_end);
                for slot in chunk {
                    call.arg(&*slot.key).arg(&*slot.tier).arg(&*slot.account);
                    call.arg(slot.last_rotation)
                        .arg(slot.next_rotation)
                        .arg(slot.last_used);
                    call.arg(slot.previous_account.as_deref().unwrap_or_default());
                }
            });
            let words = words.await?;
            let (born, version) = (number(&words, 1), number(&words, 2));
            if edition.is_some_and(|(before, _)| before != born) {
                return Err(LedgerError::failed("the book of slots was lost once more"));
            }
            edition = Some((born, version));
        }
        edition.ok_or_else(unreadable)
    }

    fn name(&self, of: &str) -> String {
        match of {
            // What follows are the tier and the account.
            "on" => self.shared.key("slots", ":on:"),
            of => self.shared.key("slots", &format!(":{of}")),
        }
    }
}

#[async_trait]
impl Ledger for SharedSlots {
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        let script = &self.shared.scripts.slots.place;
        let words = self.step(script, !ask.may_stay, |call| {
            let on = self.name("on");
            call.key(self.name("given"));
            for candidate in ask.candidates {
                call.key(format!("{on}{}:{}", ask.tier, candidate.account));
            }
            call.arg(ask.key).arg(ask.tier).arg(ask.limit);
            call.arg(ask.rotate_every).arg(SETTLES.as_millis() as u64);
            for candidate in ask.candidates {
                call.arg(&*candidate.account).arg(candidate.rank);
            }
        });
        let words = words.await?;
        match words.first().map(String::as_str) {
            Some("held") => {
                let (assignment, change) = held(ask, &words).ok_or_else(unreadable)?;
                self.copies.holds(&assignment);
                Ok(Placed::Held { assignment, change })
            }
            Some("full") => {
                if number(&words, 3) != 0 {
                    self.copies.holds_none(ask.key);
                }
                let oldest = words.get(4).and_then(|ms| ms.parse::<i64>().ok());
                let oldest = oldest.filter(|ms| *ms >= 0);
                let next_release = oldest.map(|last| last.saturating_add(ask.idle_release));
                Ok(Placed::Full { next_release })
            }
            _ => Err(unreadable()),
        }
    }

    async fn release(
        &self,
        key: &str,
        account: &str,
        unused_since: Option<i64>,
    ) -> Result<bool, LedgerError> {
        let words = self.step(&self.shared.scripts.slots.release, true, |call| {
            let since = unused_since.map(|ms| ms.to_string()).unwrap_or_default();
            call.arg(key).arg(account).arg(since);
        });
        let freed = words.await?.first().is_some_and(|word| word == "freed");
        if freed {
            self.copies.holds_none(key);
        }
        Ok(freed)
    }

    async fn touch(&self, used: &[(Arc<str>, i64)]) -> Result<(), LedgerError> {
        for some in used.chunks(MOST) {
            let words = self.step(&self.shared.scripts.slots.touch, true, |call| {
                for (key, at) in some {
                    call.arg(&**key).arg(at);
                }
            });
            words.await?;
        }
        self.copies.used(used);
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Assignment>, LedgerError> {
        let script = &self.shared.scripts.slots.all;
        let words = self.step(script, true, |_| {}).await?;
        let (slots, rest) = words.get(3..).unwrap_or_default().as_chunks::<7>();
        let book: Option<Vec<Assignment>> = slots.iter().map(read).collect();
        let mut book = book.filter(|_| rest.is_empty()).ok_or_else(unreadable)?;
        book.sort_by(|a, b| (&a.key, &a.tier).cmp(&(&b.key, &b.tier)));
        self.copies
            .read(number(&words, 1), number(&words, 2), &book);
        Ok(book)
    }

    async fn version(&self) -> Result<u64, LedgerError> {
        let script = &self.shared.scripts.slots.look;
        let words = self.step(script, true, |_| {}).await?;
        Ok(number(&words, 2).unsigned_abs())
    }

    async fn restore(&self, known: &[Assignment]) -> Result<(), LedgerError> {
        self.put_back(known).await.map(drop)
    }
}

fn unreadable() -> LedgerError {
    LedgerError::failed("the book of slots in Redis cannot be read")
}

fn number(words: &[String], at: usize) -> i64 {
    let number = words.get(at).and_then(|word| word.parse().ok());
    number.unwrap_or_default()
}

fn held(ask: &Ask<'_>, words: &[String]) -> Option<(Assignment, Change)> {
    let [_, _, _, change, account, last, next, used, previous] = words else {
        return None;
    };
    let change = match change.as_str() {
        "none" => Change::None,
        "first" => Change::First,
        "rotated" => Change::Rotated,
        _ => return None,
    };
    let slot = [ask.key, ask.tier, account, last, next, used, previous].map(str::to_owned);
    Some((read(&slot)?, change))
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
