//! Which pool a request goes to, and what tells its caller from others there.

use std::sync::Arc;

use http::HeaderMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{self, CallerId, Strategy};
use crate::dialect::{Peek, json_value};
use crate::key::{self, Client};
use crate::pool::Pool;

/// The pool of the account that a key is bound to; of others the first pool that the key's tier names,
/// or else the first of the file.
pub fn pool<'a>(pools: &'a [Arc<Pool>], client: &Client) -> Option<&'a Arc<Pool>> {
    let may = &client.may;
    if client.is_bound() {
        let account = client.account.as_deref()?;
        let mut pools = pools.iter().filter(|pool| may.allows_pool(&pool.name));
        return pools.find(|pool| pool.account_named(account).is_some());
    }
    match may.pools.first() {
        Some(name) => pools.iter().find(|pool| *pool.name == **name),
        None => pools.first(),
    }
}

/// What `hash_on` and `affinity.on` may look at.
pub struct Caller<'a> {
    pub client: &'a Client,
    pub headers: &'a HeaderMap,
    pub query: Option<&'a str>,
    pub peek: &'a Peek<'a>,
    pub body: &'a [u8],
}

impl Caller<'_> {
    /// The hash of what tells callers apart in this pool; none where its strategy does not ask.
    pub fn place(&self, settings: &config::Pool) -> Option<u64> {
        let asks = settings.strategy == Strategy::Hash;
        asks.then(|| self.told_by(&settings.hash_on)).flatten()
    }

    /// The hash of what keeps a caller with its account in this pool.
    pub fn session(&self, settings: &config::Pool) -> Option<u64> {
        let asks = !settings.affinity.lifetime.is_zero();
        asks.then(|| self.told_by(&settings.affinity.on)).flatten()
    }

    fn told_by(&self, id: &CallerId) -> Option<u64> {
        let hash = |text: &str| xxh3_64(text.as_bytes());
        match id {
            // Where no key is asked for, what a client sends as one still tells it from others.
            CallerId::ApiKey => {
                let sent = || key::client_keys(self.headers, self.query).next().map(hash);
                self.client.place.or_else(sent)
            }
            CallerId::Session => self.peek.session(self.headers).map(hash),
            CallerId::Header(name) => self.headers.get(name)?.to_str().ok().map(hash),
            CallerId::Json(pointer) => json_value(self.body, pointer).as_deref().map(hash),
        }
    }
}
