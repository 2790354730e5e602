//! Accounts that cannot serve one model for a while: rate limited for it, or without it.
//!
//! Nearly always there are none, and a reader then pays one load. Writers copy the map; there are
//! at most [`MOST`] marks in a pool, whatever model names clients invent.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

/// Marks in one pool, all together (`contract/http.md` §2).
pub(super) const MOST: usize = 1_000;

/// Hash of the model's name -> (slot, until) of the accounts marked for it.
type Map = HashMap<u64, Vec<(u32, u64)>>;

#[derive(Default)]
pub(super) struct Marks {
    map: ArcSwap<Map>,
    writer: Mutex<()>,
}

/// A model's name as marks know it.
pub(super) fn model_id(model: &str) -> u64 {
    xxh3_64(model.as_bytes())
}

impl Marks {
    /// Until when this account cannot serve this model, if it cannot.
    pub(super) fn until(&self, slot: u32, model: u64, now: u64) -> Option<u64> {
        let map = self.map.load();
        if map.is_empty() {
            return None;
        }
        let marked = map
            .get(&model)?
            .iter()
            .find(|(marked, _)| *marked == slot)?;
        (marked.1 > now).then_some(marked.1)
    }

    /// Marks the account. False: there are too many marks already.
    pub(super) fn mark(&self, slot: u32, model: u64, until: u64, now: u64) -> bool {
        let _writer = self.writer.lock();
        let mut map = self.live(now);
        let marked = map.entry(model).or_default();
        match marked.iter_mut().find(|(marked, _)| *marked == slot) {
            Some(mark) => mark.1 = mark.1.max(until),
            None => marked.push((slot, until)),
        }
        let fits = map.values().map(Vec::len).sum::<usize>() <= MOST;
        if fits {
            self.map.store(map.into());
        }
        fits
    }

    /// When the next of an account's marks ends.
    pub(super) fn next(&self, slot: u32, now: u64) -> Option<u64> {
        let map = self.map.load();
        let marks = map.values().flatten();
        let own = marks.filter(|(marked, until)| *marked == slot && *until > now);
        own.map(|(_, until)| *until).min()
    }

    /// The marks of an account: model and until when.
    pub(super) fn of(&self, slot: u32, now: u64) -> Vec<(u64, u64)> {
        let map = self.map.load();
        let of_model = |(model, marked): (&u64, &Vec<(u32, u64)>)| {
            let own = marked
                .iter()
                .find(|(marked, until)| *marked == slot && *until > now);
            own.map(|(_, until)| (*model, *until))
        };
        map.iter().filter_map(of_model).collect()
    }

    /// Forgets all marks of an account.
    pub(super) fn clear(&self, slot: u32) {
        let _writer = self.writer.lock();
        let mut map = Map::clone(&self.map.load());
        map.values_mut()
            .for_each(|marked| marked.retain(|(marked, _)| *marked != slot));
        map.retain(|_, marked| !marked.is_empty());
        self.map.store(map.into());
    }

    /// The marks that still hold.
    fn live(&self, now: u64) -> Map {
        let mut map = Map::clone(&self.map.load());
        map.values_mut()
            .for_each(|marked| marked.retain(|(_, until)| *until > now));
        map.retain(|_, marked| !marked.is_empty());
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_its_account_and_model_until_its_time() {
        let marks = Marks::default();
        assert!(marks.mark(3, 7, 100, 0));
        assert_eq!(marks.until(3, 7, 99), Some(100));
        assert_eq!(marks.until(3, 7, 100), None);
        assert_eq!(marks.until(4, 7, 0), None);
        assert_eq!(marks.until(3, 8, 0), None);
        marks.clear(3);
        assert_eq!(marks.until(3, 7, 0), None);
    }

    #[test]
    fn invented_model_names_fill_at_most_a_thousand_marks() {
        let marks = Marks::default();
        assert!((0..MOST as u64).all(|model| marks.mark(1, model, 100, 0)));
        assert!(!marks.mark(1, 5_000, 100, 0));
        assert!(marks.mark(1, 5_000, 300, 200), "old ones make room");
    }
}
