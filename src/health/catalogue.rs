//! Which models accounts' upstreams say they have: asked for once, kept, and asked for again in the
//! background, so that nobody but the first waits for a vendor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use http::header::{ACCEPT_ENCODING, USER_AGENT};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::way::{Net, Way, status, words};
use crate::clock::{self, Instant};
use crate::config::Upstream;
use crate::dialect::{Dialect, Listed, list_query, listed};
use crate::net::{Resolver, Tunnels};
use crate::pool::Account;

/// How long a list counts as what the upstream has.
const FRESH: Duration = Duration::from_secs(300);

/// An upstream that gave no list is left alone for so long.
const AGAIN: Duration = Duration::from_secs(10);

/// So long an upstream may take, from its address to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upstreams that are asked at the same time.
const AT_ONCE: usize = 16;

/// Longest answer that is read.
const LENGTH: usize = 4 << 20;

/// Lists that are kept. There are as many as upstreams, unless reloads bring others again and again.
const MOST: usize = 4096;

/// The version that Anthropic's API asks every request for.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Of what there is a list: an upstream, in a dialect, and of one of its accounts where the asker may use no other.
type Of = (Upstream, Dialect, Option<Arc<str>>);

/// What upstreams have said. Accounts of one upstream have one list, but for those to whom keys are bound: the
/// list of one organisation says nothing of another's.
pub struct Catalogue {
    net: Net,
    places: Semaphore,
    lists: Mutex<HashMap<Of, Arc<List>>>,
    /// A list is asked for again when it is older than this.
    fresh: Duration,
}

struct List {
    state: ArcSwap<State>,
    /// Who asks.
    turn: Arc<Semaphore>,
}

#[derive(Clone, Default)]
struct State {
    models: Option<Arc<[Listed]>>,
    /// When it is asked for next; none as long as it never was.
    next: Option<Instant>,
}

impl Catalogue {
    pub fn new(resolver: Arc<Resolver>, tunnels: Arc<Tunnels>) -> Self {
        Catalogue {
            net: Net::new(resolver, tunnels),
            places: Semaphore::new(AT_ONCE),
            lists: Mutex::default(),
            fresh: FRESH,
        }
    }

    /// The models of the account's upstream; none where it gave no list lately. Waits only where
    /// nothing is known yet. `is_alone`: the asker may use this account alone, and gets its own list.
    pub async fn of(
        self: &Arc<Self>,
        account: &Arc<Account>,
        dialect: Dialect,
        is_alone: bool,
    ) -> Option<Arc<[Listed]>> {
        let list = self.list(account, dialect, is_alone);
        let state = list.state.load_full();
        let is_due = |state: &State| state.next.is_none_or(|next| clock::now() >= next);
        if !is_due(&state) {
            return state.models.clone();
        }
        if state.models.is_some() {
            if let Ok(turn) = list.turn.clone().try_acquire_owned() {
                let (catalogue, account) = (self.clone(), account.clone());
                tokio::spawn(async move { catalogue.ask(&list, &account, dialect, turn).await });
            }
            return state.models.clone();
        }
        let turn = list.turn.clone().acquire_owned().await.ok()?;
        // Somebody else may have asked while this one waited for its turn.
        let state = list.state.load_full();
        match is_due(&state) {
            true => self.ask(&list, account, dialect, turn).await,
            false => state.models.clone(),
        }
    }

    fn list(&self, account: &Account, dialect: Dialect, is_alone: bool) -> Arc<List> {
        let alone = is_alone.then(|| account.id.clone());
        let key = (account.config.upstream.clone(), dialect, alone);
        let mut lists = self.lists.lock();
        if lists.len() >= MOST && !lists.contains_key(&key) {
            lists.clear();
        }
        let new = || {
            Arc::new(List {
                state: ArcSwap::default(),
                turn: Arc::new(Semaphore::new(1)),
            })
        };
        lists.entry(key).or_insert_with(new).clone()
    }

    /// Asks the account's upstream and keeps what it says; an older list stays where it says nothing.
    async fn ask(
        &self,
        list: &List,
        account: &Account,
        dialect: Dialect,
        _turn: OwnedSemaphorePermit,
    ) -> Option<Arc<[Listed]>> {
        let asked = async {
            let _place = self.places.acquire().await.map_err(|e| e.to_string())?;
            self.fetch(account, dialect).await
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let known = list.state.load().models.clone();
        let (models, wait) = match answer {
            Ok(models) => (Some(Arc::from(models)), self.fresh),
            Err(why) => {
                let account = &*account.config.id;
                tracing::debug!(account, "the account's models are not known: {why}");
                (known, AGAIN)
            }
        };
        list.state.store(Arc::new(State {
            models: models.clone(),
            next: Some(clock::now() + wait),
        }));
        models
    }

    async fn fetch(&self, account: &Account, dialect: Dialect) -> Result<Vec<Listed>, String> {
        let way = Way {
            account,
            net: &self.net,
            timeout: PATIENCE,
        };
        let version = match dialect {
            _ if account.config.upstream.prefix_has_version => "",
            Dialect::OpenAi | Dialect::Anthropic => "/v1",
            Dialect::Gemini => "/v1beta",
        };
        let head = || -> pingora_core::Result<_> {
            let mut head = way.head("GET", &format!("{version}{}", list_query(dialect)))?;
            head.insert_header(ACCEPT_ENCODING, "identity")?;
            let agent = concat!("poolgate/", env!("CARGO_PKG_VERSION"));
            head.insert_header(USER_AGENT, agent)?;
            if dialect == Dialect::Anthropic {
                head.insert_header("anthropic-version", ANTHROPIC_VERSION)?;
            }
            way.sign(&mut head, Some(dialect))?;
            Ok(head)
        };
        let head = head().map_err(|e| words(&e))?;
        let backend = way.backend().await?;
        let mut session = way.send(&backend, head).await.map_err(|e| words(&e))?;
        let status = status(&session);
        if status != 200 {
            session.shutdown().await;
            return Err(format!("HTTP {status}"));
        }
        let mut body = BytesMut::new();
        while let Some(part) = session.read_response_body().await.map_err(|e| words(&e))? {
            body.extend_from_slice(&part);
            if body.len() > LENGTH {
                session.shutdown().await;
                return Err(format!("longer than {LENGTH} bytes"));
            }
        }
        session.shutdown().await;
        listed(dialect, &body).ok_or_else(|| "no list of models".to_owned())
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
