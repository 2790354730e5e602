//! The set of accounts that could take a request right now: one bit per account, so that a pick
//! looks at a few cache lines whatever the number of accounts.
//!
//! A bit is a hint. The account's own counters decide, and whoever changes them publishes the bit
//! again ([`Ready::publish`]), so a wrong bit never lasts.

use std::sync::atomic::{AtomicU64, Ordering, fence};

const WORD: usize = u64::BITS as usize;

/// A fixed number of bits, shared by all threads.
pub(super) struct Ready {
    words: Box<[AtomicU64]>,
}

/// A set that no longer changes: the members of a group.
pub(super) struct Members {
    words: Box<[u64]>,
    count: usize,
}

impl Ready {
    pub(super) fn with_slots(slots: usize) -> Self {
        Ready {
            words: (0..slots.div_ceil(WORD))
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Makes the bit say what `is_ready` says. The state is read again after the bit was written:
    /// of two threads that change one account, the later writer sees the final state.
    pub(super) fn publish(&self, slot: u32, is_ready: impl Fn() -> bool) {
        let slot = slot as usize;
        let Some(word) = self.words.get(slot / WORD) else {
            return;
        };
        let bit = 1u64 << (slot % WORD);
        loop {
            let ready = is_ready();
            if ready {
                word.fetch_or(bit, Ordering::SeqCst);
            } else {
                word.fetch_and(!bit, Ordering::SeqCst);
            }
            fence(Ordering::SeqCst);
            if is_ready() == ready {
                return;
            }
        }
    }

    /// Sequentially consistent, for a request that joins the queue looks here after it said that it
    /// waits, while one that frees an account sets the bit and then asks whether anybody waits: one
    /// of the two must see the other.
    fn word(&self, index: usize) -> u64 {
        self.words
            .get(index)
            .map_or(0, |word| word.load(Ordering::SeqCst))
    }
}

impl Members {
    pub(super) fn of(slots: impl Iterator<Item = u32>) -> Self {
        let mut words = Vec::new();
        let mut count = 0;
        for slot in slots {
            let index = slot as usize / WORD;
            if words.len() <= index {
                words.resize(index + 1, 0u64);
            }
            words[index] |= 1 << (slot as usize % WORD);
            count += 1;
        }
        Members {
            words: words.into(),
            count,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(index, word)| Bits {
            word: *word,
            base: (index * WORD) as u32,
        })
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        let slot = slot as usize;
        self.words
            .get(slot / WORD)
            .is_some_and(|word| word >> (slot % WORD) & 1 == 1)
    }
}

/// The members of a group that are ready.
#[derive(Clone, Copy)]
pub(super) struct ReadyMembers<'a> {
    pub(super) ready: &'a Ready,
    pub(super) members: &'a Members,
}

impl ReadyMembers<'_> {
    fn word(&self, index: usize) -> u64 {
        self.members.words[index] & self.ready.word(index)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.members.contains(slot)
            && self.ready.word(slot as usize / WORD) >> (slot as usize % WORD) & 1 == 1
    }

    /// All of them, in order, beginning at `start` and wrapping around.
    pub(super) fn iter_from(&self, start: u32) -> impl Iterator<Item = u32> {
        let words = self.members.words.len();
        let start = start as usize % (words * WORD).max(1);
        let (first, offset) = (start / WORD, start % WORD);
        // The first word is visited twice: its upper part first, its lower part last.
        let visits = if words == 0 { 0 } else { words + 1 };
        (0..visits).flat_map(move |step| {
            let index = (first + step) % words;
            let mask = match step {
                0 => u64::MAX << offset,
                step if step == words => !(u64::MAX << offset),
                _ => u64::MAX,
            };
            Bits {
                word: self.word(index) & mask,
                base: (index * WORD) as u32,
            }
        })
    }

    pub(super) fn count(&self) -> usize {
        (0..self.members.words.len())
            .map(|index| self.word(index).count_ones() as usize)
            .sum()
    }

    /// The `n`-th of them, counted from 0.
    pub(super) fn nth(&self, mut n: usize) -> Option<u32> {
        for index in 0..self.members.words.len() {
            let word = self.word(index);
            let ones = word.count_ones() as usize;
            if n < ones {
                return Bits {
                    word,
                    base: (index * WORD) as u32,
                }
                .nth(n);
            }
            n -= ones;
        }
        None
    }
}

struct Bits {
    word: u64,
    base: u32,
}

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.base + bit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    fn ready_of(slots: usize, set: &[u32]) -> Ready {
        let ready = Ready::with_slots(slots);
        set.iter().for_each(|slot| ready.publish(*slot, || true));
        ready
    }

    proptest! {
        #[test]
        fn iteration_visits_each_ready_member_once_beginning_at_the_start(
            members in prop::collection::btree_set(0u32..300, 0..80),
            up in prop::collection::btree_set(0u32..300, 0..80),
            start in 0u32..400,
        ) {
            let both: Vec<u32> = members.intersection(&up).copied().collect();
            let ready = ready_of(300, &up.into_iter().collect::<Vec<_>>());
            let members = Members::of(members.into_iter());
            let set = ReadyMembers { ready: &ready, members: &members };
            let seen: Vec<u32> = set.iter_from(start).collect();
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &both);
            prop_assert_eq!(set.count(), both.len());
            let words = members.words.len() as u32 * 64;
            if words > 0 {
                let start = start % words;
                let expected: Vec<u32> = both.iter().filter(|s| **s >= start)
                    .chain(both.iter().filter(|s| **s < start)).copied().collect();
                prop_assert_eq!(seen, expected);
            }
            for (n, slot) in both.iter().enumerate() {
                prop_assert_eq!(set.nth(n), Some(*slot));
            }
            prop_assert_eq!(set.nth(both.len()), None);
        }
    }

    #[test]
    fn the_bit_ends_up_saying_the_truth_whoever_publishes_last() {
        let ready = Ready::with_slots(1);
        let state = AtomicBool::new(false);
        for round in 0..2_000 {
            std::thread::scope(|scope| {
                for up in [true, false] {
                    let (ready, state) = (&ready, &state);
                    scope.spawn(move || {
                        state.store(up, Ordering::SeqCst);
                        ready.publish(0, || state.load(Ordering::SeqCst));
                    });
                }
            });
            let truth = state.load(Ordering::SeqCst);
            assert_eq!(ready.word(0) & 1 == 1, truth, "round {round}");
        }
    }
}
