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

impl Store {
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
