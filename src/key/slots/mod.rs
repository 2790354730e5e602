//! Which account a key of a tier with slots has, as requests read it: from memory. The book
//! ([`Ledger`]) is asked only when the key has none, when its time is over, and when its account cannot
//! serve; then by one request of the key, and the others wait for what it says.

mod seat;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub use seat::{Seat, Seated};
pub use sweep::Scope;

use super::Client;
use crate::clock::{self, Instant, Moment, SystemTime};
use crate::config::Tier;
use crate::store::{Ask, Assignment, Candidate, Change, Ledger, LedgerError, Placed, millis};
use crate::telemetry::Metrics;
use seat::{Full, Held};

/// So long a request waits for the book whose key has an account, and goes on with that one then.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// A book that failed may have done what it was asked for all the same: by a key that has no account it
/// is asked again so often, with this pause, unless it is known to be away.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// A book that did not answer is asked again so much later, by keys that have an account.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The book may have a clock of its own, by which a key is not due yet: it is asked once in so long.
const NOT_YET: Duration = Duration::from_secs(1);

/// What the book said of slots that are all taken holds for so many milliseconds.
const STILL_FULL_MS: u64 = 500;

/// A request that fails at its key's account moves the key at most once in so many milliseconds: one
/// that fails everywhere must not drag its key from account to account.
const FLEES_EVERY_MS: u64 = 10_000;

/// The log is told once in so many milliseconds that a key is used.
const LOG_EVERY_MS: u64 = 60_000;

/// Why a key has no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// All slots are taken; when the first becomes free, as far as is known.
    Full { next_release: Option<SystemTime> },
    /// The book does not answer.
    Unknown,
}

/// The account of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sits {
    pub account: Arc<str>,
    /// It was given to the key just now.
    pub is_new: bool,
}

impl Sits {
    fn still(account: Arc<str>) -> Self {
        let is_new = false;
        Sits { account, is_new }
    }
}

/// The slots of all keys, as this process sees them.
pub struct Slots {
    ledger: Arc<dyn Ledger>,
    began: Instant,
    /// Numbers the looks into the book.
    looks: AtomicU64,
    /// What the book showed when it was last read as a whole.
    book: ArcSwap<Vec<Assignment>>,
    /// The book's version then.
    version: AtomicU64,
    /// When this process last saw the book changed; milliseconds since it began.
    freed: AtomicU64,
    /// When the book was last told which keys are used; as above.
    told_uses: AtomicU64,
    /// Somebody knows of a slot that is free.
    woken: Notify,
    metrics: Arc<Metrics>,
}

impl Slots {
    pub fn new(ledger: Arc<dyn Ledger>, metrics: Arc<Metrics>, now: Instant) -> Self {
        Slots {
            ledger,
            began: now,
            looks: AtomicU64::new(0),
            book: ArcSwap::default(),
            version: AtomicU64::new(u64::MAX),
            freed: AtomicU64::new(0),
            told_uses: AtomicU64::new(0),
            woken: Notify::new(),
            metrics,
        }
    }

    /// The account that the key has, from memory; none where the book must be asked.
    pub fn held(&self, client: &Client, now: Instant) -> Option<Arc<str>> {
        let held = client.seat.held(now)?;
        let is_its_own = *held.assignment.tier == *client.tier;
        is_its_own.then(|| held.assignment.account.clone())
    }

    /// The account that the key had last, whatever became of it.
    fn last_held(&self, client: &Client) -> Option<Arc<str>> {
        let held = client.seat.last_held()?;
        Some(held.assignment.account.clone())
    }

    /// A request of the key is under way, until what is returned is dropped.
    pub fn enter(&self, client: &Client, now: Instant) -> Seated {
        client.seat.enter(self.ticks(now))
    }

    /// May the key leave its account because a request failed there? If so, it does.
    pub fn may_flee(&self, client: &Client, now: Instant) -> bool {
        let ticks = self.ticks(now).max(1);
        let fled = &client.seat.fled;
        let flees = |at: u64| (at == 0 || at + FLEES_EVERY_MS <= ticks).then_some(ticks);
        fled.fetch_update(Ordering::SeqCst, Ordering::SeqCst, flees)
            .is_ok()
    }

    /// The account of the key among these candidates, which the book says. At most `patience` goes by.
    ///
    /// # Errors
    /// None has room, or nobody knows.
    pub async fn place(
        &self,
        client: &Client,
        tier: &Tier,
        candidates: &[Candidate],
        at: Moment,
        patience: Duration,
    ) -> Result<Sits, NoSlot> {
        let placed = self.place_in_turn(client, tier, candidates, at);
        let in_time = tokio::time::timeout(patience, placed).await;
        in_time.unwrap_or(Err(NoSlot::Unknown))
    }

    async fn place_in_turn(
        &self,
        client: &Client,
        tier: &Tier,
        candidates: &[Candidate],
        at: Moment,
    ) -> Result<Sits, NoSlot> {
        let seat = &client.seat;
        let serves = |account: &str| candidates.iter().any(|it| *it.account == *account);
        let unanswered = seat.unanswered.load(Ordering::SeqCst);
        let _turn = seat.turn.acquire().await;
        // Whoever had the turn before may have got what this one wants.
        if let Some(account) = self.held(client, at.now).filter(|account| serves(account)) {
            return Ok(Sits::still(account));
        }
        if let Some(full) = seat
            .full
            .load()
            .as_deref()
            .filter(|it| self.still(it, at.now))
        {
            return Err(NoSlot::full(full.next_release));
        }
        // Whoever waited beside one to whom the book said nothing has waited as long.
        if seat.unanswered.load(Ordering::SeqCst) != unanswered {
            return Err(NoSlot::Unknown);
        }
        let last_held = self.last_held(client);
        let ask = Ask {
            key: &client.id,
            tier: &client.tier,
            candidates,
            limit: tier.slots_per_account,
            may_stay: last_held.is_some_and(|account| serves(&account)),
            rotate_every: span(tier.rotate_every),
            idle_release: span(tier.idle_release),
            now: millis(at.wall),
        };
        match self.ask_book(&ask).await {
            Ok(Placed::Held { assignment, change }) => {
                let account = assignment.account.clone();
                self.sits(client, tier, assignment, change, at);
                let is_new = change != Change::None;
                Ok(Sits { account, is_new })
            }
            Ok(Placed::Full { next_release }) => {
                let since = self.ticks(at.now);
                seat.full.store(Some(Arc::new(Full {
                    since,
                    next_release,
                })));
                // One that could have stayed was due, and has lost its slot.
                let look = self.look();
                let stays = |held: &&Held| !serves(&held.assignment.account);
                seat.show(look, |before| before.filter(stays).cloned());
                Err(NoSlot::full(next_release))
            }
            Err(error) => self.without_book(client, &serves, &error, at.now),
        }
    }

    async fn ask_book(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        if ask.may_stay {
            let placed = tokio::time::timeout(SHORT_PATIENCE, self.ledger.place(ask));
            let late = || Err(LedgerError::failed("the book of slots does not answer"));
            return placed.await.unwrap_or_else(|_| late());
        }
        for _ in 1..TRIES {
            match self.ledger.place(ask).await {
                Err(error) if !error.is_away => tokio::time::sleep(PAUSE).await,
                placed => return placed,
            }
        }
        self.ledger.place(ask).await
    }

    /// The key stays where it is while the book does not answer.
    fn without_book(
        &self,
        client: &Client,
        serves: &impl Fn(&str) -> bool,
        error: &LedgerError,
        now: Instant,
    ) -> Result<Sits, NoSlot> {
        tracing::error!(
            key = &*client.name,
            "the book of slots cannot be used: {error}"
        );
        let held = client.seat.last_held();
        let held = held.filter(|held| {
            let Assignment { tier, account, .. } = &held.assignment;
            **tier == *client.tier && serves(account)
        });
        let Some(held) = held else {
            client.seat.unanswered.fetch_add(1, Ordering::SeqCst);
            return Err(NoSlot::Unknown);
        };
        let due = now + ASK_AGAIN;
        client.seat.show(self.look(), |before| {
            before.map(|held| Held {
                due,
                ..held.clone()
            })
        });
        Ok(Sits::still(held.assignment.account.clone()))
    }

    /// Notes and tells what the book said of the key.
    fn sits(
        &self,
        client: &Client,
        tier: &Tier,
        assignment: Assignment,
        change: Change,
        at: Moment,
    ) {
        client.seat.full.store(None);
        if change != Change::None {
            tell(client, tier, &assignment);
        }
        if change == Change::Rotated {
            self.metrics.slot_rotated(&client.tier);
        }
        let mut due = due(&assignment, tier.rotate_every, at);
        if change == Change::None {
            due = due.max(at.now + NOT_YET.min(tier.rotate_every));
        }
        client
            .seat
            .show(self.look(), |_| Some(Held { assignment, due }));
    }

    /// The key's request goes to the account that it holds; the log hears of it now and then.
    pub fn used(&self, client: &Client, at: Moment) {
        let ticks = self.ticks(at.now).max(1);
        let logged = &client.seat.logged;
        let again = |last: u64| (last == 0 || last + LOG_EVERY_MS <= ticks).then_some(ticks);
        let again = logged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, again);
        if again.is_ok()
            && let Some(held) = client.seat.last_held()
        {
            let left = held.due.saturating_duration_since(at.now);
            tracing::info!(
                key = &*client.name,
                "Using current account: {} ({} until rotation)",
                held.assignment.account,
                in_words(left)
            );
        }
    }

    /// The key's request goes to the account that it was just given, whose token is ready.
    pub fn first_used(&self, client: &Client, account: &str) {
        tracing::info!(
            key = &*client.name,
            "Successfully obtained token from pool account: {account}"
        );
    }

    /// Does what the book said of slots that are all taken hold still?
    fn still(&self, full: &Full, now: Instant) -> bool {
        let freed = self.freed.load(Ordering::SeqCst);
        freed < full.since && self.ticks(now) < full.since + STILL_FULL_MS
    }

    fn look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Milliseconds since this began.
    fn ticks(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }
}

impl NoSlot {
    fn full(next_release: Option<i64>) -> Self {
        let at = |ms: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
        NoSlot::Full {
            next_release: next_release.map(at),
        }
    }
}

fn tell(client: &Client, tier: &Tier, assignment: &Assignment) {
    let at = Duration::from_millis(assignment.next_rotation.unsigned_abs());
    tracing::info!(
        key = &*client.name,
        tier = &*client.tier,
        next_rotation = clock::rfc3339(SystemTime::UNIX_EPOCH + at),
        "Rotated to account: {} (will rotate in {})",
        assignment.account,
        in_words(tier.rotate_every)
    );
    if let Some(previous) = &assignment.previous_account {
        tracing::info!(key = &*client.name, "Previous account was: {previous}");
    }
}

/// When the key is due on this process' clock; never further ahead than a period.
fn due(assignment: &Assignment, rotate_every: Duration, at: Moment) -> Instant {
    let left = assignment.next_rotation.saturating_sub(millis(at.wall));
    let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
    at.now + left.min(rotate_every)
}

fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A span in its largest whole unit: `23 hours`, `5 minutes`, `1 second`.
fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        _ => (seconds / 3600, "hour"),
    };
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{many}")
}
