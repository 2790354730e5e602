//! The requests of the last days, one row each.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _};

use super::gather::kept;
use super::millis;
use crate::dialect::Usage;
use crate::telemetry::AccessLine;

/// A request as it is kept. Times are in milliseconds since 1970, spans in milliseconds, money in
/// billionths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Of this row: unlike the name that a client may have given to its request, nobody else's.
    pub id: i64,
    pub request: String,
    /// The key's id; `-` where no key was asked.
    pub key: String,
    /// Whose answer the client got.
    pub account: Option<String>,
    pub pool: Option<String>,
    pub model: Option<String>,
    pub path: String,
    /// The accounts that were asked and what came of each: `a:rate_limited,b:success`.
    pub tries: String,
    /// 0 when none was sent.
    pub status: i64,
    pub error: Option<String>,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub tokens_cached: i64,
    pub cost: i64,
    /// The vendor stated no amount.
    pub estimated: bool,
    pub began: i64,
    pub first_byte: Option<i64>,
    pub duration: i64,
}

pub(super) const COLUMNS: [&str; 18] = [
    "id",
    "request",
    "key",
    "account",
    "pool",
    "model",
    "path",
    "tries",
    "status",
    "error",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "cost",
    "estimated",
    "began",
    "first_byte",
    "duration",
];

impl RequestRecord {
    /// The row `id` of a request that is over.
    pub(super) fn of(id: i64, row: &super::Row) -> Self {
        let super::Row {
            line,
            key,
            usage,
            cost,
            estimated,
            ..
        } = row;
        let kept = |text: &str| kept(text).into_owned();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let span = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let Usage {
            input,
            output,
            cached,
        } = *usage;
        RequestRecord {
            id,
            tries: tries(line),
            request: kept(&line.request_id),
            key: kept(key),
            account: line.account.as_deref().map(kept),
            pool: line.pool.as_deref().map(kept),
            model: line.model.as_deref().map(kept),
            path: line.path.to_owned(),
            status: line.status.into(),
            error: line.error.map(str::to_owned),
            tokens_in: number(input),
            tokens_out: number(output),
            tokens_cached: number(cached),
            cost: number(*cost),
            estimated: *estimated,
            began: millis(line.time),
            first_byte: line.first_byte.map(span),
            duration: span(line.duration),
        }
    }

    /// In the order of [`COLUMNS`].
    pub(super) fn bind_to<'q>(&self, query: Query<'q>) -> Query<'q> {
        let query = query
            .bind(self.id)
            .bind(self.request.clone())
            .bind(self.key.clone())
            .bind(self.account.clone())
            .bind(self.pool.clone())
            .bind(self.model.clone())
            .bind(self.path.clone())
            .bind(self.tries.clone())
            .bind(self.status)
            .bind(self.error.clone());
        let query = query
            .bind(self.tokens_in)
            .bind(self.tokens_out)
            .bind(self.tokens_cached)
            .bind(self.cost)
            .bind(i64::from(self.estimated));
        query
            .bind(self.began)
            .bind(self.first_byte)
            .bind(self.duration)
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let estimated: i64 = row.try_get("estimated")?;
        Ok(RequestRecord {
            id: row.try_get("id")?,
            request: row.try_get("request")?,
            key: row.try_get("key")?,
            account: row.try_get("account")?,
            pool: row.try_get("pool")?,
            model: row.try_get("model")?,
            path: row.try_get("path")?,
            tries: row.try_get("tries")?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
            tokens_in: row.try_get("tokens_in")?,
            tokens_out: row.try_get("tokens_out")?,
            tokens_cached: row.try_get("tokens_cached")?,
            cost: row.try_get("cost")?,
            estimated: estimated != 0,
            began: row.try_get("began")?,
            first_byte: row.try_get("first_byte")?,
            duration: row.try_get("duration")?,
        })
    }
}

pub(super) type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn tries(line: &AccessLine) -> String {
    let mut text = String::new();
    for one in &line.tries {
        let comma = if text.is_empty() { "" } else { "," };
        text.extend([comma, &one.account, ":", one.outcome]);
    }
    text
}
