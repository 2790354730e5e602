//! Which of the ready accounts of a group takes a request. One file per strategy; a new one is a
//! file here, an arm in [`Picker`], and a name in `config`.
//!
//! A strategy only proposes. The account's own counters decide whether it takes the request, and
//! if not, the strategy is asked again.

mod hash;
mod least;
mod random;
mod response_time;
mod round_robin;
mod weighted;

use std::sync::Arc;

use super::account::Account;
use super::ready::ReadyMembers;
use super::table::Table;
use crate::config::Strategy;

/// What a strategy may look at.
pub(super) struct Choice<'a> {
    pub(super) table: &'a Table,
    pub(super) ready: ReadyMembers<'a>,
    /// May this account be proposed? False for one that this request already tried.
    pub(super) allows: &'a dyn Fn(u32) -> bool,
    /// Hash of what tells callers apart, for `hash`.
    pub(super) caller: Option<u64>,
    /// Milliseconds since the pool began.
    pub(super) now: u64,
}

impl Choice<'_> {
    fn can_take(&self, slot: u32) -> bool {
        self.ready.contains(slot) && (self.allows)(slot)
    }

    fn iter_from(&self, start: u32) -> impl Iterator<Item = u32> {
        self.ready.iter_from(start).filter(|slot| (self.allows)(*slot))
    }
}

/// A strategy with its state for one group of accounts.
pub(super) enum Picker {
    RoundRobin(round_robin::RoundRobin),
    Weighted(weighted::Weighted),
    LeastConnections(least::Least),
    LeastUsed(least::Least),
    ResponseTime,
    Hash(hash::Ring, round_robin::RoundRobin),
    Random,
}

impl Picker {
    pub(super) fn new(strategy: Strategy, accounts: &[&Arc<Account>]) -> Self {
        match strategy {
            Strategy::RoundRobin => Picker::RoundRobin(round_robin::RoundRobin::default()),
            Strategy::Weighted => Picker::Weighted(weighted::Weighted::new(accounts)),
            Strategy::LeastConnections => Picker::LeastConnections(least::Least::default()),
            Strategy::LeastUsed => Picker::LeastUsed(least::Least::default()),
            Strategy::ResponseTime => Picker::ResponseTime,
            Strategy::Hash => Picker::Hash(hash::Ring::new(accounts), round_robin::RoundRobin::default()),
            Strategy::Random => Picker::Random,
        }
    }

    /// The slot of a ready account, or none if this group has none for the request.
    pub(super) fn pick(&self, choice: &Choice) -> Option<u32> {
        match self {
            Picker::RoundRobin(turn) => turn.pick(choice),
            Picker::Weighted(schedule) => schedule.pick(choice),
            Picker::LeastConnections(least) => least.pick(choice, least::in_flight_by_weight),
            Picker::LeastUsed(least) => least.pick(choice, least::lifetime_requests),
            Picker::ResponseTime => response_time::pick(choice),
            Picker::Hash(ring, turn) => match choice.caller {
                Some(caller) => ring.pick(choice, caller),
                None => turn.pick(choice),
            },
            Picker::Random => random::pick(choice),
        }
    }

    /// A recovering account gets a growing share of the traffic, except where a caller has a
    /// place of its own.
    pub(super) fn shares_traffic(&self) -> bool {
        !matches!(self, Picker::Hash(..))
    }
}
