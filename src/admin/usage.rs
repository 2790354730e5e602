//! `/api/v1/usage`: what was used, summed up by what is asked for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::api::Shared;
use super::csv;
use super::list::Page;
use super::reply::Problem;
use super::requests::{ON_THE_WAY, Tokens, money, name, names, records, time, unreadable};
use crate::clock::{self, SystemTime};
use crate::store::{By, KeyRecord, Total, millis};

/// The span that is summed up unless another is asked for.
const USUAL: Duration = Duration::from_secs(30 * 86_400);

const SECOND: Duration = Duration::from_secs(1);

/// In milliseconds.
const HOUR: i64 = 3_600_000;

/// Groups of the records that are looked at; one label may sum up many keys.
const MOST: u32 = 100_000;

/// What is summed up.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Some of `day`, `key`, `account`, `model` and `label:NAME`, with commas between.
    #[param(default = "day")]
    by: Option<String>,
    /// A date or a time; thirty days ago unless said.
    from: Option<String>,
    /// Before this; now unless said.
    to: Option<String>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// `csv`: all rows as a table, the same as `Accept: text/csv`.
    format: Option<String>,
}

/// A page of sums.
#[derive(Serialize, ToSchema)]
pub(super) struct Usage {
    usage: Vec<Row>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// What was used by one group: a field for each of `by`, null where it is not known.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = UsageRow)]
struct Row {
    requests: i64,
    tokens: Tokens,
    cost: f64,
    /// Requests for which the vendor stated no amount.
    estimated: i64,
    /// `day`, `key_id` and `key`, `account`, `model`, `label:NAME`.
    #[serde(flatten)]
    group: BTreeMap<String, Option<String>>,
}

/// What one column of the answer is.
enum Group {
    Of(By),
    /// The value of a key's label.
    Label(String),
}

impl Group {
    fn named(text: &str) -> Option<Group> {
        Some(match text {
            "day" => Group::Of(By::Day),
            "key" => Group::Of(By::Key),
            "account" => Group::Of(By::Account),
            "model" => Group::Of(By::Model),
            _ => Group::Label(text.strip_prefix("label:")?.to_owned()),
        })
    }

    /// The field of the answer, and what stands there for this sum.
    fn of(&self, total: &Total, keys: &Keys<'_>) -> (String, String) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match self {
            Group::Of(By::Day) => (
                "day".to_owned(),
                clock::date(time(total.day.unwrap_or_default())),
            ),
            Group::Of(By::Key) => ("key_id".to_owned(), text(&total.key)),
            Group::Of(By::Account) => ("account".to_owned(), text(&total.account)),
            Group::Of(By::Model) => ("model".to_owned(), text(&total.model)),
            Group::Label(label) => {
                let key = keys.by_id.get(total.key.as_deref().unwrap_or_default());
                let value = key.and_then(|key| key.labels.get(label));
                (format!("label:{label}"), value.cloned().unwrap_or_default())
            }
        }
    }
}

/// What is known of the keys that were used.
struct Keys<'a> {
    by_id: HashMap<&'a str, &'a KeyRecord>,
    names: HashMap<&'a str, &'a str>,
}

/// By day, key, account, model or a label of the key, for the hours from `from` on and before `to`.
#[utoipa::path(get, path = "/api/v1/usage", tag = "usage", params(Asked), responses(
    (status = 200, description = "`usage` and `next`; or CSV", content(
        (Usage = "application/json"), (String = "text/csv"))),
))]
pub(super) async fn list(
    State(control): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_table = match asked.format.as_deref() {
        Some("csv") => true,
        Some("json") => false,
        None => csv::is_accepted(&headers),
        Some(_) => return Err(Problem::bad("format", "must be json or csv")),
    };
    let groups = groups(asked.by.as_deref().unwrap_or("day"))?;
    let now = clock::wall();
    let from = bound("from", asked.from.as_deref(), now - USUAL)?;
    let to = bound("to", asked.to.as_deref(), now + SECOND)?;
    // Sums are by the hour.
    let from = from - from.rem_euclid(HOUR);
    let records = records(&*control)?;
    records.usage.flushed(ON_THE_WAY).await;
    let mut by: Vec<By> = vec![];
    for group in &groups {
        let needed = match group {
            Group::Of(by) => *by,
            Group::Label(_) => By::Key,
        };
        if !by.contains(&needed) {
            by.push(needed);
        }
    }
    let totals = records.store.totals(&by, from, to, MOST).await;
    let totals = totals.map_err(|error| unreadable(&error))?;
    if totals.len() >= MOST as usize {
        return Err(Problem::bad(
            "by",
            "makes too many groups; ask for a shorter span",
        ));
    }
    let known = records.store.keys().await;
    let known = known.map_err(|error| unreadable(&error))?;
    let keys = Keys {
        by_id: known.iter().map(|key| (&*key.id, key)).collect(),
        names: names(&known),
    };
    let rows = rows(&groups, &totals, &keys);
    if is_table {
        return Ok(csv::table(rows.iter().map(|(_, row)| row)));
    }
    let page = Page::at(asked.limit, asked.cursor);
    let (page, next) = page.cut(&rows, |(id, _)| id)?;
    let usage = page.iter().map(|(_, row)| row.clone()).collect();
    Ok(Json(Usage { usage, next }).into_response())
}

fn groups(by: &str) -> Result<Vec<Group>, Problem> {
    let words = by.split(',').map(str::trim);
    let groups: Option<Vec<Group>> = words.map(Group::named).collect();
    groups.ok_or_else(|| {
        Problem::bad(
            "by",
            "must be some of day, key, account, model and label:NAME, with commas between",
        )
    })
}

fn bound(field: &str, text: Option<&str>, usual: SystemTime) -> Result<i64, Problem> {
    let wrong = || {
        Problem::bad(
            field,
            "must be a date or a time, as 2026-11-21 or 2026-11-21T08:00:00Z",
        )
    };
    let at = match text {
        Some(text) => clock::parse(text).ok_or_else(wrong)?,
        None => usual,
    };
    Ok(millis(at))
}

/// The answer's rows, each with a text that no other has. Several keys may have one label.
fn rows(groups: &[Group], totals: &[Total], keys: &Keys<'_>) -> Vec<(String, Row)> {
    let mut sums: BTreeMap<Vec<(String, String)>, Total> = BTreeMap::new();
    for total in totals {
        let place = groups.iter().map(|group| group.of(total, keys)).collect();
        sums.entry(place).or_default().add(total);
    }
    let row = |(place, sum): (Vec<(String, String)>, Total)| {
        let id: Vec<&str> = place.iter().map(|(_, value)| &**value).collect();
        let id = id.join("/");
        let mut group = BTreeMap::new();
        for (field, value) in place {
            if field == "key_id" {
                let name = name(&value, &keys.names).to_owned();
                group.insert("key".to_owned(), Some(name));
            }
            // What is not known is no empty name.
            let value = (!value.is_empty()).then_some(value);
            group.insert(field, value);
        }
        let row = Row {
            requests: sum.requests,
            tokens: Tokens {
                input: sum.tokens_in,
                output: sum.tokens_out,
                cached: sum.tokens_cached,
            },
            cost: money(sum.cost),
            estimated: sum.estimated,
            group,
        };
        (id, row)
    };
    sums.into_iter().map(row).collect()
}
