//! The audit record: what operators did, one row each, written once and never changed.

use serde_json::Value;
use sqlx::Row as _;

use super::{Store, StoreError};

/// The longest text of a row that is kept, in bytes.
const LONGEST: usize = 4_096;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// Grows with the time; nobody else's.
    pub id: i64,
    /// In milliseconds since 1970.
    pub at: i64,
    /// The name of the token that was shown.
    pub actor: String,
    /// As `accounts.disable`.
    pub action: String,
    /// What it was done to; empty where there is only one such thing.
    pub target: String,
    /// The address that it was done from; empty where it is not known.
    pub source: String,
    /// What there is to say of it, without a secret.
    pub detail: Value,
}

impl AuditRecord {
    /// The id of something done at `at`, which `random` tells from what else was done then.
    pub fn id_at(at: i64, random: i64) -> i64 {
        const BITS: u32 = 20;
        at << BITS | random & ((1 << BITS) - 1)
    }
}

impl Store {
    /// Writes one row down. It is on the disk when this returns.
    ///
    /// # Errors
    /// The records cannot be written.
    pub async fn put_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO audit (id, at, actor, action, target, source, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let cut = |text: &str| text[..text.floor_char_boundary(LONGEST)].replace('\0', "");
        let added = sqlx::query(ADD)
            .bind(record.id)
            .bind(record.at)
            .bind(cut(&record.actor))
            .bind(cut(&record.action))
            .bind(cut(&record.target))
            .bind(cut(&record.source))
            .bind(cut(&record.detail.to_string()));
        let added = async {
            let added = added.execute(self.db.durable().await?).await;
            added.map_err(|error| self.db.told("put_audit", &error))
        };
        self.db.within(added).await.map(drop)
    }

    /// The latest rows before `before`, the latest first; at most `most`.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn audit(&self, before: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
        const LATEST: &str = "SELECT id, at, actor, action, target, source, detail FROM audit \
             WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let told = |error| self.db.told("audit", &error);
        let latest = sqlx::query(LATEST).bind(before).bind(i64::from(most));
        let rows = async {
            latest
                .fetch_all(self.db.reading().await?)
                .await
                .map_err(told)
        };
        let rows = self.db.within(rows).await?;
        rows.iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(told)
    }
}

fn read(row: &sqlx::any::AnyRow) -> Result<AuditRecord, sqlx::Error> {
    let detail: String = row.try_get(6)?;
    Ok(AuditRecord {
        id: row.try_get(0)?,
        at: row.try_get(1)?,
        actor: row.try_get(2)?,
        action: row.try_get(3)?,
        target: row.try_get(4)?,
        source: row.try_get(5)?,
        // One that was cut is no JSON any more.
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
    })
}
