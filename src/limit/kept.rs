//! What limits have counted, as it goes to a process that goes on counting.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{Limits, Rule};
use crate::clock::Instant;

/// How much more was used of limits, by what names them in both processes.
pub type More = HashMap<String, u64>;

/// At most so many uses of one limit are told; neighbours among more become one, and count a little longer.
const MOST: usize = 128;

/// What one limit has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The same in both processes, for as long as it counts the same.
    limit: String,
    /// How many milliseconds ago, and how much.
    uses: Vec<(u64, u64)>,
}

impl Limits {
    /// What counts now. Requests under way count as they are estimated: they end in this process.
    pub fn kept(&self, now: Instant) -> Vec<Kept> {
        let kept = self.rules.iter().map(|rule| rule.kept(now));
        kept.filter(|kept| !kept.uses.is_empty()).collect()
    }

    /// Goes on where another process was, with those limits of which nothing was counted here yet.
    pub fn go_on(&self, kept: &[Kept], now: Instant) {
        for rule in &self.rules {
            let mut count = rule.count.lock();
            let of_rule = kept.iter().find(|kept| kept.limit == rule.id);
            let Some(kept) = of_rule.filter(|_| count.window.is_empty()) else {
                continue;
            };
            for (ago, amount) in kept.uses.iter().take(MOST + 1) {
                let at = now.checked_sub(Duration::from_millis(*ago));
                count.window.add(*amount, at.unwrap_or(now));
            }
        }
    }

    /// What counts by now beyond what was told `since` then.
    pub fn more_than(&self, told: &[Kept], since: Duration, now: Instant, more: &mut More) {
        for rule in &self.rules {
            let of_rule = told.iter().find(|told| told.limit == rule.id);
            // What has gone out of the window meanwhile counts for nobody.
            let counts = |(ago, _): &&(u64, u64)| Duration::from_millis(*ago) + since < rule.span;
            let told = of_rule.map(|told| total(told.uses.iter().filter(counts)));
            let used = total(rule.kept(now).uses.iter());
            let further = used.saturating_sub(told.unwrap_or(0));
            if further > 0 {
                more.insert(rule.id.clone(), further);
            }
        }
    }

    /// Another process has used so much more. Takes out what is counted here: accounts of one group count
    /// together.
    pub fn count_more(&self, more: &mut More, now: Instant) {
        for rule in &self.rules {
            if let Some(further) = more.remove(&rule.id) {
                rule.count.lock().window.add(further, now);
            }
        }
    }
}

fn total<'a>(uses: impl Iterator<Item = &'a (u64, u64)>) -> u64 {
    uses.fold(0, |sum: u64, (_, amount)| sum.saturating_add(*amount))
}

impl Rule {
    fn kept(&self, now: Instant) -> Kept {
        let mut count = self.count.lock();
        // What has gone out of the window is not told.
        count.window.used(now);
        let all = count.window.uses();
        let together = all.len().div_ceil(MOST).max(1);
        let ago = |at: Instant| {
            let ago = now.saturating_duration_since(at).as_millis();
            u64::try_from(ago).unwrap_or(u64::MAX)
        };
        let mut uses: Vec<(u64, u64)> = all
            .chunks(together)
            .filter_map(|uses| {
                let (latest, _) = uses.last()?;
                let amount = uses.iter().map(|(_, amount)| amount).sum();
                Some((ago(*latest), amount))
            })
            .collect();
        if count.held > 0 {
            uses.push((0, count.held));
        }
        let limit = self.id.clone();
        Kept { limit, uses }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock;
    use crate::config::{Limit, LimitUnit};
    use crate::limit::{Ask, Spent};

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits(most: f64) -> Arc<Limits> {
        let limit = Limit {
            models: "*".to_owned(),
            unit: LimitUnit::Tokens,
            amount: most,
            window: MINUTE,
        };
        Arc::new(Limits::of("a", [limit].iter(), None))
    }

    fn ask(tokens: u64) -> Ask<'static> {
        let (model, cost) = (None, 0);
        Ask {
            model,
            tokens,
            cost,
        }
    }

    #[test]
    fn another_process_goes_on_where_this_one_is_and_counts_what_is_under_way() {
        let (now, first) = (clock::now(), limits(100.0));
        let spent = |tokens| Spent { tokens, cost: 0 };
        first.admit(&ask(10), now).unwrap().settle(spent(40), now);
        let later = now + MINUTE / 2;
        first
            .admit(&ask(10), later)
            .unwrap()
            .settle(spent(20), later);
        let _under_way = first.admit(&ask(30), later).unwrap();
        let kept = serde_json::to_string(&first.kept(later)).unwrap();
        let kept: Vec<Kept> = serde_json::from_str(&kept).unwrap();
        let second = limits(100.0);
        for _ in 0..2 {
            // Accounts of one group count together, and each brings the same.
            second.go_on(&kept, later);
        }
        let used = |now| second.levels(now)[0].used;
        assert_eq!(used(later), 90);
        assert_eq!(used(now + MINUTE), 50, "what was used half a minute ago");
        assert_eq!(used(later + MINUTE), 0);
        assert_eq!(limits(100.0).kept(now), []);
    }

    #[test]
    fn what_was_used_after_the_copy_is_told_once_more_and_counts_once() {
        let (now, first) = (clock::now(), limits(100.0));
        let spent = |tokens| Spent { tokens, cost: 0 };
        let serve = |tokens, at| first.admit(&ask(1), at).unwrap().settle(spent(tokens), at);
        serve(5, now - MINUTE);
        serve(20, now - MINUTE / 2);
        let under_way = first.admit(&ask(30), now).unwrap();
        let told = first.kept(now);
        let second = limits(100.0);
        second.go_on(&told, now);
        let later = now + Duration::from_secs(3);
        let more = |at| {
            let mut more = More::new();
            first.more_than(&told, at - now, at, &mut more);
            more
        };
        assert_eq!(more(now), More::new());
        serve(7, later);
        let mut told_again = more(later);
        for _ in 0..2 {
            second.count_more(&mut told_again, later);
        }
        assert_eq!(second.levels(later)[0].used, 57);
        // What was estimated too high covers what came later.
        under_way.settle(spent(4), later);
        assert_eq!(more(later), More::new());
    }

    #[test]
    fn of_very_many_uses_neighbours_are_told_together() {
        let (now, first) = (clock::now(), limits(1e9));
        for ago in (0..1000u32).rev() {
            let at = now - ago * Duration::from_millis(50);
            first
                .admit(&ask(1), at)
                .unwrap()
                .settle(Spent { tokens: 1, cost: 0 }, at);
        }
        let kept = first.kept(now);
        assert!(kept[0].uses.len() <= MOST);
        assert_eq!(
            kept[0].uses.iter().map(|(_, amount)| amount).sum::<u64>(),
            1000
        );
    }
}
