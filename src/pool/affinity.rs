//! The same caller stays on the same account, whose vendor has the beginning of the conversation in its
//! cache: what tells callers apart, as a hash, and where each was served last.
//!
//! A table of fixed size, read and written without a lock. Each hash has eight places; of more callers
//! than places, who was away longest is forgotten. Two who change a place at once may make one caller
//! lose its account, which costs no more than a cold cache.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places a hash may be in.
const WAYS: usize = 8;

/// Bits that say when; the others say which slot of the table of accounts.
const TIME: u32 = 32;

/// A caller and its account.
#[derive(Default)]
struct Place {
    /// 0 = free.
    caller: AtomicU64,
    /// The account's slot in the upper half, the second of the last use in the lower.
    home: AtomicU64,
}

/// Where callers are at home. Takes memory with the first of them.
#[derive(Default)]
pub(super) struct Homes {
    places: OnceLock<Box<[Place]>>,
}

/// What goes to a successor: the caller, and the seconds since its last use.
pub(super) type Kept = (u64, u32);

impl Homes {
    /// The slot of the account where this caller was served within the last `lifetime` seconds; counts
    /// as its last use. `now` in milliseconds.
    pub(super) fn get(&self, caller: u64, lifetime: u64, now: u64) -> Option<u32> {
        let now = now / 1000;
        let place = self.set(caller)?.iter().find(|place| place.is_of(caller))?;
        let home = place.home.load(Ordering::Relaxed);
        let (slot, used) = parts(home);
        if now.saturating_sub(used) > lifetime {
            return None;
        }
        if used != now {
            place.home.store(home_of(slot, now), Ordering::Relaxed);
        }
        Some(slot)
    }

    /// The caller is at home there from now on. `most`: how many callers may be known.
    pub(super) fn put(&self, caller: u64, slot: u32, most: usize, now: u64) {
        self.places.get_or_init(|| {
            let sets = most.div_ceil(WAYS).max(1);
            (0..sets * WAYS).map(|_| Place::default()).collect()
        });
        let Some(set) = self.set(caller) else {
            return;
        };
        let known = set.iter().find(|place| place.is_of(caller));
        let free = || set.iter().find(|place| place.is_of(0));
        let used = |place: &&Place| parts(place.home.load(Ordering::Relaxed)).1;
        let place = known.or_else(free).or_else(|| set.iter().min_by_key(used));
        if let Some(place) = place {
            place
                .home
                .store(home_of(slot, now / 1000), Ordering::Relaxed);
            place.caller.store(caller.max(1), Ordering::Release);
        }
    }

    /// The account of this slot is gone: nobody is at home there.
    pub(super) fn clear(&self, slot: u32) {
        for place in self.all() {
            if parts(place.home.load(Ordering::Relaxed)).0 == slot {
                place.caller.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Who is at home where; of more than `most` those who were here last.
    pub(super) fn by_slot(&self, most: usize, now: u64) -> HashMap<u32, Vec<Kept>> {
        let known = || {
            self.all().iter().filter_map(|place| {
                let (slot, used) = parts(place.home.load(Ordering::Relaxed));
                let caller = place.caller.load(Ordering::Acquire);
                let away = (now / 1000).saturating_sub(used) as u32;
                (caller != 0).then_some((slot, caller, away))
            })
        };
        // How many were away for how long: there may be a hundred million of them, so they are not sorted.
        let mut ages: BTreeMap<u32, usize> = BTreeMap::new();
        known().for_each(|(_, _, away)| *ages.entry(away).or_default() += 1);
        let mut left = most;
        let fit = ages.into_iter().take_while(|(_, count)| {
            let fits = *count <= left;
            left = left.saturating_sub(*count);
            fits
        });
        let longest = fit.last().map(|(away, _)| away);
        let mut by_slot: HashMap<u32, Vec<Kept>> = HashMap::new();
        let last = known().filter(|(_, _, away)| Some(*away) <= longest);
        // More may have come since they were counted.
        for (slot, caller, away) in last.take(most) {
            by_slot.entry(slot).or_default().push((caller, away));
        }
        by_slot
    }

    /// The same with room for so many.
    pub(super) fn of_size(&self, most: usize) -> Homes {
        let homes = Homes::default();
        for place in self.all() {
            let (slot, used) = parts(place.home.load(Ordering::Relaxed));
            let caller = place.caller.load(Ordering::Acquire);
            if caller != 0 {
                homes.put(caller, slot, most, used * 1000);
            }
        }
        homes
    }

    fn all(&self) -> &[Place] {
        self.places.get().map_or(&[], |places| places)
    }

    fn set(&self, caller: u64) -> Option<&[Place]> {
        let sets = self.all().len() / WAYS;
        let first = (caller as usize).checked_rem(sets)? * WAYS;
        self.all().get(first..first + WAYS)
    }
}

impl Place {
    fn is_of(&self, caller: u64) -> bool {
        let is = self.caller.load(Ordering::Acquire);
        is == caller || (caller == 0 && is == 1)
    }
}

fn home_of(slot: u32, second: u64) -> u64 {
    u64::from(slot) << TIME | second & u64::from(u32::MAX)
}

fn parts(home: u64) -> (u32, u64) {
    ((home >> TIME) as u32, home & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    #[test]
    fn a_caller_is_at_home_until_it_was_away_too_long() {
        let homes = Homes::default();
        assert_eq!(homes.get(7, MINUTE, 0), None);
        homes.put(7, 3, 100, 0);
        assert_eq!(homes.get(7, MINUTE, 60_000), Some(3), "used again");
        assert_eq!(homes.get(7, MINUTE, 120_000), Some(3));
        assert_eq!(homes.get(7, MINUTE, 181_000), None);
        assert_eq!(homes.get(8, MINUTE, 0), None);
        homes.put(7, 4, 100, 200_000);
        assert_eq!(homes.get(7, MINUTE, 200_000), Some(4));
        homes.clear(4);
        assert_eq!(homes.get(7, MINUTE, 200_000), None);
    }

    #[test]
    fn of_too_many_callers_those_away_longest_are_forgotten() {
        let homes = Homes::default();
        for caller in 1..=1_000 {
            homes.put(caller, 1, 64, caller * 1000);
        }
        let known = |caller: &u64| homes.get(*caller, u64::MAX, 1_000_000).is_some();
        assert_eq!((1..=1_000).filter(known).count(), 64);
        assert!((937..=1_000).all(|caller| known(&caller)));
    }

    #[test]
    fn who_is_at_home_there_can_be_told_and_put_again() {
        let homes = Homes::default();
        homes.put(7, 3, 100, 1_000);
        homes.put(8, 4, 100, 5_000);
        let of = |most| homes.by_slot(most, 11_000);
        let all = HashMap::from([(3, vec![(7, 10)]), (4, vec![(8, 6)])]);
        assert_eq!((of(9), of(2)), (all.clone(), all));
        assert_eq!(of(1), HashMap::from([(4, vec![(8, 6)])]), "who came last");
        assert_eq!(of(0), HashMap::new());
    }
}
