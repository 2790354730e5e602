//! What becomes due: cooldowns that end, breakers that may be tried again. A request looks at one
//! number; only when that time has come does anybody look at the list.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub(super) struct Due {
    next: AtomicU64,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    /// The earliest entry of each account. Whoever looks at it adds the next one, so that a storm
    /// of refusals adds no entries.
    earliest: HashMap<u32, u64>,
}

impl Default for Due {
    fn default() -> Self {
        Due {
            next: AtomicU64::new(u64::MAX),
            list: Mutex::default(),
        }
    }
}

impl Due {
    /// Look at this account again at that time.
    pub(super) fn add(&self, slot: u32, at: u64) {
        let mut list = self.list.lock();
        if list
            .earliest
            .get(&slot)
            .is_none_or(|earliest| at < *earliest)
        {
            list.earliest.insert(slot, at);
            list.heap.push(Reverse((at, slot)));
            self.next.fetch_min(at, Ordering::SeqCst);
        }
    }

    /// The earliest time at which something is due; `u64::MAX` = nothing.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The accounts whose time has come. Never waits: whoever holds the list is doing this work.
    pub(super) fn take(&self, now: u64) -> Vec<u32> {
        let Some(mut list) = self.list.try_lock() else {
            return Vec::new();
        };
        let mut due = Vec::new();
        while let Some(Reverse((at, slot))) = list.heap.peek().copied() {
            // An entry that an earlier one made needless.
            let stale = list.earliest.get(&slot) != Some(&at);
            if !stale && at > now {
                break;
            }
            list.heap.pop();
            if !stale {
                list.earliest.remove(&slot);
                due.push(slot);
            }
        }
        let next = list.heap.peek().map_or(u64::MAX, |entry| entry.0.0);
        self.next.store(next, Ordering::SeqCst);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_come_out_in_the_order_of_their_times() {
        let due = Due::default();
        due.add(1, 5_000);
        due.add(2, 3_001);
        due.add(2, 3_000);
        due.add(2, 3_002);
        assert_eq!(due.next(), 3_000);
        assert_eq!(due.take(2_999), Vec::<u32>::new());
        assert_eq!(due.take(3_000), vec![2]);
        assert_eq!(due.next(), 5_000);
        assert_eq!(due.take(9_000), vec![1]);
        assert_eq!(due.next(), u64::MAX);
    }
}
