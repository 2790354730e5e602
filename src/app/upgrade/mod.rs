//! One process takes the place of another, and no client notices.
//!
//! ```text
//! running gateway                                 successor (`run --upgrade`)
//!                      <- I would take over --    connects before anything else
//!   -- listening sockets ->                       reads files, makes everything
//!                      <- prepared ----------
//!   -- live state of accounts ------------->      accepts, on the same sockets
//!                      <- serving -----------
//!   -- go ---------------------------------->     takes the socket for orders
//!                      <- reachable ---------
//!   accepts no more, finishes its requests
//!   -- limits used since the copy ---------->
//!            <- requests in flight, by account ->
//! ```
//!
//! Up to `reachable` whatever happens to the successor (it crashes, hangs, has a bad file) ends with the
//! connection, and nothing has changed. Pingora's own way would end the old process whether or not
//! anybody took its sockets.

mod heritage;
mod places;
mod predecessor;
mod program;
mod sockets;
mod successor;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limit::More;
use crate::notify::Told;
use crate::pool::Bequest;

pub use successor::Predecessor;

pub(super) use heritage::{Heritage, follow as follow_predecessor};
pub(super) use predecessor::{hand_over, order};
pub(super) use program::of_this_process;
pub(super) use sockets::Inherited;
pub(super) use sockets::Sockets;
pub(super) use successor::{addresses, say_serving};

/// How long a successor may take for each of its steps, where nobody said.
const STEP: Duration = Duration::from_secs(60);

/// What comes with the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Will {
    /// In the order of the sockets.
    addresses: Vec<String>,
    /// How long the accounts have been served, by whichever process.
    age_ms: u64,
}

/// What is known of the accounts and those who were told, beyond what the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    accounts: Vec<Bequest>,
    strategies: Vec<Chosen>,
    told: Told,
    /// By which number the process writes down what its requests use; none from an older program.
    #[serde(default)]
    writer: Option<i64>,
}

/// What accounts have used of their limits after the copy of their state, up to the last connection that the
/// predecessor took.
#[derive(Debug, Serialize, Deserialize)]
struct Used {
    more: More,
}

/// A pool's strategy that an operator chose while it ran.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    pool: String,
    /// What the file says: if it says something new, that counts.
    written: String,
    chosen: String,
}

/// How the successor gets on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
enum News {
    /// All is made, and nothing accepted yet.
    Prepared,
    /// It accepts.
    Serving,
    /// It takes the orders of the command line.
    Reachable,
    /// It will not come, and why.
    Failed { lines: Vec<String> },
}
