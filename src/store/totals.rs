//! Usage summed up: by day, key, account and model, over any span of hours.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

/// What a sum is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// In UTC.
    Day,
    /// By its id.
    Key,
    Account,
    Model,
}

impl By {
    fn expression(self) -> &'static str {
        match self {
            By::Day => "hour - hour % 86400000",
            By::Key => "key",
            By::Account => "account",
            By::Model => "model",
        }
    }
}

/// What was used by those of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// When the day began, in milliseconds since 1970.
    pub day: Option<i64>,
    pub key: Option<String>,
    /// Empty when none answered.
    pub account: Option<String>,
    /// Empty when it is not known.
    pub model: Option<String>,
    pub requests: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    /// A part of `tokens_in`.
    pub tokens_cached: i64,
    /// In billionths.
    pub cost: i64,
    /// Requests for which the vendor stated no amount.
    pub estimated: i64,
}

impl Total {
    /// Counts another group's usage into this one.
    pub fn add(&mut self, other: &Total) {
        self.requests += other.requests;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.tokens_cached += other.tokens_cached;
        self.cost += other.cost;
        self.estimated += other.estimated;
    }
}

impl Store {
    /// The sums of the hours that began from `from` on and before `to`, in milliseconds since 1970, in
    /// the order of what they are made for; at most `most` of them.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn totals(
        &self,
        by: &[By],
        from: i64,
        to: i64,
        most: u32,
    ) -> Result<Vec<Total>, StoreError> {
        let told = |error| self.db.told("usage", &error);
        let mut fields: Vec<String> = by.iter().map(|by| by.expression().to_owned()).collect();
        let groups = (1..=by.len()).map(|n| n.to_string()).collect::<Vec<_>>();
        let groups = groups.join(", ");
        let sums = "requests tokens_in tokens_out tokens_cached cost estimated";
        // PostgreSQL's sums of whole numbers are no whole numbers.
        let sum = |field| format!("CAST(COALESCE(SUM({field}), 0) AS BIGINT)");
        fields.extend(sums.split(' ').map(sum));
        let grouped = match by.is_empty() {
            true => String::new(),
            false => format!("GROUP BY {groups} ORDER BY {groups}"),
        };
        let sql = format!(
            "SELECT {} FROM usage WHERE hour >= $1 AND hour < $2 {grouped} LIMIT $3",
            fields.join(", ")
        );
        let sums = sqlx::query(AssertSqlSafe(sql))
            .bind(from)
            .bind(to)
            .bind(i64::from(most));
        let rows = async { sums.fetch_all(self.db.reading().await?).await.map_err(told) };
        let rows = self.db.within(rows).await?;
        let rows = rows.iter().map(|row| total(by, row));
        rows.collect::<Result<_, _>>().map_err(told)
    }
}

fn total(by: &[By], row: &sqlx::any::AnyRow) -> Result<Total, sqlx::Error> {
    let mut total = Total::default();
    for (at, by) in by.iter().enumerate() {
        match by {
            By::Day => total.day = Some(row.try_get(at)?),
            By::Key => total.key = Some(row.try_get(at)?),
            By::Account => total.account = Some(row.try_get(at)?),
            By::Model => total.model = Some(row.try_get(at)?),
        }
    }
    let sum = |n: usize| row.try_get::<i64, _>(by.len() + n);
    total.requests = sum(0)?;
    total.tokens_in = sum(1)?;
    total.tokens_out = sum(2)?;
    total.tokens_cached = sum(3)?;
    total.cost = sum(4)?;
    total.estimated = sum(5)?;
    Ok(total)
}
