//! What limits have counted, by what they count: whoever has a limit of the same goes on with the same
//! count, be it another account of one organisation or the same one after a reload.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::limits::{Count, Limits};
use crate::config;

/// The counts of all limits that are in use. It keeps none alive.
#[derive(Debug, Default)]
pub struct Counts {
    by_rule: Mutex<HashMap<String, Weak<Mutex<Count>>>>,
}

impl Counts {
    /// These limits of whoever has this name; those with the same name count together.
    pub fn limits<'a>(
        &self,
        name: &str,
        limits: impl Iterator<Item = &'a config::Limit>,
    ) -> Limits {
        let mut limits = Limits::of(name, limits, None);
        let mut known = self.by_rule.lock();
        for rule in &mut limits.rules {
            match known.get(&rule.id).and_then(Weak::upgrade) {
                Some(count) => rule.count = count,
                None => {
                    known.insert(rule.id.clone(), Arc::downgrade(&rule.count));
                }
            }
        }
        limits
    }

    /// Forgets the counts that nobody has any more: to be called after a change of who is there.
    pub fn tidy(&self) {
        self.by_rule
            .lock()
            .retain(|_, count| count.strong_count() > 0);
    }
}
