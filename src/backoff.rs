//! How long to wait before the next try of something that failed.

use std::time::Duration;

/// A wait that grows from failure to failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Each further wait is so many times the one before.
    pub factor: f64,
    pub most: Duration,
}

/// A wait is up to this part longer or shorter, so that many who failed together do not come back
/// together.
const JITTER: f64 = 0.2;

impl Backoff {
    /// The wait after so many failures in a row. `random` is from 0 to 1.
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        let power = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(power);
        let seconds = seconds.min(self.most.as_secs_f64());
        Duration::from_secs_f64(seconds * (1.0 - JITTER + 2.0 * JITTER * random))
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn waits_grow_to_a_limit_and_differ_a_little() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            factor: 3.0,
            most: Duration::from_secs(10),
        };
        let waits = [1, 2, 3, 4, 1000, u32::MAX].map(|n| backoff.wait(n, 0.5).as_secs());
        assert_eq!(waits, [1, 3, 9, 10, 10, 10]);
        assert_eq!(backoff.wait(1, 0.0), Duration::from_millis(800));
        assert_eq!(backoff.wait(9, 1.0), Duration::from_secs(12));
    }
}
