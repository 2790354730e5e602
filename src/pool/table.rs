//! The accounts of a pool as one unchanging table, and the views through which requests look at it:
//! who serves this lane (dialect, WebSocket or not) and this model, in groups of equal priority.
//!
//! A change of accounts builds a new table; the live state of accounts that stay goes along.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use wildmatch::WildMatch;

use super::account::Account;
use super::affinity::Homes;
use super::offers::Offer;
use super::ready::{Members, Ready, ReadyMembers};
use super::select::Picker;
use crate::config::{self, Models};
use crate::dialect::Dialect;

/// Views for model names are remembered for at most so many names; others are found anew each time.
const MOST_MODELS: usize = 512;

pub(super) struct Table {
    /// By slot; a hole where an account was removed.
    pub(super) slots: Vec<Option<Arc<Account>>>,
    pub(super) ready: Ready,
    /// Of the pool: with the accounts here, so that a request sees both as one reload made them.
    pub(super) settings: config::Pool,
    /// Of callers.
    pub(super) homes: Arc<Homes>,
    by_id: HashMap<String, u32>,
    /// An account knows a model by another name than its clients.
    pub(super) renames: bool,
    /// The different `models` of the accounts; nearly always one, `*`.
    model_sets: Vec<ModelSet>,
    /// Every account serves every model.
    serves_any: bool,
    /// Which accounts serve each lane, whatever the model.
    any_model: Vec<Arc<View>>,
    /// Which of them serve each set of model sets that was asked for.
    views: ArcSwap<Views>,
    /// By dialect; made when somebody asks for a list of models.
    pub(super) offers: [OnceLock<Arc<[Offer]>>; Dialect::ALL.len()],
}

struct ModelSet {
    any: bool,
    names: Vec<WildMatch>,
    /// Slots, ascending.
    slots: Vec<u32>,
}

#[derive(Default, Clone)]
struct Views {
    by_model: [HashMap<Box<str>, Arc<View>>; Lane::COUNT],
    by_sets: HashMap<(Lane, Box<[usize]>), Arc<View>>,
}

/// What must hold of an account, whatever the model: it speaks the dialect and, where one is asked
/// for, takes WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    dialect: Dialect,
    websocket: bool,
}

impl Lane {
    const COUNT: usize = 2 * Dialect::ALL.len();

    pub(super) fn new(dialect: Dialect, websocket: bool) -> Lane {
        Lane { dialect, websocket }
    }

    fn all() -> impl Iterator<Item = Lane> {
        let both = |dialect| [false, true].map(|websocket| Lane::new(dialect, websocket));
        Dialect::ALL.into_iter().flat_map(both)
    }

    /// Its place among [`Lane::all`].
    fn index(self) -> usize {
        2 * self.dialect as usize + usize::from(self.websocket)
    }

    pub(super) fn takes(self, account: &Account) -> bool {
        account.config.dialects.contains(&self.dialect)
            && (account.config.websocket || !self.websocket)
    }
}

/// The accounts that can serve a request, the preferred groups first.
pub(super) struct View {
    pub(super) groups: Vec<Group>,
}

pub(super) struct Group {
    pub(super) members: Members,
    pub(super) picker: Picker,
}

impl Group {
    pub(super) fn ready<'a>(&'a self, table: &'a Table) -> ReadyMembers<'a> {
        ReadyMembers {
            ready: &table.ready,
            members: &self.members,
        }
    }
}

impl Table {
    pub(super) fn new(
        slots: Vec<Option<Arc<Account>>>,
        settings: config::Pool,
        homes: Arc<Homes>,
    ) -> Self {
        let accounts = || slots.iter().flatten();
        let by_id = accounts().map(|a| (a.config.id.clone(), a.slot)).collect();
        let mut sets: HashMap<&Models, Vec<u32>> = HashMap::new();
        for account in accounts() {
            sets.entry(&account.config.models)
                .or_default()
                .push(account.slot);
        }
        let mut model_sets: Vec<ModelSet> = sets
            .into_iter()
            .map(|(models, slots)| ModelSet::new(models, slots))
            .collect();
        let mut written = accounts().map(|account| &account.config.models);
        let renames = written.any(|models| matches!(models, Models::Map(_)));
        model_sets.sort_by_key(|set| set.slots.first().copied());
        let serves_any = model_sets.iter().all(|set| set.any);
        let mut table = Table {
            ready: Ready::with_slots(slots.len()),
            settings,
            homes,
            by_id,
            renames,
            model_sets,
            serves_any,
            any_model: Vec::new(),
            views: ArcSwap::default(),
            offers: Default::default(),
            slots,
        };
        // Views that every pool needs are built before a request asks for them.
        let every: Box<[usize]> = (0..table.model_sets.len()).collect();
        let mut views = Views::default();
        for lane in Lane::all() {
            let view = Arc::new(table.build(lane, &every));
            views.by_sets.insert((lane, every.clone()), view.clone());
            table.any_model.push(view);
        }
        table.views.store(views.into());
        table
    }

    pub(super) fn account(&self, slot: u32) -> Option<&Arc<Account>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn find(&self, id: &str) -> Option<&Arc<Account>> {
        self.account(*self.by_id.get(id)?)
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.slots.iter().flatten()
    }

    /// Calls `look` with the view for this lane and model.
    pub(super) fn with_view<R>(
        &self,
        lane: Lane,
        model: Option<&str>,
        look: impl FnOnce(&View) -> R,
    ) -> R {
        let Some(model) = model.filter(|_| !self.serves_any) else {
            return look(&self.any_model[lane.index()]);
        };
        let views = self.views.load();
        match views.by_model[lane.index()].get(model) {
            Some(view) => look(view),
            None => look(&self.make_view(lane, model)),
        }
    }

    /// Finds the view for a model name that was not asked for before, and remembers it.
    fn make_view(&self, lane: Lane, model: &str) -> Arc<View> {
        let serving: Box<[usize]> = (0..self.model_sets.len())
            .filter(|set| self.model_sets[*set].serves(model))
            .collect();
        let known = self
            .views
            .load()
            .by_sets
            .get(&(lane, serving.clone()))
            .cloned();
        let view = known.unwrap_or_else(|| Arc::new(self.build(lane, &serving)));
        let views = self.views.load();
        // Names that nobody serves are invented; only what the configuration names is kept, and
        // of that there are few combinations.
        let has_room = views.by_model[lane.index()].len() < MOST_MODELS;
        let by_name = has_room && !view.groups.is_empty();
        let by_sets = !views.by_sets.contains_key(&(lane, serving.clone()));
        if by_name || by_sets {
            self.views.rcu(|views| {
                let mut views = Views::clone(views);
                if by_name {
                    views.by_model[lane.index()].insert(model.into(), view.clone());
                }
                views.by_sets.insert((lane, serving.clone()), view.clone());
                views
            });
        }
        view
    }

    fn build(&self, lane: Lane, sets: &[usize]) -> View {
        let mut serving: Vec<&Arc<Account>> = sets
            .iter()
            .flat_map(|set| &self.model_sets[*set].slots)
            .filter_map(|slot| self.account(*slot))
            .filter(|account| lane.takes(account))
            .collect();
        // Weight 0 means: only when nothing else is left, whatever its priority.
        let rank = |account: &Account| (account.config.weight == 0, account.config.priority);
        serving.sort_by_key(|account| (rank(account), account.slot));
        let groups = serving
            .chunk_by(|a, b| rank(a) == rank(b))
            .map(|group| Group {
                members: Members::of(group.iter().map(|account| account.slot)),
                picker: Picker::new(self.settings.strategy, group),
            });
        View {
            groups: groups.collect(),
        }
    }

    /// Does the account serve this model?
    pub(super) fn serves(&self, slot: u32, model: Option<&str>) -> bool {
        let mut sets = self.model_sets.iter();
        let set = sets.find(|set| set.slots.binary_search(&slot).is_ok());
        set.is_some_and(|set| model.is_none_or(|model| set.serves(model)))
    }
}

impl ModelSet {
    fn new(models: &Models, slots: Vec<u32>) -> Self {
        let names: Vec<&String> = match models {
            Models::List(patterns) => patterns.iter().collect(),
            Models::Map(names) => names.keys().collect(),
        };
        ModelSet {
            any: names.iter().any(|name| *name == "*"),
            names: names.iter().map(|name| WildMatch::new(name)).collect(),
            slots,
        }
    }

    fn serves(&self, model: &str) -> bool {
        self.any || self.names.iter().any(|name| name.matches(model))
    }
}
