//! One account of a pool: what the configuration says of it, and its live state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;

use super::breaker::Entry;
use super::live::{Live, reason};
use super::marks::{Marked, Trial};
use super::rates::{Charge, Reached};
use super::{Demand, Pool};
use crate::config;
use crate::credential::Credential;
use crate::limit::Limits;
use crate::net::PeerTls;
use crate::telemetry::AccountMetrics;

/// An account as one table of its pool knows it. Laid out as written: what a lease needs lies in
/// one cache line with the count of its references.
#[repr(C)]
pub struct Account {
    pub(super) live: Arc<Live>,
    pub(super) slot: u32,
    /// As configured, at least 1: here too, where it is compared.
    pub(super) weight: u32,
    /// Its own `rate_limits`, where it has some.
    pub(super) limits: Option<Arc<Limits>>,
    pub id: Arc<str>,
    pub metrics: Arc<AccountMetrics>,
    pub credential: Arc<Credential>,
    /// What `Host` says at its upstream.
    pub host: HeaderValue,
    /// What its upstream must show and what is shown to it, where that is configured.
    pub tls: Option<Arc<PeerTls>>,
    pub config: Box<config::Account>,
}

/// With the counts of its references it fills two cache lines: nothing that stands beside it shares them, and the
/// accounts of a pool lie close together.
const _: () = assert!(size_of::<Account>() == 2 * LINE - 2 * size_of::<usize>());
const LINE: usize = 64;

/// An account as a request has just taken it.
pub(super) struct Taken {
    pub(super) account: Arc<Account>,
    pub(super) entry: Entry,
    /// What it holds of the account's limits. In a box, as most accounts have none and a lease is moved about.
    pub(super) charge: Option<Box<Charge>>,
    /// It tries whether the account serves its model again.
    pub(super) trial: Option<Trial>,
}

/// Why an account did not take a request.
pub(super) enum Refused {
    /// It takes none like it now.
    Out,
    /// It takes one that may come to fewer tokens: others hold what is left of its limits.
    TooLarge,
}

/// The `Host` of requests to this upstream (RFC 9112 §3.2); a socket of this machine has no name.
pub(super) fn host(upstream: &config::Upstream) -> HeaderValue {
    let default = if upstream.tls { 443 } else { 80 };
    let text = match &upstream.host {
        config::Host::Unix(_) => String::new(),
        config::Host::Tcp(name, port) => {
            let name = match name.contains(':') {
                true => format!("[{name}]"),
                false => name.clone(),
            };
            match *port == default {
                true => name,
                false => format!("{name}:{port}"),
            }
        }
    };
    let named = HeaderValue::from_str(&text).ok();
    let named = named.filter(|host| !host.is_empty());
    named.unwrap_or(HeaderValue::from_static("localhost"))
}

impl Account {
    /// The model's name at this account's upstream, where it is another one.
    pub fn model_name<'a>(&'a self, asked: &str) -> Option<&'a str> {
        match &self.config.models {
            config::Models::Map(names) => names.get(asked).map(String::as_str),
            config::Models::List(_) => None,
        }
    }

    /// Are both the same account, perhaps of two tables? A slot alone does not say so: that of a
    /// removed account is used again.
    pub(super) fn is(&self, other: &Account) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.live.is_ready()
    }

    /// Full and nothing else: it will serve again as soon as a request ends.
    pub(super) fn is_only_full(&self) -> bool {
        self.live.blocked() == 0 && self.live.breaker.admits() && !self.is_ready()
    }

    /// Takes a place, and of its limits what the request may come to; tells the table when that was the
    /// last one.
    ///
    /// # Errors
    /// It does not take this request.
    pub(super) fn acquire(
        self: &Arc<Self>,
        pool: &Pool,
        demand: &Demand,
        now: u64,
    ) -> Result<Taken, Refused> {
        let entry = self.live.acquire(demand.despite()).ok_or(Refused::Out)?;
        let trial = pool.marks.enter(self.slot, demand.model.as_deref(), now);
        let held = trial.map_err(|Marked| Refused::Out).and_then(|trial| {
            let charge = pool.charge(self, demand, now);
            let charge = charge.map_err(|reached| match reached {
                Reached::Limit => Refused::Out,
                Reached::Room => Refused::TooLarge,
            })?;
            Ok((trial, charge))
        });
        let (trial, charge) = match held {
            Ok(held) => held,
            Err(refused) => {
                self.release(entry, pool);
                return Err(refused);
            }
        };
        self.live.requests.fetch_add(1, Ordering::Relaxed);
        let full = self.live.is_full_with(self.live.in_flight());
        if full || entry == Entry::Probe {
            pool.publish(self);
        }
        Ok(Taken {
            account: self.clone(),
            entry,
            charge,
            trial,
        })
    }

    /// Gives the place back.
    pub(super) fn release(&self, entry: Entry, pool: &Pool) {
        let before = self.live.release(entry);
        let was_full = self.live.is_full_with(before);
        if was_full || entry == Entry::Probe {
            pool.publish(self);
        }
    }

    /// Until when it is out by itself: the end of a cooldown or of an open breaker, or the next
    /// try of one that needs a login.
    pub(super) fn recovers_at(&self) -> Option<u64> {
        let blocked = self.live.blocked();
        if blocked & !(reason::COOLING | reason::NEEDS_LOGIN | reason::LIMITED) != 0 {
            return None;
        }
        let rare = self.live.rare.lock();
        let limited = (blocked & reason::LIMITED != 0).then_some(rare.limited_until);
        let cooling = (blocked & reason::COOLING != 0).then_some(rare.cooling_until);
        let login = (blocked & reason::NEEDS_LOGIN != 0).then_some(rare.login_probe_at);
        drop(rare);
        let open = self.live.breaker.open_until();
        cooling.max(limited).max(login).max(open)
    }
}
