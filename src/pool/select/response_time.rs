//! Of two accounts drawn at random the one that is expected to answer first: its time to first
//! byte, which fades while it is not asked, times the requests it would have in flight.

use super::{Choice, random};

pub(super) fn pick(choice: &Choice) -> Option<u32> {
    let first = random::pick(choice)?;
    // Beginning behind the first one: with two accounts both are always compared.
    let second = match choice.ready.members.len() {
        2 => choice.iter_from(first + 1).next()?,
        _ => random::pick(choice)?,
    };
    let cost = |slot: u32| {
        choice.table.account(slot).map_or(u64::MAX, |account| {
            account.live.expected_us(choice.now).saturating_mul(u64::from(account.live.in_flight()) + 1)
        })
    };
    Some(if cost(second) < cost(first) { second } else { first })
}
