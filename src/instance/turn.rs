//! Programs start one after another, in the order in which they came to stand in line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::{self, Instant};

/// The line.
#[derive(Default)]
pub(super) struct Turns {
    line: Mutex<Line>,
    moved: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<u64>,
    last: u64,
    /// Nobody starts before.
    not_before: Option<Instant>,
}

/// A place in the line; dropped, it is the next one's turn.
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// Takes the last place.
    pub(super) fn stand(self: &Arc<Self>) -> Turn {
        let mut line = self.line.lock();
        line.last += 1;
        let number = line.last;
        line.waiting.push_back(number);
        Turn {
            turns: self.clone(),
            number,
        }
    }
}

impl Turn {
    /// Waits for those before, and until the last start is long enough ago.
    pub(super) async fn comes(&self) {
        loop {
            let moved = self.turns.moved.notified();
            let at = {
                let line = self.turns.line.lock();
                let is_first = line.waiting.front() == Some(&self.number);
                is_first.then_some(line.not_before)
            };
            match at {
                None => moved.await,
                Some(None) => return,
                Some(Some(at)) => return tokio::time::sleep_until(at.into()).await,
            }
        }
    }

    /// A program was started: the next one waits so long.
    pub(super) fn used(self, delay: Duration) {
        self.turns.line.lock().not_before = Some(clock::now() + delay);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.line.lock();
        line.waiting.retain(|number| *number != self.number);
        drop(line);
        self.turns.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use crate::clock;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_apart_and_over_those_who_left() {
        let turns = Arc::new(Turns::default());
        let began = clock::now();
        let [first, left, third, last] = std::array::from_fn(|_| turns.stand());
        drop(left);
        let waits = |turn: super::Turn| async move {
            turn.comes().await;
            turn.used(Duration::from_secs(2));
            clock::now() - began
        };
        let (third, last, first) = tokio::join!(waits(third), waits(last), waits(first));
        assert_eq!([first, third, last].map(|wait| wait.as_secs()), [0, 2, 4]);
    }
}
