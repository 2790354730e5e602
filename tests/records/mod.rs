//! The records: the same over SQLite and over PostgreSQL, whatever becomes of the gateway, and while
//! the database is away.

mod keys;
mod start;

use poolgate::secret::Secret;
use poolgate::store::{KeyRecord, Store};

use crate::support::Postgres;

/// Does this with records in a file, and with records in PostgreSQL.
fn over_both<F: Future<Output = ()>>(test: impl Fn(Records) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(test(Records::in_file()));
    runtime.block_on(test(Records::on_server()));
}

/// An empty database.
enum Records {
    File(tempfile::TempDir),
    Server(Box<Postgres>),
}

impl Records {
    fn in_file() -> Records {
        Records::File(tempfile::tempdir().unwrap())
    }

    fn on_server() -> Records {
        Records::Server(Box::new(Postgres::start()))
    }

    /// As one process more sees them.
    fn open(&self) -> Store {
        match self {
            Records::File(folder) => Store::in_dir(folder.path()),
            Records::Server(server) => Store::on_server(&Secret::new(server.url())).unwrap(),
        }
    }
}

/// A key of this name.
fn key(name: &str) -> KeyRecord {
    let hash: String = name
        .bytes()
        .cycle()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    serde_json::from_value(serde_json::json!({
        "id": format!("id-{name}"),
        "name": name,
        "hash": hash,
        "tier": "default",
        "created_at": 1_800_000_000_000_i64,
    }))
    .unwrap()
}
