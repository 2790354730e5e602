//! The keys that poolgate issued or imported: all that is known of them but the keys themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyPool, Row, Transaction};

use super::copy::Copy;
use super::{Store, StoreError};
use crate::config::Limit;

/// What is kept of a key. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Never given twice.
    pub id: String,
    /// Unique among the keys that are not revoked.
    pub name: String,
    /// Of the key, as 64 hex digits.
    pub hash: String,
    /// The last four characters of the key; empty when only its hash is known.
    #[serde(default)]
    pub hint: String,
    pub tier: String,
    /// The account that alone serves it.
    #[serde(default)]
    pub account: Option<String>,
    pub created_at: i64,
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// Patterns; none: those of its tier.
    #[serde(default)]
    pub models: Vec<String>,
    /// Besides those of its tier.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// 0: as its tier says.
    #[serde(default)]
    pub max_concurrent: u32,
    /// Addresses or ranges that it may be used from; none: all.
    #[serde(default)]
    pub allowed_ips: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub notes: String,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub revoked_at: Option<i64>,
    /// The hash it had before its rotation, and until when that one is good.
    #[serde(default)]
    pub previous: Option<(String, i64)>,
    /// Its answers carry `X-Poolgate-Account`.
    #[serde(default)]
    pub expose_account: bool,
}

fn yes() -> bool {
    true
}

impl Store {
    /// Adds a key. It is on the disk when this returns.
    ///
    /// # Errors
    /// Its name or its hash is another key's; or the records cannot be written, and there is no such
    /// key.
    pub async fn put_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        self.put_keys(std::slice::from_ref(key)).await
    }

    /// Adds all of these keys, or none.
    ///
    /// # Errors
    /// As for [`Store::put_key`].
    pub async fn put_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError> {
        self.db.within(self.add_keys(keys)).await
    }

    async fn add_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError> {
        const ADD: &str =
            "INSERT INTO keys (id, name, hash, revoked_at, record) VALUES ($1, $2, $3, $4, $5)";
        let told = |error| self.db.told("put_keys", &error);
        let mut change = self.db.change().await?;
        for key in keys {
            self.refuse_twins(&mut change, key).await?;
            let added = sqlx::query(ADD)
                .bind(&key.id)
                .bind(&key.name)
                .bind(&key.hash)
                .bind(key.revoked_at)
                .bind(written(key));
            added.execute(&mut *change).await.map_err(told)?;
        }
        count_up(&mut change).await.map_err(told)?;
        change.commit().await.map_err(told)
    }

    /// Changes a key that is there by `change`, with nobody else's change in between; `change` sees
    /// it as it is then. Returns it as it was left, or `None` if there is none of this id. What was
    /// changed is on the disk when this returns.
    ///
    /// # Errors
    /// The new name or hash is another key's; or the records cannot be written, and it is as it was.
    pub async fn change_key(
        &self,
        id: &str,
        change: impl FnOnce(&mut KeyRecord) + Send,
    ) -> Result<Option<KeyRecord>, StoreError> {
        self.db.within(self.change_alone(id, change)).await
    }

    async fn change_alone(
        &self,
        id: &str,
        change: impl FnOnce(&mut KeyRecord) + Send,
    ) -> Result<Option<KeyRecord>, StoreError> {
        const CHANGE: &str =
            "UPDATE keys SET name = $2, hash = $3, revoked_at = $4, record = $5 WHERE id = $1";
        let told = |error| self.db.told("change_key", &error);
        let mut alone = self.db.change().await?;
        let found = sqlx::query("SELECT record FROM keys WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *alone)
            .await
            .map_err(told)?;
        let Some(found) = found else {
            return Ok(None);
        };
        let mut key = self.read(&found)?;
        change(&mut key);
        self.refuse_twins(&mut alone, &key).await?;
        let changed = sqlx::query(CHANGE)
            .bind(id)
            .bind(&key.name)
            .bind(&key.hash)
            .bind(key.revoked_at)
            .bind(written(&key));
        changed.execute(&mut *alone).await.map_err(told)?;
        count_up(&mut alone).await.map_err(told)?;
        alone.commit().await.map_err(told)?;
        Ok(Some(key))
    }

    /// Forgets a key. False: there was none of this id.
    ///
    /// # Errors
    /// The records cannot be written, and it is still there.
    pub async fn delete_key(&self, id: &str) -> Result<bool, StoreError> {
        self.db.within(self.delete_alone(id)).await
    }

    async fn delete_alone(&self, id: &str) -> Result<bool, StoreError> {
        let told = |error| self.db.told("delete_key", &error);
        let mut change = self.db.change().await?;
        let deleted = sqlx::query("DELETE FROM keys WHERE id = $1").bind(id);
        let deleted = deleted.execute(&mut *change).await.map_err(told)?;
        count_up(&mut change).await.map_err(told)?;
        change.commit().await.map_err(told)?;
        Ok(deleted.rows_affected() == 1)
    }

    /// The key of this id.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn key(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let key = sqlx::query("SELECT record FROM keys WHERE id = $1").bind(id);
        let found = async {
            let found = key.fetch_optional(self.db.reading().await?).await;
            found.map_err(|error| self.db.told("key", &error))
        };
        let found = self.db.within(found).await?;
        found.map(|row| self.read(&row)).transpose()
    }

    /// All keys, the revoked ones too, in the order of their ids.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let keys = async { self.keys_over(self.db.reading().await?).await };
        self.db.within(keys).await
    }

    /// The number of the last change, and all keys as they were then or later: for whoever follows them,
    /// and waits for nobody else's questions.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn keys_now(&self) -> Result<(i64, Vec<KeyRecord>), StoreError> {
        // In this order: what changes in between is read again.
        let version = self.keys_version().await?;
        let keys = async { self.keys_over(self.db.watching().await?).await };
        Ok((version, self.db.within(keys).await?))
    }

    async fn keys_over(&self, connections: &AnyPool) -> Result<Vec<KeyRecord>, StoreError> {
        let found = sqlx::query("SELECT record FROM keys ORDER BY id");
        let found = found.fetch_all(connections).await;
        let found = found.map_err(|error| self.db.told("keys", &error))?;
        found.iter().map(|row| self.read(row)).collect()
    }

    /// Keeps these keys for a start while their server is away: whoever follows all changes does it,
    /// and nobody else, as what is older must not come in the place of what is newer.
    pub async fn keep_keys(&self, keys: &[KeyRecord]) {
        if let Some(copy) = &self.copy {
            copy.keep(keys).await;
        }
    }

    /// The keys as this gateway kept them last; none where it never did.
    pub fn kept_keys(&self) -> Vec<KeyRecord> {
        self.copy.as_ref().map(Copy::keys).unwrap_or_default()
    }

    /// A number that every change of a key raises: whoever saw it with [`Store::keys_now`] knows when
    /// to read them again.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn keys_version(&self) -> Result<i64, StoreError> {
        let version = async {
            let version = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'keys'");
            let version = version.fetch_one(self.db.watching().await?).await;
            version.map_err(|error| self.db.told("keys_version", &error))
        };
        self.db.within(version).await
    }

    /// Two keys with one name or one hash could not be told apart. The database would refuse them too,
    /// but not say which it was.
    async fn refuse_twins(
        &self,
        change: &mut Transaction<'_, Any>,
        key: &KeyRecord,
    ) -> Result<(), StoreError> {
        const TWIN: &str = "SELECT name, hash FROM keys WHERE id <> $1 \
             AND (hash = $2 OR (name = $3 AND revoked_at IS NULL AND $4 = 0))";
        let twin = sqlx::query(TWIN)
            .bind(&key.id)
            .bind(&key.hash)
            .bind(&key.name)
            .bind(i64::from(key.revoked_at.is_some()))
            .fetch_optional(&mut **change)
            .await
            .map_err(|error| self.db.told("put_keys", &error))?;
        let Some(twin) = twin else {
            return Ok(());
        };
        let (name, hash): (String, String) = (self.field(&twin, 0)?, self.field(&twin, 1)?);
        Err(match hash == key.hash {
            true => StoreError::KeyKnown { name },
            false => StoreError::NameTaken { name },
        })
    }

    fn read(&self, row: &sqlx::any::AnyRow) -> Result<KeyRecord, StoreError> {
        let record: String = self.field(row, 0)?;
        serde_json::from_str(&record)
            .map_err(|error| self.db.told("keys", &sqlx::Error::Decode(Box::new(error))))
    }

    fn field<T>(&self, row: &sqlx::any::AnyRow, at: usize) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Any> + sqlx::Type<Any>,
    {
        row.try_get(at)
            .map_err(|error| self.db.told("keys", &error))
    }
}

fn written(key: &KeyRecord) -> String {
    // A record has text for keys and nothing that JSON does not know.
    serde_json::to_string(key).unwrap_or_default()
}

/// Everybody reads the keys anew.
async fn count_up(change: &mut Transaction<'_, Any>) -> Result<(), sqlx::Error> {
    let counted = sqlx::query("UPDATE counters SET value = value + 1 WHERE name = 'keys'");
    counted.execute(&mut **change).await.map(drop)
}
