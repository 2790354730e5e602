//! Accounts that cannot serve one model for a while: rate limited for it, or without it. When the time
//! of a mark is over one request tries; the others go elsewhere or wait until it was answered well, or a few
//! seconds: a vendor refuses at once, and a generation may take minutes. Then, after a limit, the account's share
//! of the model's requests grows back.
//!
//! Nearly always there are none, and a reader then pays one load. Writers copy the map; there are
//! at most [`MOST`] marks in a pool, whatever model names clients invent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::breaker::regained;
use crate::config;

/// Marks in one pool, all together (`contract/http.md` §2).
pub(super) const MOST: usize = 1_000;

/// Names of models are kept up to so many bytes; longer ones were invented by a client.
const NAME_BYTES: usize = 128;

/// For so many milliseconds the one that tries is alone.
const ALONE_MS: u64 = 5_000;

/// Hash of the model's name -> the accounts marked for it, in the order of their slots.
type Map = HashMap<u64, Vec<(u32, Arc<Mark>)>>;

#[derive(Default)]
pub(super) struct Marks {
    map: ArcSwap<Map>,
    /// There are some: what a request reads before the map, nearly always in vain.
    any: AtomicBool,
    /// So often the map was changed.
    changes: AtomicU64,
    writer: Mutex<()>,
}

/// A model as marks know it: by a hash, and by its name for those who look on.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) id: u64,
    /// None: it is too long, or was not told.
    pub(super) name: Option<Arc<str>>,
}

/// Of one account and one model.
pub(super) struct Mark {
    name: Option<Arc<str>>,
    until: AtomicU64,
    /// Of a limit; else the account does not have the model.
    is_limit: AtomicBool,
    /// Since when one request tries whether it still holds; 0: none does.
    tried_at: AtomicU64,
    /// When the one that tried was answered well; 0 = it was not yet.
    slow_since: AtomicU64,
}

/// The marks of one model, as they are now.
pub(super) struct OfModel {
    map: Guard<Arc<Map>>,
    model: u64,
}

/// One request that tries an account whose mark is over. Dropped without success, the next one tries.
pub(super) struct Trial {
    slot: u32,
    mark: Arc<Mark>,
    began: u64,
}

/// The account does not serve this model now.
pub(super) struct Marked;

/// What a mark says of its account.
pub(super) struct Said {
    pub(super) model: Model,
    /// Of a limit; else the account does not have the model.
    pub(super) is_limit: bool,
    pub(super) until: u64,
}

impl Model {
    pub(super) fn of(name: &str) -> Model {
        Model::told(model_id(name), Some(name))
    }

    /// One of which another process tells.
    pub(super) fn told(id: u64, name: Option<&str>) -> Model {
        let name = name.filter(|name| name.len() <= NAME_BYTES);
        Model {
            id,
            name: name.map(Arc::from),
        }
    }
}

impl Mark {
    /// When it may be tried; now at the earliest, where that is done already. None: it may be tried.
    fn holds(&self, now: u64) -> Option<u64> {
        let until = self.until.load(Ordering::SeqCst);
        let is_tried = is_alone(self.tried_at.load(Ordering::SeqCst), now);
        let waits = until > now || is_tried && self.slow_since().is_none();
        waits.then_some(until.max(now))
    }

    fn slow_since(&self) -> Option<u64> {
        Some(self.slow_since.load(Ordering::SeqCst)).filter(|since| *since != 0)
    }
}

impl OfModel {
    /// Until when this account cannot serve the model, if it cannot.
    pub(super) fn until(&self, slot: u32, now: u64) -> Option<u64> {
        find(&self.map, slot, self.model)?.holds(now)
    }

    /// The share of the model's requests that this account takes, 0.1 to 1.0.
    pub(super) fn share(&self, slot: u32, settings: &config::Breaker, now: u64) -> f32 {
        let since = find(&self.map, slot, self.model).and_then(|mark| mark.slow_since());
        since.map_or(1.0, |since| regained(since, settings, now))
    }
}

/// Is somebody who began to try then still alone?
fn is_alone(tried_at: u64, now: u64) -> bool {
    tried_at != 0 && now < tried_at.saturating_add(ALONE_MS)
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Unless it is another one's by now.
        let tried_at = &self.mark.tried_at;
        let _ = tried_at.compare_exchange(self.began, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// A model's name as marks know it.
pub(super) fn model_id(model: &str) -> u64 {
    xxh3_64(model.as_bytes())
}

fn find(map: &Map, slot: u32, model: u64) -> Option<&Arc<Mark>> {
    let marked = map.get(&model)?;
    let at = marked.binary_search_by_key(&slot, |(slot, _)| *slot);
    Some(&marked[at.ok()?].1)
}

impl Marks {
    /// Has an account said something of this model, perhaps long ago?
    pub(super) fn knows(&self, model: u64) -> bool {
        self.map.load().contains_key(&model)
    }

    /// So often it has changed of which models something was said.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn store(&self, map: Map) {
        // Whoever sees none by the flag comes before the first or after the last of them.
        self.any.store(!map.is_empty(), Ordering::SeqCst);
        self.map.store(map.into());
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// The map, unless it is empty.
    fn load(&self) -> Option<Guard<Arc<Map>>> {
        let any = self.any.load(Ordering::SeqCst);
        any.then(|| self.map.load())
    }

    /// Until when this account cannot serve this model, if it cannot.
    pub(super) fn until(&self, slot: u32, model: u64, now: u64) -> Option<u64> {
        let map = self.load()?;
        find(&map, slot, model)?.holds(now)
    }

    /// Lets a request for this model in: as the one that tries, where the time of a mark is over.
    ///
    /// # Errors
    /// The mark holds, or another request has just begun to try.
    pub(super) fn enter(
        &self,
        slot: u32,
        model: Option<&str>,
        now: u64,
    ) -> Result<Option<Trial>, Marked> {
        let Some(map) = self.load() else {
            return Ok(None);
        };
        let Some(mark) = model.and_then(|model| find(&map, slot, model_id(model))) else {
            return Ok(None);
        };
        if mark.holds(now).is_some() {
            return Err(Marked);
        }
        if mark.slow_since().is_some() {
            return Ok(None);
        }
        let began = now.max(1);
        let tried_at = &mark.tried_at;
        match tried_at.compare_exchange(0, began, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                let mark = mark.clone();
                Ok(Some(Trial { slot, mark, began }))
            }
            // Another one was faster.
            Err(tried_at) if is_alone(tried_at, now) => Err(Marked),
            Err(_) => Ok(None),
        }
    }

    /// The one that tried was answered well: the account's share grows back, unless the mark was made anew
    /// meanwhile. Of a model that the account did not have nothing has to grow.
    pub(super) fn lift(&self, trial: &Trial, now: u64) {
        let _writer = self.writer.lock();
        if trial.mark.until.load(Ordering::SeqCst) > now {
            return;
        }
        if trial.mark.is_limit.load(Ordering::SeqCst) {
            trial.mark.slow_since.store(now.max(1), Ordering::SeqCst);
            return;
        }
        let mut map = Map::clone(&self.map.load());
        retain(&mut map, |slot, mark| {
            slot != trial.slot || !std::ptr::eq(mark, &*trial.mark)
        });
        self.store(map);
    }

    /// Forgets the marks of this account whose share has grown back.
    pub(super) fn forget_recovered(&self, slot: u32, settings: &config::Breaker, now: u64) {
        let recovered = |mark: &Mark| {
            let since = mark.slow_since();
            since.is_some_and(|since| regained(since, settings, now) >= 1.0)
        };
        let of_slot = |(marked, mark): &(u32, Arc<Mark>)| *marked == slot && recovered(mark);
        if !self.map.load().values().flatten().any(of_slot) {
            return;
        }
        let _writer = self.writer.lock();
        let mut map = Map::clone(&self.map.load());
        retain(&mut map, |marked, mark| marked != slot || !recovered(mark));
        self.store(map);
    }

    /// The marks of this model; none where the pool has no marks at all, as nearly always.
    pub(super) fn of_model(&self, model: Option<&str>) -> Option<OfModel> {
        let map = self.load()?;
        let model = model_id(model?);
        Some(OfModel { map, model })
    }

    /// Is it because of a limit that this account does not serve this model?
    pub(super) fn is_limit(&self, slot: u32, model: u64) -> bool {
        let map = self.map.load();
        let mark = find(&map, slot, model);
        mark.is_some_and(|mark| mark.is_limit.load(Ordering::SeqCst))
    }

    /// Marks the account, because of a limit or because it does not have the model. False: there are too
    /// many marks already.
    pub(super) fn mark(
        &self,
        slot: u32,
        model: &Model,
        is_limit: bool,
        until: u64,
        now: u64,
    ) -> bool {
        let _writer = self.writer.lock();
        let map = self.map.load();
        if let Some(mark) = find(&map, slot, model.id) {
            mark.until.fetch_max(until, Ordering::SeqCst);
            // Whoever tried before this says nothing about the time after it.
            mark.tried_at.store(0, Ordering::SeqCst);
            mark.is_limit.store(is_limit, Ordering::SeqCst);
            mark.slow_since.store(0, Ordering::SeqCst);
            return true;
        }
        let mut map = Map::clone(&map);
        if map.values().map(Vec::len).sum::<usize>() >= MOST {
            retain(&mut map, |_, mark| mark.holds(now).is_some());
        }
        let mark = Mark {
            name: model.name.clone(),
            until: AtomicU64::new(until),
            is_limit: AtomicBool::new(is_limit),
            tried_at: AtomicU64::new(0),
            slow_since: AtomicU64::new(0),
        };
        let marked = map.entry(model.id).or_default();
        let at = marked.partition_point(|(marked, _)| *marked < slot);
        marked.insert(at, (slot, Arc::new(mark)));
        let fits = map.values().map(Vec::len).sum::<usize>() <= MOST;
        if fits {
            self.store(map);
        }
        fits
    }

    /// When the next of an account's marks ends.
    pub(super) fn next(&self, slot: u32, now: u64) -> Option<u64> {
        let marks = self.of(slot).into_iter();
        marks
            .map(|said| said.until)
            .filter(|until| *until > now)
            .min()
    }

    /// The marks of an account; also those that are over, and untried.
    pub(super) fn of(&self, slot: u32) -> Vec<Said> {
        let map = self.map.load();
        let of_model = |(model, marked): (&u64, &Vec<(u32, Arc<Mark>)>)| {
            let own = marked.iter().find(|(marked, _)| *marked == slot);
            let own = own.filter(|(_, mark)| mark.slow_since().is_none());
            own.map(|(_, mark)| Said {
                model: Model {
                    id: *model,
                    name: mark.name.clone(),
                },
                is_limit: mark.is_limit.load(Ordering::SeqCst),
                until: mark.until.load(Ordering::SeqCst),
            })
        };
        map.iter().filter_map(of_model).collect()
    }

    /// Forgets all marks of an account.
    pub(super) fn clear(&self, slot: u32) {
        let _writer = self.writer.lock();
        let mut map = Map::clone(&self.map.load());
        retain(&mut map, |marked, _| marked != slot);
        self.store(map);
    }
}

fn retain(map: &mut Map, stays: impl Fn(u32, &Mark) -> bool) {
    for marked in map.values_mut() {
        marked.retain(|(slot, mark)| stays(*slot, mark));
    }
    map.retain(|_, marked| !marked.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose name is not known.
    fn nameless(id: u64) -> Model {
        Model::told(id, None)
    }

    #[test]
    fn a_mark_holds_for_its_account_and_model_until_its_time() {
        let marks = Marks::default();
        assert!(marks.mark(3, &nameless(7), true, 100, 0));
        assert_eq!(marks.until(3, 7, 99), Some(100));
        assert_eq!(marks.until(3, 7, 100), None);
        assert_eq!(marks.until(4, 7, 0), None);
        assert_eq!(marks.until(3, 8, 0), None);
        marks.clear(3);
        assert_eq!(marks.until(3, 7, 0), None);
    }

    #[test]
    fn when_it_is_over_one_request_tries_until_it_says_how_it_went() {
        let marks = Marks::default();
        let enter = |now| marks.enter(3, Some("m"), now);
        marks.mark(3, &Model::of("m"), true, 100, 0);
        assert!(enter(99).is_err());
        let trial = enter(100).ok().flatten().unwrap();
        assert!(enter(100).is_err());
        assert_eq!(marks.until(3, model_id("m"), 150), Some(150));
        drop(trial);
        let trial = enter(100).ok().flatten().unwrap();
        marks.mark(3, &Model::of("m"), true, 300, 200);
        marks.lift(&trial, 200);
        assert!(enter(250).is_err(), "what came meanwhile holds");
        drop(trial);
        let trial = enter(300).ok().flatten().unwrap();
        marks.lift(&trial, 300);
        assert!(matches!(enter(300), Ok(None)), "all may come");
        assert!(marks.of(3).is_empty(), "it holds no more");
        assert!(matches!(marks.enter(3, None, 0), Ok(None)));
    }

    #[test]
    fn one_that_tries_for_long_is_not_alone_for_long() {
        let marks = Marks::default();
        let enter = |now| marks.enter(3, Some("m"), now);
        marks.mark(3, &Model::of("m"), true, 100, 0);
        let slow = enter(100).ok().flatten().unwrap();
        assert!(enter(100 + ALONE_MS - 1).is_err());
        let later = 100 + ALONE_MS;
        assert_eq!(marks.until(3, model_id("m"), later), None);
        assert!(matches!(enter(later), Ok(None)) && matches!(enter(later), Ok(None)));
        // A refusal that comes meanwhile holds, and is tried by one again.
        marks.mark(3, &Model::of("m"), true, 9_000, later);
        assert!(enter(8_999).is_err());
        let next = enter(9_000).ok().flatten().unwrap();
        drop(slow);
        assert!(enter(9_000).is_err(), "the next one is alone still");
        drop(next);
        assert!(enter(9_001).ok().flatten().is_some());
    }

    #[test]
    fn invented_model_names_fill_at_most_a_thousand_marks() {
        let marks = Marks::default();
        assert!((0..MOST as u64).all(|model| marks.mark(1, &nameless(model), true, 100, 0)));
        let one_more = nameless(5_000);
        assert!(!marks.mark(1, &one_more, true, 100, 0));
        assert!(
            marks.mark(1, &one_more, true, 300, 200),
            "old ones make room"
        );
    }

    #[test]
    fn the_name_of_a_marked_model_is_kept_unless_it_is_absurdly_long() {
        let marks = Marks::default();
        let long = "x".repeat(NAME_BYTES + 1);
        for name in ["m", &long[1..], &long] {
            marks.mark(3, &Model::of(name), true, 100, 0);
            assert!(marks.until(3, model_id(name), 0).is_some());
        }
        let said = marks.of(3).into_iter();
        let mut names: Vec<_> = said.filter_map(|said| said.model.name).collect();
        names.sort();
        assert_eq!(names, [Arc::from("m"), Arc::from(&long[1..])]);
    }
}
