//! What the management API needs of the gateway.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::keys::Issuer;
use super::pulse::Pulse;
use super::roster::{AccountError, NotKept, Roster};
use super::route::Question;
use super::slots::{SlotPlace, SlotsView};
use crate::clock::SystemTime;
use crate::config::{Difference, Shown};
use crate::instance::{InstanceView, LogPlace};
use crate::notify::Tested;
use crate::pool::{AccountView, Explanation, PoolView, QueueView, Status};
use crate::store::{Store, Usage};
use crate::telemetry::Counts;

/// The gateway as an operator sees it. Reading never waits for a request in progress.
pub trait Control: Send + Sync {
    /// In the order of the file.
    fn pools(&self) -> Vec<PoolView>;

    /// Of all pools, in the order of the file.
    fn accounts(&self) -> Vec<AccountView>;

    fn account(&self, id: &str) -> Option<AccountView>;

    /// The state of each, and nothing else: it is asked for all the time.
    fn states(&self) -> Vec<(Arc<str>, Status)>;

    /// What is known of the account besides its state.
    fn about(&self, id: &str) -> About;

    /// Scheme, host and port of the account's upstream, such as `http://127.0.0.1:4001`.
    fn upstream(&self, id: &str) -> Option<String>;

    /// Lets the account serve again, or gives it no new requests; those in flight finish. It holds over
    /// restarts, unless the answer says why it will not.
    ///
    /// # Errors
    /// There is no such account.
    fn switch<'a>(
        &'a self,
        id: &'a str,
        enabled: bool,
    ) -> BoxFuture<'a, Result<Option<NotKept>, AccountError>>;

    /// Closes the breaker, ends every cooldown and sets the account's failures to zero. False: there
    /// is no such account.
    fn reset(&self, id: &str) -> bool;

    /// Changes the strategy of one pool, or of all; any spelling that the configuration takes.
    fn set_strategy(&self, pool: Option<&str>, strategy: &str) -> StrategyChange;

    /// Probes one account, or all, and is done when the answers have been judged. False: there is no
    /// such account.
    fn probe<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, bool>;

    /// Has another token granted to the account. `None`: there is no such account; an error says why
    /// there is none.
    fn refresh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<(), String>>>;

    /// The account's local program, if it has one.
    fn instance(&self, id: &str) -> Option<InstanceView>;

    /// Starts the account's program anew. False: it has none.
    fn restart(&self, id: &str) -> bool;

    /// The last lines that the account's program wrote, the oldest first, and where they end. It reads a
    /// file: called on a thread that may block.
    ///
    /// # Errors
    /// The file cannot be read.
    fn instance_log(&self, id: &str, lines: usize) -> io::Result<(Vec<String>, LogPlace)>;

    /// The lines that came after that, and where they end; on a thread that may block.
    ///
    /// # Errors
    /// The file cannot be read.
    fn instance_log_after(&self, id: &str, at: LogPlace) -> io::Result<(Vec<String>, LogPlace)>;

    /// Tries each webhook once.
    fn test_notices(&self) -> BoxFuture<'_, Vec<Tested>>;

    fn queue(&self) -> QueueView;

    /// Each account of a tier with slots, as was known a moment ago.
    fn slot_places(&self) -> Vec<SlotPlace>;

    /// Which keys hold which slots, as the book says now.
    fn slots(&self) -> BoxFuture<'_, SlotsView>;

    /// A dry run of a request; an error says why it would be refused before any account.
    fn explain(&self, question: &Question) -> Result<Explanation, &'static str>;

    /// Reads the configuration anew, on a thread that may block.
    ///
    /// # Errors
    /// Every mistake of the file; nothing has changed then.
    fn reload(&self) -> Result<Reloaded, Vec<String>>;

    /// What [`Control::reload`] would do; nothing is changed.
    ///
    /// # Errors
    /// Every mistake of the file.
    fn rehearse(&self) -> Result<Reloaded, Vec<String>>;

    /// The file, if there is one, and what is in force of it, secrets masked.
    fn config(&self) -> (Option<String>, Shown);

    /// What is known of the seconds before.
    fn pulse(&self) -> &Pulse;

    /// Requests since the start.
    fn counts(&self) -> Counts;

    /// (p50, p95) of the times to first byte since `after`, in milliseconds.
    fn first_byte_ms(&self, after: SystemTime) -> Option<(u32, u32)>;

    /// Open connections of clients.
    fn connections(&self) -> u64;

    fn started_at(&self) -> SystemTime;

    /// Gateways that have the same accounts, this one included.
    fn gateways(&self) -> u32 {
        1
    }

    /// Is the process about to stop?
    fn draining(&self) -> bool;

    /// Whether Redis answers; None without one.
    fn redis(&self) -> Option<bool> {
        None
    }

    /// Who issues keys, if anybody does.
    fn issuer(&self) -> Option<&dyn Issuer> {
        None
    }

    /// Who keeps accounts that are not in the file, if anybody does.
    fn roster(&self) -> Option<&dyn Roster> {
        None
    }

    /// What was used, if anybody writes it down.
    fn records(&self) -> Option<Records<'_>> {
        None
    }

    /// Prometheus text. It may take some milliseconds: called on a thread that may block.
    fn encode_metrics(&self) -> String;
}

/// Where usage is read.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    pub store: &'a Store,
    /// What is on its way there.
    pub usage: &'a Usage,
}

/// A configuration that is in force now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reloaded {
    /// Keys whose new values are in force only after an upgrade.
    pub needs_upgrade: Vec<String>,
    pub changes: Vec<Difference>,
}

/// What an account is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub dialects: Vec<&'static str>,
    /// Patterns or names of models that it serves.
    pub models: Vec<String>,
    /// `file`, `discovered` or `api`.
    pub source: &'static str,
    /// Keys that the API has changed, of an account of the file.
    pub changed: Option<Vec<String>>,
}

/// What came of [`Control::set_strategy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyChange {
    Done,
    UnknownPool,
    UnknownStrategy,
}
