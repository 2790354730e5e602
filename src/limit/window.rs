//! A sliding window: how much was used within the last so-and-so long.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// At most so many entries are kept, whatever the limit.
const MOST: usize = 1024;

/// When they are more, those that are nearer to each other than this part of the window become one.
const GRAINS: u32 = 512;

/// What was used and when. An amount counts from its time until the window's length later, to the
/// nanosecond. Of a window with more than [`MOST`] entries neighbours are put together at the time of
/// the last one, so that a part of them counts longer, by at most a 512th of the window, and never shorter.
///
/// Laid out as written: the entries lie elsewhere, and what a look needs lies in one cache line, for with
/// many windows each one that is touched is a miss.
#[repr(C)]
#[derive(Debug)]
pub struct Window {
    used: u64,
    /// When the first entry goes out of it: before that nothing has to be counted anew.
    next_out: Option<Instant>,
    /// The time of the last entry.
    last: Option<Instant>,
    span: Duration,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The time of the last entry that has gone out of it.
    gone: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    amount: u64,
}

/// Uses that are nearer to each other than this may count as one, in a window of this length.
pub(super) fn grain(span: Duration) -> Duration {
    span / GRAINS
}

impl Window {
    pub fn new(span: Duration) -> Self {
        Window {
            used: 0,
            next_out: None,
            last: None,
            span,
            entries: VecDeque::new(),
            gone: None,
        }
    }

    /// Was nothing ever used, or is it long over?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was used and when, the oldest first; see [`Window::used`].
    pub fn uses(&self) -> Vec<(Instant, u64)> {
        let entries = self.entries.iter().filter(|entry| entry.amount > 0);
        entries.map(|entry| (entry.at, entry.amount)).collect()
    }

    /// How much counts now.
    pub fn used(&mut self, now: Instant) -> u64 {
        if self.next_out.is_some_and(|out| out <= now) {
            self.let_go(now);
        }
        self.used
    }

    #[cold]
    fn let_go(&mut self, now: Instant) {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= self.span;
        while let Some(oldest) = self.entries.pop_front_if(|oldest| is_over(oldest.at)) {
            self.used = self.used.saturating_sub(oldest.amount);
            self.gone = self.gone.max(Some(oldest.at));
        }
        self.note_ends();
    }

    /// The entries have changed.
    fn note_ends(&mut self) {
        let first = self.entries.front().map(|entry| entry.at);
        self.next_out = first.and_then(|first| first.checked_add(self.span));
        self.last = self.entries.back().map(|entry| entry.at);
    }

    /// `amount` was used at `at`, which may lie before what is known.
    pub fn add(&mut self, amount: u64, at: Instant) {
        // More than can be counted is not counted, as the sum must stay the sum of its parts.
        let amount = amount.min(u64::MAX - self.used);
        if amount == 0 {
            return;
        }
        self.used += amount;
        match self.entries.back_mut() {
            Some(last) if Some(at) == self.last => last.amount += amount,
            Some(_) if Some(at) > self.last => {
                self.entries.push_back(Entry { at, amount });
                self.last = Some(at);
                if self.entries.len() > MOST {
                    self.put_together();
                }
            }
            _ => self.add_earlier(amount, at),
        }
    }

    #[cold]
    fn add_earlier(&mut self, amount: u64, at: Instant) {
        let place = self.entries.partition_point(|entry| entry.at < at);
        match self.entries.get_mut(place) {
            Some(entry) if entry.at == at => entry.amount += amount,
            _ => self.entries.insert(place, Entry { at, amount }),
        }
        if self.entries.len() > MOST {
            self.put_together();
        }
        self.note_ends();
    }

    /// `amount` of what was used at `at` was not used after all.
    pub fn take_back(&mut self, amount: u64, at: Instant) {
        if self.gone.is_some_and(|gone| at <= gone) {
            return;
        }
        // Entries are only ever put together at a later time: that is the one it is in.
        let place = self.entries.partition_point(|entry| entry.at < at);
        if let Some(entry) = self.entries.get_mut(place) {
            let amount = amount.min(entry.amount);
            entry.amount -= amount;
            self.used -= amount;
        }
    }

    /// How long it takes until no more than `most` is used, if nothing is added.
    pub fn frees_in(&mut self, most: u64, now: Instant) -> Duration {
        let mut used = self.used(now);
        let mut last = None;
        for entry in &self.entries {
            if used <= most {
                break;
            }
            used = used.saturating_sub(entry.amount);
            last = Some(entry.at);
        }
        last.map_or(Duration::ZERO, |at| {
            let gone = now.saturating_duration_since(at);
            // Of an entry that is still to come (a clock may do that) all of the window is left.
            self.span.saturating_sub(gone)
        })
    }

    fn put_together(&mut self) {
        let grain = grain(self.span);
        let mut kept: VecDeque<Entry> = VecDeque::with_capacity(MOST + 1);
        let mut began = None;
        for entry in self.entries.drain(..).filter(|entry| entry.amount > 0) {
            let is_near = began.is_some_and(|began| entry.at.duration_since(began) < grain);
            match kept.back_mut() {
                Some(last) if is_near => {
                    last.at = entry.at;
                    last.amount += entry.amount;
                }
                _ => {
                    began = Some(entry.at);
                    kept.push_back(entry);
                }
            }
        }
        self.entries = kept;
        self.note_ends();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SPAN: Duration = Duration::from_millis(5120);

    /// Every use, kept for ever.
    #[derive(Default)]
    struct Naive(Vec<(Instant, u64)>);

    impl Naive {
        fn used(&self, now: Instant, span: Duration) -> u64 {
            let counts = |at: Instant| at <= now && now.duration_since(at) < span;
            let amounts = self.0.iter().filter(|(at, _)| counts(*at));
            amounts.map(|(_, amount)| amount).sum()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Use(u64),
        UseEarlier(u64, u64),
        TakeBackLast,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..40).prop_map(Step::Pass),
            (1u64..9).prop_map(Step::Use),
            (1u64..9, 0u64..500).prop_map(|(amount, ago)| Step::UseEarlier(amount, ago)),
            Just(Step::TakeBackLast),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn a_window_counts_as_one_that_forgets_nothing(steps in prop::collection::vec(step(), 1..4000)) {
            let (mut window, mut naive) = (Window::new(SPAN), Naive::default());
            let mut now = clock::now() + Duration::from_secs(60);
            for step in steps {
                match step {
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                    Step::Use(amount) => {
                        window.add(amount, now);
                        naive.0.push((now, amount));
                    }
                    Step::UseEarlier(amount, ago) => {
                        let at = now - Duration::from_millis(ago);
                        window.add(amount, at);
                        naive.0.push((at, amount));
                    }
                    Step::TakeBackLast => {
                        if let Some((at, amount)) = naive.0.pop() {
                            window.take_back(amount, at);
                        }
                    }
                }
                let used = window.used(now);
                prop_assert!(used >= naive.used(now, SPAN), "nothing is forgotten");
                let longer = SPAN + SPAN / GRAINS;
                prop_assert!(used <= naive.used(now, longer), "nor kept much longer");
                prop_assert!(window.entries.len() <= MOST);
                let wait = window.frees_in(used / 2, now);
                prop_assert!(naive.used(now + wait, SPAN) <= used / 2, "the wait is long enough");
            }
        }

        #[test]
        fn a_window_of_few_entries_is_exact(uses in prop::collection::vec((0u64..4000, 1u64..9), 1..1000)) {
            let (mut window, mut naive) = (Window::new(SPAN), Naive::default());
            let mut now = clock::now();
            for (millis, amount) in uses {
                now += Duration::from_millis(millis);
                window.add(amount, now);
                naive.0.push((now, amount));
                prop_assert_eq!(window.used(now), naive.used(now, SPAN));
                let wait = window.frees_in(3, now);
                if !wait.is_zero() {
                    prop_assert!(naive.used(now + wait, SPAN) <= 3);
                    let before = now + wait - Duration::from_nanos(1);
                    prop_assert!(naive.used(before, SPAN) > 3, "the wait is the shortest");
                }
            }
        }
    }

    #[test]
    fn what_was_used_counts_for_the_length_of_the_window_and_no_longer() {
        let start = clock::now();
        let mut window = Window::new(Duration::from_secs(10));
        window.add(3, start);
        assert_eq!(window.used(start + Duration::from_millis(9_999)), 3);
        assert_eq!(window.used(start + Duration::from_secs(10)), 0);
    }

    #[test]
    fn a_million_uses_take_no_more_room_than_a_thousand() {
        let start = clock::now();
        let mut window = Window::new(Duration::from_secs(3600));
        for use_ in 0..1_000_000u64 {
            window.add(1, start + Duration::from_micros(use_));
        }
        assert_eq!(window.used(start + Duration::from_secs(1)), 1_000_000);
        assert!(window.entries.len() <= MOST && window.entries.capacity() <= 4 * MOST);
    }
}
