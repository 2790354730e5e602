//! Places of those who listen: so many in all, and so many of one token, that none keeps the others out.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Who may listen at a time, and how many of them with the same token.
const LISTENERS: usize = 64;
const OF_ONE: usize = 32;

/// Who has how many, by the token's name.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<Arc<str>, usize>>);

/// One of them; free again when it is dropped.
pub(in crate::admin) struct Place {
    places: Arc<Places>,
    actor: Arc<str>,
}

impl Places {
    pub(super) fn take(self: &Arc<Self>, actor: &Arc<str>) -> Option<Place> {
        let mut taken = self.0.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(actor).copied().unwrap_or_default();
        if all >= LISTENERS || own >= OF_ONE {
            return None;
        }
        taken.insert(actor.clone(), own + 1);
        Some(Place {
            places: self.clone(),
            actor: actor.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        if let Some(own) = taken.get_mut(&self.actor) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.actor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTENERS, OF_ONE, Places};
    use std::sync::Arc;

    #[test]
    fn one_token_leaves_places_to_the_others() {
        let places = Arc::new(Places::default());
        let take = |name: &str| places.take(&Arc::from(name));
        let mut held: Vec<_> = (0..OF_ONE).map(|_| take("ann").unwrap()).collect();
        assert!(take("ann").is_none());
        let others = (OF_ONE..LISTENERS).map(|_| take("bob").unwrap());
        let others: Vec<_> = others.collect();
        assert!(take("cid").is_none(), "in all");
        held.pop();
        assert!(take("cid").is_some());
        drop((held, others));
        assert!(places.0.lock().is_empty());
    }
}
