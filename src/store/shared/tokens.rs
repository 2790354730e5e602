//! Who renews an account's token among all gateways, and what came of it. Tokens come here sealed.

use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::{Away, Shared};

/// A token that nobody has renewed for so long is had from a gateway's disk, or by a login.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// No request waits for these, and whoever does has the time to hear a late answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Scripts {
    lease: Script,
    release: Script,
    put: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            lease: Script::new(include_str!("lease.lua")),
            release: Script::new(include_str!("lease_release.lua")),
            put: Script::new(include_str!("token_put.lua")),
        }
    }
}

impl Shared {
    /// Takes the right to renew this account's token for so long, or makes it longer. False: another
    /// holder has it.
    ///
    /// # Errors
    /// Redis is away, and nobody knows who has it.
    pub async fn lease(&self, account: &str, holder: &str, lasts: Duration) -> Result<bool, Away> {
        let mut call = self.scripts.tokens.lease.prepare_invoke();
        call.key(self.token_key(account, "lease")).arg(holder);
        call.arg(lasts.as_millis() as u64);
        self.ask_patiently("lease", PATIENCE, &call).await
    }

    /// Gives it back; one that `holder` does not have stays as it is.
    ///
    /// # Errors
    /// Redis is away; it then ends in its time.
    pub async fn release(&self, account: &str, holder: &str) -> Result<(), Away> {
        let mut call = self.scripts.tokens.release.prepare_invoke();
        call.key(self.token_key(account, "lease")).arg(holder);
        self.ask::<i64>("lease", &call).await.map(drop)
    }

    /// Gives all gateways this account's token, unless they have one that was granted later
    /// (milliseconds since 1970).
    ///
    /// # Errors
    /// Redis is away; the other gateways then do not have it.
    pub async fn put_token(&self, account: &str, granted: u64, sealed: &[u8]) -> Result<(), Away> {
        let mut call = self.scripts.tokens.put.prepare_invoke();
        call.key(self.token_key(account, "newest"));
        call.arg(granted).arg(sealed).arg(KEPT.as_millis() as u64);
        let put = self.ask_patiently::<i64>("token", PATIENCE, &call);
        put.await.map(drop)
    }

    /// The newest token that a gateway has given; none if none has.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn token(&self, account: &str) -> Result<Option<Vec<u8>>, Away> {
        let mut ask = redis::cmd("HGET");
        ask.arg(self.token_key(account, "newest")).arg("sealed");
        let ask = async |to: &mut MultiplexedConnection| ask.query_async(to).await;
        self.link.ask_patiently("token", PATIENCE, ask).await
    }

    fn token_key(&self, account: &str, what: &str) -> String {
        self.key(&format!("token:{account}"), &format!(":{what}"))
    }
}
