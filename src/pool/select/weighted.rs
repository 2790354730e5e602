//! Smooth weighted turns: a schedule in which each account stands as often as its weight says, as
//! evenly spread as can be, walked slot by slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Choice, random};
use crate::pool::account::Account;

/// Longest schedule; weights that need more are scaled down, each to at least one turn.
const LONGEST: usize = 65_536;

/// Turns that are looked at before it is clear that most of the schedule cannot serve.
const LOOKED_AT: usize = 64;

pub(in crate::pool) struct Weighted {
    schedule: Box<[u32]>,
    next: AtomicUsize,
}

impl Weighted {
    pub(super) fn new(accounts: &[&Arc<Account>]) -> Self {
        let weights: Vec<(u32, u32)> =
            accounts.iter().map(|account| (account.slot, account.config.weight.max(1))).collect();
        Weighted { schedule: schedule(&weights), next: AtomicUsize::new(0) }
    }

    pub(super) fn pick(&self, choice: &Choice) -> Option<u32> {
        let length = self.schedule.len();
        let mut turn = self.next.load(Ordering::Relaxed);
        'moved: loop {
            for step in 0..LOOKED_AT.min(length) {
                let place = (turn + step) % length;
                let slot = self.schedule[place];
                if !choice.can_take(slot) {
                    continue;
                }
                match self.next.compare_exchange_weak(turn, place + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return Some(slot),
                    Err(moved) => {
                        turn = moved;
                        continue 'moved;
                    }
                }
            }
            return by_chance(choice);
        }
    }
}

/// When nearly nobody can serve: by chance, with the right weights.
fn by_chance(choice: &Choice) -> Option<u32> {
    const DRAWS: usize = 8;
    let weight = |slot: u32| choice.table.account(slot).map_or(1, |account| account.config.weight.max(1));
    let few = choice.iter_from(0).take(LOOKED_AT + 1).count() <= LOOKED_AT;
    if few {
        let total: u64 = choice.iter_from(0).map(|slot| u64::from(weight(slot))).sum();
        let mut drawn = fastrand::u64(0..total.max(1));
        return choice.iter_from(0).find(|slot| {
            let weight = u64::from(weight(*slot));
            let found = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            found
        });
    }
    let heaviest = 1000;
    for _ in 0..DRAWS {
        let slot = random::pick(choice)?;
        if fastrand::u32(0..heaviest) < weight(slot) {
            return Some(slot);
        }
    }
    random::pick(choice)
}

/// Each account `weight` times, spread as evenly as can be: the next turn is always that of the
/// account which waited longest for the share that its weight gives it.
fn schedule(weights: &[(u32, u32)]) -> Box<[u32]> {
    let divisor = weights.iter().fold(0, |a, (_, weight)| gcd(a, *weight)).max(1);
    let total: usize = weights.iter().map(|(_, weight)| (weight / divisor) as usize).sum();
    let scale = (total as f64 / LONGEST as f64).max(1.0);
    let turns: Vec<u64> = weights
        .iter()
        .map(|(_, weight)| ((f64::from(weight / divisor) / scale).round() as u64).max(1))
        .collect();
    // The k-th turn of an account with n turns stands at (2k + 1) / 2n of the whole.
    const WHOLE: u64 = 1 << 40;
    let place = |k: u64, n: u64| (2 * k + 1) * WHOLE / (2 * n);
    let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> =
        turns.iter().enumerate().map(|(i, n)| Reverse((place(0, *n), i, 0))).collect();
    let mut schedule = Vec::with_capacity(turns.iter().sum::<u64>() as usize);
    while let Some(Reverse((_, i, k))) = heap.pop() {
        schedule.push(weights[i].0);
        if k + 1 < turns[i] {
            heap.push(Reverse((place(k + 1, turns[i]), i, k + 1)));
        }
    }
    schedule.into()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_not_blocked() {
        assert_eq!(*schedule(&[(0, 2), (1, 1), (2, 1)]), [0, 1, 2, 0]);
        assert_eq!(*schedule(&[(7, 30), (8, 10)]), [7, 7, 8, 7], "by the common divisor");
        let long = schedule(&[(0, 5), (1, 1), (2, 1)]);
        let longest_run = long.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
        assert!(longest_run <= Some(3), "{long:?}");
    }

    #[test]
    fn ten_thousand_heavy_accounts_make_a_bounded_schedule_that_names_each() {
        let weights: Vec<(u32, u32)> = (0..10_000).map(|i| (i, 1 + i % 1000)).collect();
        let schedule = schedule(&weights);
        assert!(schedule.len() <= LONGEST + weights.len());
        let named: std::collections::HashSet<u32> = schedule.iter().copied().collect();
        assert_eq!(named.len(), weights.len());
    }
}
