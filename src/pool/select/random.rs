//! Each ready account with the same probability.

use super::Choice;

/// Guesses before the ready accounts are counted, which costs as much as all of these.
const GUESSES: usize = 8;

pub(super) fn pick(choice: &Choice) -> Option<u32> {
    // In most pools nearly all accounts are ready, so that a blind guess is right.
    let slots = choice.table.slots.len() as u32;
    for _ in 0..GUESSES {
        let slot = fastrand::u32(0..slots.max(1));
        if choice.can_take(slot) {
            return Some(slot);
        }
    }
    let count = choice.ready.count();
    if count == 0 {
        return None;
    }
    let slot = choice.ready.nth(fastrand::usize(0..count))?;
    if (choice.allows)(slot) {
        Some(slot)
    } else {
        choice.iter_from(slot).next()
    }
}
