//! The requests of the last days, one row each, and their sums by the hour, which are kept longer.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::{Store, StoreError, millis};
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

/// Rows of one statement. The database keeps the statement, as it does that of a single row.
const ROWS: usize = 50;

/// The longest text of a client's that is kept, in bytes.
const LONGEST: usize = 256;

const HOUR: i64 = 3_600_000;

impl RequestRecord {
    /// The row `id` of a request that is over.
    pub(super) fn of(id: i64, row: super::Row) -> Self {
        let super::Row {
            line,
            key,
            usage,
            cost,
            estimated,
        } = row;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let span = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let Usage {
            input,
            output,
            cached,
        } = usage;
        RequestRecord {
            id,
            tries: tries(&line),
            request: kept(&line.request_id),
            key: kept(&key),
            account: line.account.as_deref().map(kept),
            pool: line.pool.as_deref().map(kept),
            model: line.model.as_deref().map(kept),
            path: line.path.to_owned(),
            status: line.status.into(),
            error: line.error.map(str::to_owned),
            tokens_in: number(input),
            tokens_out: number(output),
            tokens_cached: number(cached),
            cost: number(cost),
            estimated,
            began: millis(line.time),
            first_byte: line.first_byte.map(span),
            duration: span(line.duration),
        }
    }

    /// An account was asked: it counts as used.
    pub(super) fn is_used(&self) -> bool {
        !self.tries.is_empty()
    }

    fn bind_to<'q>(&self, query: Query<'q>) -> Query<'q> {
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

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn tries(line: &AccessLine) -> String {
    let mut text = String::new();
    for one in &line.tries {
        let comma = if text.is_empty() { "" } else { "," };
        text.extend([comma, &one.account, ":", one.outcome]);
    }
    text
}

/// As much of a text as is kept. PostgreSQL has no text with a NUL in it.
fn kept(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    text[..end].replace('\0', "")
}

/// What one hour's requests of one key to one account for one model come to.
#[derive(Default)]
struct Sums {
    requests: i64,
    tokens: [i64; 3],
    cost: i64,
    estimated: i64,
}

impl Store {
    /// Adds these rows and counts them in their hours, all of them or none. `again`: some of them may
    /// have been added before, by a call whose answer was lost; those are left as they are.
    ///
    /// # Errors
    /// The records cannot be written.
    pub(super) async fn add_requests(
        &self,
        rows: &[Arc<RequestRecord>],
        again: bool,
    ) -> Result<(), StoreError> {
        self.db.within(self.try_to_add(rows, again)).await
    }

    async fn try_to_add(&self, rows: &[Arc<RequestRecord>], again: bool) -> Result<(), StoreError> {
        let told = |error| self.db.told("add_requests", &error);
        let mut adding = self.db.adding().await?;
        let known = match again {
            true => known(&mut adding, rows).await.map_err(told)?,
            false => HashSet::new(),
        };
        let new = rows.iter().map(|row| &**row);
        let new: Vec<&RequestRecord> = new.filter(|row| !known.contains(&row.id)).collect();
        let (many, single) = new.as_chunks::<ROWS>();
        let many = many.iter().map(<[_; ROWS]>::as_slice);
        let numbered = self.db.is_server();
        for rows in many.chain(single.chunks(1)) {
            insert(&mut adding, rows, numbered).await.map_err(told)?;
        }
        count(&mut adding, &new).await.map_err(told)?;
        adding.commit().await.map_err(told)
    }

    /// The latest requests that are kept, the latest first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn latest_requests(&self, most: u32) -> Result<Vec<RequestRecord>, StoreError> {
        let told = |error| self.db.told("requests", &error);
        let sql = format!(
            "SELECT {} FROM requests ORDER BY began DESC, id DESC LIMIT $1",
            COLUMNS.join(", ")
        );
        let latest = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(most));
        let rows = async {
            latest
                .fetch_all(self.db.reading().await?)
                .await
                .map_err(told)
        };
        let rows = self.db.within(rows).await?;
        let rows = rows.iter().map(RequestRecord::read);
        rows.collect::<Result<_, _>>().map_err(told)
    }
}

async fn known(
    adding: &mut Transaction<'_, Any>,
    rows: &[Arc<RequestRecord>],
) -> Result<HashSet<i64>, sqlx::Error> {
    let places: Vec<String> = (1..=rows.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT id FROM requests WHERE id IN ({})",
        places.join(", ")
    );
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
    for row in rows {
        query = query.bind(row.id);
    }
    let known: Vec<i64> = query.fetch_all(&mut **adding).await?;
    Ok(known.into_iter().collect())
}

async fn insert(
    adding: &mut Transaction<'_, Any>,
    rows: &[&RequestRecord],
    numbered: bool,
) -> Result<(), sqlx::Error> {
    let place = |n: usize| match numbered {
        true => format!("${n}"),
        // SQLite takes `$1` for a name, and finds each of a thousand names by going through them.
        false => "?".to_owned(),
    };
    let values = |row: usize| {
        let first = row * COLUMNS.len() + 1;
        let places: Vec<String> = (first..first + COLUMNS.len()).map(place).collect();
        format!("({})", places.join(","))
    };
    let values: Vec<String> = (0..rows.len()).map(values).collect();
    let sql = format!(
        "INSERT INTO requests ({}) VALUES {}",
        COLUMNS.join(","),
        values.join(",")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = row.bind_to(query);
    }
    query.execute(&mut **adding).await.map(drop)
}

/// Adds to the sums of each hour, in one order for all gateways: in two orders, two of them could wait
/// for each other.
async fn count(
    adding: &mut Transaction<'_, Any>,
    rows: &[&RequestRecord],
) -> Result<(), sqlx::Error> {
    const ADD: &str = "INSERT INTO usage (hour, key, account, model, requests, tokens_in, \
             tokens_out, tokens_cached, cost, estimated) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (hour, key, account, model) DO UPDATE SET \
             requests = usage.requests + excluded.requests, \
             tokens_in = usage.tokens_in + excluded.tokens_in, \
             tokens_out = usage.tokens_out + excluded.tokens_out, \
             tokens_cached = usage.tokens_cached + excluded.tokens_cached, \
             cost = usage.cost + excluded.cost, \
             estimated = usage.estimated + excluded.estimated";
    let mut sums: BTreeMap<(i64, &str, &str, &str), Sums> = BTreeMap::new();
    for row in rows {
        let hour = row.began - row.began.rem_euclid(HOUR);
        let account = row.account.as_deref().unwrap_or_default();
        // A name that no account knew is only what a client wrote.
        let model = row.model.as_deref().filter(|_| row.status < 400);
        let place = (hour, &*row.key, account, model.unwrap_or_default());
        let sum = sums.entry(place).or_default();
        sum.requests += 1;
        for (sum, tokens) in
            sum.tokens
                .iter_mut()
                .zip([row.tokens_in, row.tokens_out, row.tokens_cached])
        {
            *sum = sum.saturating_add(tokens);
        }
        sum.cost = sum.cost.saturating_add(row.cost);
        sum.estimated += i64::from(row.estimated);
    }
    for ((hour, key, account, model), sum) in sums {
        let query = sqlx::query(ADD)
            .bind(hour)
            .bind(key)
            .bind(account)
            .bind(model)
            .bind(sum.requests)
            .bind(sum.tokens[0])
            .bind(sum.tokens[1])
            .bind(sum.tokens[2])
            .bind(sum.cost)
            .bind(sum.estimated);
        query.execute(&mut **adding).await?;
    }
    Ok(())
}
