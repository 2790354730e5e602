//! The records: the same over SQLite and over PostgreSQL, whatever becomes of the gateway, and while
//! the database is away.

mod away;
mod backup;
mod book;
mod crowded;
mod keys;
mod killed;
mod secured;
mod several;
mod start;
mod usage;

use poolgate::secret::Secret;
use poolgate::store::{KeyRecord, Store};

use crate::support::{Gateway, Postgres, get, wait_for};

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

/// What a gateway keeps its records in.
enum Database {
    Sqlite,
    Server(Box<Postgres>),
}

impl Database {
    fn both() -> [Database; 2] {
        [
            Database::Sqlite,
            Database::Server(Box::new(Postgres::start())),
        ]
    }

    /// The line of the configuration that says so.
    fn state(&self) -> String {
        self.state_with("")
    }

    /// The same with more keys of `state`.
    fn state_with(&self, more: &str) -> String {
        match self {
            Database::Sqlite => format!("state: {{{more}}}\n"),
            Database::Server(server) => Database::state_of(&server.url(), more),
        }
    }

    fn state_of(url: &str, more: &str) -> String {
        format!("state: {{postgres: \"{url}\", {more}}}\n")
    }

    /// What these statements give.
    fn sql(&self, gateway: &Gateway, statements: &str) -> String {
        let file = gateway.program.folder().join("data/poolgate.db");
        match self {
            Database::Sqlite => sqlite(&file, statements),
            Database::Server(server) => server.sql(statements),
        }
    }
}

/// Waits until so many requests are written down: that happens when an answer has gone out.
#[track_caller]
fn wait_until_used(gateway: &Gateway, requests: u64) {
    wait_for(&format!("{requests} requests to be written down"), || {
        let answer = gateway.admin(get("/api/v1/usage?by=account"));
        let rows = answer.json()["usage"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let counts = rows.iter().map(|row| row["requests"].as_u64().unwrap());
        (counts.sum::<u64>() == requests).then_some(())
    });
}

/// A number that a database gave.
fn asked(said: &str) -> u64 {
    said.parse().unwrap_or_else(|_| panic!("{said}"))
}

/// What SQLite gives for these statements: the last one's first column.
fn sqlite(file: &std::path::Path, statements: &str) -> String {
    const ASK: &str = "import sqlite3, sys\n\
        with sqlite3.connect(sys.argv[1], timeout=20) as file:\n\
        \x20   for one in sys.argv[2].split(';'):\n\
        \x20       rows = file.execute(one).fetchall()\n\
        print('\\n'.join(str(row[0]) for row in rows))";
    let asked = std::process::Command::new("python3")
        .args(["-c", ASK])
        .arg(file)
        .arg(statements)
        .output()
        .unwrap();
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    String::from_utf8_lossy(&asked.stdout).trim().to_owned()
}
