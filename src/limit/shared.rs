//! Limits that hold over several gateways.
//!
//! Every gateway draws parts of a limit from who counts for all, and lets requests through against
//! what it has drawn; only where that is spent a request waits for the next draw. A part is at most a
//! hundredth of the limit, among all gateways, so that what idle ones hold keeps nobody out for long.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::limits::{Ask, Exceeded, Hold, Limits, Rule, Taken};
use crate::clock::Instant;
use crate::config::LimitUnit;

/// The part of a limit that all gateways together draw ahead.
const AHEAD: u64 = 100;

/// Who counts for all gateways. Amounts are requests, tokens or billionths of cost.
pub trait Tally: Send + Sync + Debug {
    /// Draws a part of a limit. It has a deadline of its own (50 ms), as a request waits for it.
    fn draw<'a>(&'a self, draw: Draw<'a>) -> BoxFuture<'a, Drawn>;

    /// Gives back what was drawn and will not be used.
    fn give_back<'a>(&'a self, limit: &'a str, span: Duration, amount: u64) -> BoxFuture<'a, ()>;

    /// How many gateways there are, this one among them, as far as is known; at least 1.
    fn gateways(&self) -> u32;
}

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
}

/// What became of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// So much may be used; `least` or more.
    Granted(u64),
    /// Not even `least` is left; some will be in this time.
    Spent(Duration),
    /// Nobody answers: each gateway keeps to its own part of the limit until somebody does.
    Away,
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
            let (surplus, owed) = {
                let mut count = rule.count.lock();
                let surplus = count.left.saturating_sub(rule.ahead(tally));
                count.left -= surplus;
                (surplus, std::mem::take(&mut count.owed))
            };
            if surplus > 0 {
                tally.give_back(&rule.id, rule.span, surplus).await;
            }
            if owed > 0 {
                rule.tell(owed, tally, now).await;
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
        let (left, owed, known) = {
            let mut count = self.count.lock();
            let (left, owed) = (
                std::mem::take(&mut count.left),
                std::mem::take(&mut count.owed),
            );
            (left, owed, count.window.used(now))
        };
        // Of what a lone request may come to nobody knows how much it needs.
        let least = match self.unit {
            LimitUnit::Requests => taken.amount,
            LimitUnit::Tokens | LimitUnit::Cost if taken.is_alone => 1,
            LimitUnit::Tokens | LimitUnit::Cost => taken.amount,
        };
        let want = taken.amount.saturating_add(self.ahead(tally));
        let draw = Draw {
            limit: &self.id,
            most: self.most,
            span: self.span,
            // What has gone out of the window is owed to nobody.
            owed: owed.min(known),
            least: least.saturating_sub(left).max(1),
            want: want.saturating_sub(left).max(1),
            known,
        };
        let drawn = tally.draw(draw).await;
        let mut count = self.count.lock();
        match drawn {
            Drawn::Granted(granted) => {
                let had = left.saturating_add(granted);
                let used = had.min(taken.amount);
                count.left = count.left.saturating_add(had - used);
                Ok(used)
            }
            Drawn::Spent(wait) => {
                count.left = count.left.saturating_add(left);
                Err(Some(wait))
            }
            Drawn::Away => {
                count.left = count.left.saturating_add(left);
                count.owed = count.owed.saturating_add(owed);
                Err(None)
            }
        }
    }

    async fn tell(&self, owed: u64, tally: &dyn Tally, now: Instant) {
        let known = self.count.lock().window.used(now);
        let draw = Draw {
            limit: &self.id,
            most: self.most,
            span: self.span,
            owed: owed.min(known),
            least: 0,
            want: 0,
            known,
        };
        if let Drawn::Away = tally.draw(draw).await {
            let mut count = self.count.lock();
            count.owed = count.owed.saturating_add(owed);
        }
    }
}
