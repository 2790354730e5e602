//! The tables, as the steps from each format of the database to the next.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqlitePool;

use super::error::StoreError;

/// Step n makes format n + 1 out of format n; an empty file is format 0. A step that was released
/// is never changed.
const STEPS: &[&str] = &["CREATE TABLE leases (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        expires_at INTEGER NOT NULL -- milliseconds since 1970
    )"];

/// Brings the database to the newest format, alone among all processes that open it.
pub(super) async fn bring_up_to_date(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(50);
    let mut result = try_to(pool, path).await;
    for _ in 1..TRIES {
        // Who turns a new file to WAL needs it alone, and SQLite does not wait for that.
        if !matches!(result, Err(StoreError::Busy { .. })) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        result = try_to(pool, path).await;
    }
    result
}

async fn try_to(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let told = |error| StoreError::of(&error, path);
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await.map_err(told)?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *change)
        .await
        .map_err(told)?;
    let known = STEPS.len() as i64;
    let steps = usize::try_from(found)
        .ok()
        .and_then(|from| STEPS.get(from..));
    let Some(steps) = steps else {
        let path = path.to_owned();
        return Err(StoreError::Newer { path, found, known });
    };
    for step in steps {
        sqlx::query(*step)
            .execute(&mut *change)
            .await
            .map_err(told)?;
    }
    if !steps.is_empty() {
        let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {known}"));
        sqlx::query(version)
            .execute(&mut *change)
            .await
            .map_err(told)?;
    }
    change.commit().await.map_err(told)
}
