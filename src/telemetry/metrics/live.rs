//! State that is true at the moment of a scrape, handed in by who knows it.

use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::families::{self, Family, gauge};

/// State that is read when it is asked for, and not counted.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub accounts: Vec<AccountLive>,
    pub pools: Vec<PoolLive>,
    /// Tier and its valid keys.
    pub keys: Vec<(String, u64)>,
    /// Account, and keys that hold a slot of it and that may.
    pub slots: Vec<(String, u64, u64)>,
    /// Does Redis answer, and how many gateways share it? `None`: there is no Redis.
    pub redis: Option<(bool, u32)>,
    /// State and connections in it.
    pub connections: Vec<(&'static str, u64)>,
    /// Seconds until the first certificate of a listener expires, negative when it has.
    pub certificate_expiry: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct AccountLive {
    pub id: String,
    pub pool: String,
    /// The one word for its state.
    pub status: &'static str,
    pub active: u64,
    pub available: bool,
    pub breaker: BreakerLive,
    /// Zero when it may be used.
    pub cooldown: Duration,
    /// Seconds until the token expires, negative when it has. `None`: nobody says.
    pub token_expiry: Option<f64>,
    /// Is its program ready? `None`: it has none.
    pub instance_up: Option<bool>,
}

/// The values of `poolgate_breaker_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerLive {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Clone, Debug)]
pub struct PoolLive {
    pub name: String,
    pub waiting: u64,
}

impl Live {
    pub(super) fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let accounts = |family: &Family, value: fn(&AccountLive) -> f64| {
            gauge(
                family,
                self.accounts.iter().map(|a| ([a.id.as_str()], value(a))),
            )
        };
        let waiting = self
            .pools
            .iter()
            .map(|p| ([p.name.as_str()], p.waiting as f64));
        let keys = self
            .keys
            .iter()
            .map(|(tier, n)| ([tier.as_str()], *n as f64));
        let slots = |count: fn(&(String, u64, u64)) -> u64| {
            let accounts = self.slots.iter();
            accounts.map(move |slots| ([slots.0.as_str()], count(slots) as f64))
        };
        let connections = self
            .connections
            .iter()
            .map(|(state, n)| ([*state], *n as f64));
        let expiry = |a: &'_ AccountLive| Some((a.id.clone(), a.token_expiry?));
        let expiries: Vec<_> = self.accounts.iter().filter_map(expiry).collect();
        let expiries = expiries.iter().map(|(id, left)| ([id.as_str()], *left));
        let up = |a: &'_ AccountLive| Some((a.id.clone(), f64::from(u8::from(a.instance_up?))));
        let ups: Vec<_> = self.accounts.iter().filter_map(up).collect();
        let ups = ups.iter().map(|(id, up)| ([id.as_str()], *up));
        let status = |a: &'_ AccountLive| ([a.id.clone(), a.pool.clone()], a.status);
        let statuses: Vec<_> = self.accounts.iter().map(status).collect();
        let statuses = statuses
            .iter()
            .map(|([id, pool], status)| ([id.as_str(), pool.as_str(), *status], 1.0));
        [
            gauge(&families::STATUS, statuses),
            gauge(&families::TOKEN_EXPIRY, expiries),
            gauge(&families::INSTANCE_UP, ups),
            gauge(
                &families::REDIS_UP,
                self.redis.map(|(up, _)| ([], f64::from(u8::from(up)))),
            ),
            gauge(
                &families::GATEWAYS,
                self.redis.map(|(_, gateways)| ([], f64::from(gateways))),
            ),
            gauge(
                &families::CERTIFICATE_EXPIRY,
                self.certificate_expiry.map(|left| ([], left)),
            ),
            accounts(&families::ACTIVE, |a| a.active as f64),
            accounts(&families::AVAILABLE, |a| f64::from(u8::from(a.available))),
            accounts(&families::BREAKER_STATE, |a| f64::from(a.breaker as u8)),
            accounts(&families::COOLDOWN, |a| a.cooldown.as_secs_f64()),
            gauge(&families::WAITING, waiting),
            gauge(&families::KEYS_ACTIVE, keys),
            gauge(&families::SLOTS_USED, slots(|slots| slots.1)),
            gauge(&families::SLOTS_LIMIT, slots(|slots| slots.2)),
            gauge(&families::CONNECTIONS, connections),
        ]
        .into_iter()
        .flatten()
    }
}
