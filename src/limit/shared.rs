//! Limits that hold over several gateways.
//!
//! Every gateway draws parts of a limit from who counts for all, and lets requests through against
//! what it has drawn; only where that is spent a request waits for the next draw. A part is at most a
//! hundredth of the limit, among all gateways, so that what idle ones hold keeps nobody out for long.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::limits::{Ask, Count, Exceeded, Hold, Limits, Rule, Taken};
use crate::clock::Instant;
use crate::config::LimitUnit;

/// The part of a limit that all gateways together draw ahead.
const AHEAD: u64 = 100;

/// Who counts for all gateways. Amounts are requests, tokens or billionths of cost.
pub trait Tally: Send + Sync + Debug {
    /// Draws a part of a limit. It has a deadline of its own (50 ms), as a request waits for it. An
    /// answer that comes later, or when the request has gone, goes to `late`.
    fn draw<'a>(&'a self, draw: Draw<'a>, late: Late) -> BoxFuture<'a, Drawn>;

    /// Gives back what was drawn and will not be used.
    fn give_back<'a>(&'a self, limit: &'a str, span: Duration, amount: u64) -> BoxFuture<'a, ()>;

    /// How many gateways there are, this one among them, as far as is known; at least 1.
    fn gateways(&self) -> u32;
}

/// Who is told of an answer for which nobody waits any more.
pub type Late = Box<dyn FnOnce(Drawn) + Send>;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Which limit: the same text on every gateway, for as long as it counts the same.
    pub limit: &'a str,
    /// The limit's amount, and the length of its window.
    pub most: u64,
    pub span: Duration,
    /// Counted at once, whatever is left: it was used without having been drawn.
    pub owed: u64,
    /// Less than this is of no use; 0: only what is owed is told.
    pub least: u64,
    pub want: u64,
    /// What this gateway itself knows to be used in the window: the truth, should all else be lost.
    pub known: u64,
    /// All that this gateway knows to have drawn of it, ever.
    pub ever: u64,
}

/// What became of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// So much may be used; `least` or more.
    Granted(u64),
    /// Not even `least` is left; some will be in this time.
    Spent(Duration),
    /// No answer came in time: what is known must do.
    Late,
    /// Nobody answers: each gateway keeps to its own part of the limit until somebody does.
    Away,
}

/// What a draw has taken out of a count. It is put back, unless it is used or told: a client that
/// leaves while its request waits for the answer takes nothing along.
struct Drawing {
    left: u64,
    asked: Arc<Asked>,
}

/// What a draw asks for ahead and tells, until its answer has come, be it late, or never will: others
/// that draw meanwhile do not do it once more.
struct Asked {
    count: Arc<Mutex<Count>>,
    ahead: u64,
    owed: AtomicU64,
}

impl Drawing {
    /// Asks for no more than so much ahead, together with others under way.
    fn of(count: &Arc<Mutex<Count>>, ahead: u64) -> Self {
        let mut taken = count.lock();
        let left = std::mem::take(&mut taken.left);
        let owed = std::mem::take(&mut taken.owed);
        let ahead = ahead.saturating_sub(taken.ahead);
        taken.ahead += ahead;
        let asked = Arc::new(Asked {
            count: count.clone(),
            ahead,
            owed: AtomicU64::new(owed),
        });
        Drawing { left, asked }
    }

    /// What becomes of an answer that comes when this is over.
    fn late(&self, owed: u64, now: Instant) -> Late {
        let asked = self.asked.clone();
        Box::new(move |drawn| {
            let granted = asked.learn(&drawn, owed, now);
            asked.count.lock().credit(granted, 0);
        })
    }
}

impl Asked {
    /// Notes what the answer says to a draw that has told `owed`. Returns what it granted.
    fn learn(&self, drawn: &Drawn, owed: u64, now: Instant) -> u64 {
        if let Drawn::Granted(_) | Drawn::Spent(_) = drawn {
            self.owed.store(0, Ordering::Relaxed);
        }
        self.count.lock().learn(drawn, owed, now)
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.asked.count.lock().credit(self.left, 0);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut count = self.count.lock();
        count.ahead -= self.ahead;
        count.credit(0, *self.owed.get_mut());
    }
}

impl Count {
    /// Has drawn so much more than was used, and used so much that was not drawn: one is set off against
    /// the other.
    pub(super) fn credit(&mut self, left: u64, owed: u64) {
        let left = self.left.saturating_add(left);
        let owed = self.owed.saturating_add(owed);
        let both = left.min(owed);
        (self.left, self.owed) = (left - both, owed - both);
    }

    /// Notes what the answer says to a draw that has told `owed`. Returns what it granted.
    fn learn(&mut self, drawn: &Drawn, owed: u64, now: Instant) -> u64 {
        let granted = match drawn {
            Drawn::Granted(granted) => *granted,
            Drawn::Spent(_) => 0,
            Drawn::Late | Drawn::Away => return 0,
        };
        self.ever = self.ever.saturating_add(granted).saturating_add(owed);
        self.spent_until = match drawn {
            Drawn::Spent(wait) => Some(now + *wait),
            _ => None,
        };
        granted
    }
}

impl Limits {
    /// As [`Limits::admit`], with what all gateways use.
    ///
    /// # Errors
    /// A limit is reached.
    pub async fn admit_shared(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        tally: &dyn Tally,
        now: Instant,
    ) -> Result<Hold, Exceeded> {
        let mut hold = self.admit(ask, now)?;
        for place in 0..hold.taken.len() {
            let Some((taken, rule)) = hold.at(self, place) else {
                continue;
            };
            let drawn = match rule.covers(taken) {
                true => Ok(taken.amount),
                false => rule.draw(taken, tally, now).await,
            };
            match drawn {
                Ok(drawn) => hold.taken[place].drawn = drawn,
                // What was drawn for it before goes back with `hold`.
                Err(Some(wait)) => return Err(rule.exceeded(wait)),
                Err(None) => {
                    drop(hold);
                    let gateways = u64::from(tally.gateways().max(1));
                    return self.admit_part(ask, now, &|most| most.div_ceil(gateways));
                }
            }
        }
        Ok(hold)
    }

    /// Gives back what estimates have left over, but for a little, and tells what was used without
    /// having been drawn: to be called now and then.
    pub async fn settle_up(&self, tally: &dyn Tally, now: Instant) {
        for rule in &self.rules {
            let (surplus, owes) = {
                let mut count = rule.count.lock();
                let surplus = count.left.saturating_sub(rule.ahead(tally));
                count.left -= surplus;
                (surplus, count.owed > 0)
            };
            if surplus > 0 {
                tally.give_back(&rule.id, rule.span, surplus).await;
            }
            if owes {
                rule.tell(tally, now).await;
            }
        }
    }
}

impl Rule {
    /// Takes it off what was drawn before, if that is enough.
    fn covers(&self, taken: &Taken) -> bool {
        let mut count = self.count.lock();
        let covers = count.left >= taken.amount;
        if covers {
            count.left -= taken.amount;
        }
        covers
    }

    fn ahead(&self, tally: &dyn Tally) -> u64 {
        self.most / AHEAD / u64::from(tally.gateways().max(1))
    }

    /// Draws what `taken` needs and a little ahead. Returns how much there is for it, which may be less
    /// than it asks for where that is only an estimate.
    ///
    /// # Errors
    /// How long until there is some; none if nobody counts for all.
    async fn draw(
        &self,
        taken: &Taken,
        tally: &dyn Tally,
        now: Instant,
    ) -> Result<u64, Option<Duration>> {
        let mut drawing = Drawing::of(&self.count, self.ahead(tally));
        let left = drawing.left;
        // Of what a lone request may come to nobody knows how much it needs.
        let least = match self.unit {
            LimitUnit::Requests => taken.amount,
            LimitUnit::Tokens | LimitUnit::Cost if taken.is_alone => 1,
            LimitUnit::Tokens | LimitUnit::Cost => taken.amount,
        };
        let want = taken.amount.saturating_add(drawing.asked.ahead);
        // A request is in its window already, and is still to be drawn.
        let itself = match self.unit {
            LimitUnit::Requests => taken.amount,
            LimitUnit::Tokens | LimitUnit::Cost => 0,
        };
        let nothing = self.nothing(&drawing, now);
        let draw = Draw {
            least: least.saturating_sub(left).max(1),
            want: want.saturating_sub(left).max(1),
            known: nothing.known.saturating_sub(itself),
            ..nothing
        };
        let late = drawing.late(draw.owed, now);
        let drawn = tally.draw(draw, late).await;
        let granted = drawing.asked.learn(&drawn, draw.owed, now);
        match drawn {
            Drawn::Granted(_) => {
                let had = left.saturating_add(granted);
                let used = had.min(taken.amount);
                drawing.left = had - used;
                Ok(used)
            }
            Drawn::Spent(wait) => Err(Some(wait)),
            // Where it was spent a moment ago it is spent still.
            Drawn::Late => {
                let until = self.count.lock().spent_until;
                Err(until.and_then(|until| until.checked_duration_since(now)))
            }
            Drawn::Away => Err(None),
        }
    }

    /// Tells what was used without having been drawn.
    async fn tell(&self, tally: &dyn Tally, now: Instant) {
        let drawing = Drawing::of(&self.count, 0);
        let draw = self.nothing(&drawing, now);
        let late = drawing.late(draw.owed, now);
        let drawn = tally.draw(draw, late).await;
        drawing.asked.learn(&drawn, draw.owed, now);
    }

    /// A draw that only tells.
    fn nothing(&self, drawing: &Drawing, now: Instant) -> Draw<'_> {
        let mut count = self.count.lock();
        let known = count.window.used(now);
        Draw {
            limit: &self.id,
            most: self.most,
            span: self.span,
            // What has gone out of the window is owed to nobody.
            owed: drawing.asked.owed.load(Ordering::Relaxed).min(known),
            least: 0,
            want: 0,
            known,
            ever: count.ever,
        }
    }
}
