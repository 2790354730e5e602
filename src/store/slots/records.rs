//! The book of slots in the records. A row is one key's slot, and no number of taken slots is kept
//! beside the rows: a gateway that is killed at any moment leaves a book that is right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{Ask, Assignment, Change, Decision, Ledger, LedgerError, Placed, Tally, decide};
use crate::store::{Store, StoreError};

/// Several statements as one step.
type Step = Transaction<'static, Any>;

/// What is known of a tier's accounts.
#[derive(Default)]
struct Accounts {
    tally: HashMap<String, Tally>,
    /// When the key was used last that rests longest on an account.
    oldest: HashMap<String, i64>,
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        LedgerError::failed(error.to_string())
    }
}

/// So long a step may take; a connection that died silently would have it wait for a quarter of an hour.
const LONGEST: Duration = Duration::from_secs(5);

/// Gives `work` its time.
async fn in_time<T>(work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    let done = tokio::time::timeout(LONGEST, work).await;
    done.unwrap_or_else(|_| Err(LedgerError::failed("the records do not answer in time")))
}

#[async_trait]
impl Ledger for Store {
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        in_time(async move {
            let told = |error| self.db.told("slots", &error);
            let mut step = self.db.change().await?;
            let held = slot_of(&mut step, ask).await.map_err(told)?;
            let accounts = accounts(&mut step, ask).await.map_err(told)?;
            let placed = match decide(ask, held.as_ref(), &accounts.tally) {
                Decision::Keep { next_rotation } => keep(&mut step, held, next_rotation).await,
                Decision::Take { candidate } => take(&mut step, ask, held, candidate).await,
                Decision::Full { gives_up } => {
                    let next_release = accounts.next_release(ask);
                    let freed = match gives_up {
                        true => free(&mut step, ask.key).await,
                        false => Ok(()),
                    };
                    freed.map(|()| Some(Placed::Full { next_release }))
                }
            };
            let placed = placed.map_err(told)?;
            step.commit().await.map_err(told)?;
            // Only what holds a slot is kept.
            placed.ok_or_else(|| LedgerError::failed("the book of slots contradicts itself"))
        })
        .await
    }

    async fn release(
        &self,
        key: &str,
        account: &str,
        unused_since: Option<i64>,
    ) -> Result<bool, LedgerError> {
        in_time(async move {
            const FREE: &str =
                "DELETE FROM assignments WHERE key = $1 AND account = $2 AND last_used <= $3";
            let told = |error| self.db.told("slots", &error);
            let mut step = self.db.change().await?;
            let freed = sqlx::query(FREE)
                .bind(key)
                .bind(account)
                .bind(unused_since.unwrap_or(i64::MAX));
            let freed = freed.execute(&mut *step).await.map_err(told)?;
            if freed.rows_affected() > 0 {
                count_up(&mut step).await.map_err(told)?;
            }
            step.commit().await.map_err(told)?;
            Ok(freed.rows_affected() > 0)
        })
        .await
    }

    async fn touch(&self, used: &[(Arc<str>, i64)]) -> Result<(), LedgerError> {
        in_time(async move {
            const USED: &str =
                "UPDATE assignments SET last_used = $2 WHERE key = $1 AND last_used < $2";
            let told = |error| self.db.told("slots", &error);
            let mut step = self.db.adding().await?;
            for (key, at) in used {
                let touched = sqlx::query(USED).bind(&**key).bind(*at);
                touched.execute(&mut *step).await.map_err(told)?;
            }
            Ok(step.commit().await.map_err(told)?)
        })
        .await
    }

    async fn all(&self) -> Result<Vec<Assignment>, LedgerError> {
        in_time(async move {
            const ALL: &str = "SELECT tier, key, account, last_rotation, next_rotation, \
             previous_account, last_used FROM assignments ORDER BY key, tier";
            let rows = sqlx::query(ALL).fetch_all(self.db.reading().await?).await;
            let all = rows.and_then(|rows| rows.iter().map(read).collect());
            Ok(all.map_err(|error| self.db.told("slots", &error))?)
        })
        .await
    }

    async fn version(&self) -> Result<u64, LedgerError> {
        in_time(async move {
            let version = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'slots'")
                .fetch_optional(self.db.reading().await?)
                .await;
            let version: Option<i64> = version.map_err(|error| self.db.told("slots", &error))?;
            Ok(version.unwrap_or_default().unsigned_abs())
        })
        .await
    }

    async fn restore(&self, known: &[Assignment]) -> Result<(), LedgerError> {
        in_time(async move {
            let told = |error| self.db.told("slots", &error);
            let mut step = self.db.change().await?;
            for assignment in known {
                put(&mut step, assignment).await.map_err(told)?;
            }
            count_up(&mut step).await.map_err(told)?;
            Ok(step.commit().await.map_err(told)?)
        })
        .await
    }
}

impl Accounts {
    fn next_release(&self, ask: &Ask<'_>) -> Option<i64> {
        let candidates = ask.candidates.iter();
        let oldest = candidates
            .filter_map(|it| self.oldest.get(&*it.account))
            .min();
        oldest.map(|last_used| last_used.saturating_add(ask.idle_release))
    }
}

/// The slot that the key holds in its tier.
async fn slot_of(step: &mut Step, ask: &Ask<'_>) -> Result<Option<Assignment>, sqlx::Error> {
    const HELD: &str = "SELECT tier, key, account, last_rotation, next_rotation, \
         previous_account, last_used FROM assignments WHERE tier = $1 AND key = $2";
    let held = sqlx::query(HELD).bind(ask.tier).bind(ask.key);
    let held = held.fetch_optional(&mut **step).await?;
    held.as_ref().map(read).transpose()
}

/// What other keys have of the tier's accounts.
async fn accounts(step: &mut Step, ask: &Ask<'_>) -> Result<Accounts, sqlx::Error> {
    const USED: &str = "SELECT account, COUNT(*), MIN(last_used) FROM assignments \
         WHERE tier = $1 AND key <> $2 GROUP BY account";
    const GIVEN: &str = "SELECT account, assigned FROM slot_accounts WHERE tier = $1";
    let mut accounts = Accounts::default();
    let used = sqlx::query(USED).bind(ask.tier).bind(ask.key);
    for row in used.fetch_all(&mut **step).await? {
        let (account, used, oldest): (String, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let tally = accounts.tally.entry(account.clone()).or_default();
        tally.used = u32::try_from(used).unwrap_or(u32::MAX);
        accounts.oldest.insert(account, oldest);
    }
    let given = sqlx::query(GIVEN).bind(ask.tier);
    for row in given.fetch_all(&mut **step).await? {
        let (account, given): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        accounts.tally.entry(account).or_default().given = given.unsigned_abs();
    }
    Ok(accounts)
}

async fn keep(
    step: &mut Step,
    held: Option<Assignment>,
    next_rotation: i64,
) -> Result<Option<Placed>, sqlx::Error> {
    const SOONER: &str = "UPDATE assignments SET next_rotation = $3 WHERE tier = $1 AND key = $2";
    let Some(mut assignment) = held else {
        return Ok(None);
    };
    if next_rotation != assignment.next_rotation {
        assignment.next_rotation = next_rotation;
        let sooner = sqlx::query(SOONER)
            .bind(&*assignment.tier)
            .bind(&*assignment.key)
            .bind(next_rotation);
        sooner.execute(&mut **step).await?;
        count_up(step).await?;
    }
    let change = Change::None;
    Ok(Some(Placed::Held { assignment, change }))
}

async fn take(
    step: &mut Step,
    ask: &Ask<'_>,
    held: Option<Assignment>,
    candidate: usize,
) -> Result<Option<Placed>, sqlx::Error> {
    const GIVEN: &str = "INSERT INTO slot_accounts (tier, account, assigned) VALUES ($1, $2, 1) \
         ON CONFLICT (tier, account) DO UPDATE SET assigned = slot_accounts.assigned + 1";
    let Some(candidate) = ask.candidates.get(candidate) else {
        return Ok(None);
    };
    let change = match &held {
        Some(_) => Change::Rotated,
        None => Change::First,
    };
    let assignment = Assignment {
        key: ask.key.into(),
        tier: ask.tier.into(),
        account: candidate.account.clone(),
        last_rotation: ask.now,
        next_rotation: ask.now.saturating_add(ask.rotate_every),
        last_used: ask.now,
        previous_account: held.map(|held| held.account),
    };
    free(step, ask.key).await?;
    put(step, &assignment).await?;
    let given = sqlx::query(GIVEN).bind(ask.tier).bind(&*assignment.account);
    given.execute(&mut **step).await?;
    Ok(Some(Placed::Held { assignment, change }))
}

/// Takes the key's slot away, of whatever tier: a key that changed its tier holds one still.
async fn free(step: &mut Step, key: &str) -> Result<(), sqlx::Error> {
    let freed = sqlx::query("DELETE FROM assignments WHERE key = $1").bind(key);
    freed.execute(&mut **step).await?;
    count_up(step).await
}

/// Writes the slot down, unless the key holds one.
async fn put(step: &mut Step, assignment: &Assignment) -> Result<(), sqlx::Error> {
    const PUT: &str = "INSERT INTO assignments (tier, key, account, last_rotation, \
         next_rotation, previous_account, last_used) \
         SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS \
         (SELECT 1 FROM assignments WHERE key = $2)";
    let put = sqlx::query(PUT)
        .bind(&*assignment.tier)
        .bind(&*assignment.key)
        .bind(&*assignment.account)
        .bind(assignment.last_rotation)
        .bind(assignment.next_rotation)
        .bind(assignment.previous_account.as_deref())
        .bind(assignment.last_used);
    put.execute(&mut **step).await.map(drop)
}

async fn count_up(step: &mut Step) -> Result<(), sqlx::Error> {
    const UP: &str = "INSERT INTO counters (name, value) VALUES ('slots', 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1";
    sqlx::query(UP).execute(&mut **step).await.map(drop)
}

fn read(row: &AnyRow) -> Result<Assignment, sqlx::Error> {
    let text = |at: usize| row.try_get::<String, _>(at).map(Arc::from);
    let previous: Option<String> = row.try_get(5)?;
    Ok(Assignment {
        tier: text(0)?,
        key: text(1)?,
        account: text(2)?,
        last_rotation: row.try_get(3)?,
        next_rotation: row.try_get(4)?,
        previous_account: previous.map(Arc::from),
        last_used: row.try_get(6)?,
    })
}
