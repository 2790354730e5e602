//! The gateway as operators see it, and what clients see of it on the older systems' paths.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::App;
use super::news::Order;
use super::roster::Origin;
use super::shared;
use crate::admin::{
    self, About, AccountError, Control, Issuer, NotKept, Pulse, Question, Records, Reloaded,
    Roster, SlotPlace, SlotsView, StrategyChange,
};
use crate::clock::{self, SystemTime};
use crate::config::{self, Host, Models, Shown, Strategy};
use crate::dialect::{Call, Peek, asks_for_websocket};
use crate::instance::{InstanceView, LogPlace, Phase};
use crate::key;
use crate::notify::Tested;
use crate::pool::{
    AccountView, BreakerView, Demand, Explanation, Health, Moment, Pool, PoolView, QueueView,
    Status, Tried,
};
use crate::proxy::{OlderAnswer, OlderPaths, OlderRequest};
use crate::route;
use crate::telemetry::{AccountLive, BreakerLive, Counts, Live, PoolLive};

impl App {
    /// Now on both clocks. The wall clock is counted on from the start, so that the same past
    /// moment is always shown as the same time.
    pub(super) fn moment(&self) -> Moment {
        let now = clock::now();
        Moment {
            now,
            wall: self.began.wall + now.saturating_duration_since(self.began.now),
        }
    }

    fn pool_of(&self, id: &str) -> Option<Arc<Pool>> {
        self.pools
            .load()
            .iter()
            .find(|pool| pool.account_named(id).is_some())
            .cloned()
    }

    pub(super) fn health_now(&self) -> Health {
        Health::of(
            &self.accounts(),
            self.queue(),
            self.draining(),
            self.redis(),
            clock::wall(),
        )
    }
}

impl Control for App {
    fn pools(&self) -> Vec<PoolView> {
        self.pools
            .load()
            .iter()
            .map(|pool| pool.summary())
            .collect()
    }

    fn accounts(&self) -> Vec<AccountView> {
        let at = self.moment();
        let pools = self.pools.load();
        let accounts = pools.iter().flat_map(|pool| {
            pool.accounts()
                .into_iter()
                .map(move |account| (pool, account))
        });
        accounts
            .map(|(pool, account)| pool.view(&account, at))
            .collect()
    }

    fn account(&self, id: &str) -> Option<AccountView> {
        let pool = self.pool_of(id)?;
        Some(pool.view(&*pool.account_named(id)?, self.moment()))
    }

    fn states(&self) -> Vec<(Arc<str>, Status)> {
        let at = self.moment();
        let pools = self.pools.load();
        let accounts = pools.iter().flat_map(|pool| {
            let accounts = pool.accounts().into_iter();
            accounts.map(move |account| (account.id.clone(), pool.status(&account, at).0))
        });
        accounts.collect()
    }

    fn about(&self, id: &str) -> About {
        let Some(account_pool) = self.pool_of(id) else {
            return About::default();
        };
        let Some(account) = account_pool.account_named(id) else {
            return About::default();
        };
        let config = self.config.load();
        let discovers = |pool: &&config::Pool| pool.discover.is_some();
        let mut pools = config.pools.iter().filter(discovers);
        let pool = pools.find(|pool| pool.name == *account_pool.name);
        let is_written = pool.is_none_or(|pool| pool.accounts.iter().any(|it| it.id == id));
        let (source, changed) = match self.book.origin(id) {
            Origin::Added => ("api", None),
            Origin::Changed(keys) => ("file", Some(keys)),
            Origin::File if is_written => ("file", None),
            Origin::File => ("discovered", None),
        };
        About {
            dialects: account.config.dialects.iter().map(|it| it.name()).collect(),
            models: match &account.config.models {
                Models::List(names) => names.clone(),
                Models::Map(names) => names.keys().cloned().collect(),
            },
            source,
            changed,
        }
    }

    fn upstream(&self, id: &str) -> Option<String> {
        let account = self.pool_of(id)?.account_named(id)?;
        let upstream = &account.config.upstream;
        let scheme = if upstream.tls { "https" } else { "http" };
        Some(match &upstream.host {
            Host::Tcp(host, port) if host.contains(':') => format!("{scheme}://[{host}]:{port}"),
            Host::Tcp(host, port) => format!("{scheme}://{host}:{port}"),
            Host::Unix(path) => format!("unix:{}", path.display()),
        })
    }

    fn switch<'a>(
        &'a self,
        id: &'a str,
        enabled: bool,
    ) -> BoxFuture<'a, Result<Option<NotKept>, AccountError>> {
        Box::pin(self.switch_account(id, enabled))
    }

    fn reset(&self, id: &str) -> bool {
        let account = id.to_owned();
        self.order(Order::Reset { account })
    }

    fn set_strategy(&self, pool: Option<&str>, strategy: &str) -> StrategyChange {
        if Strategy::named(strategy).is_none() {
            return StrategyChange::UnknownStrategy;
        }
        let (pool, strategy) = (pool.map(str::to_owned), strategy.to_owned());
        match self.order(Order::Strategy { pool, strategy }) {
            true => StrategyChange::Done,
            false => StrategyChange::UnknownPool,
        }
    }

    fn probe<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let pools = self.pools.load_full();
            let known = id.is_none_or(|id| self.pool_of(id).is_some());
            self.health.check_now(&pools, id).await;
            known
        })
    }

    fn refresh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<(), String>>> {
        Box::pin(async move {
            let pool = self.pool_of(id)?;
            let account = pool
                .accounts()
                .into_iter()
                .find(|account| *account.id == *id)?;
            Some(account.credential.refresh().await)
        })
    }

    fn instance(&self, id: &str) -> Option<InstanceView> {
        self.instances.view(id)
    }

    fn restart(&self, id: &str) -> bool {
        self.instances.restart(id)
    }

    fn instance_log(&self, id: &str, lines: usize) -> io::Result<(Vec<String>, LogPlace)> {
        self.instances.tail(id, lines)
    }

    fn instance_log_after(&self, id: &str, at: LogPlace) -> io::Result<(Vec<String>, LogPlace)> {
        self.instances.log_after(id, at)
    }

    fn test_notices(&self) -> BoxFuture<'_, Vec<Tested>> {
        Box::pin(self.notices.test())
    }

    fn slot_places(&self) -> Vec<SlotPlace> {
        self.places_of_slots()
    }

    fn slots(&self) -> BoxFuture<'_, SlotsView> {
        Box::pin(self.slots_now())
    }

    fn queue(&self) -> QueueView {
        let pools = self.pools.load();
        let mut queue = QueueView::default();
        for pool in pools.iter() {
            pool.add_to(&mut queue);
        }
        queue
    }

    fn explain(&self, question: &Question) -> Result<Explanation, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in &question.headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) else {
                return Err("a header is not valid");
            };
            headers.append(name, value);
        }
        let (path, query) = question
            .path
            .split_once('?')
            .map_or((&*question.path, None), |(p, q)| (p, Some(q)));
        let websocket = asks_for_websocket(&headers);
        let methods = match websocket {
            true => [Method::GET, Method::POST],
            false => [Method::POST, Method::GET],
        };
        let call = methods
            .iter()
            .find_map(|method| Call::detect(method, path, query, &headers))
            .ok_or("this gateway serves no such path")?;
        let presented = question
            .key
            .as_deref()
            .into_iter()
            .chain(key::client_keys(&headers, query));
        let client = self
            .keys
            .authenticate(presented, clock::wall())
            .map_err(|_| "the key is missing or not valid")?;
        let model = call.model.as_deref().or(question.model.as_deref());
        if !client.may.allows_model(model) {
            return Err("the key may not use this model");
        }
        let pools = self.pools.load();
        let routes = &self.config.load().routes;
        let path = call.path.as_ref();
        let way = route::way(routes, &pools, &client, path, model);
        let route::Way { pool, alias, .. } = way.ok_or("no pool serves this key")?;
        let model = alias.as_deref().filter(|_| model.is_some()).or(model);
        let peek = Peek::default();
        let caller = route::Caller {
            client: &client,
            headers: &headers,
            query,
            peek: &peek,
            body: &[],
        };
        let demand = Demand {
            dialect: call.dialect,
            websocket,
            model: model.map(Arc::from),
            caller: caller.place(&pool.settings()),
            session: caller.session(&pool.settings()),
            tokens: Some(1),
            priority: client.may.priority,
            key: client.turn(),
            tried: Tried::new(),
            again: false,
            only: self.only_account(&client),
        };
        Ok(pool.explain(&demand, self.moment()))
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        App::reload(self)
    }

    fn rehearse(&self) -> Result<Reloaded, Vec<String>> {
        App::rehearse(self)
    }

    fn config(&self) -> (Option<String>, Shown) {
        let path = self.config_path.as_ref();
        let path = path.map(|path| path.display().to_string());
        (path, self.config.load().effective.clone())
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn counts(&self) -> Counts {
        self.metrics.traffic.counts()
    }

    fn first_byte_ms(&self, after: SystemTime) -> Option<(u32, u32)> {
        self.metrics.traffic.first_byte_ms(after)
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst) as u64
    }

    fn started_at(&self) -> SystemTime {
        self.began.wall
    }

    fn gateways(&self) -> u32 {
        let seen = self.sharing.as_ref().map(shared::Sharing::seen);
        seen.map_or(1, |(_, gateways)| gateways.max(1))
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn redis(&self) -> Option<bool> {
        self.sharing.as_ref().map(|sharing| sharing.redis.is_up())
    }

    fn issuer(&self) -> Option<&dyn Issuer> {
        Some(self)
    }

    fn records(&self) -> Option<Records<'_>> {
        Some(Records {
            store: &self.store,
            usage: &self.usage,
        })
    }

    fn encode_metrics(&self) -> String {
        let now = clock::wall();
        let accounts = self.accounts().into_iter().map(|account| AccountLive {
            pool: account.pool,
            status: account.status.name(),
            active: u64::from(account.in_flight),
            available: account.available,
            breaker: match account.breaker {
                BreakerView::Closed => BreakerLive::Closed,
                BreakerView::Open { .. } => BreakerLive::Open,
                BreakerView::HalfOpen => BreakerLive::HalfOpen,
            },
            cooldown: account
                .cooling_until
                .and_then(|until| until.duration_since(now).ok())
                .unwrap_or_default(),
            token_expiry: account
                .token_expires_at
                .map(|at| clock::unix_seconds(at) - clock::unix_seconds(now)),
            instance_up: self
                .instances
                .view(&account.id)
                .map(|view| view.phase == Phase::Ready && account.available),
            id: account.id,
        });
        let pools = self.pools().into_iter().map(|pool| PoolLive {
            waiting: pool.waiting as u64,
            name: pool.name,
        });
        let expiry = self.certificates.first_expiry();
        let (config, active) = (self.config.load(), self.keys.active(now));
        let keys = config.tiers.keys().map(|tier| {
            let count = active.get(&**tier).copied().unwrap_or_default();
            (tier.clone(), count as u64)
        });
        let live = Live {
            accounts: accounts.collect(),
            pools: pools.collect(),
            keys: keys.collect(),
            slots: self.slot_counts(),
            redis: self.sharing.as_ref().map(shared::Sharing::seen),
            certificate_expiry: expiry.map(|at| at as f64 - clock::unix_seconds(now)),
            connections: vec![("open", self.connections.load(Ordering::SeqCst) as u64)],
        };
        self.metrics
            .encode(&live, self.config.load().server.legacy_metrics)
    }
}

/// The older systems' paths on `listen`.
pub(super) struct Older {
    app: Arc<App>,
    router: Router,
}

impl Older {
    pub(super) fn new(app: &Arc<App>) -> Self {
        let hosts = admin::Hosts::Any;
        let router = admin::legacy_router(app.clone(), &app.auth.with_hosts(hosts));
        Older {
            app: app.clone(),
            router,
        }
    }
}

#[async_trait]
impl OlderPaths for Older {
    fn serves(&self, path: &str) -> bool {
        self.app.config.load().admin.legacy_paths && admin::is_legacy_path(path)
    }

    async fn answer(&self, request: OlderRequest) -> OlderAnswer {
        let request = request.map(axum::body::Body::from);
        let Ok(answer) = self.router.clone().oneshot(request).await;
        let (parts, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        http::Response::from_parts(parts, body)
    }

    fn is_ready(&self) -> bool {
        !self.app.draining() && self.app.pools.load().iter().any(|pool| pool.could_serve())
    }

    fn health(&self) -> (bool, Bytes) {
        let health = self.app.health_now();
        (health.ready, Bytes::from(health.body.to_string()))
    }
}
