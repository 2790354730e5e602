//! A ring of account ids: a caller stays on its account while that account can serve, and when one
//! leaves, only its own callers move. No bound on the load; weights play no part.
//!
//! The ring is made of xxh3, which is the same in every build and on every machine, so that several
//! gateways agree.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Choice;
use crate::pool::account::Account;

/// Points of each account. The spread between accounts is about 1/sqrt of it: 8 %.
const POINTS: u64 = 160;

/// Points walked before the few that can serve are compared one by one.
const WALKED: usize = 64;

pub(in crate::pool) struct Ring {
    /// Sorted by hash. Of the hash only the upper half is kept: with 10,000 accounts a look-up costs
    /// what it misses in the cache, so that size is time.
    points: Box<[(u32, u32)]>,
    /// Where the points with these leading bits begin: hashes are even, so a look-up is a jump and
    /// a few steps, not a search. Small enough to stay in the cache, with a line of points for each.
    jump: Box<[u32]>,
    jump_bits: u32,
}

impl Ring {
    pub(super) fn new(accounts: &[&Arc<Account>]) -> Self {
        let ids = accounts
            .iter()
            .map(|account| (account.config.id.as_str(), account.slot));
        Self::of(ids)
    }

    fn of<'a>(ids: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut points: Vec<(u64, u32)> = ids
            .flat_map(|(id, slot)| {
                (0..POINTS).map(move |n| (xxh3_64_with_seed(id.as_bytes(), n), slot))
            })
            .collect();
        points.sort_unstable();
        // Equal halves stay in the order of the whole hashes, the same on every gateway.
        let points: Box<[(u32, u32)]> = points
            .into_iter()
            .map(|(hash, slot)| (upper(hash), slot))
            .collect();
        let jump_bits = points
            .len()
            .next_power_of_two()
            .trailing_zeros()
            .saturating_sub(3)
            .clamp(1, 24);
        let jump = (0..1u32 << jump_bits)
            .scan(0, |at, bucket| {
                while *at < points.len() && points[*at].0 >> (32 - jump_bits) < bucket {
                    *at += 1;
                }
                Some(*at as u32)
            })
            .collect();
        Ring {
            points,
            jump,
            jump_bits,
        }
    }

    /// The index of the first point at or after this hash.
    fn first(&self, hash: u64) -> usize {
        let hash = upper(hash);
        let bucket = (hash >> (32 - self.jump_bits)) as usize;
        let from = self.jump[bucket] as usize;
        from + self.points[from..]
            .iter()
            .take_while(|(point, _)| *point < hash)
            .count()
    }

    pub(super) fn pick(&self, choice: &Choice, caller: u64) -> Option<u32> {
        let first = self.first(caller);
        let walk = (0..WALKED.min(self.points.len()))
            .map(|step| self.points[(first + step) % self.points.len()].1);
        walk.into_iter()
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
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn ring(ids: &[String]) -> Ring {
        Ring::of(
            ids.iter()
                .enumerate()
                .map(|(slot, id)| (id.as_str(), slot as u32)),
        )
    }

    fn owner<'a>(ring: &Ring, ids: &'a [String], caller: u64) -> &'a str {
        let first = ring.first(xxh3_64(&caller.to_le_bytes())) % ring.points.len();
        &ids[ring.points[first].1 as usize]
    }

    #[test]
    fn the_jump_finds_what_a_search_finds() {
        let ids: Vec<String> = (0..37).map(|n| format!("account_{n}")).collect();
        let ring = ring(&ids);
        let hashes = (0..20_000u64).map(|n| xxh3_64(&n.to_le_bytes()));
        for hash in hashes
            .chain([0, u64::MAX])
            .chain(ring.points.iter().map(|point| u64::from(point.0) << 32))
        {
            assert_eq!(
                ring.first(hash),
                ring.points
                    .partition_point(|(point, _)| *point < upper(hash))
            );
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
}
