//! What the requests of the last days have used, as limits count it.

use sqlx::Row as _;

use super::{Store, StoreError};

/// What one request has used. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentRecord {
    pub id: i64,
    /// The key's id.
    pub key: String,
    pub model: Option<String>,
    pub tokens: u64,
    /// In billionths.
    pub cost: u64,
    pub began: i64,
    pub ended: i64,
}

impl Store {
    /// The requests that an account has worked for and that began from `from` on, the latest first,
    /// behind the one that began at `behind.0` and has the id `behind.1`; at most `most` of them.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn spent(
        &self,
        from: i64,
        behind: (i64, i64),
        most: u32,
    ) -> Result<Vec<SpentRecord>, StoreError> {
        const SPENT: &str = "SELECT id, key, model, tokens_in + tokens_out, cost, began, \
                 began + duration FROM requests \
             WHERE began >= $1 AND (began < $2 OR (began = $2 AND id < $3)) \
                 AND path NOT IN ('models', 'count_tokens') \
                 AND ((status > 0 AND status < 400) OR tries LIKE '%:client_gone') \
             ORDER BY began DESC, id DESC LIMIT $4";
        let told = |error| self.db.told("spent", &error);
        let spent = sqlx::query(SPENT)
            .bind(from)
            .bind(behind.0)
            .bind(behind.1)
            .bind(i64::from(most));
        let rows = async {
            spent
                .fetch_all(self.db.reading().await?)
                .await
                .map_err(told)
        };
        let rows = self.db.within(rows).await?;
        let rows = rows.iter().map(|row| {
            let amount = |at| {
                row.try_get::<i64, _>(at)
                    .map(|n| u64::try_from(n).unwrap_or(0))
            };
            Ok(SpentRecord {
                id: row.try_get(0)?,
                key: row.try_get(1)?,
                model: row.try_get(2)?,
                tokens: amount(3)?,
                cost: amount(4)?,
                began: row.try_get(5)?,
                ended: row.try_get(6)?,
            })
        });
        rows.collect::<Result<_, _>>().map_err(told)
    }
}
