//! `/api/v1/requests`: the latest requests, without what was in them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::api::Shared;
use super::control::{Control, Records};
use super::reply::Problem;
use crate::clock::{self, SystemTime};
use crate::store::{KeyRecord, RequestRecord, StoreError, Wanted};

/// Unless another number is asked for, and at most.
const LAST: u32 = 100;
const MOST: u32 = 1000;

/// What is on its way to the records is waited for so long.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(2);

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// How many; the same as `limit`.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    last: Option<u32>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(pattern = "^[0-9]{1,15}--?[0-9]{1,18}$")]
    cursor: Option<String>,
    /// Name or id of a key.
    key: Option<String>,
    /// An account that was asked, whoever answered.
    account: Option<String>,
    /// `429`, `4xx`, or `error` for all from 400 on.
    #[param(pattern = "^([0-9]{1,3}|[1-5]xx|error)$")]
    status: Option<String>,
    /// `*` stands for any run of characters.
    model: Option<String>,
}

/// A page of requests.
#[derive(Serialize, ToSchema)]
pub(super) struct Requests {
    requests: Vec<Shown>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// One request, without what was in it.
#[derive(Serialize, ToSchema)]
#[schema(as = Request)]
struct Shown {
    id: String,
    /// The key's name; `-` where no key was asked.
    key: String,
    key_id: String,
    /// Whose answer the client got.
    account: Option<String>,
    pool: Option<String>,
    model: Option<String>,
    path: String,
    /// The accounts that were asked, in turn.
    tries: Vec<Try>,
    /// 0: none was sent.
    status: i64,
    error: Option<String>,
    tokens: Tokens,
    cost: f64,
    /// The vendor stated no amount.
    estimated: bool,
    began: String,
    first_byte_ms: Option<i64>,
    duration_ms: i64,
}

#[derive(Serialize, ToSchema)]
struct Try {
    account: String,
    outcome: String,
}

/// `cached` is a part of `input`.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct Tokens {
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) cached: i64,
}

/// The latest requests, the latest first: those of this gateway that are still in memory, and those in
/// the records, which are also the other gateways'.
#[utoipa::path(get, path = "/api/v1/requests", tag = "usage", params(Asked),
    responses((status = 200, description = "`requests` and `next`", body = Requests)))]
pub(super) async fn list(
    State(control): State<Shared>,
    Query(asked): Query<Asked>,
) -> Result<Json<Requests>, Problem> {
    let last = asked.limit.or(asked.last).unwrap_or(LAST);
    if !(1..=MOST).contains(&last) {
        return Err(Problem::bad("limit", "must be 1 to 1000"));
    }
    let mut wanted = Wanted {
        keys: None,
        account: asked.account.clone(),
        status: asked.status.as_deref().map(status).transpose()?,
        model: asked.model.clone(),
        before: asked.cursor.as_deref().map(place).transpose()?,
    };
    let records = records(&*control)?;
    let keys = records.store.keys().await.unwrap_or_default();
    wanted.keys = asked.key.as_deref().map(|key| ids(key, &keys));
    records.usage.flushed(ON_THE_WAY).await;
    let mut all: BTreeMap<(i64, i64), RequestRecord> = BTreeMap::new();
    // While the records cannot be read, memory is what there is.
    let kept = records.store.requests_like(&wanted, last + 1).await;
    let kept = kept.unwrap_or_default().into_iter();
    let seen = records.usage.latest(MOST as usize).into_iter();
    let seen = seen.filter(|one| wanted.is(one));
    all.extend(kept.chain(seen).map(|one| ((one.began, one.id), one)));
    let names = names(&keys);
    let page = all.iter().rev().take(last as usize);
    let next = page
        .clone()
        .next_back()
        .filter(|_| all.len() > last as usize);
    let next = next.map(|((began, id), _)| format!("{began}-{id}"));
    let requests = page.map(|(_, one)| Shown::of(one, &names)).collect();
    Ok(Json(Requests { requests, next }))
}

/// The place in all requests that a cursor stands for.
fn place(cursor: &str) -> Result<(i64, i64), Problem> {
    let place = cursor
        .split_once('-')
        .and_then(|(began, id)| Some((began.parse().ok()?, id.parse().ok()?)));
    place.ok_or_else(|| Problem::bad("cursor", "is not one of ours"))
}

/// The first and the last status that is meant.
fn status(text: &str) -> Result<(i64, i64), Problem> {
    let hundreds = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
    match (text, hundreds, text.parse()) {
        ("error", ..) => Ok((400, i64::MAX)),
        (_, Some(hundreds @ 1..=5), _) => Ok((hundreds * 100, hundreds * 100 + 99)),
        (_, None, Ok(status @ 0..=999)) => Ok((status, status)),
        _ => Err(Problem::bad("status", "must be as 429, 4xx or error")),
    }
}

/// The keys that are called so; one of the configuration has its name in its id.
fn ids(key: &str, keys: &[KeyRecord]) -> Vec<String> {
    let issued = keys
        .iter()
        .filter(|known| known.id == key || known.name == key);
    let issued = issued.map(|known| known.id.clone());
    issued
        .chain([key.to_owned(), format!("cfg:{key}")])
        .collect()
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

impl Shown {
    fn of(request: &RequestRecord, names: &HashMap<&str, &str>) -> Self {
        Shown {
            id: request.request.clone(),
            key: name(&request.key, names).to_owned(),
            key_id: request.key.clone(),
            account: request.account.clone(),
            pool: request.pool.clone(),
            model: request.model.clone(),
            path: request.path.clone(),
            tries: request.tries.split(',').filter_map(Try::of).collect(),
            status: request.status,
            error: request.error.clone(),
            tokens: Tokens {
                input: request.tokens_in,
                output: request.tokens_out,
                cached: request.tokens_cached,
            },
            cost: money(request.cost),
            estimated: request.estimated,
            began: clock::rfc3339(time(request.began)),
            first_byte_ms: request.first_byte,
            duration_ms: request.duration,
        }
    }
}

impl Try {
    fn of(written: &str) -> Option<Self> {
        // An account's id holds no colon.
        let (account, outcome) = written.split_once(':')?;
        Some(Try {
            account: account.to_owned(),
            outcome: outcome.to_owned(),
        })
    }
}
