//! Which account a key gets. Nothing but the rules: what is taken comes in as an argument.
//!
//! A key keeps its account until it is due, or until the account is none of the candidates. Then its
//! own slot counts as free, and the least taken candidate gets the key, which may be the same one
//! again. Ties: which was given to fewest keys so far, then the name.

use std::collections::HashMap;

use super::{Ask, Assignment};

/// What is known of one account of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that hold a slot of it, without the one that asks.
    pub used: u32,
    /// How often it was given to a key.
    pub given: u64,
}

/// What becomes of a key's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays, until then.
    Keep { next_rotation: i64 },
    /// The candidate at this place of [`Ask::candidates`] takes it.
    Take { candidate: usize },
    /// No candidate has room.
    Full {
        /// The key's time is over, and its slot is given up: so accounts empty whose limit was
        /// lowered.
        gives_up: bool,
    },
}

/// Decides for a key that holds `held`, where each account has this `tally`.
pub fn decide(
    ask: &Ask<'_>,
    held: Option<&Assignment>,
    tally: &HashMap<String, Tally>,
) -> Decision {
    let held = held.filter(|held| *held.tier == *ask.tier);
    let serves = |account: &str| ask.candidates.iter().any(|it| *it.account == *account);
    let held = held.filter(|held| serves(&held.account));
    if let Some(held) = held
        && held.next_rotation > ask.now
    {
        // Where the clock was set back, or the period made shorter, it is not to wait for longer
        // than a period.
        let next_rotation = held
            .next_rotation
            .min(ask.now.saturating_add(ask.rotate_every));
        return Decision::Keep { next_rotation };
    }
    let of = |account: &str| tally.get(account).copied().unwrap_or_default();
    let with_room = ask.candidates.iter().enumerate().filter_map(|(at, it)| {
        let Tally { used, given } = of(&it.account);
        (used < ask.limit).then_some(((it.rank, used, given, &it.account), at))
    });
    match with_room.min() {
        Some((_, candidate)) => Decision::Take { candidate },
        None => Decision::Full {
            gives_up: held.is_some(),
        },
    }
}
