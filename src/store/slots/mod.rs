//! Which key holds which account of its tier: the book of slots, wherever it is kept.
//!
//! A [`Ledger`] keeps it for all gateways that share it: each of its calls is one step, which
//! either happens as a whole or not at all. What a step decides is in [`choose`], the same for each of them.

mod choose;
mod records;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

pub use choose::{Decision, Tally, decide};

/// Which accounts' slots are taken, and by whom. Times are milliseconds since 1970.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The account of this key: the one it holds, or another one in its place.
    ///
    /// # Errors
    /// The book cannot be read or written, and says nothing.
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError>;

    /// Frees the slot of this key, if it is on this account still, and, where `unused_since` is
    /// given, if the key was not used after that. Returns whether one was freed.
    ///
    /// # Errors
    /// As for [`Ledger::place`].
    async fn release(
        &self,
        key: &str,
        account: &str,
        unused_since: Option<i64>,
    ) -> Result<bool, LedgerError>;

    /// When keys were used last: a later time counts, and keys without a slot do not.
    ///
    /// # Errors
    /// As for [`Ledger::place`].
    async fn touch(&self, used: &[(Arc<str>, i64)]) -> Result<(), LedgerError>;

    /// Every key that holds a slot, in the order of their ids.
    ///
    /// # Errors
    /// As for [`Ledger::place`].
    async fn all(&self) -> Result<Vec<Assignment>, LedgerError>;

    /// A number that changes with every change of who holds what; [`Ledger::touch`] is none.
    ///
    /// # Errors
    /// As for [`Ledger::place`].
    async fn version(&self) -> Result<u64, LedgerError>;

    /// Puts slots back that a book has lost: those of keys that hold none in it.
    ///
    /// # Errors
    /// As for [`Ledger::place`].
    async fn restore(&self, known: &[Assignment]) -> Result<(), LedgerError>;
}

/// A key asks for its account.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The key's id.
    pub key: &'a str,
    pub tier: &'a str,
    /// The accounts that could serve it now.
    pub candidates: &'a [Candidate],
    /// Keys of this tier on one account, at most.
    pub limit: u32,
    /// The key has an account that serves: it waits for nothing, and stays there until the book answers.
    pub may_stay: bool,
    /// Milliseconds.
    pub rotate_every: i64,
    /// Milliseconds.
    pub idle_release: i64,
    /// A book that has a clock of its own goes by that.
    pub now: i64,
}

/// An account that could serve a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub account: Arc<str>,
    /// Those of a lower rank are filled first.
    pub rank: u32,
}

/// A key and the account whose slot it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub key: Arc<str>,
    pub tier: Arc<str>,
    pub account: Arc<str>,
    pub last_rotation: i64,
    /// The first use from then on may bring another account.
    pub next_rotation: i64,
    pub last_used: i64,
    /// The account before; none before the first rotation.
    pub previous_account: Option<Arc<str>>,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    Held {
        assignment: Assignment,
        change: Change,
    },
    /// No candidate has room. A key whose account is out keeps its slot there; one whose time is
    /// over has lost it.
    Full {
        /// When the first slot becomes free, as far as the book knows: when its holder has been
        /// idle for long enough.
        next_release: Option<i64>,
    },
}

/// What a step did to the key's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds what it held.
    None,
    /// It had no slot.
    First,
    /// It gave its slot up and took one, perhaps of the same account.
    Rotated,
}

/// The book cannot be used now.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct LedgerError {
    why: String,
    /// It is known to be away: who asks again at once asks in vain.
    pub is_away: bool,
}

impl LedgerError {
    /// It may do what it is asked for the next time.
    pub fn failed(why: impl Into<String>) -> Self {
        LedgerError {
            why: why.into(),
            is_away: false,
        }
    }

    /// Nobody reaches it.
    pub fn away(why: impl Into<String>) -> Self {
        LedgerError {
            why: why.into(),
            is_away: true,
        }
    }
}
