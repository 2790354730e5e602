//! Leases: what one of several processes may do at a time, such as renew an account's token. After a
//! loss of power the last leases may be gone, and so are their holders.

use std::time::Duration;

use super::{Store, StoreError, millis};
use crate::clock::SystemTime;

impl Store {
    /// Takes the lease of this name for `holder`, or makes it longer when `holder` has it: until
    /// `now + lasts` nobody else gets it. False: another holder has it. One that would last far longer
    /// was taken before the clock was set back, and binds nobody.
    ///
    /// # Errors
    /// The records cannot be read or written; then nobody knows who has it.
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        // One statement, which the database carries out whole and alone.
        const TAKE: &str = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.expires_at <= $4 OR leases.expires_at > $5 OR leases.holder = excluded.holder";
        let take = sqlx::query(TAKE)
            .bind(name)
            .bind(holder)
            .bind(millis(now + lasts))
            .bind(millis(now))
            .bind(millis(now + 2 * lasts));
        let taken = async {
            let taken = take.execute(self.db.loose().await?).await;
            taken.map_err(|error| self.db.told("lease", &error))
        };
        Ok(self.db.within(taken).await?.rows_affected() == 1)
    }

    /// Gives the lease back before its time. One that `holder` does not have stays as it is.
    ///
    /// # Errors
    /// The records cannot be written; the lease then ends in its time.
    pub async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let release = sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(name)
            .bind(holder);
        let released = async {
            let released = release.execute(self.db.loose().await?).await;
            released.map_err(|error| self.db.told("release", &error))
        };
        self.db.within(released).await.map(drop)
    }

    /// Who has the lease, or had it last.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn holder(&self, name: &str) -> Result<Option<String>, StoreError> {
        let holder = sqlx::query_scalar("SELECT holder FROM leases WHERE name = $1").bind(name);
        let found = async {
            let found = holder.fetch_optional(self.db.reading().await?).await;
            found.map_err(|error| self.db.told("holder", &error))
        };
        self.db.within(found).await
    }
}
