//! `/api/v1/slots`: how many keys hold a slot of each account, and which key sits where.

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::api::Shared;
use super::list::Page;
use super::reply::Problem;
use crate::clock::{self, SystemTime};

/// The slots of all tiers.
#[derive(Clone, Debug, Default)]
pub struct SlotsView {
    pub places: Vec<SlotPlace>,
    pub keys: Vec<SlotKey>,
    /// What keeps the gateway from seeing them as they are now.
    pub problem: Option<String>,
}

/// One account, as far as one tier's keys may sit there.
#[derive(Clone, Debug)]
pub struct SlotPlace {
    pub tier: String,
    pub account: String,
    pub used: u32,
    /// 0: the account or its tier is gone, and keys have yet to leave.
    pub limit: u32,
}

/// One key and its slot.
#[derive(Clone, Debug)]
pub struct SlotKey {
    pub id: String,
    pub name: String,
    pub tier: String,
    pub account: String,
    pub last_rotation: SystemTime,
    pub next_rotation: SystemTime,
    pub last_used: SystemTime,
    pub previous_account: Option<String>,
}

/// How many keys hold a slot of each account, and which key sits where.
#[utoipa::path(get, path = "/api/v1/slots", tag = "keys", params(Page),
    responses((status = 200, description = "`accounts`, `keys`, `total`, `problem` and `next`", body = Value)))]
pub(super) async fn show(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let slots = control.slots().await;
    let mut answer = page.of("keys", &slots.keys, |key| &key.id, key)?;
    answer["accounts"] = slots.places.iter().map(place).collect();
    answer["total"] = total(&slots.places);
    answer["problem"] = json!(slots.problem);
    Ok(Json(answer))
}

fn place(place: &SlotPlace) -> Value {
    json!({
        "account": place.account,
        "tier": place.tier,
        "used": place.used,
        "limit": place.limit,
    })
}

fn key(key: &SlotKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "tier": key.tier,
        "account": key.account,
        "next_rotation": clock::rfc3339(key.next_rotation),
        "last_rotation": clock::rfc3339(key.last_rotation),
        "last_used": clock::rfc3339(key.last_used),
        "previous_account": key.previous_account,
    })
}

pub(super) fn total(places: &[SlotPlace]) -> Value {
    let sum = |count: fn(&SlotPlace) -> u32| places.iter().map(|it| u64::from(count(it))).sum();
    let (used, slots): (u64, u64) = (sum(|it| it.used), sum(|it| it.limit));
    json!({
        "accounts": places.len(),
        "slots": slots,
        "used": used,
        "free": sum(|it| it.limit.saturating_sub(it.used)),
        "percent": (used * 100).checked_div(slots).unwrap_or_default(),
    })
}
