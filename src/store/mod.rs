//! The records: keys, who has which slot, what was used, leases. They are kept in SQLite, in
//! `state.dir/poolgate.db`, which two processes may use at a time as they do while one takes over from
//! the other; or in PostgreSQL (`state.postgres`), for several gateways.
//!
//! No request waits for them, but where it gets or changes its key's slot.

mod accounts;
mod adding;
mod audit;
mod backup;
mod copy;
mod db;
mod error;
mod find;
mod gateway;
mod gather;
mod keep;
mod keys;
mod leases;
mod left;
mod requests;
mod schema;
pub mod shared;
mod slots;
mod spent;
mod spool;
#[cfg(test)]
mod tests;
mod totals;
mod usage;

use std::path::Path;
use std::sync::Arc;

pub use accounts::AccountRecord;
pub use audit::AuditRecord;
pub use backup::{BackupError, Counts};
pub use error::{Place, StoreError};
pub use find::Wanted;
pub use gateway::name as gateway_name;
pub use keys::KeyRecord;
pub use requests::RequestRecord;
pub use slots::{
    Ask, Assignment, Candidate, Change, Decision, Ledger, LedgerError, Placed, Tally, decide,
};
pub use spent::{Before, SpentRecord};
pub use totals::{By, Total};
pub use usage::{Row, Usage};

use crate::clock::SystemTime;
use crate::config;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use copy::Copy;
use db::Db;

/// The name of SQLite's file in `state.dir`.
const FILE: &str = "poolgate.db";

/// The records. They open themselves with their first use; while that fails, each use tries again.
pub struct Store {
    db: Db,
    /// Of the keys, where the database may be away.
    copy: Option<Copy>,
}

impl Store {
    /// The records that this configuration asks for, not opened yet.
    ///
    /// # Errors
    /// `state.postgres` cannot be understood.
    pub fn of(state: &config::State) -> Result<Self, StoreError> {
        match &state.postgres {
            Some(url) => Ok(Store {
                copy: Some(Copy::in_dir(&state.dir)),
                ..Store::on_server(url)?
            }),
            None => Ok(Store::in_dir(&state.dir)),
        }
    }

    /// The records of the PostgreSQL at this URL, not opened yet.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn on_server(url: &Secret) -> Result<Self, StoreError> {
        let db = Db::server(url)?;
        Ok(Store { db, copy: None })
    }

    /// The records of this folder, not opened yet.
    pub fn in_dir(dir: &Path) -> Self {
        Store {
            db: Db::file(dir.join(FILE)),
            copy: None,
        }
    }

    /// The same, whose errors are counted.
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Store {
            db: self.db.counted(metrics),
            ..self
        }
    }

    /// The records of this folder, made if there are none.
    ///
    /// # Errors
    /// The file cannot be had, is damaged, or is of a newer poolgate.
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Store::in_dir(dir);
        store.ready().await?;
        Ok(store)
    }

    /// Opens them unless that was done.
    ///
    /// # Errors
    /// They cannot be had; [`StoreError::is_lasting`] tells whether waiting might help.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.db.durable().await.map(drop)
    }

    /// Where they are.
    pub fn place(&self) -> &Place {
        self.db.place()
    }

    /// They are not waited for any longer.
    fn away(&self, cause: &str) -> StoreError {
        StoreError::Away {
            place: self.db.place().clone(),
            cause: cause.to_owned(),
        }
    }
}

/// Milliseconds since 1970, as times are kept.
pub fn millis(at: SystemTime) -> i64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
