//! Strict turns: each ready account once before any comes again, whatever was skipped in between.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Choice;

#[derive(Default)]
pub(in crate::pool) struct RoundRobin {
    /// The slot after the last one that was picked.
    next: AtomicU32,
}

impl RoundRobin {
    pub(super) fn pick(&self, choice: &Choice) -> Option<u32> {
        let mut turn = self.next.load(Ordering::Relaxed);
        loop {
            let slot = choice.iter_from(turn).next()?;
            // Moving the turn behind the account that was found, not one further, keeps the turns
            // even when others are skipped.
            match self.next.compare_exchange_weak(turn, slot + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(slot),
                Err(moved) => turn = moved,
            }
        }
    }
}
