//! Which pool a request goes to, and what tells its caller from others there.

use std::sync::Arc;

use http::HeaderMap;
use wildmatch::WildMatch;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Instant;
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

/// Where a request goes.
#[derive(Clone)]
pub struct Way {
    pub pool: Arc<Pool>,
    /// The name by which the model goes on, where a route gives it another.
    pub alias: Option<Arc<str>>,
    /// Asked where that pool cannot serve.
    pub fallback: Option<Arc<Pool>>,
}

impl Way {
    /// The same, but to the fallback if that is where the answer was given that the request goes on from.
    pub fn to_whoever_knows(self, answer: Option<&str>, now: Instant) -> Way {
        let knows = |pool: &Arc<Pool>| {
            answer.is_some_and(|answer| pool.account_that_knows(answer, now).is_some())
        };
        match self.fallback {
            Some(fallback) if knows(&fallback) => Way {
                pool: fallback,
                alias: self.alias,
                fallback: None,
            },
            _ => self,
        }
    }
}

/// The way of a request for this path and model: that of the first route that it matches and that leads
/// to a pool which the key may use; without one, [`pool`]. Keys that stay with their account take no
/// route.
pub fn way(
    routes: &[config::Route],
    pools: &[Arc<Pool>],
    client: &Client,
    path: &str,
    model: Option<&str>,
) -> Option<Way> {
    let named = |name: &String| {
        let is_it = |pool: &&Arc<Pool>| *pool.name == **name && client.may.allows_pool(name);
        pools.iter().find(is_it).cloned()
    };
    for route in own_routes(routes, client) {
        let is_path = route.path.as_ref().is_none_or(|it| it.matches(path));
        let is_model = |it: &WildMatch| model.is_some_and(|model| it.matches(model));
        if is_path
            && route.model.as_ref().is_none_or(is_model)
            && let Some(pool) = named(&route.pool)
        {
            let alias = route.rename.as_deref().filter(|name| model != Some(name));
            return Some(Way {
                pool,
                alias: alias.map(Arc::from),
                fallback: route.fallback.as_ref().and_then(named),
            });
        }
    }
    Some(Way {
        pool: pool(pools, client)?.clone(),
        alias: None,
        fallback: None,
    })
}

/// The pools that requests of this client may go to: first that of those which match no route.
pub fn pools(routes: &[config::Route], pools: &[Arc<Pool>], client: &Client) -> Vec<Arc<Pool>> {
    let mut found: Vec<Arc<Pool>> = pool(pools, client).cloned().into_iter().collect();
    let names = own_routes(routes, client);
    let names = names.flat_map(|route| [Some(&route.pool), route.fallback.as_ref()]);
    for name in names.flatten() {
        let is_it = |pool: &&Arc<Pool>| *pool.name == **name && client.may.allows_pool(name);
        let pool = pools.iter().find(is_it).cloned();
        let is_new = |pool: &Arc<Pool>| found.iter().all(|other| !Arc::ptr_eq(other, pool));
        found.extend(pool.filter(is_new));
    }
    found
}

/// May a request of this client for this model go to that pool, whatever its path? `usual`: the pool
/// of those which match no route.
pub fn may_lead(
    routes: &[config::Route],
    client: &Client,
    usual: &Pool,
    pool: &Pool,
    model: &str,
) -> bool {
    for route in own_routes(routes, client) {
        let is_model = |it: &WildMatch| it.matches(model);
        let takes = route.model.as_ref().is_none_or(is_model);
        if !takes || !client.may.allows_pool(&route.pool) {
            continue;
        }
        let leads = *route.pool == *pool.name || route.fallback.as_deref() == Some(&*pool.name);
        // By another name the model goes there, but not by its own.
        if leads && route.rename.as_deref().is_none_or(|name| name == model) {
            return true;
        }
        if route.path.is_none() {
            return false;
        }
    }
    usual.name == pool.name
}

/// Other names that routes give to models: the name, the model, and the pool.
pub fn aliases<'a>(
    routes: &'a [config::Route],
    client: &Client,
) -> impl Iterator<Item = (String, &'a str, &'a str)> {
    own_routes(routes, client).filter_map(|route| {
        let name = route.model.as_ref()?.to_string();
        let is_name = !name.contains(['*', '?']);
        let model = route.rename.as_deref()?;
        is_name.then_some((name, model, &*route.pool))
    })
}

/// The routes that this client's requests take.
fn own_routes<'a>(
    routes: &'a [config::Route],
    client: &Client,
) -> impl Iterator<Item = &'a config::Route> {
    let stays = client.is_bound() || client.takes_slot();
    routes.iter().filter(move |_| !stays)
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
