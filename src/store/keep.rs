//! Deletes what is older than it is to be kept, a little at a time: nobody else waits for long.

use std::time::Duration;

use super::{Store, StoreError};
use crate::config::Keep;

/// Rows of one step.
const STEP: i64 = 1000;

/// Each with the rows of one step, oldest first, that began before $1.
const OLD: [&str; 5] = [
    "DELETE FROM requests WHERE id IN \
         (SELECT id FROM requests WHERE began < $1 ORDER BY began LIMIT $2)",
    "DELETE FROM usage WHERE (hour, key, account, model) IN \
         (SELECT hour, key, account, model FROM usage WHERE hour < $1 ORDER BY hour LIMIT $2)",
    "DELETE FROM audit WHERE id IN \
         (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)",
    "DELETE FROM writers WHERE run IN \
         (SELECT run FROM writers WHERE seen < $1 ORDER BY seen LIMIT $2)",
    "DELETE FROM spent WHERE (at, key, model, run) IN \
         (SELECT at, key, model, run FROM spent WHERE at < $1 ORDER BY at LIMIT $2)",
];

/// What was spent stays for so long even if no limit looks at it: one may come.
const DAY: Duration = Duration::from_secs(86_400);

/// How much faster than the time that passes what is deleted may draw near, in days of records an hour.
/// Who has been down for a week is even with it after some hours; and a clock that is years ahead costs
/// little until somebody sets it right.
const PACE: u32 = 24;

/// When it is, for what is too old: as the clock says, but not far beyond what is known already.
fn goes_by(known: Option<i64>, wall: i64, passed: Duration) -> i64 {
    let Some(known) = known else {
        return wall;
    };
    let ahead = i64::try_from((passed * PACE).as_millis()).unwrap_or(i64::MAX);
    wall.min(known.saturating_add(ahead))
}

impl Store {
    /// The `now` of [`Store::forget`], in milliseconds since 1970, while the clock says `wall` and so much
    /// time has `passed` since the last call; the latest one is kept with the records.
    ///
    /// # Errors
    /// The records cannot be read or written.
    pub(super) async fn sweep_time(&self, wall: i64, passed: Duration) -> Result<i64, StoreError> {
        const KNOWN: &str = "SELECT value FROM counters WHERE name = 'swept'";
        const KEEP: &str = "INSERT INTO counters (name, value) VALUES ('swept', $1) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value \
             WHERE counters.value < excluded.value";
        let told = |error| self.db.told("sweep_time", &error);
        let time = async {
            let known = sqlx::query_scalar(KNOWN).fetch_optional(self.db.reading().await?);
            let time = goes_by(known.await.map_err(told)?, wall, passed);
            let kept = sqlx::query(KEEP).bind(time);
            kept.execute(self.db.loose().await?).await.map_err(told)?;
            Ok(time)
        };
        self.db.within(time).await
    }

    /// Deletes some of what is too old at `now`, in milliseconds since 1970. `longest`: the longest window
    /// of a limit; none: it is not known. True: there may be more.
    ///
    /// # Errors
    /// The records cannot be written.
    pub(super) async fn forget(
        &self,
        keep: &Keep,
        longest: Option<Duration>,
        now: i64,
    ) -> Result<bool, StoreError> {
        let before = |kept: Duration| {
            let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
            now.saturating_sub(kept)
        };
        let ends = [keep.requests, keep.usage, keep.audit];
        // Of what was spent the writer says whose it is, and stays for as long.
        let spent = longest.map(|longest| longest.max(DAY));
        let spent = spent.map(|spent| [spent.max(keep.usage), spent]);
        let ends = ends.into_iter().chain(spent.into_iter().flatten());
        let ends = ends.map(before);
        let mut is_more = false;
        for (statement, end) in OLD.into_iter().zip(ends) {
            let step = sqlx::query(statement).bind(end).bind(STEP);
            let deleted = async {
                let deleted = step.execute(self.db.loose().await?).await;
                deleted.map_err(|error| self.db.told("forget", &error))
            };
            let deleted = self.db.within(deleted).await?;
            is_more |= deleted.rows_affected() >= STEP as u64;
        }
        Ok(is_more)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Store;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 20_000 * DAY;

    #[tokio::test]
    async fn a_clock_that_jumps_ahead_deletes_no_more_than_a_day_of_records_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let time = async |wall: i64, minutes: u64| {
            let store = Store::open(dir.path()).await.unwrap();
            let passed = Duration::from_secs(60 * minutes);
            store.sweep_time(wall, passed).await.unwrap()
        };
        assert_eq!(time(NOW, 0).await, NOW, "nothing is known yet");
        let years = NOW + 730 * DAY;
        assert_eq!(time(years, 0).await, NOW, "a start with a wrong clock");
        assert_eq!(time(years, 10).await, NOW + DAY / 6);
        // It is set right, and goes on.
        let later = NOW + DAY / 6 + 600_000;
        assert_eq!(time(later, 10).await, later);
        assert_eq!(time(NOW - DAY, 10).await, NOW - DAY, "a clock behind");
        assert_eq!(time(later, 0).await, later, "which is forgotten");
        // Down for a week: even after some hours.
        let week = later + 7 * DAY;
        assert_eq!(time(week, 0).await, later);
        assert_eq!(time(week, 7 * 60).await, week);
    }
}
