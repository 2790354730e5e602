//! The connection to Redis and its breaker: who asks while Redis is away, or slow, is told so at once.
//!
//! One task ([`Link::keep`]) connects; everybody else uses what it has made. Redis counts as away after
//! [`MISSES`] calls in a row without an answer in time, and as there again when it has answered
//! [`PROOFS`] times in a row.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, TlsCertificates};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::clock::{self, Instant};
use crate::config;
use crate::telemetry::Metrics;

/// An answer that matters even when nobody waits for it any more is heard for so long.
const LATE: Duration = Duration::from_secs(10);
/// For a connection with its TLS; nobody but the task that keeps it waits for that.
const CONNECT: Duration = Duration::from_secs(2);
/// Who asks before the first connection waits so long for it.
const FIRST: Duration = Duration::from_secs(1);
/// Between two tries while it is away.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How long it may be silent before the task looks whether it is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MISSES: u32 = 3;
const PROOFS: u32 = 2;

/// Redis gives no answer in time. What was asked may or may not have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis does not answer")]
pub struct Away;

/// Why there is no way to Redis at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("state.redis: {0}")]
    Address(String),
    #[error("state.redis.ca: {path}: {cause}")]
    Authority { path: String, cause: std::io::Error },
}

pub(super) struct Link {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    is_up: AtomicBool,
    /// Which run of the server this is; nothing where it does not say.
    run: Mutex<Arc<str>>,
    misses: Mutex<Misses>,
    /// The longest that anybody waits for an answer, but for who has nothing else to go by.
    answer_within: Duration,
    /// It is away, as somebody has just found out.
    lost: Notify,
    /// The first try to connect is over.
    tried: watch::Sender<bool>,
    metrics: Option<Arc<Metrics>>,
}

/// Calls in a row without an answer. Those that wait at the same time are one: a moment in which this
/// process or the server had no time is no loss.
#[derive(Default)]
struct Misses {
    count: u32,
    last: Option<Instant>,
}

impl Misses {
    /// A call that began then has had no answer by `now`. Returns how many are in a row.
    fn add(&mut self, began: Instant, now: Instant) -> u32 {
        if self.last.is_none_or(|last| began >= last) {
            self.count += 1;
            self.last = Some(now);
        }
        self.count
    }
}

impl Link {
    pub(super) fn new(
        config: &config::Redis,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Self, Unusable> {
        let url = config.url.expose();
        // The words of the library may repeat the address, and with it a password.
        let wrong = |_| Unusable::Address("is no address of a Redis server".to_owned());
        let client = match &config.ca {
            None => Client::open(url).map_err(wrong)?,
            Some(path) => {
                let root = std::fs::read(path).map_err(|cause| Unusable::Authority {
                    path: path.display().to_string(),
                    cause,
                })?;
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(root),
                };
                Client::build_with_tls(url, certificates).map_err(wrong)?
            }
        };
        Ok(Link {
            client,
            connection: Mutex::default(),
            is_up: AtomicBool::new(false),
            run: Mutex::new("".into()),
            misses: Mutex::default(),
            answer_within: config.answer_within,
            lost: Notify::new(),
            tried: watch::Sender::new(false),
            metrics,
        })
    }

    /// Does it answer, as far as is known?
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::SeqCst)
    }

    pub(super) fn answer_within(&self) -> Duration {
        self.answer_within
    }

    /// The name of the server's run, which one that is started again or promoted does not have. Known
    /// once it was connected to.
    pub(super) async fn run(&self) -> Arc<str> {
        self.first_try().await;
        self.run.lock().clone()
    }

    /// Asks, and waits a moment for the answer. `operation` is one of a few fixed words.
    pub(super) async fn ask<T>(
        &self,
        operation: &'static str,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, Away> {
        let mut connection = self.connected().await?;
        let answer = async { ask(&mut connection).await.map_err(|e| e.to_string()) };
        self.in_time(operation, self.answer_within, answer).await
    }

    /// The same for one who waits so long, where that is longer: to ask again would be to have it done
    /// twice. An answer that is late is missed all the same.
    pub(super) async fn ask_patiently<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, Away> {
        let mut connection = self.connected().await?;
        connection.set_response_timeout(LATE);
        let answer = async { ask(&mut connection).await.map_err(|e| e.to_string()) };
        self.in_time(operation, patience, answer).await
    }

    /// The same; an answer that nobody waits for any more goes to `late`.
    pub(super) async fn ask_even_late<T: Send + 'static, F>(
        &self,
        operation: &'static str,
        ask: impl FnOnce(MultiplexedConnection) -> F,
        late: impl FnOnce(T) + Send + 'static,
    ) -> Result<T, Away>
    where
        F: Future<Output = redis::RedisResult<T>> + Send + 'static,
    {
        let mut connection = self.connected().await?;
        connection.set_response_timeout(LATE);
        let (sender, answer) = oneshot::channel();
        let asked = ask(connection);
        tokio::spawn(async move {
            let said = asked.await.map_err(|error| error.to_string());
            if let Err(Ok(said)) = sender.send(said) {
                late(said);
            }
        });
        let lost = |_| Err("the connection is lost".to_owned());
        let answer = async { answer.await.unwrap_or_else(lost) };
        self.in_time(operation, self.answer_within, answer).await
    }

    async fn connected(&self) -> Result<MultiplexedConnection, Away> {
        self.first_try().await;
        let connection = self.connection.lock().clone();
        connection.filter(|_| self.is_up()).ok_or(Away)
    }

    /// Waits for the answer, and counts it where none comes within a moment.
    async fn in_time<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        answer: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Away> {
        let began = clock::now();
        let mut answer = pin!(answer);
        match timeout(self.answer_within, answer.as_mut()).await {
            Ok(Ok(answer)) => {
                *self.misses.lock() = Misses::default();
                return Ok(answer);
            }
            Ok(Err(why)) => {
                self.miss(operation, began, &why);
                return Err(Away);
            }
            Err(_) => self.miss(operation, began, "no answer in time"),
        }
        let late = timeout(patience.saturating_sub(self.answer_within), answer).await;
        late.ok().and_then(Result::ok).ok_or(Away)
    }

    /// A call that began then has no answer in time.
    fn miss(&self, operation: &'static str, began: Instant, why: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.store_error("redis", operation);
        }
        let misses = self.misses.lock().add(began, clock::now());
        if misses >= MISSES && self.is_up.swap(false, Ordering::SeqCst) {
            tracing::error!(
                operation,
                "Redis is away, and this gateway goes by itself: {why}"
            );
            self.lost.notify_one();
        }
    }

    /// Who comes with the start of the process waits for its connection.
    async fn first_try(&self) {
        if !*self.tried.borrow() {
            let mut tried = self.tried.subscribe();
            let _ = timeout(FIRST, tried.wait_for(|tried| *tried)).await;
        }
    }

    /// A connection of its own, for one who waits long for answers.
    pub(super) async fn apart(&self) -> Result<MultiplexedConnection, Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        made.await.map_err(|_| Away)
    }

    /// Connects, and connects again, for ever.
    pub(super) async fn keep(&self) {
        let mut told = false;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    *self.connection.lock() = Some(connection);
                    *self.misses.lock() = Misses::default();
                    self.is_up.store(true, Ordering::SeqCst);
                    self.tried.send_replace(true);
                    tracing::info!("Redis answers; this gateway shares its state");
                    self.watch().await;
                    *self.connection.lock() = None;
                    told = true;
                }
                // Of a loss somebody has told already.
                Err(why) if !told => {
                    tracing::error!("Redis is away, and this gateway goes by itself: {why}");
                    told = true;
                }
                Err(_) => {}
            }
            self.tried.send_replace(true);
            sleep(TRY_EVERY).await;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.answer_within));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = made.await.map_err(|error| error.to_string())?;
        for _ in 0..PROOFS {
            let answer: redis::RedisResult<()> =
                redis::cmd("PING").query_async(&mut connection).await;
            answer.map_err(|error| error.to_string())?;
        }
        let run = run_of(&mut connection).await;
        *self.run.lock() = run.map_err(|error| error.to_string())?;
        Ok(connection)
    }

    /// Returns when it is away. Looks now and then, for nobody may ask anything else; and what is
    /// between may connect to another server meanwhile.
    async fn watch(&self) {
        while self.is_up() {
            tokio::select! {
                () = self.lost.notified() => {}
                () = sleep(LOOK_EVERY) => {
                    if let Ok(run) = self.ask("ping", run_of).await {
                        *self.run.lock() = run;
                    }
                }
            }
        }
    }
}

async fn run_of(connection: &mut MultiplexedConnection) -> redis::RedisResult<Arc<str>> {
    let mut ask = redis::cmd("INFO");
    let said: redis::RedisResult<String> = ask.arg("server").query_async(connection).await;
    let said = match said {
        // A server that somebody else keeps may not tell this. It answers all the same.
        Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => String::new(),
        said => said?,
    };
    let run = said.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run.unwrap_or_default().trim().into())
}
