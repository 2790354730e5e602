//! The tables, as the steps from each format of the database to the next.

use std::time::Duration;

use sqlx::{Any, AnyPool, AssertSqlSafe, Executor, Transaction};

use super::error::{Place, StoreError};

/// Step n makes format n + 1 out of format n; an empty database is format 0. A step that was released
/// is never changed. Times and spans are in milliseconds, times since 1970. The types are SQLite's;
/// [`typed`] makes PostgreSQL's of them.
const STEPS: &[&str] = &[
    "CREATE TABLE leases (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        expires_at INTEGER NOT NULL
    )",
    // What everybody reads anew when its number has changed.
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT INTO counters (name, value) VALUES ('keys', 1);
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash TEXT NOT NULL,
        revoked_at INTEGER,
        record TEXT NOT NULL -- all of it, as JSON
    );
    CREATE UNIQUE INDEX keys_hash ON keys (hash);
    CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked_at IS NULL;
    CREATE TABLE assignments (
        tier TEXT NOT NULL,
        key TEXT NOT NULL, -- its id
        account TEXT NOT NULL,
        last_rotation INTEGER NOT NULL,
        next_rotation INTEGER NOT NULL,
        previous_account TEXT,
        last_used INTEGER NOT NULL,
        PRIMARY KEY (tier, key)
    );
    CREATE INDEX assignments_account ON assignments (tier, account);
    CREATE TABLE slot_accounts (
        tier TEXT NOT NULL,
        account TEXT NOT NULL,
        assigned INTEGER NOT NULL, -- how often, ever
        PRIMARY KEY (tier, account)
    );
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        request TEXT NOT NULL, -- as the client, or poolgate, called it
        key TEXT NOT NULL, -- its id
        account TEXT,
        pool TEXT,
        model TEXT,
        path TEXT NOT NULL, -- the kind of path
        tries TEXT NOT NULL, -- account:outcome,account:outcome
        status INTEGER NOT NULL,
        error TEXT,
        tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        tokens_cached INTEGER NOT NULL,
        cost INTEGER NOT NULL, -- billionths
        estimated INTEGER NOT NULL, -- 1: the vendor stated no amount
        began INTEGER NOT NULL,
        first_byte INTEGER,
        duration INTEGER NOT NULL
    );
    CREATE INDEX requests_began ON requests (began);
    -- The sums of requests, which are kept for longer.
    CREATE TABLE usage (
        hour INTEGER NOT NULL, -- when it began
        key TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL, -- '' when it is not known
        requests INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        tokens_cached INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        estimated INTEGER NOT NULL, -- how many of the requests
        PRIMARY KEY (hour, key, account, model)
    );
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL
    );
    CREATE INDEX audit_at ON audit (at)",
    // Who has written usage, each process by a number of its own.
    "CREATE TABLE writers (
        run INTEGER PRIMARY KEY,
        gateway TEXT NOT NULL, -- the same over restarts
        written INTEGER NOT NULL, -- the number of its last item that is in the records
        seen INTEGER NOT NULL
    );
    -- What counts in the limits of keys, from when on.
    CREATE TABLE spent (
        at INTEGER NOT NULL,
        key TEXT NOT NULL, -- its id
        model TEXT NOT NULL, -- '' when it is not known
        run INTEGER NOT NULL, -- of the writer
        requests INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        PRIMARY KEY (at, key, model, run)
    )",
    // Where an operator called from; and accounts that are not in the file.
    "ALTER TABLE audit ADD COLUMN source TEXT NOT NULL DEFAULT '';
    INSERT INTO counters (name, value) VALUES ('accounts', 1);
    CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        sealed TEXT NOT NULL -- all that is said of it, under state.key
    )",
];

/// How PostgreSQL's transactions that bring the tables up to date wait for each other.
const ALONE: &str = "SELECT pg_advisory_xact_lock(7041650322)";

/// Brings the database to the newest format, alone among all processes that open it.
pub(super) async fn bring_up_to_date(pool: &AnyPool, place: &Place) -> Result<(), StoreError> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(50);
    let mut result = try_to(pool, place).await;
    for _ in 1..TRIES {
        // Who turns a new file to WAL needs it alone, and SQLite does not wait for that.
        if !matches!(result, Err(StoreError::Busy { .. })) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        result = try_to(pool, place).await;
    }
    result
}

async fn try_to(pool: &AnyPool, place: &Place) -> Result<(), StoreError> {
    let told = |error| StoreError::of(&error, place);
    let mut change = match place {
        Place::File(_) => {
            // It stays with the file: readers and a writer, and two processes, at a time.
            pool.execute("PRAGMA journal_mode = WAL")
                .await
                .map_err(told)?;
            pool.begin_with("BEGIN IMMEDIATE").await.map_err(told)?
        }
        Place::Server(_) => {
            let mut change = pool.begin().await.map_err(told)?;
            change.execute(ALONE).await.map_err(told)?;
            change
        }
    };
    let found = format(&mut change, place).await.map_err(told)?;
    let known = STEPS.len() as i64;
    let steps = usize::try_from(found)
        .ok()
        .and_then(|from| STEPS.get(from..));
    let Some(steps) = steps else {
        let place = place.clone();
        return Err(StoreError::Newer {
            place,
            found,
            known,
        });
    };
    for step in steps {
        let step = AssertSqlSafe(typed(step, place));
        sqlx::raw_sql(step)
            .execute(&mut *change)
            .await
            .map_err(told)?;
    }
    if !steps.is_empty() {
        let noted = match place {
            Place::File(_) => format!("PRAGMA user_version = {known}"),
            Place::Server(_) => format!("UPDATE format SET version = {known}"),
        };
        let noted = sqlx::raw_sql(AssertSqlSafe(noted));
        noted.execute(&mut *change).await.map_err(told)?;
    }
    change.commit().await.map_err(told)
}

/// The format that the tables have: SQLite keeps such a number by itself.
async fn format(change: &mut Transaction<'_, Any>, place: &Place) -> Result<i64, sqlx::Error> {
    if let Place::File(_) = place {
        let version = sqlx::query_scalar("PRAGMA user_version");
        return version.fetch_one(&mut **change).await;
    }
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('format')::text")
        .fetch_one(&mut **change)
        .await?;
    if table.is_none() {
        let made = "CREATE TABLE format (version BIGINT NOT NULL); INSERT INTO format VALUES (0)";
        sqlx::raw_sql(made).execute(&mut **change).await?;
    }
    let version = sqlx::query_scalar("SELECT version FROM format");
    version.fetch_one(&mut **change).await
}

/// SQLite's INTEGER holds 64 bits; PostgreSQL's 32.
fn typed(step: &str, place: &Place) -> String {
    match place {
        Place::File(_) => step.to_owned(),
        Place::Server(_) => step.replace(" INTEGER", " BIGINT"),
    }
}
