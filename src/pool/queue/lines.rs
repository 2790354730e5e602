//! The order in which those who wait are served: a better priority first, of one priority one key
//! after the other, for each key who came first.
//!
//! Those whom the same accounts serve stand in one line, so that who waits for another account
//! stands in nobody's way, and an account that comes free costs one look at each line and not one
//! at each request. A key has its turn in all of its lines at once: many requests, or requests for
//! many models, bring it no more turns than others have.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::super::Tried;
use super::keys::{Keys, Who};

/// What decides which accounts serve a request, as long as neither these nor what they said of models change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) only: Option<Arc<str>>,
    /// Which accounts serve its dialect and its model: the names of models are many, and clients invent them.
    pub(super) view: usize,
    /// Its model, where an account has said something of it.
    pub(super) model: Option<Arc<str>>,
    pub(super) tried: Tried,
    /// Limits of accounts count it.
    pub(super) counts: bool,
}

/// Who stands here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    who: Who,
    arrival: u64,
}

/// Which lines are looked at.
pub(super) enum Look<'a> {
    All,
    /// Nobody but this account has come free.
    Freed(&'a str),
    /// Somebody has joined the line of this ticket.
    Joined(&'a Ticket),
}

/// What becomes of somebody whose turn it might be.
pub(super) enum Turn<L> {
    Leased(L),
    /// Nobody takes it, and others of its line may be smaller.
    NotThis,
    /// Nobody takes any of its line.
    Nobody,
}

/// So many keys of a line are passed by others in one look. Those of the same key never pass each other: where all
/// are of one key, the large ones would wait for nothing.
const MOST_PASSED: usize = 32;

/// Priority, turn and key.
type Place = (i32, u64, u64);

/// Whose turn it is in a line, and the arrival of its first request there.
type Head = (Place, u64);

type ByWish<T> = HashMap<Arc<Wish>, Line<T>>;

pub(super) struct Lines<T> {
    lines: All<T>,
    keys: Keys,
    /// Of arrivals and turns.
    count: u64,
    waiting: usize,
}

struct All<T> {
    anyone: ByWish<T>,
    /// Of those whom one account alone may serve, by that account.
    named: HashMap<Arc<str>, ByWish<T>>,
}

struct Line<T> {
    /// Each key once, in the turn that it had when it was put here: it may have another one by now.
    order: BTreeSet<Place>,
    own: HashMap<Who, Own<T>>,
}

/// Those of one key in one line.
struct Own<T> {
    /// As it stands in `order`.
    turn: u64,
    by_arrival: BTreeMap<u64, T>,
}

impl<T> Default for All<T> {
    fn default() -> Self {
        All {
            anyone: HashMap::new(),
            named: HashMap::new(),
        }
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Lines {
            lines: All::default(),
            keys: Keys::default(),
            count: 0,
            waiting: 0,
        }
    }
}

impl<T> Lines<T> {
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let named = self.lines.named.values().map(HashMap::len);
        self.lines.anyone.len() + named.sum::<usize>()
    }

    /// Stands at the end of its key's own.
    pub(super) fn join(&mut self, wish: Wish, who: Who, waiter: T) -> Ticket {
        self.count += 1;
        self.waiting += 1;
        let (arrival, wish) = (self.count, Arc::new(wish));
        let turn = self.keys.join(who, arrival, &wish);
        let ticket = Ticket { who, arrival };
        self.lines.put(&wish, ticket, turn, waiter);
        ticket
    }

    /// Everybody stands where this says, in the same order as before.
    pub(super) fn line_up(&mut self, wish: impl Fn(&T) -> Wish) {
        let All { anyone, named } = std::mem::take(&mut self.lines);
        let lines = anyone.into_values();
        let lines = lines.chain(named.into_values().flat_map(HashMap::into_values));
        for (who, own) in lines.flat_map(|line| line.own) {
            for (arrival, waiter) in own.by_arrival {
                let wish = Arc::new(wish(&waiter));
                self.keys.moved(who, arrival, &wish);
                let turn = self.keys.turn(who).unwrap_or(own.turn);
                self.lines.put(&wish, Ticket { who, arrival }, turn, waiter);
            }
        }
    }

    /// Is no longer here, if it was.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> Option<T> {
        let wish = self.keys.wish(ticket.who, ticket.arrival)?.clone();
        let line = self.lines.line(&wish)?;
        let waiter = line.take(ticket.who, ticket.arrival)?;
        let is_empty = line.own.is_empty();
        self.keys.leave(ticket.who, ticket.arrival);
        self.waiting -= 1;
        if is_empty {
            self.forget(&wish);
        }
        Some(waiter)
    }

    /// Makes room for one of `who`, whose key has less here than the one that loses a place.
    pub(super) fn displace(&mut self, who: Who) -> Option<T> {
        let (who, arrival) = self.keys.greediest(who)?;
        self.leave(&Ticket { who, arrival })
    }

    /// Asks `lease` for those whose turn it is, until it has nothing for any line, or `is_over`.
    pub(super) fn serve<L>(
        &mut self,
        look: &Look<'_>,
        lease: impl Fn(&T) -> Turn<L>,
        is_over: impl Fn() -> bool,
    ) -> Vec<(T, L)> {
        let mut served = Vec::new();
        let mut emptied = Vec::new();
        let mut heads = BinaryHeap::new();
        let joined = match look {
            Look::Joined(ticket) => self.keys.wish(ticket.who, ticket.arrival).cloned(),
            Look::All | Look::Freed(_) => None,
        };
        for (wish, line) in self.lines.looked_at(look, joined.as_ref()) {
            let passed = Passed::default();
            if let Some(head) = line.head(&self.keys, &passed) {
                heads.push(Reverse(Next {
                    head,
                    wish,
                    line,
                    passed,
                }));
            }
        }
        while let Some(Reverse(mut next)) = heads.pop() {
            let Some(head) = next.line.head(&self.keys, &next.passed) else {
                continue;
            };
            if head != next.head {
                // Its key has had its turn in another line since.
                next.head = head;
                heads.push(Reverse(next));
                continue;
            }
            let ((priority, _, key), arrival) = head;
            let who = (priority, key);
            let leased = match next.line.get(who, arrival).map(&lease) {
                Some(Turn::Leased(leased)) => leased,
                Some(Turn::NotThis) if next.passed.goes_on_behind(head) => {
                    heads.push(Reverse(next));
                    continue;
                }
                Some(Turn::NotThis | Turn::Nobody) | None => continue,
            };
            let taken = next.line.take(who, arrival);
            served.extend(taken.map(|waiter| (waiter, leased)));
            self.count += 1;
            self.keys.had_turn(who, self.count);
            self.keys.leave(who, arrival);
            self.waiting -= 1;
            match next.line.own.is_empty() {
                true => emptied.push(next.wish.clone()),
                false => heads.push(Reverse(next)),
            }
            if is_over() {
                break;
            }
        }
        drop(heads);
        for wish in &emptied {
            self.forget(wish);
        }
        served
    }

    /// Takes out those who wait in vain. `why`: what speaks against somebody of a line, asked of one
    /// for all of them; `holds`: whether it holds for this one.
    pub(super) fn dismiss<R: Clone>(
        &mut self,
        why: impl Fn(&T) -> Option<R>,
        holds: impl Fn(&T, &R) -> bool,
    ) -> Vec<(T, R)> {
        let mut found = Vec::new();
        for (_, line) in self.lines.looked_at(&Look::All, None) {
            let any = line
                .own
                .values()
                .find_map(|own| own.by_arrival.values().next());
            let Some(why) = any.and_then(&why) else {
                continue;
            };
            for (who, own) in &line.own {
                let in_vain = own.by_arrival.iter().filter(|(_, it)| holds(it, &why));
                found.extend(in_vain.map(|(arrival, _)| {
                    let (who, arrival) = (*who, *arrival);
                    (Ticket { who, arrival }, why.clone())
                }));
            }
        }
        let leave = |(ticket, why)| Some((self.leave(&ticket)?, why));
        found.into_iter().filter_map(leave).collect()
    }

    /// Forgets an empty line, and gives back the memory of a crowd that is gone.
    fn forget(&mut self, wish: &Wish) {
        self.lines.remove(wish);
        if self.waiting == 0 {
            *self = Lines {
                count: self.count,
                ..Lines::default()
            };
        }
    }
}

impl<T> All<T> {
    fn line(&mut self, wish: &Wish) -> Option<&mut Line<T>> {
        match &wish.only {
            None => self.anyone.get_mut(wish),
            Some(account) => self.named.get_mut(account)?.get_mut(wish),
        }
    }

    fn remove(&mut self, wish: &Wish) {
        let Some(account) = &wish.only else {
            self.anyone.remove(wish);
            return;
        };
        if let Some(lines) = self.named.get_mut(account) {
            lines.remove(wish);
            if lines.is_empty() {
                self.named.remove(account);
            }
        }
    }

    fn put(&mut self, wish: &Arc<Wish>, ticket: Ticket, turn: u64, waiter: T) {
        let Ticket { who, arrival } = ticket;
        let lines = match &wish.only {
            None => &mut self.anyone,
            Some(account) => self.named.entry(account.clone()).or_default(),
        };
        let line = lines.entry(wish.clone()).or_default();
        let own = line.own.entry(who).or_insert_with(|| {
            line.order.insert((who.0, turn, who.1));
            let by_arrival = BTreeMap::new();
            Own { turn, by_arrival }
        });
        own.by_arrival.insert(arrival, waiter);
    }

    /// `joined`: the line of whoever has joined one.
    fn looked_at<'a>(
        &'a mut self,
        look: &Look<'_>,
        joined: Option<&'a Arc<Wish>>,
    ) -> Vec<(&'a Arc<Wish>, &'a mut Line<T>)> {
        match look {
            Look::All => {
                let named = self.named.values_mut().flatten();
                self.anyone.iter_mut().chain(named).collect()
            }
            Look::Freed(account) => {
                let named = self.named.get_mut(*account).into_iter().flatten();
                self.anyone.iter_mut().chain(named).collect()
            }
            Look::Joined(_) => {
                let line = joined.and_then(|wish| Some((wish, self.line(wish)?)));
                line.into_iter().collect()
            }
        }
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line {
            order: BTreeSet::new(),
            own: HashMap::new(),
        }
    }
}

impl<T> Line<T> {
    /// Whose turn it is, of those behind who was passed.
    fn head(&mut self, keys: &Keys, passed: &Passed) -> Option<Head> {
        let behind = passed.last.map_or(Unbounded, Excluded);
        loop {
            let place = *self.order.range((behind, Unbounded)).next()?;
            if self.is_turn(place, keys) {
                let own = self.own.get(&(place.0, place.2))?;
                return Some((place, *own.by_arrival.first_key_value()?.0));
            }
        }
    }

    /// Is this its key's turn still? Else the key is put where its turn is now.
    fn is_turn(&mut self, place: Place, keys: &Keys) -> bool {
        let (priority, turn, key) = place;
        let Some(own) = self.own.get_mut(&(priority, key)) else {
            self.order.remove(&place);
            return false;
        };
        let now = keys.turn((priority, key)).unwrap_or(turn);
        if now != turn {
            self.order.remove(&(priority, own.turn, key));
            self.order.insert((priority, now, key));
            own.turn = now;
        }
        now == turn
    }

    fn get(&self, who: Who, arrival: u64) -> Option<&T> {
        self.own.get(&who)?.by_arrival.get(&arrival)
    }

    fn take(&mut self, who: Who, arrival: u64) -> Option<T> {
        let own = self.own.get_mut(&who)?;
        let waiter = own.by_arrival.remove(&arrival)?;
        if own.by_arrival.is_empty() {
            self.order.remove(&(who.0, own.turn, who.1));
            self.own.remove(&who);
        }
        Some(waiter)
    }
}

/// A line among those whose turn it might be.
struct Next<'a, T> {
    head: Head,
    wish: &'a Arc<Wish>,
    line: &'a mut Line<T>,
    passed: Passed,
}

/// Who was passed in one look at a line.
#[derive(Default)]
struct Passed {
    last: Option<Place>,
    count: usize,
}

impl Passed {
    /// Goes on behind this one. False: there were enough.
    fn goes_on_behind(&mut self, head: Head) -> bool {
        self.count += 1;
        self.last = Some(head.0);
        self.count < MOST_PASSED
    }
}

impl<T> Ord for Next<'_, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head)
    }
}

impl<T> PartialOrd for Next<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Next<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Next<'_, T> {}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
