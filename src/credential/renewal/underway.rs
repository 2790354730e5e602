//! Renewals that have begun: a stop waits for them, and no other begins once it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many have begun, and whether further ones may.
#[derive(Default)]
pub struct Underway {
    count: AtomicUsize,
    closed: AtomicBool,
}

impl Underway {
    /// No renewal begins any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Would a stop now lose a token that is on its way?
    pub fn is_busy(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// One more, which a stop waits for; `None`: it is too late.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Begun> {
        // Counted before it looks: of a stop that closes now and this one, one sees the other.
        self.count.fetch_add(1, Ordering::SeqCst);
        let begun = Begun(self.clone());
        (!self.is_closed()).then_some(begun)
    }
}

/// One renewal under way, until it is dropped.
pub(super) struct Begun(Arc<Underway>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_it_is_closed_none_begins_and_those_that_have_are_waited_for() {
        let underway = Arc::new(Underway::default());
        let begun = underway.begin();
        underway.close();
        assert!(underway.begin().is_none() && underway.is_busy());
        drop(begun);
        assert!(!underway.is_busy());
    }
}
