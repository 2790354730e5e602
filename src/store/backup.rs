//! A backup: all tables as lines of JSON, the same from SQLite and from PostgreSQL, so that the one can
//! be restored into the other.
//!
//! The first line says what the file is; each table begins with its name and columns, and has an array
//! for each row; the last line counts them, so that half a file is not taken for a whole one.

use std::io::{self, BufRead, Write};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::{Store, StoreError};
use crate::secret::Secret;

/// The tables and their columns; `#` marks whole numbers, all others are text. Leases are no one's to
/// restore.
pub(super) const TABLES: [(&str, &str); 9] = [
    ("keys", "id name hash revoked_at# record"),
    (
        "assignments",
        "tier key account last_rotation# next_rotation# previous_account last_used#",
    ),
    ("slot_accounts", "tier account assigned#"),
    (
        "requests",
        "id# request key account pool model path tries status# error tokens_in# tokens_out# \
         tokens_cached# cost# estimated# began# first_byte# duration#",
    ),
    (
        "usage",
        "hour# key account model requests# tokens_in# tokens_out# tokens_cached# cost# estimated#",
    ),
    ("writers", "run# gateway written# seen#"),
    ("spent", "at# key model run# requests# tokens# cost#"),
    ("audit", "id# at# actor action target detail source"),
    ("accounts", "id sealed"),
];

/// The newest form of such files that is known.
const FORM: u32 = 1;

/// A backup could not be made, or not be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("line {line}: {what}")]
    Broken { line: usize, what: String },
    #[error("it ends early: this is not the whole of a backup")]
    Short,
    #[error("it is of a newer poolgate: form {form}, and this one knows the forms up to {FORM}")]
    Newer { form: u32 },
}

/// The lines that are no rows.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Mark {
    Head {
        poolgate_backup: u32,
        /// The key that encrypts tokens, where it was asked for, as it is in its file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state_key: Option<String>,
    },
    Table {
        table: String,
        columns: Vec<String>,
    },
    End {
        end: u64,
    },
}

/// Rows by table, in the order of the file.
pub type Counts = Vec<(String, u64)>;

struct Column {
    name: &'static str,
    is_number: bool,
}

fn columns(list: &'static str) -> Vec<Column> {
    let column = |word: &'static str| Column {
        name: word.trim_end_matches('#'),
        is_number: word.ends_with('#'),
    };
    list.split_whitespace().map(column).collect()
}

fn names(columns: &[Column]) -> Vec<&'static str> {
    columns.iter().map(|column| column.name).collect()
}

impl Store {
    /// Writes all records as they are at one moment, while they may be in use; and the key that
    /// encrypts tokens, if it is given.
    ///
    /// # Errors
    /// They cannot be read, or `out` not be written.
    pub async fn back_up(
        &self,
        state_key: Option<&Secret>,
        out: &mut dyn Write,
    ) -> Result<Counts, BackupError> {
        let told = |error| self.db.told("backup", &error);
        let mut moment = self.db.moment().await?;
        let head = Mark::Head {
            poolgate_backup: FORM,
            state_key: state_key.map(|key| key.expose().to_owned()),
        };
        line(out, &head)?;
        let mut counts = vec![];
        for (table, list) in TABLES {
            let columns = columns(list);
            let names = names(&columns);
            let mark = json!({"table": table, "columns": names});
            line(out, &mark)?;
            let sql = format!("SELECT {} FROM {table}", names.join(", "));
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *moment);
            let mut count = 0;
            while let Some(row) = rows.try_next().await.map_err(told)? {
                line(out, &values(&columns, &row).map_err(told)?)?;
                count += 1;
            }
            counts.push((table.to_owned(), count));
        }
        let end = counts.iter().map(|(_, count)| count).sum();
        line(out, &Mark::End { end })?;
        Ok(counts)
    }

    /// Puts the records of a backup in the place of all that are there, in one step: whoever uses them
    /// sees the old ones or the new ones. Returns the state key, if the backup has one.
    ///
    /// # Errors
    /// It is no whole backup, or the records cannot be written; they are as they were.
    pub async fn restore_from(
        &self,
        from: &mut dyn BufRead,
    ) -> Result<(Counts, Option<Secret>), BackupError> {
        // Everybody reads them anew.
        const RAISE: &str = "INSERT INTO counters (name, value) VALUES ($1, 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1";
        let told = |error| self.db.told("restore", &error);
        let mut lines = Lines { from, number: 0 };
        let state_key = lines.head()?;
        let mut change = self.db.change().await?;
        for (table, _) in TABLES {
            let emptied = sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")));
            emptied.execute(&mut *change).await.map_err(told)?;
        }
        let mut counts: Counts = vec![];
        let mut place: Option<Place> = None;
        let end = loop {
            match lines.next()?.ok_or(BackupError::Short)? {
                Value::Array(row) => {
                    let place = place.as_ref().filter(|place| place.fits(&row));
                    let place = place.ok_or_else(|| lines.broken("no row of this table"))?;
                    place.insert(&mut change, row).await.map_err(told)?;
                    if let Some((_, count)) = counts.last_mut() {
                        *count += 1;
                    }
                }
                Value::Object(mark) => match lines.mark(mark)? {
                    Mark::Table { table, columns } => {
                        place = Some(lines.place(&table, &columns)?);
                        counts.push((table, 0));
                    }
                    Mark::End { end } => break end,
                    Mark::Head { .. } => return Err(lines.broken("a second beginning")),
                },
                _ => return Err(lines.broken("no part of a backup")),
            }
        };
        if end != counts.iter().map(|(_, count)| count).sum::<u64>() {
            return Err(lines.broken("some rows are missing"));
        }
        for name in ["keys", "slots", "accounts"] {
            let raised = sqlx::query(RAISE).bind(name);
            raised.execute(&mut *change).await.map_err(told)?;
        }
        change.commit().await.map_err(told)?;
        Ok((counts, state_key))
    }
}

fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn values(columns: &[Column], row: &AnyRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |(at, column): (usize, &Column)| {
        Ok(match column.is_number {
            true => json!(row.try_get::<Option<i64>, _>(at)?),
            false => json!(row.try_get::<Option<String>, _>(at)?),
        })
    };
    columns.iter().enumerate().map(value).collect()
}

/// The lines of a backup, counted for whoever looks for a mistake.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    number: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Value>, BackupError> {
        let mut text = String::new();
        self.number += 1;
        if self.from.read_line(&mut text)? == 0 {
            return Ok(None);
        }
        let value = serde_json::from_str(&text);
        value.map(Some).map_err(|_| self.broken("no JSON"))
    }

    /// The first line. Returns the state key in it.
    fn head(&mut self) -> Result<Option<Secret>, BackupError> {
        let first = self.next()?.ok_or(BackupError::Short)?;
        match serde_json::from_value(first) {
            Ok(Mark::Head {
                poolgate_backup,
                state_key,
            }) if poolgate_backup <= FORM => Ok(state_key.map(Secret::new)),
            Ok(Mark::Head {
                poolgate_backup, ..
            }) => Err(BackupError::Newer {
                form: poolgate_backup,
            }),
            _ => Err(self.broken("not the beginning of a backup")),
        }
    }

    fn mark(&self, mark: Map<String, Value>) -> Result<Mark, BackupError> {
        let mark = serde_json::from_value(Value::Object(mark));
        mark.map_err(|_| self.broken("no part of a backup"))
    }

    fn place(&self, table: &str, written: &[String]) -> Result<Place, BackupError> {
        let known = TABLES.iter().find(|(name, _)| *name == table);
        let (table, list) = known.ok_or_else(|| self.broken("a table that is not known"))?;
        let known = columns(list);
        let of = |name: &String| known.iter().find(|column| column.name == *name);
        let are_numbers: Option<Vec<bool>> = written
            .iter()
            .map(|name| Some(of(name)?.is_number))
            .collect();
        let are_numbers = are_numbers.ok_or_else(|| self.broken("a column that is not known"))?;
        let places: Vec<String> = (1..=written.len()).map(|n| format!("${n}")).collect();
        let insert = format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            written.join(", "),
            places.join(", ")
        );
        Ok(Place {
            insert,
            are_numbers,
        })
    }

    fn broken(&self, what: &str) -> BackupError {
        BackupError::Broken {
            line: self.number,
            what: what.to_owned(),
        }
    }
}

/// Where rows go.
struct Place {
    insert: String,
    are_numbers: Vec<bool>,
}

impl Place {
    fn fits(&self, row: &[Value]) -> bool {
        let fits = |(value, is_number): (&Value, &bool)| match is_number {
            true => value.is_i64() || value.is_null(),
            false => value.is_string() || value.is_null(),
        };
        row.len() == self.are_numbers.len() && row.iter().zip(&self.are_numbers).all(fits)
    }

    async fn insert(
        &self,
        change: &mut Transaction<'_, Any>,
        row: Vec<Value>,
    ) -> Result<(), sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(self.insert.clone()));
        for (value, is_number) in row.into_iter().zip(&self.are_numbers) {
            query = match (value, is_number) {
                (Value::String(text), false) => query.bind(text),
                (_, false) => query.bind(None::<String>),
                (value, true) => query.bind(value.as_i64()),
            };
        }
        query.execute(&mut **change).await.map(drop)
    }
}
