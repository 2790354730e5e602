//! What is wrong with the records, in words that say what to do.

use std::path::{Path, PathBuf};

/// The records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{}: is damaged, or no database; move it away together with its -wal and -shm files, and a new one is made",
        path.display()
    )]
    Damaged { path: PathBuf },
    #[error(
        "{}: is in format {found}, of a newer poolgate; this one knows the formats up to {known}",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("{}: no space is left on the disk", path.display())]
    Full { path: PathBuf },
    #[error("{}: another program keeps it to itself", path.display())]
    Busy { path: PathBuf },
    /// It may not be opened, read or written here.
    #[error("{}: cannot be used: {cause}", path.display())]
    Unusable { path: PathBuf, cause: String },
}

/// SQLite's primary result codes (https://sqlite.org/rescode.html).
const BUSY: i32 = 5;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;

impl StoreError {
    pub(super) fn of(error: &sqlx::Error, path: &Path) -> Self {
        let path = path.to_owned();
        let database = error.as_database_error();
        let extended = database.and_then(|error| error.code()?.parse::<i32>().ok());
        // The lower byte is the primary code.
        match extended.map(|code| code & 0xff) {
            Some(BUSY) => StoreError::Busy { path },
            Some(FULL) => StoreError::Full { path },
            Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged { path },
            _ if matches!(error, sqlx::Error::PoolTimedOut) => StoreError::Busy { path },
            _ => StoreError::Unusable {
                path,
                cause: database
                    .map_or_else(|| error.to_string(), |error| error.message().to_owned()),
            },
        }
    }
}
