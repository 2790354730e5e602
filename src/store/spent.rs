//! What keys have spent, as their limits count it: for a process that begins where another one ended.

use futures::TryStreamExt;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError};

/// What was spent with a key and counts in its limits from one moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentRecord {
    /// The key's id.
    pub key: String,
    /// None: it is not known.
    pub model: Option<String>,
    pub requests: u64,
    pub tokens: u64,
    /// In billionths.
    pub cost: u64,
    /// Milliseconds since 1970.
    pub at: i64,
    /// Of the process that wrote it.
    pub run: i64,
}

/// Of whose requests is asked.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The process that asks, and counts its own.
    pub(super) not_of: i64,
    /// The gateway; none: all of them.
    pub(super) of: Option<&'a str>,
    /// The process; none: all of them.
    pub(super) only: Option<i64>,
}

impl Store {
    /// What was spent from `from` on, in milliseconds since 1970; at most so many records, the latest.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn spent(
        &self,
        before: Before<'_>,
        from: i64,
        most: u32,
    ) -> Result<Vec<SpentRecord>, StoreError> {
        const SPENT: &str = "SELECT spent.key, spent.model, spent.requests, spent.tokens, \
                 spent.cost, spent.at, spent.run FROM spent JOIN writers ON writers.run = spent.run \
             WHERE spent.at >= $1 AND spent.run <> $2 AND ($3 = '' OR writers.gateway = $3) \
             AND ($4 = 0 OR spent.run = $4) ORDER BY spent.at DESC LIMIT $5";
        let told = |error| self.db.told("spent", &error);
        let work = async {
            let spent = sqlx::query(SPENT)
                .bind(from)
                .bind(before.not_of)
                .bind(before.of.unwrap_or_default())
                .bind(before.only.unwrap_or_default())
                .bind(i64::from(most));
            let rows = spent.fetch(self.db.reading().await?);
            let records = rows.and_then(async |row| record(&row));
            records.try_collect().await.map_err(told)
        };
        self.db.within(work).await
    }
}

fn record(row: &AnyRow) -> Result<SpentRecord, sqlx::Error> {
    let amount = |at| {
        let amount = row.try_get::<i64, _>(at);
        amount.map(|amount| u64::try_from(amount).unwrap_or(0))
    };
    let model: String = row.try_get(1)?;
    Ok(SpentRecord {
        key: row.try_get(0)?,
        model: (!model.is_empty()).then_some(model),
        requests: amount(2)?,
        tokens: amount(3)?,
        cost: amount(4)?,
        at: row.try_get(5)?,
        run: row.try_get(6)?,
    })
}
