//! How many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts what is under way.
#[derive(Debug, Default)]
pub struct Permits(AtomicU32);

/// One of what is under way, until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// One more, unless `most` are under way already; 0 = no limit. A limit that was lowered takes
    /// nothing back: it lets nobody in until enough are gone.
    pub fn take(self: &Arc<Self>, most: u32) -> Option<Permit> {
        let one_more = |count: u32| (most == 0 || count < most).then(|| count.saturating_add(1));
        let taken = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok().then(|| Permit(self.clone()))
    }

    pub fn under_way(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_under_way_and_a_dropped_one_makes_room() {
        let permits = Arc::<Permits>::default();
        let (one, two) = (permits.take(2), permits.take(2));
        assert!(one.is_some() && two.is_some() && permits.take(2).is_none());
        drop(one);
        assert!(permits.take(2).is_some(), "dropped at once again");
        assert!(permits.take(1).is_none(), "a lowered limit lets nobody in");
        assert!(permits.take(0).is_some(), "0 is no limit");
        drop(two);
        assert_eq!(permits.under_way(), 0);
    }

    #[test]
    fn threads_that_race_never_have_more_than_the_limit() {
        let permits = Arc::<Permits>::default();
        let worker = || {
            for _ in 0..10_000 {
                let permit = permits.take(3);
                assert!(permits.under_way() <= 3);
                drop(permit);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(worker))));
        assert_eq!(permits.under_way(), 0);
    }
}
