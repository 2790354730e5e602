//! `/api/v1/requests`: the latest requests, without what was in them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Shared;
use super::control::{Control, Records};
use super::reply::Problem;
use crate::clock::{self, SystemTime};
use crate::store::{KeyRecord, RequestRecord, StoreError};

/// Unless another number is asked for, and at most.
const LAST: u32 = 100;
const MOST: u32 = 1000;

/// What is on its way to the records is waited for so long.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub(super) struct Asked {
    last: Option<u32>,
}

/// Those of this gateway that are still in memory, and those in the records, which are also the other
/// gateways'; the latest first.
pub(super) async fn list(
    State(control): State<Shared>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Problem> {
    let last = asked.last.unwrap_or(LAST);
    if !(1..=MOST).contains(&last) {
        return Err(Problem::bad("last", "must be 1 to 1000"));
    }
    let records = records(&*control)?;
    records.usage.flushed(ON_THE_WAY).await;
    let mut all: BTreeMap<(i64, i64), RequestRecord> = BTreeMap::new();
    // While the records cannot be read, memory is what there is.
    let kept = records
        .store
        .latest_requests(last)
        .await
        .unwrap_or_default();
    let seen = records.usage.latest(last as usize);
    all.extend(
        kept.into_iter()
            .chain(seen)
            .map(|one| ((one.began, one.id), one)),
    );
    let keys = records.store.keys().await.unwrap_or_default();
    let names = names(&keys);
    let requests = all.values().rev().take(last as usize);
    let requests: Vec<Value> = requests.map(|one| shown(one, &names)).collect();
    Ok(Json(json!({"requests": requests, "next": null})))
}

/// The names of issued keys by their ids.
pub(super) fn names(keys: &[KeyRecord]) -> HashMap<&str, &str> {
    keys.iter().map(|key| (&*key.id, &*key.name)).collect()
}

/// The name of a key that may be one of the configuration, whose id holds it.
pub(super) fn name<'a>(id: &'a str, names: &HashMap<&str, &'a str>) -> &'a str {
    let known = names.get(id).copied();
    known.unwrap_or_else(|| id.strip_prefix("cfg:").unwrap_or(id))
}

pub(super) fn records(control: &dyn Control) -> Result<Records<'_>, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "not_found", "nothing is recorded");
    control.records().ok_or_else(none)
}

pub(super) fn unreadable(error: &StoreError) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "records_unavailable", error.to_string())
}

/// Money in the unit that prices are written in.
pub(super) fn money(billionths: i64) -> f64 {
    billionths as f64 / 1e9
}

/// A time of the records.
pub(super) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.try_into().unwrap_or(0))
}

fn shown(request: &RequestRecord, names: &HashMap<&str, &str>) -> Value {
    let tried = |one: &str| {
        // An account's id holds no colon.
        let (account, outcome) = one.split_once(':')?;
        Some(json!({"account": account, "outcome": outcome}))
    };
    let tries: Vec<Value> = request.tries.split(',').filter_map(tried).collect();
    json!({
        "id": request.request,
        "key": name(&request.key, names),
        "key_id": request.key,
        "account": request.account,
        "pool": request.pool,
        "model": request.model,
        "path": request.path,
        "tries": tries,
        "status": request.status,
        "error": request.error,
        "tokens": {
            "input": request.tokens_in,
            "output": request.tokens_out,
            "cached": request.tokens_cached,
        },
        "cost": money(request.cost),
        "estimated": request.estimated,
        "began": clock::rfc3339(time(request.began)),
        "first_byte_ms": request.first_byte,
        "duration_ms": request.duration,
    })
}
