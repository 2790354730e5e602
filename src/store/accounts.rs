//! Accounts that came by the API, and what it changed of those in the file. What is said of them is
//! sealed by whoever puts it here: it may hold secrets, and where those are sent to.

use sqlx::Row as _;

use super::{Store, StoreError};

/// One account's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    pub id: String,
    /// As text.
    pub sealed: String,
}

impl Store {
    /// All of them, in the order of their ids.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        let told = |error| self.db.told("accounts", &error);
        let all = sqlx::query("SELECT id, sealed FROM accounts ORDER BY id");
        let rows = async { all.fetch_all(self.db.reading().await?).await.map_err(told) };
        let rows = self.db.within(rows).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(AccountRecord {
                id: row.try_get(0)?,
                sealed: row.try_get(1)?,
            })
        };
        rows.iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(told)
    }

    /// A number that every change of them raises: whoever reads it before [`Store::accounts`] knows
    /// when to read them again.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn accounts_version(&self) -> Result<i64, StoreError> {
        let version = async {
            let version = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'accounts'");
            let version = version.fetch_one(self.db.watching().await?).await;
            version.map_err(|error| self.db.told("accounts_version", &error))
        };
        self.db.within(version).await
    }

    /// Changes one record with nobody else's change in between: `change` sees it as it is then, and
    /// says what it is to be; `None` is none. What was changed is on the disk when this returns.
    ///
    /// # Errors
    /// The records cannot be written; or, inside, `change` has refused. It is as it was then.
    pub async fn change_account<T, E>(
        &self,
        id: &str,
        change: impl FnOnce(Option<String>) -> Result<(Option<String>, T), E> + Send,
    ) -> Result<Result<T, E>, StoreError> {
        self.db.within(self.change_account_alone(id, change)).await
    }

    async fn change_account_alone<T, E>(
        &self,
        id: &str,
        change: impl FnOnce(Option<String>) -> Result<(Option<String>, T), E> + Send,
    ) -> Result<Result<T, E>, StoreError> {
        const PUT: &str = "INSERT INTO accounts (id, sealed) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed";
        const RAISE: &str = "UPDATE counters SET value = value + 1 WHERE name = 'accounts'";
        let told = |error| self.db.told("change_account", &error);
        let mut alone = self.db.change().await?;
        let known = sqlx::query_scalar("SELECT sealed FROM accounts WHERE id = $1").bind(id);
        let known = known.fetch_optional(&mut *alone).await.map_err(told)?;
        let (sealed, done) = match change(known) {
            Ok(changed) => changed,
            Err(refused) => return Ok(Err(refused)),
        };
        let changed = match sealed {
            Some(sealed) => sqlx::query(PUT).bind(id).bind(sealed),
            None => sqlx::query("DELETE FROM accounts WHERE id = $1").bind(id),
        };
        changed.execute(&mut *alone).await.map_err(told)?;
        sqlx::query(RAISE)
            .execute(&mut *alone)
            .await
            .map_err(told)?;
        alone.commit().await.map_err(told)?;
        Ok(Ok(done))
    }
}
