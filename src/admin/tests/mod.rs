//! A small gateway for the tests of this folder, and how to ask it.

mod access;
mod api;
mod kept;
mod legacy;
mod matrix;
mod page;
mod serve;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt;

use self::kept::{Switched, switched};
use super::{
    About, Auth, Control, Hosts, Pulse, Question, Records, Reloaded, Roster, Site, SlotKey,
    SlotPlace, SlotsView, StrategyChange,
};
use crate::config::{Keep, Role, Shown};
use crate::instance::{InstanceView, LogPlace, Phase};
use crate::notify::Tested;
use crate::pool::{
    AccountView, BreakerView, Explanation, PoolView, QueueView, ResponseTimes, Status,
};
use crate::secret::Secret;
use crate::store::{Store, Usage};
use crate::telemetry::{Counts, Metrics};

pub(super) const TOKEN: &str = "t0ken-of-an-admin";

pub(super) struct Gateway {
    accounts: Mutex<Vec<AccountView>>,
    strategy: Mutex<&'static str>,
    probed: Mutex<Vec<Option<String>>>,
    draining: Mutex<bool>,
    pulse: Pulse,
    counts: Mutex<Counts>,
    store: (Store, Usage, tempfile::TempDir),
}

/// An account of which everything is known.
pub(super) fn account(id: &str) -> AccountView {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    AccountView {
        id: id.to_owned(),
        pool: "default".to_owned(),
        status: Status::Healthy,
        since: at(1),
        until: None,
        last_error: None,
        enabled: true,
        available: true,
        weight: 2,
        priority: 0,
        in_flight: 1,
        max_concurrent: 3,
        requests: 10,
        successes: 8,
        failures: 2,
        tokens: 1000,
        consecutive_failures: 0,
        breaker: BreakerView::Closed,
        cooling_until: None,
        cooling_models: Vec::new(),
        limited_by: None,
        rate_limits: Vec::new(),
        last_used: Some(at(5)),
        last_success: Some(at(5)),
        last_failure: Some(at(4)),
        last_heartbeat: Some(at(6)),
        response_ms: Some(ResponseTimes {
            ewma: 250.0,
            p50: 200.0,
            p99: 900.0,
        }),
        upstream_port: 2048,
        credential: "api_key",
        token_expires_at: None,
        token_granted_at: None,
        auth_file: Some("a@example.com.json".to_owned()),
        mishaps: 0,
        current_request: Some("req-1".into()),
        has_instance: true,
    }
}

/// An account that was never used and whose breaker is open.
pub(super) fn broken(id: &str) -> AccountView {
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    AccountView {
        status: Status::Open,
        available: false,
        in_flight: 0,
        requests: 3,
        successes: 0,
        failures: 3,
        breaker: BreakerView::Open { until },
        last_used: None,
        last_success: None,
        last_heartbeat: None,
        response_ms: None,
        auth_file: None,
        mishaps: 0,
        current_request: None,
        ..account(id)
    }
}

impl Gateway {
    pub(super) fn new(accounts: Vec<AccountView>) -> Arc<Self> {
        Arc::new(Gateway {
            accounts: Mutex::new(accounts),
            strategy: Mutex::new("round_robin"),
            probed: Mutex::default(),
            draining: Mutex::new(false),
            pulse: Pulse::default(),
            counts: Mutex::default(),
            store: records(),
        })
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut AccountView)) -> bool {
        self.accounts
            .lock()
            .iter_mut()
            .find(|a| a.id == id)
            .map(change)
            .is_some()
    }
}

impl Control for Gateway {
    fn pools(&self) -> Vec<PoolView> {
        vec![PoolView {
            name: "default".to_owned(),
            strategy: *self.strategy.lock(),
            breaker_enabled: true,
            accounts: self.accounts.lock().len(),
            available: 1,
            in_flight: 1,
            waiting: 0,
            max_waiting: 1000,
        }]
    }

    fn slot_places(&self) -> Vec<SlotPlace> {
        let place = |account: &str, used, limit| SlotPlace {
            tier: "medium".to_owned(),
            account: account.to_owned(),
            used,
            limit,
        };
        vec![place("a", 1, 2), place("b", 0, 2)]
    }

    fn slots(&self) -> BoxFuture<'_, SlotsView> {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let key = SlotKey {
            id: "key_1".to_owned(),
            name: "ci".to_owned(),
            tier: "medium".to_owned(),
            account: "a".to_owned(),
            last_rotation: at(10),
            next_rotation: at(20),
            last_used: at(15),
            previous_account: None,
        };
        Box::pin(std::future::ready(SlotsView {
            places: self.slot_places(),
            keys: vec![key],
            problem: None,
        }))
    }

    fn accounts(&self) -> Vec<AccountView> {
        self.accounts.lock().clone()
    }

    fn instance(&self, id: &str) -> Option<InstanceView> {
        self.account(id).map(|account| InstanceView {
            account: account.id,
            pid: Some(4711),
            port: Some(2048),
            phase: Phase::Ready,
            restarts: 1,
            since: SystemTime::UNIX_EPOCH,
            last_error: None,
        })
    }

    fn restart(&self, id: &str) -> bool {
        self.account(id).is_some()
    }

    fn instance_log(&self, _: &str, lines: usize) -> io::Result<(Vec<String>, LogPlace)> {
        Ok((vec!["a line".to_owned(); lines.min(3)], LogPlace::default()))
    }

    fn instance_log_after(&self, _: &str, at: LogPlace) -> io::Result<(Vec<String>, LogPlace)> {
        Ok((vec!["a line".to_owned()], at))
    }

    fn account(&self, id: &str) -> Option<AccountView> {
        self.accounts().into_iter().find(|a| a.id == id)
    }

    fn states(&self) -> Vec<(Arc<str>, Status)> {
        let accounts = self.accounts.lock();
        let states = accounts.iter().map(|a| (a.id.as_str().into(), a.status));
        states.collect()
    }

    fn about(&self, _: &str) -> About {
        About {
            dialects: vec!["openai"],
            models: vec!["*".to_owned()],
            source: "file",
            changed: None,
        }
    }

    fn rehearse(&self) -> Result<Reloaded, Vec<String>> {
        Ok(Reloaded::default())
    }

    fn config(&self) -> (Option<String>, Shown) {
        (None, Shown::Map(Vec::new()))
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    fn first_byte_ms(&self, _: SystemTime) -> Option<(u32, u32)> {
        Some((120, 900))
    }

    fn connections(&self) -> u64 {
        7
    }

    fn started_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    fn records(&self) -> Option<Records<'_>> {
        let (store, usage, _) = &self.store;
        Some(Records { store, usage })
    }

    fn upstream(&self, id: &str) -> Option<String> {
        self.account(id)
            .map(|a| format!("http://127.0.0.1:{}", a.upstream_port))
    }

    fn switch<'a>(&'a self, id: &'a str, enabled: bool) -> Switched<'a> {
        let status = [Status::Disabled, Status::Healthy][usize::from(enabled)];
        let is_known = self.change(id, |a| {
            (a.enabled, a.available, a.status) = (enabled, enabled, status)
        });
        switched(is_known, id)
    }

    fn test_notices(&self) -> BoxFuture<'_, Vec<Tested>> {
        let tested = |host: &str, result| Tested {
            host: host.to_owned(),
            result,
        };
        let down = Err("the hook answers 500".to_owned());
        Box::pin(async move { vec![tested("up.test", Ok(())), tested("down.test", down)] })
    }

    fn reset(&self, id: &str) -> bool {
        self.change(id, |a| (a.failures, a.breaker) = (0, BreakerView::Closed))
    }

    fn set_strategy(&self, pool: Option<&str>, strategy: &str) -> StrategyChange {
        if pool.is_some_and(|name| name != "default") {
            return StrategyChange::UnknownPool;
        }
        match strategy {
            "random" => *self.strategy.lock() = "random",
            "roundrobin" => *self.strategy.lock() = "round_robin",
            _ => return StrategyChange::UnknownStrategy,
        }
        StrategyChange::Done
    }

    fn probe<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, bool> {
        self.probed.lock().push(id.map(String::from));
        Box::pin(async move { id.is_none_or(|id| self.account(id).is_some()) })
    }

    fn refresh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<(), String>>> {
        let known = self
            .account(id)
            .map(|_| Err("this account has no token to renew".to_owned()));
        Box::pin(async move { known })
    }

    fn queue(&self) -> QueueView {
        QueueView {
            waiting: 1,
            active: 2,
            completed: 3,
            failed: 4,
        }
    }

    fn explain(&self, question: &Question) -> Result<Explanation, &'static str> {
        let served = question.model.as_deref() == Some("gpt-5");
        let explanation = Explanation {
            pool: "default".to_owned(),
            account: Some("a".to_owned()),
            others: vec![("b".to_owned(), "is disabled".to_owned())],
        };
        served
            .then_some(explanation)
            .ok_or("the key may not use this model")
    }

    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        Ok(Reloaded::default())
    }

    fn draining(&self) -> bool {
        *self.draining.lock()
    }

    fn encode_metrics(&self) -> String {
        "poolgate_build_info{version=\"1\"} 1\n".to_owned()
    }
}

/// Records of its own, in a folder that goes with it.
fn records() -> (Store, Usage, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new("1", SystemTime::UNIX_EPOCH).unwrap());
    let day = Duration::from_secs(86_400);
    let keep = Keep {
        requests: day,
        usage: day,
        audit: day,
    };
    let written = Store::in_dir(folder.path());
    let usage = Usage::start(written, keep, folder.path(), metrics).unwrap();
    (Store::in_dir(folder.path()), usage, folder)
}

/// One token for each role; taken under `localhost` and `gateway.example`.
pub(super) fn auth() -> Auth {
    let hosts = Hosts::These {
        names: vec![
            "localhost".into(),
            "127.0.0.1".into(),
            "gateway.example".into(),
        ],
        any_address: false,
    };
    let token = |name: &str, token: &str, role| (name.to_owned(), Secret::new(token), role);
    Auth::new(
        vec![
            token("root", TOKEN, Role::Admin),
            token("grafana", "m3trics", Role::Metrics),
            token("ann", "v1ewer", Role::Viewer),
            token("bob", "0perator", Role::Operator),
        ],
        hosts,
    )
}

pub(super) fn served(gateway: Arc<Gateway>) -> Router {
    super::router(gateway, &auth(), Site::default())
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The names in the object at `pointer`, in order.
    pub(super) fn names(&self, pointer: &str) -> Vec<String> {
        let json = self.json();
        let object = json.pointer(pointer).and_then(Value::as_object).unwrap();
        object.keys().cloned().collect()
    }
}

/// Sends `METHOD PATH`, with the given headers besides Host, and a body.
pub(super) async fn ask(
    router: &Router,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8081");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// The status of an answer whose body need not end.
pub(super) async fn head(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8081");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    response.status().as_u16()
}

/// The same with the admin's token, as JSON.
pub(super) async fn call(router: &Router, line: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    ask(router, line, &headers, body).await
}

/// Names in the order in which [`Reply::names`] gives them.
pub(super) fn sorted(names: &str) -> Vec<String> {
    let mut names: Vec<String> = names.split_whitespace().map(String::from).collect();
    names.sort();
    names
}
