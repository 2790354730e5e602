//! What is kept in `state.dir/poolgate.db`: a SQLite database that two processes may use at a time,
//! as they do while one takes over from the other.
//!
//! SQLite works on a thread of its own, so that nothing here holds a worker up. No request waits
//! for it.

mod error;
mod schema;
pub mod shared;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::OnceCell;

pub use error::StoreError;

use crate::clock::SystemTime;
use crate::telemetry::Metrics;

/// The name of the file in `state.dir`.
const FILE: &str = "poolgate.db";

/// How long a writer waits for another process's turn to end. A turn takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one waits for the connection, behind others of this process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The records. It opens itself with its first use; while that fails, each use tries again.
pub struct Store {
    path: PathBuf,
    pool: OnceCell<SqlitePool>,
    /// Where errors are counted.
    metrics: Option<Arc<Metrics>>,
}

impl Store {
    /// The records of this folder, not opened yet.
    pub fn in_dir(dir: &Path) -> Self {
        Store {
            path: dir.join(FILE),
            pool: OnceCell::new(),
            metrics: None,
        }
    }

    /// The same, whose errors are counted.
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Store {
            metrics: Some(metrics),
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

    /// Opens the file unless that was done.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.pool().await.map(|_| ())
    }

    /// Takes the lease of this name for `holder`, or makes it longer when `holder` has it: until
    /// `now + lasts` nobody else gets it. False: another holder has it. One that would last far longer
    /// was taken before the clock was set back, and binds nobody.
    ///
    /// # Errors
    /// The records cannot be read or written; then nobody knows who has it.
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        // One statement, which SQLite carries out whole and alone.
        const TAKE: &str = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.expires_at <= $4 OR leases.expires_at > $5 OR leases.holder = excluded.holder";
        let taken = sqlx::query(TAKE)
            .bind(name)
            .bind(holder)
            .bind(millis(now + lasts))
            .bind(millis(now))
            .bind(millis(now + 2 * lasts))
            .execute(self.pool().await?)
            .await;
        let taken = taken.map_err(|error| self.told("lease", &error))?;
        Ok(taken.rows_affected() == 1)
    }

    /// Gives the lease back before its time. One that `holder` does not have stays as it is.
    ///
    /// # Errors
    /// The records cannot be written; the lease then ends in its time.
    pub async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let released = sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(name)
            .bind(holder)
            .execute(self.pool().await?)
            .await;
        released
            .map(|_| ())
            .map_err(|error| self.told("release", &error))
    }

    /// Who has the lease, or had it last.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn holder(&self, name: &str) -> Result<Option<String>, StoreError> {
        let holder = sqlx::query_scalar("SELECT holder FROM leases WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool().await?)
            .await;
        holder.map_err(|error| self.told("holder", &error))
    }

    async fn pool(&self) -> Result<&SqlitePool, StoreError> {
        let pool = self.pool.get_or_try_init(|| self.connect()).await;
        pool.inspect_err(|_| self.count("open"))
    }

    async fn connect(&self) -> Result<SqlitePool, StoreError> {
        self.make_file().await?;
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .journal_mode(SqliteJournalMode::Wal)
            // After a loss of power the last leases may be gone, and so are their holders.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        // One connection: whoever writes has the file alone, and waits better here than there.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        schema::bring_up_to_date(&pool, &self.path).await?;
        Ok(pool)
    }

    /// Makes the file, for its owner only: SQLite would let everybody read it. Its further files
    /// (`-wal`, `-shm`) get the same mode.
    async fn make_file(&self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let made = tokio::task::spawn_blocking(move || make_private(&path)).await;
        let made = made.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        made.map_err(|cause| StoreError::Unusable {
            path: self.path.clone(),
            cause: cause.to_string(),
        })
    }

    fn told(&self, operation: &'static str, error: &sqlx::Error) -> StoreError {
        self.count(operation);
        StoreError::of(error, &self.path)
    }

    fn count(&self, operation: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.store_error("sqlite", operation);
        }
    }
}

/// The file is made under another name and closed before it gets its own: closing it later would
/// take SQLite's locks on it away, as all locks of a process end with the first `close` (POSIX).
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("."));
            let made = tempfile::NamedTempFile::new_in(folder)?;
            match made.into_temp_path().persist_noclobber(path) {
                // Another process was faster.
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                made => made.map_err(|error| error.error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Milliseconds since 1970, as times are kept.
fn millis(at: SystemTime) -> i64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
