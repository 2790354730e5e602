//! The database under the records: SQLite or PostgreSQL, behind one type, so that each statement is
//! written once. Parameters are `$1`, `$2` …; a column is TEXT, BIGINT (`i64`) or a double (`f64`).

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Any, AnyPool, ConnectOptions, Connection, Executor, Transaction};
use tokio::sync::{Mutex, OnceCell};

use super::error::{Place, StoreError};
use super::schema;
use crate::clock::{self, Instant};
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// How long one waits for a connection, behind others of this process. For SQLite that is also how
/// long its turns take; sqlx itself lets SQLite wait 5 s for another process's turn to end.
const FILE_PATIENCE: Duration = Duration::from_secs(10);
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// The longest that anything takes: far longer than it should.
const LONGEST: Duration = Duration::from_secs(15);

/// For so long nobody asks a server that was away.
const AWAY: Duration = Duration::from_millis(500);

/// Whoever changes what others may change at the same moment, on PostgreSQL: one lock for all.
/// The number means nothing, and must not be another program's.
const ALONE: &str = "SELECT pg_advisory_xact_lock(7041650321)";

/// One database.
pub(super) struct Db {
    place: Place,
    /// Of PostgreSQL.
    url: Option<Secret>,
    pools: OnceCell<Pools>,
    /// Held by whoever connects; why nobody could.
    connecting: Mutex<Option<StoreError>>,
    /// How often that was tried.
    tries: AtomicU64,
    /// When it was last found to be away: those that follow need not find out again, each with its own
    /// patience.
    away: parking_lot::Mutex<Option<(Instant, StoreError)>>,
    /// When it last did what it was asked for.
    heard: parking_lot::Mutex<Option<Instant>>,
    /// Where errors are counted.
    metrics: Option<Arc<Metrics>>,
}

/// Connections by what they are for.
struct Pools {
    /// What is acknowledged once it is on the disk.
    durable: AnyPool,
    /// Rows of which the last may be lost with the power.
    loose: AnyPool,
    reading: AnyPool,
    /// Short looks at what changes, that nobody's long question may hold up.
    watching: AnyPool,
}

impl Db {
    /// SQLite in this file, which is made if there is none.
    pub(super) fn file(path: PathBuf) -> Self {
        Db::at(Place::File(path), None)
    }

    /// PostgreSQL at this URL.
    ///
    /// # Errors
    /// It cannot be understood.
    pub(super) fn server(url: &Secret) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url.expose()).map_err(|error| {
            // What is said of a URL may hold the password in it.
            let cause = match error {
                sqlx::Error::Configuration(_) => "the URL cannot be understood",
                _ => "the URL asks for what is not known",
            };
            StoreError::Unusable {
                place: Place::Server("state.postgres".to_owned()),
                cause: cause.to_owned(),
            }
        })?;
        let database = options.get_database().unwrap_or(options.get_username());
        let (host, port) = (options.get_host(), options.get_port());
        let place = Place::Server(format!("PostgreSQL at {host}:{port}, database {database}"));
        Ok(Db::at(place, Some(url.clone())))
    }

    fn at(place: Place, url: Option<Secret>) -> Self {
        Db {
            place,
            url,
            pools: OnceCell::new(),
            connecting: Mutex::default(),
            tries: AtomicU64::new(0),
            away: parking_lot::Mutex::default(),
            heard: parking_lot::Mutex::default(),
            metrics: None,
        }
    }

    /// The same, whose errors are counted.
    pub(super) fn counted(self, metrics: Arc<Metrics>) -> Self {
        let metrics = Some(metrics);
        Db { metrics, ..self }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn is_server(&self) -> bool {
        self.url.is_some()
    }

    /// For single statements that write: what they did is on the disk when they return.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn durable(&self) -> Result<&AnyPool, StoreError> {
        Ok(&self.pools().await?.durable)
    }

    /// For single statements of which the last may be lost with the power.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn loose(&self) -> Result<&AnyPool, StoreError> {
        Ok(&self.pools().await?.loose)
    }

    /// For statements that only read.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn reading(&self) -> Result<&AnyPool, StoreError> {
        Ok(&self.pools().await?.reading)
    }

    /// For statements that are asked again and again, and read next to nothing.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn watching(&self) -> Result<&AnyPool, StoreError> {
        Ok(&self.pools().await?.watching)
    }

    /// Several statements, all of them done or none, and nobody else's change in between, of this
    /// process or another one. On the disk when its `commit` returns; undone when it is dropped.
    ///
    /// # Errors
    /// The database cannot be had, or is another's for too long.
    pub(super) async fn change(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let durable = self.durable().await?;
        let begun = async {
            if !self.is_server() {
                return durable.begin_with("BEGIN IMMEDIATE").await;
            }
            let mut change = durable.begin().await?;
            change.execute(ALONE).await?;
            Ok(change)
        };
        begun.await.map_err(|error| self.told("begin", &error))
    }

    /// Several statements that add rows. In a file the last of them may be lost with the power, as
    /// nobody waits for the disk.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn adding(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let loose = self.loose().await?;
        let begun = match self.is_server() {
            true => loose.begin().await,
            false => loose.begin_with("BEGIN IMMEDIATE").await,
        };
        begun.map_err(|error| self.told("begin", &error))
    }

    /// Reads of one moment, whatever others write meanwhile.
    ///
    /// # Errors
    /// The database cannot be had.
    pub(super) async fn moment(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let reading = self.reading().await?;
        let begun = match self.is_server() {
            true => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                reading.begin_with(begin).await
            }
            false => reading.begin().await,
        };
        begun.map_err(|error| self.told("begin", &error))
    }

    /// Does this, unless it takes so long that the way to the database must have broken: no packet
    /// tells who waits for an answer.
    ///
    /// # Errors
    /// Those of `work`; or it took too long, and nobody knows what became of it.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = tokio::time::timeout(LONGEST, work).await;
        if let Ok(Ok(_)) = done {
            *self.heard.lock() = Some(clock::now());
        }
        done.unwrap_or_else(|_| {
            self.count("wait");
            let cause = format!("it does not answer within {} s", LONGEST.as_secs());
            let place = self.place.clone();
            let error = StoreError::Away { place, cause };
            // That one takes long says nothing of the others.
            Err(match self.has_answered() {
                true => error,
                false => self.noted(error),
            })
        })
    }

    /// Counts an error and puts it into words.
    pub(super) fn told(&self, operation: &'static str, error: &sqlx::Error) -> StoreError {
        self.count(operation);
        let error = match error {
            sqlx::Error::PoolTimedOut if self.has_answered() => StoreError::Crowded {
                place: self.place.clone(),
            },
            error => StoreError::of(error, &self.place),
        };
        self.noted(error)
    }

    /// Somebody had an answer, while another one waited in vain for a connection: the others are in
    /// use, and the database is not away.
    fn has_answered(&self) -> bool {
        let heard = *self.heard.lock();
        heard.is_some_and(|at| clock::now().saturating_duration_since(at) < SERVER_PATIENCE)
    }

    fn noted(&self, error: StoreError) -> StoreError {
        if let StoreError::Away { .. } = error {
            *self.away.lock() = Some((clock::now(), error.clone()));
        }
        error
    }

    fn count(&self, operation: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.store_error(self.place.kind(), operation);
        }
    }

    /// The connections; the first use makes them, and each use tries again while that fails.
    async fn pools(&self) -> Result<&Pools, StoreError> {
        if let Some((since, error)) = &*self.away.lock()
            && clock::now().saturating_duration_since(*since) < AWAY
        {
            return Err(error.clone());
        }
        if let Some(pools) = self.pools.get() {
            return Ok(pools);
        }
        // Whoever comes while another one connects has that one's answer: nobody waits for a server
        // once for each that waits for it already.
        let tried = self.tries.load(Ordering::SeqCst);
        let mut failed = self.connecting.lock().await;
        if let Some(error) = &*failed
            && self.tries.load(Ordering::SeqCst) > tried
        {
            return Err(error.clone());
        }
        let pools = self.pools.get_or_try_init(|| self.connect()).await;
        self.tries.fetch_add(1, Ordering::SeqCst);
        pools.inspect_err(|error| {
            self.count("open");
            *failed = Some(error.clone());
        })
    }

    async fn connect(&self) -> Result<Pools, StoreError> {
        sqlx::any::install_default_drivers();
        let pools = match (&self.place, &self.url) {
            (Place::File(path), _) => self.open_file(path).await?,
            (Place::Server(_), url) => self.dial(url.as_ref().map_or("", Secret::expose)).await?,
        };
        schema::bring_up_to_date(&pools.durable, &self.place).await?;
        Ok(pools)
    }

    async fn open_file(&self, path: &Path) -> Result<Pools, StoreError> {
        let unusable = |cause: String| StoreError::Unusable {
            place: self.place.clone(),
            cause,
        };
        let made = path.to_owned();
        let made = tokio::task::spawn_blocking(move || make_private(&made)).await;
        made.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| unusable(error.to_string()))?;
        // Written so that no part of the path means anything in a URL.
        let path = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        let options = AnyConnectOptions::from_str(&format!("sqlite:{path}?mode=rw"));
        let options = options.map_err(|error| unusable(error.to_string()))?;
        let options = options.disable_statement_logging();
        let pool = |most| {
            AnyPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(FILE_PATIENCE)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        // One connection for each kind of writer: who writes has the file alone, and waits better here
        // than there. SQLite's own `synchronous = FULL` stays with what is acknowledged.
        let loose = pool(1).after_connect(|connection, _| {
            Box::pin(async move {
                let asked = connection.execute("PRAGMA synchronous = NORMAL").await;
                asked.map(drop)
            })
        });
        Ok(Pools {
            durable: pool(1).connect_lazy_with(options.clone()),
            loose: loose.connect_lazy_with(options.clone()),
            reading: pool(2).connect_lazy_with(options.clone()),
            watching: pool(1).connect_lazy_with(options),
        })
    }

    async fn dial(&self, url: &str) -> Result<Pools, StoreError> {
        let options = AnyConnectOptions::from_str(url).map_err(|_| StoreError::Unusable {
            place: self.place.clone(),
            cause: "the URL cannot be understood".to_owned(),
        })?;
        let options = options.disable_statement_logging();
        // The pool would try again until its patience ends, and then not say why.
        let tried = tokio::time::timeout(SERVER_PATIENCE, options.connect()).await;
        let tried = tried.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let tried = match tried {
            Ok(connection) => connection.close().await,
            Err(error) => Err(error),
        };
        tried.map_err(|error| StoreError::of(&error, &self.place))?;
        let pool = |most| {
            AnyPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(SERVER_PATIENCE)
                .idle_timeout(Duration::from_secs(600))
                .max_lifetime(Duration::from_secs(1800))
        };
        Ok(Pools {
            durable: pool(4).connect_lazy_with(options.clone()),
            loose: pool(1).connect_lazy_with(options.clone()),
            reading: pool(2).connect_lazy_with(options.clone()),
            watching: pool(1).connect_lazy_with(options),
        })
    }
}

/// Makes the file, for its owner only: SQLite would let everybody read it. Its further files (`-wal`,
/// `-shm`) get the same mode. It is made under another name and closed before it gets its own: closing
/// it later would take SQLite's locks on it away, as all locks of a process end with the first `close`
/// (POSIX).
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
