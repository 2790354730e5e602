//! The limits of one key: requests, tokens or money in a sliding window, each for some models.
//!
//! A request counts from when it came. Tokens and money are known only when its answer has ended, and
//! count from then; until then an estimate is held for them. So that an estimate keeps nobody waiting
//! who is within the limit, a request whose key has no other one under way needs no more than a rest.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use wildmatch::WildMatch;

use super::price::BILLION;
use super::window::{self, Window};
use crate::clock::Instant;
use crate::config::{self, LimitUnit};

/// Come again so soon where requests under way hold all that is left: any of them may end now.
const BUSY: Duration = Duration::from_secs(1);

/// What a request asks of its key's limits.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// None: it could be any, and every limit applies.
    pub model: Option<&'a str>,
    /// How many tokens it may come to.
    pub tokens: u64,
    /// What it may cost, in billionths.
    pub cost: u64,
}

/// What a request has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub tokens: u64,
    /// In billionths.
    pub cost: u64,
}

/// A limit lets no more through now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// In words, such as `10 requests in 5h`.
    pub limit: Arc<str>,
    /// How long until it lets a request through.
    pub wait: Duration,
    /// What is left of it is held by requests under way, which may end at any time.
    pub is_held: bool,
}

/// How far a limit is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub unit: LimitUnit,
    pub most: u64,
    pub window: Duration,
    pub used: u64,
    /// For requests under way.
    pub held: u64,
}

/// The limits of a key. What they count outlives them: see [`Limits::of`].
#[derive(Debug, Default)]
pub struct Limits {
    pub(super) rules: Vec<Rule>,
}

/// Laid out as written: what each request looks at comes first.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) count: Arc<Mutex<Count>>,
    pub(super) most: u64,
    pub(super) unit: LimitUnit,
    /// None: all of them.
    models: Option<WildMatch>,
    pub(super) span: Duration,
    pub(super) said: Arc<str>,
    /// What it counts; the same for as long as that is the same, whatever the amount.
    pub(super) id: String,
}

/// Laid out as written: the beginning of the window lies in one cache line with its lock.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Count {
    /// For requests under way whose amount is not known yet.
    pub(super) held: u64,
    pub(super) window: Window,
    /// Of what all gateways share: drawn and not used yet, and used without having been drawn.
    pub(super) left: u64,
    pub(super) owed: u64,
    /// What draws under way ask for beside what their requests need.
    pub(super) ahead: u64,
    /// All that was ever drawn.
    pub(super) ever: u64,
    /// Nothing is left of it until then, as was said last.
    pub(super) spent_until: Option<Instant>,
}

/// What one request holds of its key's limits. It is settled, or dropped and given back as if it had
/// not been.
#[derive(Debug)]
pub struct Hold {
    limits: Arc<Limits>,
    at: Instant,
    pub(super) taken: SmallVec<[Taken; 2]>,
}

#[derive(Debug)]
pub(super) struct Taken {
    /// The place of its rule.
    pub(super) rule: usize,
    pub(super) amount: u64,
    /// How much the limit lets through.
    most: u64,
    /// It is the only one under way, and may come to more than is left.
    pub(super) is_alone: bool,
    /// The limit lets no more through after it.
    is_last: bool,
    /// How much of what all gateways share was drawn for it.
    pub(super) drawn: u64,
}

impl Limits {
    /// These limits of the key with this id. Those that count what one of `before` counts go on where
    /// that one was.
    pub fn of<'a>(
        key: &str,
        limits: impl Iterator<Item = &'a config::Limit>,
        before: Option<&Limits>,
    ) -> Self {
        let mut rules: Vec<Rule> = Vec::new();
        for limit in limits {
            let mut rule = Rule::of(key, limit);
            if let Some(twin) = rules.iter_mut().find(|twin| twin.id == rule.id) {
                // Counting the same twice says nothing; the stricter one holds.
                if rule.most < twin.most {
                    (twin.most, twin.said) = (rule.most, rule.said);
                }
                continue;
            }
            let mut known = before.into_iter().flat_map(|before| &before.rules);
            if let Some(known) = known.find(|known| known.id == rule.id) {
                rule.count = known.count.clone();
            }
            rules.push(rule);
        }
        Limits { rules }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The longest window.
    pub fn span(&self) -> Option<Duration> {
        self.rules.iter().map(|rule| rule.span).max()
    }

    /// Takes what the request asks for of every limit that applies to it, or of none.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn admit(self: &Arc<Self>, ask: &Ask<'_>, now: Instant) -> Result<Hold, Exceeded> {
        self.admit_part(ask, now, &|most| most)
    }

    /// The same, of a part of each limit; `part` says how much of it that is.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn admit_part(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        now: Instant,
        part: &dyn Fn(u64) -> u64,
    ) -> Result<Hold, Exceeded> {
        let mut hold = Hold {
            limits: self.clone(),
            at: now,
            taken: SmallVec::new(),
        };
        for (place, rule) in self.rules.iter().enumerate() {
            if rule.is_for(ask.model) {
                // What was taken before goes back with `hold`.
                hold.taken
                    .push(rule.take(place, ask, now, part(rule.most))?);
            }
        }
        Ok(hold)
    }

    /// The limit of which nothing is left, of such a part of each; of several the one that lasts longest.
    /// What requests under way hold is theirs only until they end, and does not matter.
    pub fn spent(&self, now: Instant, part: &dyn Fn(u64) -> u64) -> Option<Exceeded> {
        let spent = self
            .rules
            .iter()
            .filter_map(|rule| rule.spent(now, part(rule.most)));
        spent.max_by_key(|spent| spent.wait)
    }

    /// How much of each is used.
    pub fn levels(&self, now: Instant) -> Vec<Level> {
        self.rules.iter().map(|rule| rule.level(now)).collect()
    }

    /// Uses that are no further apart than this need not be told apart: none of the windows does it.
    /// Without a limit an hour, for one that may come.
    pub fn grain(&self) -> Duration {
        const SECOND: Duration = Duration::from_secs(1);
        const HOUR: Duration = Duration::from_secs(3600);
        let shortest = self.rules.iter().map(|rule| rule.span).min();
        shortest.map_or(HOUR, |span| window::grain(span).clamp(SECOND, HOUR))
    }

    /// Counts what was used before this process was there.
    pub fn remember(&self, model: Option<&str>, requests: u64, spent: &Spent, at: Instant) {
        for rule in self.rules.iter().filter(|rule| rule.is_for(model)) {
            let amount = match rule.unit {
                LimitUnit::Requests => requests,
                LimitUnit::Tokens => spent.tokens,
                LimitUnit::Cost => spent.cost,
            };
            rule.count.lock().window.add(amount, at);
        }
    }

    /// Something counts, or is held for requests under way.
    pub fn is_counting(&self, now: Instant) -> bool {
        let counts = |rule: &Rule| {
            let mut count = rule.count.lock();
            count.held > 0 || count.window.used(now) > 0
        };
        self.rules.iter().any(counts)
    }
}

impl Rule {
    fn of(key: &str, limit: &config::Limit) -> Self {
        let (scale, unit) = match limit.unit {
            LimitUnit::Requests => (1.0, "requests"),
            LimitUnit::Tokens => (1.0, "tokens"),
            LimitUnit::Cost => (BILLION, "cost"),
        };
        let window = humantime::format_duration(limit.window);
        let (models, of_models) = match &*limit.models {
            "*" => (None, String::new()),
            models => (Some(WildMatch::new(models)), format!(" of {models}")),
        };
        let millis = limit.window.as_millis();
        Rule {
            id: format!("{key}/{unit}/{millis}/{}", limit.models),
            models,
            unit: limit.unit,
            most: (limit.amount * scale) as u64,
            span: limit.window,
            said: match limit.unit {
                LimitUnit::Cost => format!("a cost of {}{of_models} in {window}", limit.amount),
                _ => format!("{} {unit}{of_models} in {window}", limit.amount),
            }
            .into(),
            count: Arc::new(Mutex::new(Count {
                held: 0,
                window: Window::new(limit.window),
                left: 0,
                owed: 0,
                ahead: 0,
                ever: 0,
                spent_until: None,
            })),
        }
    }

    fn is_for(&self, model: Option<&str>) -> bool {
        match (&self.models, model) {
            (Some(models), Some(model)) => models.matches(model),
            _ => true,
        }
    }

    fn take(
        &self,
        place: usize,
        ask: &Ask<'_>,
        now: Instant,
        most: u64,
    ) -> Result<Taken, Exceeded> {
        let mut count = self.count.lock();
        let used = count.window.used(now);
        let (amount, is_alone) = match self.unit {
            LimitUnit::Requests => (1, false),
            // What is estimated at more than the limit still gets its turn.
            LimitUnit::Tokens => (ask.tokens.min(most), count.held == 0),
            LimitUnit::Cost => (ask.cost.min(most), count.held == 0),
        };
        if used >= most {
            return Err(self.exceeded(self.frees_in(&mut count, most, now)));
        }
        if used.saturating_add(count.held).saturating_add(amount) > most && !is_alone {
            let is_held = true;
            return Err(Exceeded {
                is_held,
                ..self.exceeded(BUSY)
            });
        }
        let is_last = match self.unit {
            LimitUnit::Requests => {
                count.window.add(1, now);
                used + 1 >= most
            }
            LimitUnit::Tokens | LimitUnit::Cost => {
                count.held += amount;
                false
            }
        };
        Ok(Taken {
            rule: place,
            amount,
            most,
            is_alone,
            is_last,
            drawn: 0,
        })
    }

    fn frees_in(&self, count: &mut Count, most: u64, now: Instant) -> Duration {
        match most.checked_sub(1) {
            Some(less) => count.window.frees_in(less, now),
            // Of a limit of 0 nothing will ever be free.
            None => self.span,
        }
    }

    fn spent(&self, now: Instant, most: u64) -> Option<Exceeded> {
        let mut count = self.count.lock();
        let is_spent = count.window.used(now) >= most;
        is_spent.then(|| self.exceeded(self.frees_in(&mut count, most, now)))
    }

    fn level(&self, now: Instant) -> Level {
        let mut count = self.count.lock();
        Level {
            unit: self.unit,
            most: self.most,
            window: self.span,
            used: count.window.used(now),
            held: count.held,
        }
    }

    #[cold]
    pub(super) fn exceeded(&self, wait: Duration) -> Exceeded {
        Exceeded {
            limit: self.said.clone(),
            wait,
            is_held: false,
        }
    }

    /// Ends what `taken` holds; `spent`: what it came to, if it counts at all. Returns whether nothing is left.
    fn settle(&self, taken: &Taken, at: Instant, spent: Option<(Spent, Instant)>) -> bool {
        let mut count = self.count.lock();
        let used = match (self.unit, spent) {
            (LimitUnit::Requests, Some(_)) => 1,
            (LimitUnit::Requests, None) => {
                count.window.take_back(1, at);
                0
            }
            (unit, spent) => {
                count.held = count.held.saturating_sub(taken.amount);
                spent.map_or(0, |(spent, now)| {
                    let amount = match unit {
                        LimitUnit::Cost => spent.cost,
                        _ => spent.tokens,
                    };
                    count.window.add(amount, now);
                    amount
                })
            }
        };
        count.credit(
            taken.drawn.saturating_sub(used),
            used.saturating_sub(taken.drawn),
        );
        let now = spent.map_or(at, |(_, now)| now);
        count.window.used(now) >= taken.most
    }
}

impl Hold {
    /// Does a limit let no more through after this one?
    pub fn is_last(&self) -> bool {
        self.taken.iter().any(|taken| taken.is_last)
    }

    /// The request has ended at `now` and used this much. Returns whether a limit lets no more through now.
    pub fn settle(mut self, spent: Spent, now: Instant) -> bool {
        self.end(|_| Some((spent, now)))
    }

    /// The request has ended at `now`, and nobody knows what it used: what is held for it counts, which is no more
    /// than the strictest limit lets through.
    pub fn settle_as_held(mut self, now: Instant) -> bool {
        let (mut tokens, mut cost) = (None::<u64>, None::<u64>);
        for taken in &self.taken {
            let least = match self.limits.rules.get(taken.rule).map(|rule| rule.unit) {
                Some(LimitUnit::Tokens) => &mut tokens,
                Some(LimitUnit::Cost) => &mut cost,
                Some(LimitUnit::Requests) | None => continue,
            };
            *least = Some(least.map_or(taken.amount, |least| least.min(taken.amount)));
        }
        let [tokens, cost] = [tokens, cost].map(Option::unwrap_or_default);
        self.end(|_| Some((Spent { tokens, cost }, now)))
    }

    /// What it took there, and of which limit.
    pub(super) fn at<'a>(&self, limits: &'a Limits, place: usize) -> Option<(&Taken, &'a Rule)> {
        let taken = self.taken.get(place)?;
        Some((taken, limits.rules.get(taken.rule)?))
    }

    fn end(&mut self, spent: impl Fn(&Taken) -> Option<(Spent, Instant)>) -> bool {
        let mut nothing_left = false;
        for taken in &self.taken {
            if let Some(rule) = self.limits.rules.get(taken.rule) {
                nothing_left |= rule.settle(taken, self.at, spent(taken));
            }
        }
        self.taken.clear();
        nothing_left
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(|_| None);
    }
}
