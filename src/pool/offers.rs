//! Which models a pool's accounts say they serve, by what was configured of them: accounts of one
//! upstream with the same `models` offer the same.

use std::collections::HashMap;
use std::sync::Arc;

use wildmatch::WildMatch;

use super::account::Account;
use super::table::{Lane, Table};
use super::{Pool, live::reason};
use crate::config::{Models, Upstream};
use crate::dialect::{Dialect, Listed};

/// Accounts of an offer that are known by name: any of them can say what its upstream has.
const KNOWN: usize = 8;

/// Offers of one pool in one dialect, at most.
const MOST: usize = 256;

/// What accounts of one upstream serve.
pub struct Offer {
    /// Models by their names.
    pub names: Vec<Listed>,
    /// Patterns: of these the upstream itself knows the names.
    pub patterns: Vec<WildMatch>,
    accounts: Vec<Arc<Account>>,
}

impl Offer {
    fn of(models: &Models, dialect: Dialect) -> Offer {
        let written: Vec<&String> = match models {
            Models::List(list) => list.iter().collect(),
            Models::Map(map) => map.keys().collect(),
        };
        let is_pattern = |name: &&String| name.contains(['*', '?']);
        let (patterns, names): (Vec<&String>, Vec<&String>) =
            written.into_iter().partition(is_pattern);
        Offer {
            names: names
                .into_iter()
                .map(|name| Listed::named(dialect, name))
                .collect(),
            patterns: patterns.into_iter().map(|it| WildMatch::new(it)).collect(),
            accounts: Vec::new(),
        }
    }

    /// Whatever the upstream has.
    pub fn is_any(&self) -> bool {
        let mut patterns = self.patterns.iter();
        self.names.is_empty() && patterns.any(|pattern| pattern.matches(""))
    }

    /// Is the model one of the upstream's that is served here?
    pub fn takes(&self, model: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(model))
    }

    /// An account whose upstream can be asked: one that is full, or limited, lists its models as well.
    pub fn asked(&self) -> Option<&Arc<Account>> {
        const OUT: u32 = !(reason::COOLING | reason::LIMITED);
        let serves = |account: &&Arc<Account>| account.live.blocked() & OUT == 0;
        let mut accounts = self.accounts.iter().filter(serves);
        let first = accounts.next()?;
        let open = |account: &&Arc<Account>| account.live.breaker.admits();
        Some(
            Some(first)
                .filter(open)
                .or_else(|| accounts.find(open))
                .unwrap_or(first),
        )
    }
}

impl Table {
    /// What the accounts of this dialect offer, those with the least priority number first.
    fn offers(&self, dialect: Dialect, only: Option<&str>) -> Vec<Offer> {
        let lane = Lane::new(dialect, false);
        let mut offers: Vec<Offer> = Vec::new();
        let mut known: HashMap<(&Models, &Upstream), usize> = HashMap::new();
        let is_meant = |account: &&Arc<Account>| match only {
            Some(id) => *account.id == *id,
            None => account.config.enabled,
        };
        let serving = self.accounts().filter(|account| lane.takes(account));
        for account in serving.filter(is_meant) {
            let of = (&account.config.models, &account.config.upstream);
            let place = *known.entry(of).or_insert(offers.len());
            if place == offers.len() {
                if place == MOST {
                    break;
                }
                offers.push(Offer::of(of.0, dialect));
            }
            let accounts = &mut offers[place].accounts;
            if accounts.len() < KNOWN {
                accounts.push(account.clone());
            }
        }
        offers
    }
}

impl Pool {
    /// What its accounts of this dialect offer; of `only` one account where that alone may serve.
    pub fn offers(&self, dialect: Dialect, only: Option<&str>) -> Arc<[Offer]> {
        let table = self.table.load();
        match only {
            Some(_) => table.offers(dialect, only).into(),
            None => {
                let made = || table.offers(dialect, None).into();
                table.offers[dialect as usize].get_or_init(made).clone()
            }
        }
    }

    /// Does any account of this dialect serve the model, whatever its state?
    pub fn serves(&self, dialect: Dialect, model: &str) -> bool {
        let table = self.table.load();
        let lane = Lane::new(dialect, false);
        table.with_view(lane, Some(model), |view| !view.groups.is_empty())
    }
}
