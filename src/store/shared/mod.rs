//! What many gateways decide together in milliseconds lies in Redis (`state.redis`). Each script is one
//! file, has all its keys under one hash tag, and goes by the server's time.
//!
//! Redis may be away, slow or emptied at any moment: then each call says so within 50 ms, later at
//! once, and whoever asked goes on by what it knows.

mod beat;
mod limits;
mod link;
mod news;
mod slots;
mod tokens;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Script, ScriptInvocation, ToRedisArgs};

pub use beat::{Ask, Beat, Given, LASTS, SETTLES};
pub use link::{Away, Unusable};
pub use news::News;
pub use slots::SharedSlots;

use crate::config;
use crate::telemetry::Metrics;
use link::Link;

/// This process among all that share a Redis.
pub struct Shared {
    link: Link,
    prefix: String,
    me: String,
    beats: AtomicU64,
    /// How many there are, as far as is known.
    gateways: AtomicU32,
    /// How far the server's clock is ahead of ours, milliseconds.
    ahead: AtomicI64,
    books: Mutex<limits::Books>,
    scripts: Scripts,
}

struct Scripts {
    beat: Script,
    limits: limits::Scripts,
    slots: slots::Scripts,
    tokens: tokens::Scripts,
}

impl Shared {
    /// Not connected yet: [`Shared::keep`] does that. `gateway`: the name that this one keeps when it is
    /// started again.
    ///
    /// # Errors
    /// The address cannot be one of a Redis server, or the file of the authority cannot be read.
    pub fn new(
        config: &config::Redis,
        gateway: &str,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Self, Unusable> {
        Ok(Shared {
            link: Link::new(config, metrics)?,
            prefix: config.key_prefix.clone(),
            me: format!("{gateway}-{:016x}", fastrand::u64(..)),
            beats: AtomicU64::new(0),
            gateways: AtomicU32::new(1),
            ahead: AtomicI64::new(0),
            books: Mutex::default(),
            scripts: Scripts {
                beat: Script::new(include_str!("beat.lua")),
                limits: limits::Scripts::new(),
                slots: slots::Scripts::new(),
                tokens: tokens::Scripts::new(),
            },
        })
    }

    /// Keeps the connection, for ever.
    pub async fn keep(&self) {
        self.link.keep().await;
    }

    /// Does Redis answer, as far as is known?
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// How many gateways there are, this one too, as far as is known.
    pub fn gateways(&self) -> u32 {
        self.gateways.load(Ordering::Relaxed)
    }

    fn answer_within(&self) -> Duration {
        self.link.answer_within()
    }

    async fn run(&self) -> Arc<str> {
        self.link.run().await
    }

    fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// A name that no other process has.
    pub fn me(&self) -> &str {
        &self.me
    }

    async fn ask<T: FromRedisValue>(
        &self,
        operation: &'static str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, Away> {
        let ask = async |to: &mut MultiplexedConnection| call.invoke_async(to).await;
        self.link.ask(operation, ask).await
    }

    /// The same for one who waits so long.
    async fn ask_patiently<T: FromRedisValue>(
        &self,
        operation: &'static str,
        patience: Duration,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, Away> {
        let ask = async |to: &mut MultiplexedConnection| call.invoke_async(to).await;
        self.link.ask_patiently(operation, patience, ask).await
    }

    async fn ask_one<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T, Away> {
        let ask = async |to: &mut MultiplexedConnection| command.query_async(to).await;
        self.link.ask(operation, ask).await
    }

    /// The name of a key; those of one tag are on one server of a cluster.
    fn key(&self, tag: &str, rest: &str) -> String {
        format!("{}{{{tag}}}{rest}", self.prefix)
    }

    /// Each beat of this process has a higher number than those before.
    fn next_beat(&self) -> u64 {
        self.beats.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// What a script is given, of many kinds.
fn give<A: ToRedisArgs>(to: &mut ScriptInvocation<'_>, given: impl IntoIterator<Item = A>) {
    for one in given {
        to.arg(one);
    }
}
