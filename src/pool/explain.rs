//! A dry run: which account a request would get, and for each other one the reason why not.
//! Nothing is taken and nothing is sent; only the strategy's turn moves on.

use std::sync::Arc;

use super::account::Account;
use super::live::reason;
use super::select::Choice;
use super::snapshot::wall;
use super::{Demand, Moment, Pool, marks};
use crate::clock;

/// What a dry run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub pool: String,
    pub account: Option<String>,
    /// Id and reason of each account that was not chosen.
    pub others: Vec<(String, String)>,
}

impl Pool {
    pub fn explain(&self, demand: &Demand, at: Moment) -> Explanation {
        let now = self.ticks(at.now);
        let table = self.table.load();
        let model = demand.model.as_deref().map(marks::model_id);
        let limited = |slot| model.and_then(|model| self.marks.until(slot, model, now));
        let only = demand.only.as_deref();
        let is_named = |slot| {
            let account = only.and_then(|id| table.find(id));
            account.is_some_and(|account| account.slot == slot)
        };
        let allows = |slot| limited(slot).is_none() && (only.is_none() || is_named(slot));
        let home = self.home(demand, now).filter(|home| allows(*home));
        let chosen = table.with_view(demand.lane(), demand.model.as_deref(), |view| {
            view.groups.iter().find_map(|group| {
                let ready = group.ready(&table);
                let at_home = home.filter(|home| ready.contains(*home));
                let choice = Choice {
                    table: &table,
                    ready,
                    allows: &allows,
                    caller: demand.caller,
                    now,
                };
                at_home.or_else(|| group.picker.pick(&choice))
            })
        });
        let others = self
            .accounts()
            .into_iter()
            .filter(|account| Some(account.slot) != chosen);
        let reason = |account: &Account| {
            let until = |ticks: u64| clock::rfc3339(wall(self.at(ticks), at));
            let limited = limited(account.slot).map(until);
            let recovers = account
                .recovers_at()
                .filter(|at| *at != u64::MAX)
                .map(until);
            self.why_not_chosen(account, demand, limited, recovers)
        };
        Explanation {
            pool: self.name.to_string(),
            account: chosen
                .and_then(|slot| table.account(slot))
                .map(|account| account.config.id.clone()),
            others: others
                .map(|account: Arc<Account>| (account.config.id.clone(), reason(&account)))
                .collect(),
        }
    }

    fn why_not_chosen(
        &self,
        account: &Account,
        demand: &Demand,
        limited: Option<String>,
        recovers: Option<String>,
    ) -> String {
        let blocked = account.live.blocked();
        let has = |reason: u32| blocked & reason != 0;
        let until = recovers
            .map(|at| format!(" until {at}"))
            .unwrap_or_default();
        if !account.config.dialects.contains(&demand.dialect) {
            return format!("does not speak {}", demand.dialect.name());
        }
        if !demand.lane().takes(account) {
            return "takes no WebSocket".to_owned();
        }
        if !self
            .table
            .load()
            .serves(account.slot, demand.model.as_deref())
        {
            return "does not serve this model".to_owned();
        }
        match limited {
            _ if has(reason::DRAINING) => "is being removed".to_owned(),
            _ if has(reason::DISABLED) => "is disabled".to_owned(),
            _ if has(reason::NO_LOGIN) => "needs a login".to_owned(),
            _ if has(reason::NEEDS_LOGIN) => format!("needs a login{until}"),
            _ if has(reason::NO_TOKEN) => "has no valid token".to_owned(),
            _ if has(reason::NO_PROGRAM) => "waits for its program".to_owned(),
            _ if has(reason::UNHEALTHY) => "fails its health check".to_owned(),
            _ if has(reason::COOLING) => format!("is cooling{until}"),
            _ if has(reason::LIMITED) => {
                let limited_by = account.live.rare.lock().limited_by.clone();
                let limit = limited_by.unwrap_or_else(|| "a limit".into());
                format!("has reached its limit of {limit}{until}")
            }
            Some(at) => format!("is limited for this model until {at}"),
            None if !account.live.breaker.admits() => format!("has an open breaker{until}"),
            None if !account.is_ready() => {
                format!(
                    "is full: {} of {}",
                    account.live.in_flight(),
                    account.config.max_concurrent
                )
            }
            None if demand.only.is_some() => "could serve; the key has another one".to_owned(),
            None => "could serve; it is another one's turn".to_owned(),
        }
    }
}
