//! Lets a test do something at the n-th step of something else: what another thread would do if this one had
//! to pause just there. A step is one look at how many wait: that is where requests and those who free accounts
//! must not miss each other.

use parking_lot::Mutex;

type Act = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(in crate::pool) struct Steps {
    /// How many steps are still to come, and what happens then.
    plan: Mutex<Option<(usize, Act)>>,
}

impl Steps {
    /// Does this before the step that comes after so many others.
    pub(in crate::pool) fn after(&self, steps: usize, act: Act) {
        *self.plan.lock() = Some((steps, act));
    }

    /// What was not done yet: there were fewer steps.
    pub(in crate::pool) fn left(&self) -> Option<Act> {
        self.plan.lock().take().map(|(_, act)| act)
    }

    pub(super) fn step(&self) {
        let mut plan = self.plan.lock();
        let act = match plan.take() {
            Some((0, act)) => Some(act),
            Some((steps, act)) => {
                *plan = Some((steps - 1, act));
                None
            }
            None => None,
        };
        // What is done now has steps of its own.
        drop(plan);
        if let Some(act) = act {
            act();
        }
    }
}
