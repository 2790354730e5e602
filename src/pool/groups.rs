//! What accounts of one organisation share (`limit_group`), of whichever pools they are: the counts of
//! their rate limits, and the waits that their vendor states.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Pool;
use super::account::Account;
use crate::config;
use crate::limit::{Counts, Limits};

/// The pools whose accounts may be of the same organisations.
#[derive(Default)]
pub struct Groups {
    counts: Counts,
    pools: Mutex<Vec<Weak<Pool>>>,
}

impl Groups {
    /// This pool belongs to them, for as long as it is there.
    pub(super) fn join(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// The account's own limits, which count on where they or those of its group were.
    pub(super) fn limits(&self, account: &config::Account) -> Option<Arc<Limits>> {
        let limits = account.rate_limits.iter();
        let name = match &*account.limit_group {
            "" => format!("account {}", account.id),
            group => format!("group {group}"),
        };
        let limits = self.counts.limits(&name, limits);
        (!limits.is_empty()).then(|| Arc::new(limits))
    }

    /// Forgets the counts that no account has any more.
    pub(super) fn tidy(&self) {
        self.counts.tidy();
    }
}

impl Pool {
    /// Calls `change` for the account as it is now, and for all others of its group.
    pub(super) fn each_of_group(
        &self,
        account: &Arc<Account>,
        change: impl Fn(&Pool, &Arc<Account>),
    ) {
        let group = &*account.config.limit_group;
        if group.is_empty() {
            let table = self.table.load();
            let current = table.account(account.slot);
            let current = current.filter(|current| current.is(account));
            return current.into_iter().for_each(|it| change(self, it));
        }
        // Whoever drops the last pool does it after this lock is gone.
        let pools: Vec<Arc<Pool>> = {
            let pools = self.groups.pools.lock();
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        for pool in &pools {
            let table = pool.table.load();
            let shares = |other: &&Arc<Account>| other.config.limit_group == group;
            table
                .accounts()
                .filter(shares)
                .for_each(|it| change(pool, it));
        }
    }
}
