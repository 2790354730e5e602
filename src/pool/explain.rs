//! A dry run: which account a request would get, and for each other one the reason why not.
//! Nothing is taken and nothing is sent; only the strategy's turn moves on.

use std::sync::Arc;

use super::account::Account;
use super::breaker::State;
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
        let home = table.home(demand, now).filter(|home| allows(*home));
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
        let chosen = chosen.and_then(|slot| table.account(slot));
        let is_home = home.is_some() && home == chosen.map(|it| it.slot);
        let asked = Asked {
            demand,
            at,
            chosen,
            is_home,
        };
        let is_other = |account: &Arc<Account>| chosen.is_none_or(|it| it.slot != account.slot);
        let others = self.accounts().into_iter().filter(is_other);
        Explanation {
            pool: self.name.to_string(),
            account: chosen.map(|account| account.config.id.clone()),
            others: others
                .map(|account| (account.config.id.clone(), self.why_not(&account, &asked)))
                .collect(),
        }
    }

    fn why_not(&self, account: &Account, asked: &Asked<'_>) -> String {
        let demand = asked.demand;
        if !account.config.dialects.contains(&demand.dialect) {
            return format!("does not speak {}", demand.dialect.name());
        }
        if !demand.lane().takes(account) {
            return "takes no WebSocket".to_owned();
        }
        let model = demand.model.as_deref();
        if !self.table.load().serves(account.slot, model) {
            return "does not serve this model".to_owned();
        }
        let blocked = self.why_blocked(account, asked);
        let blocked = blocked.or_else(|| self.why_marked(account, asked));
        let blocked = blocked.or_else(|| why_busy(account));
        blocked.unwrap_or_else(|| why_another(account, asked).to_owned())
    }

    /// What takes the account out for every request.
    fn why_blocked(&self, account: &Account, asked: &Asked<'_>) -> Option<String> {
        let blocked = account.live.blocked();
        let has = |reason: u32| blocked & reason != 0;
        let recovers = account.recovers_at().filter(|at| *at != u64::MAX);
        let until = recovers.map(|at| format!(" until {}", self.said(at, asked.at)));
        let until = until.unwrap_or_default();
        Some(match account.live.breaker.state() {
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
                let limit = limited_by.unwrap_or_else(|| "requests".into());
                format!("has reached its limit of {limit}{until}")
            }
            State::Open => format!("has an open breaker{until}"),
            State::HalfOpen if !account.live.breaker.admits() => {
                "is tried by one request after it was out".to_owned()
            }
            State::HalfOpen | State::Closed => return None,
        })
    }

    /// What takes it out for this model.
    fn why_marked(&self, account: &Account, asked: &Asked<'_>) -> Option<String> {
        let now = self.ticks(asked.at.now);
        let model = marks::model_id(asked.demand.model.as_deref()?);
        let until = self.marks.until(account.slot, model, now)?;
        if until == now {
            return Some("is tried for this model by one request".to_owned());
        }
        let until = self.said(until, asked.at);
        Some(match self.marks.is_limit(account.slot, model) {
            true => format!("is limited for this model until {until}"),
            false => format!("does not know this model, and is not asked until {until}"),
        })
    }

    fn said(&self, ticks: u64, at: Moment) -> String {
        clock::rfc3339(wall(self.at(ticks), at))
    }
}

/// What is asked for, when, and who would get it.
struct Asked<'a> {
    demand: &'a Demand,
    at: Moment,
    chosen: Option<&'a Arc<Account>>,
    /// The caller is at home there.
    is_home: bool,
}

fn why_busy(account: &Account) -> Option<String> {
    let (busy, most) = (account.live.in_flight(), account.config.max_concurrent);
    let is_full = !account.is_ready();
    is_full.then(|| format!("is full: {busy} of {most}"))
}

/// Of one that could serve.
fn why_another(account: &Account, asked: &Asked<'_>) -> &'static str {
    let rank = |it: &Account| (it.config.weight == 0, it.config.priority);
    match asked.chosen {
        _ if asked.demand.only.is_some() => "could serve; the key has another one",
        Some(_) if asked.is_home => "could serve; its session is at home at another one",
        Some(chosen) if rank(chosen) < rank(account) => "could serve; another one goes before it",
        _ => "could serve; it is another one's turn",
    }
}
