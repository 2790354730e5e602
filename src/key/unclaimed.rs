//! What was used with keys that are not in force just now, such as a disabled one: should they be again,
//! it counts in their limits.

use std::collections::HashMap;

use crate::store::SpentRecord;

/// The most records; what comes after them is forgotten. The latest are read first.
const MOST: usize = 100_000;

#[derive(Default)]
pub(super) struct Unclaimed {
    /// By the key's id.
    records: HashMap<String, Vec<SpentRecord>>,
    count: usize,
}

impl Unclaimed {
    pub(super) fn keep(&mut self, spent: &SpentRecord) {
        if self.count < MOST {
            let of_key = self.records.entry(spent.key.clone()).or_default();
            of_key.push(spent.clone());
            self.count += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All of this key, which nobody else gets any more.
    pub(super) fn take(&mut self, key: &str) -> Vec<SpentRecord> {
        let taken = self.records.remove(key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }
}
