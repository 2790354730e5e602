//! When an account's token is renewed: before its end, not that of all accounts at one moment, and
//! after failures later each time.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::{self, Instant, SystemTime};

/// A token is renewed when this part of its life is left, if that is less than is configured.
const LAST_PART: f64 = 0.3;

/// Accounts that began together would else ask together for ever: they differ by this part of the
/// time that is left then.
const SPREAD: f64 = 0.1;

/// After failures in a row.
const PAUSES: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2.0,
    most: Duration::from_secs(300),
};

/// A longer wait that a token endpoint states is a mistake: the account would be lost by it.
const LONGEST_STATED: Duration = Duration::from_secs(3600);

/// The longest sleep: the clock of the wall may jump, and accounts go.
const NAP: Duration = Duration::from_secs(30);

/// The moment of the next renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Never,
    /// What a vendor stated is of the wall's clock.
    At(SystemTime),
    /// A pause is none of it: a clock that is set back must not make it longer.
    After(Instant),
}

impl Due {
    /// For how long there is nothing to do, at most a nap; `None`: it is time.
    pub(super) fn wait(self) -> Option<Duration> {
        let left = match self {
            Due::Never => Some(NAP),
            Due::At(at) => at.duration_since(clock::wall()).ok(),
            Due::After(at) => at.checked_duration_since(clock::now()),
        };
        left.filter(|left| !left.is_zero())
            .map(|left| left.min(NAP))
    }

    /// After so many failures in a row, and not before a vendor's `stated` wait is over.
    pub(super) fn after_failures(failures: u32, stated: Option<Duration>) -> Due {
        let pause = PAUSES.wait(failures, fastrand::f64());
        let stated = stated.unwrap_or_default().min(LONGEST_STATED);
        Due::after(pause.max(stated))
    }

    pub(super) fn after(pause: Duration) -> Due {
        clock::now()
            .checked_add(pause)
            .map_or(Due::Never, Due::After)
    }

    /// For a token of this life, which is renewed `before` its end; it has none where its vendor
    /// stated no end.
    pub(super) fn before_end(life: Life, before: Duration) -> Due {
        let Some(due) = life.due(before) else {
            return Due::Never;
        };
        let end = life.expires_at.unwrap_or(due);
        let window = end.duration_since(due).unwrap_or_default();
        Due::At(due + window.mul_f64(fastrand::f64() * SPREAD))
    }
}

/// From when to when a token may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) granted_at: SystemTime,
    pub(super) expires_at: Option<SystemTime>,
}

impl Life {
    /// The earliest moment at which it is renewed; `None`: when its vendor refuses it.
    pub(super) fn due(self, before: Duration) -> Option<SystemTime> {
        let expires_at = self.expires_at?;
        let life = expires_at.duration_since(self.granted_at);
        let before = before.min(life.unwrap_or_default().mul_f64(LAST_PART));
        expires_at.checked_sub(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A token of this life of which so much is left.
    fn left(life: u64, left: u64) -> Life {
        let expires_at = clock::wall() + seconds(left);
        Life {
            granted_at: expires_at - seconds(life),
            expires_at: Some(expires_at),
        }
    }

    #[test]
    fn five_minutes_before_its_end_a_token_is_due_and_a_second_earlier_it_is_not() {
        let is_due = |life: Life| life.due(seconds(300)).unwrap() <= clock::wall();
        assert!(is_due(left(3600, 299)));
        assert!(!is_due(left(3600, 301)));
        assert!(
            !is_due(left(600, 299)),
            "not before three tenths of its life"
        );
        assert!(is_due(left(600, 179)));
        let endless = Life {
            expires_at: None,
            ..left(3600, 299)
        };
        assert_eq!(endless.due(seconds(300)), None);
    }

    #[test]
    fn accounts_are_spread_over_a_tenth_of_what_is_left() {
        let life = left(3600, 3600);
        let due = life.due(seconds(300)).unwrap();
        for _ in 0..100 {
            let Due::At(at) = Due::before_end(life, seconds(300)) else {
                panic!("it has an end");
            };
            assert!(at >= due && at <= due + seconds(30));
        }
    }

    #[test]
    fn pauses_grow_keep_to_what_a_vendor_states_and_do_not_hang_on_the_walls_clock() {
        let wait = |failures, stated| {
            let due = Due::after_failures(failures, stated);
            assert!(matches!(due, Due::After(_)));
            due.wait().unwrap()
        };
        assert!(wait(1, None) <= Duration::from_millis(1200));
        assert!(wait(3, None) > seconds(3));
        assert_eq!(wait(1, Some(seconds(600))), NAP, "and again after it");
        let Due::After(at) = Due::after_failures(1, Some(Duration::MAX)) else {
            panic!("it comes");
        };
        assert!(at <= clock::now() + seconds(3600));
        assert_eq!(Due::after(Duration::ZERO).wait(), None);
        assert_eq!(Due::At(clock::wall() - seconds(1)).wait(), None);
        assert_eq!(Due::Never.wait(), Some(NAP));
    }
}
