//! What is wrong with the records, in words that say what to do.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The records cannot be used, or not so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{place}: is damaged, or no database; move it away together with its -wal and -shm files, and a new one is made"
    )]
    Damaged { place: Place },
    #[error(
        "{place}: is in format {found}, of a newer poolgate; this one knows the formats up to {known}"
    )]
    Newer {
        place: Place,
        found: i64,
        known: i64,
    },
    #[error("{place}: no space is left on the disk")]
    Full { place: Place },
    #[error("{place}: another program keeps it to itself")]
    Busy { place: Place },
    /// This gateway itself asks too much of it at a time.
    #[error("{place}: all connections to it are in use")]
    Crowded { place: Place },
    /// It may be back at any time.
    #[error("{place}: cannot be reached: {cause}")]
    Away { place: Place, cause: String },
    /// It may not be opened, read or written here.
    #[error("{place}: cannot be used: {cause}")]
    Unusable { place: Place, cause: String },
    /// Not this time nor any other: what is there forbids it, or it is nothing that can be written.
    #[error("{place}: refuses what is written: {cause}")]
    Refused { place: Place, cause: String },
    #[error("there is a key named {name:?} already")]
    NameTaken { name: String },
    #[error("this key is known already, as {name:?}")]
    KeyKnown { name: String },
}

/// Where the records are: what a person may be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// SQLite.
    File(PathBuf),
    /// PostgreSQL: host, port and database, without user and password.
    Server(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Server(address) => address.fmt(f),
        }
    }
}

impl Place {
    /// Label of `poolgate_store_errors_total{store}`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Place::File(_) => "sqlite",
            Place::Server(_) => "postgres",
        }
    }
}

/// SQLite's primary result codes (https://sqlite.org/rescode.html).
const BUSY: i32 = 5;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOT_A_DATABASE: i32 = 26;

impl StoreError {
    pub(super) fn of(error: &sqlx::Error, place: &Place) -> Self {
        match place {
            Place::File(_) => StoreError::of_sqlite(error, place.clone()),
            Place::Server(_) => StoreError::of_postgres(error, place.clone()),
        }
    }

    fn of_sqlite(error: &sqlx::Error, place: Place) -> Self {
        let database = error.as_database_error();
        let extended = database.and_then(|error| error.code()?.parse::<i32>().ok());
        // The lower byte is the primary code.
        match extended.map(|code| code & 0xff) {
            Some(BUSY) => StoreError::Busy { place },
            Some(FULL) => StoreError::Full { place },
            Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged { place },
            Some(TOO_BIG | CONSTRAINT | MISMATCH) => StoreError::refused(error, place),
            _ if matches!(error, sqlx::Error::PoolTimedOut) => StoreError::Busy { place },
            _ => StoreError::unusable(error, place),
        }
    }

    /// By SQLSTATE (https://www.postgresql.org/docs/15/errcodes-appendix.html).
    fn of_postgres(error: &sqlx::Error, place: Place) -> Self {
        let away = |cause: &str| StoreError::Away {
            place: place.clone(),
            cause: cause.to_owned(),
        };
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            // The disk is full; memory is not.
            Some("53100") => StoreError::Full { place },
            // The connection broke; too little of something; it starts or stops, or another server
            // has become the one that writes.
            Some(code) if matches!(&code[..code.len().min(2)], "08" | "53" | "57" | "25") => {
                away(&said(error))
            }
            // A value that is none there, or that a constraint forbids.
            Some(code) if matches!(&code[..code.len().min(2)], "22" | "23") => {
                StoreError::refused(error, place)
            }
            Some(_) => StoreError::unusable(error, place),
            None => match error {
                sqlx::Error::PoolTimedOut => away("it does not answer"),
                sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => away("it is closed"),
                // It is not the server that its certificate says, or not one that is trusted.
                sqlx::Error::Io(io) if io.kind() == ErrorKind::InvalidData => {
                    StoreError::unusable(error, place)
                }
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => away(&said(error)),
                _ => StoreError::unusable(error, place),
            },
        }
    }

    fn unusable(error: &sqlx::Error, place: Place) -> Self {
        let cause = said(error);
        StoreError::Unusable { place, cause }
    }

    fn refused(error: &sqlx::Error, place: Place) -> Self {
        let cause = said(error);
        StoreError::Refused { place, cause }
    }

    /// Waiting does not help: whoever starts a gateway must be told.
    pub fn is_lasting(&self) -> bool {
        match self {
            StoreError::Newer { .. } => true,
            StoreError::Unusable { place, .. } => matches!(place, Place::Server(_)),
            _ => false,
        }
    }
}

/// The database's own words, without the library's.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        _ => error
            .as_database_error()
            .map_or_else(|| error.to_string(), |error| error.message().to_owned()),
    }
}
