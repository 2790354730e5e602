//! The keys that have requests waiting: how many, and when each has its next turn.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::lines::Wish;

/// A key in one of its priorities; the lower number goes first.
pub(super) type Who = (i32, u64);

pub(super) struct Key {
    /// The lower goes first.
    turn: u64,
    /// Where its requests stand, by their arrival.
    arrivals: BTreeMap<u64, Arc<Wish>>,
}

#[derive(Default)]
pub(super) struct Keys {
    all: HashMap<Who, Key>,
    /// Priority, how many wait, and key.
    lengths: BTreeSet<(i32, usize, u64)>,
}

impl Keys {
    /// A request of this key waits, too. Returns the key's turn: of one that had none here it comes
    /// after those of all others.
    pub(super) fn join(&mut self, who: Who, arrival: u64, wish: &Arc<Wish>) -> u64 {
        let new = || Key {
            turn: arrival,
            arrivals: BTreeMap::new(),
        };
        let key = self.all.entry(who).or_insert_with(new);
        self.lengths.remove(&(who.0, key.arrivals.len(), who.1));
        key.arrivals.insert(arrival, wish.clone());
        self.lengths.insert((who.0, key.arrivals.len(), who.1));
        key.turn
    }

    /// Where this request stands.
    pub(super) fn wish(&self, who: Who, arrival: u64) -> Option<&Arc<Wish>> {
        self.all.get(&who)?.arrivals.get(&arrival)
    }

    /// It stands there from now on.
    pub(super) fn moved(&mut self, who: Who, arrival: u64, wish: &Arc<Wish>) {
        if let Some(key) = self.all.get_mut(&who) {
            key.arrivals.insert(arrival, wish.clone());
        }
    }

    /// It waits no more.
    pub(super) fn leave(&mut self, who: Who, arrival: u64) {
        let Some(key) = self.all.get_mut(&who) else {
            return;
        };
        self.lengths.remove(&(who.0, key.arrivals.len(), who.1));
        key.arrivals.remove(&arrival);
        match key.arrivals.len() {
            0 => drop(self.all.remove(&who)),
            left => drop(self.lengths.insert((who.0, left, who.1))),
        }
    }

    /// The key had its turn, and has the next one then.
    pub(super) fn had_turn(&mut self, who: Who, next: u64) {
        if let Some(key) = self.all.get_mut(&who) {
            key.turn = next;
        }
    }

    pub(super) fn turn(&self, who: Who) -> Option<u64> {
        self.all.get(&who).map(|key| key.turn)
    }

    /// The last request of the key that has the most here, of the worst priority, where it is fair
    /// that it makes room for one of `who`.
    pub(super) fn greediest(&self, who: Who) -> Option<(Who, u64)> {
        let &(priority, most, key) = self.lengths.last()?;
        let own = self.all.get(&who).map_or(0, |key| key.arrivals.len());
        if priority < who.0 || (priority == who.0 && most <= own + 1) {
            return None;
        }
        let longest = self.all.get(&(priority, key))?;
        let (arrival, _) = longest.arrivals.last_key_value()?;
        Some(((priority, key), *arrival))
    }
}
