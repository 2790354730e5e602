//! The account with the least of something: requests in flight for its weight, or requests ever.

use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Choice, random};
use crate::pool::account::Account;

/// Up to so many members are compared one by one, which is exact.
const EXACT: usize = 32;

/// Of more members, so many are drawn at random and compared: with two choices already the fullest
/// account is only log log n above the mean (Mitzenmacher, "The power of two choices", 2001).
const DRAWN: usize = 3;

#[derive(Default)]
pub(in crate::pool) struct Least {
    /// Where the comparison begins, so that equals take turns.
    next: AtomicU32,
}

/// Compares the load that one more request would make, by weight.
pub(super) fn in_flight_by_weight(a: &Account, b: &Account) -> Order {
    let load = |x: &Account, y: &Account| (u64::from(x.live.in_flight()) + 1) * u64::from(y.weight);
    load(a, b).cmp(&load(b, a))
}

/// Compares the requests of a lifetime.
pub(super) fn lifetime_requests(a: &Account, b: &Account) -> Order {
    let requests = |account: &Account| account.live.requests.load(Ordering::Relaxed);
    requests(a).cmp(&requests(b))
}

impl Least {
    pub(super) fn pick(
        &self,
        choice: &Choice,
        compare: fn(&Account, &Account) -> Order,
    ) -> Option<u32> {
        let least = if choice.ready.members.len() <= EXACT {
            let start = self.next.load(Ordering::Relaxed);
            least_of(choice, choice.iter_from(start), compare)?
        } else {
            least_of(
                choice,
                (0..DRAWN).map_while(|_| random::pick(choice)),
                compare,
            )?
        };
        self.next.store(least + 1, Ordering::Relaxed);
        Some(least)
    }
}

/// The first of those with the least.
fn least_of(
    choice: &Choice,
    slots: impl Iterator<Item = u32>,
    compare: fn(&Account, &Account) -> Order,
) -> Option<u32> {
    slots
        .filter_map(|slot| choice.table.account(slot))
        .min_by(|a, b| compare(a, b))
        .map(|account| account.slot)
}
