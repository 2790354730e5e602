//! Whoever frees an account and whoever begins or ceases to wait for it never miss each other, wherever one of them
//! has to pause while the others act: each such order is tried, one after the other, with the real pool.
//!
//! Two pause at most, one within the other. All accesses that matter are sequentially consistent, so that what
//! threads do is one of the orders of their steps; a model of weaker ones (loom takes these for acquire and
//! release) finds faults that are none.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;

use super::wakes::{ACCOUNTS, Asked, ask, look, no_clock};
use super::{Rig, anything};
use crate::clock;
use crate::pool::ready::{Members, Ready, ReadyMembers};
use crate::pool::{Lease, Pool};

/// No act has as many steps.
const STEPS: usize = 16;

/// What somebody does to the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// The one who holds the account's place frees it.
    Free,
    /// Somebody comes, and waits if need be.
    Come,
    /// Somebody who waits leaves.
    Leave,
}

/// Who is there: one who holds the place, and some who wait.
struct World {
    pool: Arc<Pool>,
    held: Mutex<Option<Lease>>,
    leaves: Mutex<Option<Asked>>,
    waiting: Mutex<Vec<Asked>>,
    served: Mutex<Vec<Lease>>,
}

impl World {
    /// `waiting`: so many wait already, besides one that will leave.
    fn new(pool: &Arc<Pool>, acts: &[Act], waiting: usize) -> Arc<World> {
        let held = pool.try_lease(&anything(), clock::now());
        assert!(held.is_some(), "the world before is over");
        let wait = || {
            let mut asked = ask(pool, anything());
            assert!(look(&mut asked).is_none());
            asked
        };
        let leaves = acts.contains(&Act::Leave).then(wait);
        Arc::new(World {
            pool: pool.clone(),
            held: Mutex::new(held),
            leaves: Mutex::new(leaves),
            waiting: Mutex::new((0..waiting).map(|_| wait()).collect()),
            served: Mutex::default(),
        })
    }

    fn act(&self, act: Act) {
        match act {
            Act::Free => drop(self.held.lock().take()),
            Act::Leave => drop(self.leaves.lock().take()),
            Act::Come => self.look(ask(&self.pool, anything())),
        }
    }

    fn look(&self, mut asked: Asked) {
        match look(&mut asked) {
            Some(lease) => self.served.lock().push(lease),
            None => self.waiting.lock().push(asked),
        }
    }

    /// The second act happens within the first, and the third within the second, after so many steps of each.
    fn act_within(self: &Arc<Self>, acts: [Act; 3], after: [usize; 2]) {
        let steps = &self.pool.queue.steps;
        let (world, [first, second, third]) = (self.clone(), acts);
        let third = {
            let world = world.clone();
            Box::new(move || world.act(third))
        };
        steps.after(
            after[0],
            Box::new(move || {
                world.pool.queue.steps.after(after[1], third);
                world.act(second);
            }),
        );
        self.act(first);
        // Of those that have no such step.
        while let Some(act) = steps.left() {
            act();
        }
    }

    /// Everybody has acted: the one place is somebody's, if anybody is there, and nobody else's.
    fn assert_is_served(&self) -> Result<(), (usize, usize)> {
        let asked = std::mem::take(&mut *self.waiting.lock());
        let all = asked.len() + self.served.lock().len();
        asked.into_iter().for_each(|asked| self.look(asked));
        let (waiting, served) = (self.waiting.lock().len(), self.served.lock().len());
        let right = served == all.min(1) && self.pool.summary().waiting == waiting;
        right.then_some(()).ok_or((served, waiting))
    }
}

#[test]
fn the_place_is_somebodys_wherever_one_pauses_who_frees_it_comes_or_leaves() {
    let runtime = no_clock();
    let _inside = runtime.enter();
    let worlds = [
        ([Act::Free, Act::Come, Act::Come], 0),
        ([Act::Free, Act::Come, Act::Leave], 0),
        ([Act::Free, Act::Come, Act::Leave], 1),
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for account in ACCOUNTS {
        let pool = Rig::new("", &[account]).pool;
        for (acts, waiting) in worlds {
            for order in orders {
                let acts = order.map(|n: usize| acts[n]);
                for after in (0..STEPS * STEPS).map(|n| [n / STEPS, n % STEPS]) {
                    let world = World::new(&pool, &acts, waiting);
                    world.act_within(acts, after);
                    let served = world.assert_is_served();
                    assert_eq!(served, Ok(()), "{account}: {acts:?} after {after:?}");
                }
            }
        }
    }
}

/// Of two who change an account, one pauses between its look at the account and its change of the bit, or after it.
#[test]
fn the_bit_says_the_truth_wherever_one_of_two_who_publish_it_pauses() {
    let members = Members::of([0].into_iter());
    for (first, second) in [(true, false), (false, true), (true, true), (false, false)] {
        for pauses_at in 0..3 {
            for has_looked in [false, true] {
                let ready = Ready::with_slots(1);
                let (state, looks) = (Cell::new(first), Cell::new(0));
                let other = || {
                    state.set(second);
                    ready.publish(0, || state.get());
                };
                ready.publish(0, || {
                    let pauses = looks.replace(looks.get() + 1) == pauses_at;
                    if pauses && !has_looked {
                        other();
                    }
                    let seen = state.get();
                    if pauses && has_looked {
                        other();
                    }
                    seen
                });
                let set = ReadyMembers {
                    ready: &ready,
                    members: &members,
                };
                let said = set.contains(0);
                assert_eq!(
                    said,
                    state.get(),
                    "{first} {second} {pauses_at} {has_looked}"
                );
            }
        }
    }
}
