//! Limits that hold over several gateways.
//!
//! Every gateway draws parts of a limit from who counts for all, and lets requests through against
//! what it has drawn; only where that is spent a request waits for the next draw. A part is at most a
//! hundredth of the limit, among all gateways, so that what idle ones hold keeps nobody out for long.

use std::fmt::Debug;
use std::sync::Arc;
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
struct Drawing<'a> {
    count: &'a Arc<Mutex<Count>>,
    left: u64,
    owed: u64,
}

/// What a draw asks for ahead, until its answer has come, be it late: who draws meanwhile asks for that
/// no more.
struct Ahead {
    count: Arc<Mutex<Count>>,
    amount: u64,
}

impl Ahead {
    /// So much, less what others ask for already.
    fn of(count: &Arc<Mutex<Count>>, most: u64) -> Arc<Self> {
        let mut taken = count.lock();
        let amount = most.saturating_sub(taken.ahead);
        taken.ahead += amount;
        Arc::new(Ahead {
            count: count.clone(),
            amount,
        })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.count.lock().ahead -= self.amount;
    }
}

impl<'a> Drawing<'a> {
    fn of(count: &'a Arc<Mutex<Count>>) -> Self {
        let mut taken = count.lock();
        let (left, owed) = (
            std::mem::take(&mut taken.left),
            std::mem::take(&mut taken.owed),
        );
        Drawing { count, left, owed }
    }

    fn of_owed(count: &'a Arc<Mutex<Count>>) -> Self {
        let owed = std::mem::take(&mut count.lock().owed);
        let left = 0;
        Drawing { count, left, owed }
    }

    /// What becomes of an answer that comes when this is over. What was owed has been told with it.
    fn late(&self, owed: u64, ahead: Option<Arc<Ahead>>, now: Instant) -> Late {
        let count = self.count.clone();
        Box::new(move |drawn| {
            drop(ahead);
            let mut count = count.lock();
            let granted = count.learn(&drawn, owed, now);
            let told = match drawn {
                Drawn::Granted(_) | Drawn::Spent(_) => owed,
                Drawn::Late | Drawn::Away => 0,
            };
            count.credit(granted.saturating_add(told), 0);
        })
    }
}

impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        self.count.lock().credit(self.left, self.owed);
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
        // Dropped after what is drawn is back in the count.
        let ahead = Ahead::of(&self.count, self.ahead(tally));
        let mut drawing = Drawing::of(&self.count);
        let left = drawing.left;
        // Of what a lone request may come to nobody knows how much it needs.
        let least = match self.unit {
            LimitUnit::Requests => taken.amount,
            LimitUnit::Tokens | LimitUnit::Cost if taken.is_alone => 1,
            LimitUnit::Tokens | LimitUnit::Cost => taken.amount,
        };
        let want = taken.amount.saturating_add(ahead.amount);
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
        let late = drawing.late(draw.owed, Some(ahead.clone()), now);
        let drawn = tally.draw(draw, late).await;
        let granted = self.count.lock().learn(&drawn, draw.owed, now);
        match drawn {
            Drawn::Granted(_) => {
                let had = left.saturating_add(granted);
                let used = had.min(taken.amount);
                (drawing.left, drawing.owed) = (had - used, 0);
                Ok(used)
            }
            Drawn::Spent(wait) => {
                drawing.owed = 0;
                Err(Some(wait))
            }
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
        let mut drawing = Drawing::of_owed(&self.count);
        let draw = self.nothing(&drawing, now);
        let late = drawing.late(draw.owed, None, now);
        let drawn = tally.draw(draw, late).await;
        self.count.lock().learn(&drawn, draw.owed, now);
        if let Drawn::Granted(_) | Drawn::Spent(_) = drawn {
            drawing.owed = 0;
        }
    }

    /// A draw that only tells.
    fn nothing(&self, drawing: &Drawing<'_>, now: Instant) -> Draw<'_> {
        let mut count = self.count.lock();
        let known = count.window.used(now);
        Draw {
            limit: &self.id,
            most: self.most,
            span: self.span,
            // What has gone out of the window is owed to nobody.
            owed: drawing.owed.min(known),
            least: 0,
            want: 0,
            known,
            ever: count.ever,
        }
    }
}
