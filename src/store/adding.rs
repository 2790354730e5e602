//! Adds what was gathered to the records, each item once: whoever writes numbers its items, and the
//! records know up to which number they have them.

use sqlx::{Any, AssertSqlSafe, Transaction};

use super::gather::Item;
use super::requests::{COLUMNS, Query};
use super::usage::Name;
use super::{Store, StoreError};

/// Rows of one statement. The database keeps the statement, as it does that of a single row.
const ROWS: usize = 50;

/// Says that this writer is there, and up to which of its items all are written. Whoever writes by the
/// same name waits: an answer that was lost may be of a call that is still being carried out.
const FROM: &str = "INSERT INTO writers (run, gateway, written, seen) VALUES ($1, $2, 0, $3) \
     ON CONFLICT (run) DO UPDATE SET seen = excluded.seen RETURNING written";

const TO: &str = "UPDATE writers SET written = $2 WHERE run = $1";

/// What the rows of one table look like.
struct Form {
    table: &'static str,
    columns: &'static [&'static str],
    /// What becomes of a row that is there.
    twin: &'static str,
}

const REQUESTS: Form = Form {
    table: "requests",
    columns: &COLUMNS,
    twin: "",
};

const USED: Form = Form {
    table: "usage",
    columns: &[
        "hour",
        "key",
        "account",
        "model",
        "requests",
        "tokens_in",
        "tokens_out",
        "tokens_cached",
        "cost",
        "estimated",
    ],
    twin: "ON CONFLICT (hour, key, account, model) DO UPDATE SET \
         requests = usage.requests + excluded.requests, \
         tokens_in = usage.tokens_in + excluded.tokens_in, \
         tokens_out = usage.tokens_out + excluded.tokens_out, \
         tokens_cached = usage.tokens_cached + excluded.tokens_cached, \
         cost = usage.cost + excluded.cost, \
         estimated = usage.estimated + excluded.estimated",
};

const SPENT: Form = Form {
    table: "spent",
    columns: &["at", "key", "model", "run", "requests", "tokens", "cost"],
    twin: "ON CONFLICT (at, key, model, run) DO UPDATE SET \
         requests = spent.requests + excluded.requests, \
         tokens = spent.tokens + excluded.tokens, \
         cost = spent.cost + excluded.cost",
};

impl Form {
    /// The statement for so many rows.
    fn insert(&self, rows: usize, numbered: bool) -> String {
        let place = |n: usize| match numbered {
            true => format!("${n}"),
            // SQLite takes `$1` for a name, and finds each of a thousand names by going through them.
            false => "?".to_owned(),
        };
        let values = |row: usize| {
            let first = row * self.columns.len() + 1;
            let places: Vec<String> = (first..first + self.columns.len()).map(place).collect();
            format!("({})", places.join(","))
        };
        let values: Vec<String> = (0..rows).map(values).collect();
        format!(
            "INSERT INTO {} ({}) VALUES {} {}",
            self.table,
            self.columns.join(","),
            values.join(","),
            self.twin
        )
    }
}

impl Item {
    fn form(&self) -> &'static Form {
        match self {
            Item::Request(_) => &REQUESTS,
            Item::Used { .. } => &USED,
            Item::Spent { .. } => &SPENT,
        }
    }

    /// In the order of its form's columns.
    fn bind_to<'q>(&'q self, query: Query<'q>, run: i64) -> Query<'q> {
        match self {
            Item::Request(request) => request.bind_to(query),
            Item::Used {
                hour,
                key,
                account,
                model,
                sums,
            } => {
                let query = query.bind(*hour).bind(&**key).bind(&**account);
                let query = query.bind(&**model).bind(sums.requests);
                let query = query.bind(sums.tokens_in).bind(sums.tokens_out);
                let query = query.bind(sums.tokens_cached).bind(sums.cost);
                query.bind(sums.estimated)
            }
            Item::Spent {
                at,
                key,
                model,
                requests,
                tokens,
                cost,
            } => {
                let query = query.bind(*at).bind(&**key).bind(&**model).bind(run);
                query.bind(*requests).bind(*tokens).bind(*cost)
            }
        }
    }
}

impl Store {
    /// Adds these items, of which the first one has the number `first` among those of `writer`; all of
    /// them or none. Those that were added before, by a call whose answer was lost, are left out.
    /// `now`: in milliseconds since 1970.
    ///
    /// # Errors
    /// The records cannot be written.
    pub(super) async fn add(
        &self,
        writer: &Name,
        first: i64,
        items: &[Item],
        now: i64,
    ) -> Result<(), StoreError> {
        self.db
            .within(self.try_to_add(writer, first, items, now))
            .await
    }

    async fn try_to_add(
        &self,
        writer: &Name,
        first: i64,
        items: &[Item],
        now: i64,
    ) -> Result<(), StoreError> {
        let told = |error| self.db.told("add", &error);
        let mut adding = self.db.adding().await?;
        let from = sqlx::query_scalar(FROM)
            .bind(writer.run)
            .bind(&*writer.gateway)
            .bind(now);
        let written: i64 = from.fetch_one(&mut *adding).await.map_err(told)?;
        let known = usize::try_from(written + 1 - first).unwrap_or(0);
        let new = items.get(known..).unwrap_or_default();
        let numbered = self.db.is_server();
        for same in new.chunk_by(|one, next| one.form().table == next.form().table) {
            let (many, single) = same.as_chunks::<ROWS>();
            let many = many.iter().map(<[_; ROWS]>::as_slice);
            for rows in many.chain(single.chunks(1)) {
                let put = put(&mut adding, rows, writer.run, numbered);
                put.await.map_err(told)?;
            }
        }
        let last = first + items.len() as i64 - 1;
        let to = sqlx::query(TO).bind(writer.run).bind(last.max(written));
        to.execute(&mut *adding).await.map_err(told)?;
        adding.commit().await.map_err(told)
    }
}

/// Rows of one table.
async fn put(
    adding: &mut Transaction<'_, Any>,
    rows: &[Item],
    run: i64,
    numbered: bool,
) -> Result<(), sqlx::Error> {
    let Some(form) = rows.first().map(Item::form) else {
        return Ok(());
    };
    let sql = form.insert(rows.len(), numbered);
    let query = sqlx::query(AssertSqlSafe(sql));
    let query = rows
        .iter()
        .fold(query, |query, row| row.bind_to(query, run));
    query.execute(&mut **adding).await.map(drop)
}
