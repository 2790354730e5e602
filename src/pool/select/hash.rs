//! A ring of account ids: a caller stays on its account while that account can serve, and when one
//! leaves, only its own callers move. No bound on the load; weights play no part.
//!
//! A caller has several places on the ring and belongs to the account whose point follows one of
//! them most closely (multi-probe consistent hashing, Appleton and O'Reilly, 2015): the load is as
//! even as on a ring of many more points, and this one stays in the processor's cache.
//!
//! The ring is made of xxh3, which is the same in every build and on every machine, so that several
//! gateways agree.

use std::iter;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Choice;
use crate::pool::account::Account;

/// Points of each account.
const POINTS: u64 = 24;

/// Places of a caller. The loads of accounts differ by about 0.8 / sqrt(POINTS * PLACES): 8 %.
const PLACES: usize = 4;

/// Points in a block.
const BLOCK: usize = 8;

/// Times that a caller gets new places, because its account cannot serve, before the few that can
/// are compared one by one.
const TRIES: u64 = 16;

pub(in crate::pool) struct Ring {
    /// The points in order.
    blocks: Box<[Block]>,
    /// The block of the first point with these leading bits or more: hashes are even, so a look-up is a jump and a
    /// step or two, not a search.
    jump: Box<[u32]>,
    jump_bits: u32,
}

/// Some points, of a hash only the upper half, and the account of each: one cache line, for with 10,000 accounts a
/// look-up costs what it misses in the cache.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Block {
    points: [u32; BLOCK],
    slots: [u32; BLOCK],
}

impl Ring {
    pub(super) fn new(accounts: &[&Arc<Account>]) -> Self {
        let ids = accounts
            .iter()
            .map(|account| (account.config.id.as_str(), account.slot));
        Self::of(ids)
    }

    fn of<'a>(ids: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut hashes: Vec<(u64, u32)> = ids
            .flat_map(|(id, slot)| {
                // Short ids and small seeds cancel each other out in xxh3: it takes two steps.
                let id = xxh3_64(id.as_bytes()).to_le_bytes();
                (0..POINTS).map(move |n| (xxh3_64_with_seed(&id, n), slot))
            })
            .collect();
        // Equal halves stay in the order of the whole hashes, the same on every gateway.
        hashes.sort_unstable();
        // The ring closes: behind the last point comes the first.
        let first = hashes.first().map_or(0, |(_, slot)| *slot);
        let closing = BLOCK - hashes.len() % BLOCK;
        hashes.extend(iter::repeat_n((u64::MAX, first), closing));
        let blocks: Box<[Block]> = hashes
            .chunks_exact(BLOCK)
            .map(|points| Block {
                points: std::array::from_fn(|n| upper(points[n].0)),
                slots: std::array::from_fn(|n| points[n].1),
            })
            .collect();
        let jump_bits = blocks.len().next_power_of_two().ilog2().clamp(1, 24);
        let first_from = |bits: u32| {
            let is_before = |block: &Block| block.points[BLOCK - 1] >> (32 - jump_bits) < bits;
            blocks.partition_point(is_before) as u32
        };
        Ring {
            jump: (0..1u32 << jump_bits).map(first_from).collect(),
            blocks,
            jump_bits,
        }
    }

    /// How far the first point at or behind this place is, and whose it is.
    fn next(&self, place: u32) -> (u32, u32) {
        let mut at = self.jump[(place >> (32 - self.jump_bits)) as usize] as usize;
        loop {
            let block = &self.blocks[at];
            let is_passed = |point: &u32| u32::from(*point < place);
            let passed: u32 = block.points.iter().map(is_passed).sum();
            let found = block.points.get(passed as usize);
            if let (Some(point), Some(slot)) = (found, block.slots.get(passed as usize)) {
                return (point - place, *slot);
            }
            // The last block ends with the last place there is.
            at += 1;
        }
    }

    /// How far the points behind the caller's places are, and whose they are: the nearest one's
    /// account is the caller's, the others stand in for it.
    fn near(&self, caller: u64, attempt: u64) -> [(u32, u32); PLACES] {
        let hash = xxh3_64_with_seed(&caller.to_le_bytes(), attempt);
        // Two hashes make any number of them (Kirsch and Mitzenmacher, 2006).
        let (first, stride) = (upper(hash), hash as u32 | 1);
        std::array::from_fn(|n| self.next(first.wrapping_add(stride.wrapping_mul(n as u32))))
    }

    /// The accounts in the caller's order of preference; one may come several times.
    fn order(&self, caller: u64) -> impl Iterator<Item = u32> {
        (0..TRIES).flat_map(move |attempt| {
            let mut near = self.near(caller, attempt);
            near.sort_unstable();
            near.into_iter().map(|(_, slot)| slot)
        })
    }

    pub(super) fn pick(&self, choice: &Choice, caller: u64) -> Option<u32> {
        self.order(caller)
            .find(|slot| choice.can_take(*slot))
            .or_else(|| highest(choice, caller))
    }
}

fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// When nearly nobody can serve: the account with the highest hash together with the caller
/// (rendezvous hashing), which also moves only those who must move.
fn highest(choice: &Choice, caller: u64) -> Option<u32> {
    choice
        .iter_from(0)
        .filter_map(|slot| choice.table.account(slot))
        .max_by_key(|account| xxh3_64_with_seed(account.config.id.as_bytes(), caller))
        .map(|account| account.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ids: &[String]) -> Ring {
        Ring::of(
            ids.iter()
                .enumerate()
                .map(|(slot, id)| (id.as_str(), slot as u32)),
        )
    }

    fn owner<'a>(ring: &Ring, ids: &'a [String], caller: u64) -> &'a str {
        &ids[ring.order(caller).next().unwrap() as usize]
    }

    #[test]
    fn the_jump_finds_what_a_search_finds() {
        for accounts in [1, 2, 37, 1_000] {
            let ids: Vec<String> = (0..accounts).map(|n| format!("account_{n}")).collect();
            let ring = ring(&ids);
            let of_block = |block: &Block| block.points.into_iter().zip(block.slots);
            let all: Vec<(u32, u32)> = ring.blocks.iter().flat_map(of_block).collect();
            assert!(all.is_sorted_by_key(|(point, _)| *point));
            let hashes = (0..20_000u64).map(|n| upper(xxh3_64(&n.to_le_bytes())));
            let points = all.iter().map(|(point, _)| *point);
            for place in hashes.chain([0, u32::MAX]).chain(points) {
                let (point, slot) = all[all.partition_point(|(point, _)| *point < place)];
                assert_eq!(ring.next(place), (point - place, slot));
            }
        }
    }

    #[test]
    fn when_an_account_leaves_only_its_callers_move() {
        let ids: Vec<String> = (0..10).map(|n| format!("account_{n}")).collect();
        let fewer: Vec<String> = ids
            .iter()
            .filter(|id| *id != "account_4")
            .cloned()
            .collect();
        let (before, after) = (ring(&ids), ring(&fewer));
        let mut moved = 0;
        for caller in 0..10_000 {
            let (was, is) = (owner(&before, &ids, caller), owner(&after, &fewer, caller));
            assert!(
                was == is || was == "account_4",
                "{caller} moved from {was} to {is}"
            );
            moved += usize::from(was != is);
        }
        assert!((500..1_800).contains(&moved), "{moved} of 10,000 moved");
    }

    #[test]
    fn accounts_have_nearly_the_same_number_of_callers() {
        let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let ring = ring(&ids);
        let mut callers = [0u32; 100];
        for caller in 0..100_000 {
            callers[ring.order(caller).next().unwrap() as usize] += 1;
        }
        let (few, many) = (callers.iter().min(), callers.iter().max());
        assert!(few >= Some(&700) && many <= Some(&1_350), "{callers:?}");
    }

    #[test]
    fn the_callers_of_an_account_that_cannot_serve_spread_over_the_others() {
        let ids: Vec<String> = (0..10).map(|n| format!("account_{n}")).collect();
        let ring = ring(&ids);
        let mut seconds = [0u32; 10];
        for caller in (0..10_000).filter(|caller| ring.order(*caller).next() == Some(4)) {
            let other = ring.order(caller).find(|slot| *slot != 4);
            seconds[other.unwrap() as usize] += 1;
        }
        let moved: u32 = seconds.iter().sum();
        assert!(moved > 500, "{moved}");
        assert!(seconds.iter().all(|n| *n <= moved / 5), "{seconds:?}");
    }
}
