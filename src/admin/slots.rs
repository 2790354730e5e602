//! `/api/v1/slots`: how many keys hold a slot of each account, and which key sits where.

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;
use utoipa::ToSchema;

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
    responses((status = 200, description = "`accounts`, `keys`, `total`, `problem` and `next`", body = Slots)))]
pub(super) async fn show(
    State(control): State<Shared>,
    Query(page): Query<Page>,
) -> Result<Json<Slots>, Problem> {
    let slots = control.slots().await;
    let (keys, next) = page.cut(&slots.keys, |key| &key.id)?;
    Ok(Json(Slots {
        accounts: slots.places.iter().map(Place::of).collect(),
        keys: keys.iter().map(Seat::of).collect(),
        total: total(&slots.places),
        problem: slots.problem,
        next,
    }))
}

/// All accounts of tiers with slots, and a page of the keys that hold some.
#[derive(Serialize, ToSchema)]
pub(super) struct Slots {
    accounts: Vec<Place>,
    keys: Vec<Seat>,
    total: Total,
    /// What keeps the gateway from seeing them as they are now.
    problem: Option<String>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Place {
    account: String,
    tier: String,
    used: u32,
    limit: u32,
}

#[derive(Serialize, ToSchema)]
struct Seat {
    id: String,
    name: String,
    tier: String,
    account: String,
    next_rotation: String,
    last_rotation: String,
    last_used: String,
    previous_account: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Total {
    accounts: usize,
    slots: u64,
    used: u64,
    free: u64,
    percent: u64,
}

impl Place {
    fn of(place: &SlotPlace) -> Self {
        Place {
            account: place.account.clone(),
            tier: place.tier.clone(),
            used: place.used,
            limit: place.limit,
        }
    }
}

impl Seat {
    fn of(key: &SlotKey) -> Self {
        Seat {
            id: key.id.clone(),
            name: key.name.clone(),
            tier: key.tier.clone(),
            account: key.account.clone(),
            next_rotation: clock::rfc3339(key.next_rotation),
            last_rotation: clock::rfc3339(key.last_rotation),
            last_used: clock::rfc3339(key.last_used),
            previous_account: key.previous_account.clone(),
        }
    }
}

pub(super) fn total(places: &[SlotPlace]) -> Total {
    let sum = |count: fn(&SlotPlace) -> u32| places.iter().map(|it| u64::from(count(it))).sum();
    let (used, slots): (u64, u64) = (sum(|it| it.used), sum(|it| it.limit));
    Total {
        accounts: places.len(),
        slots,
        used,
        free: sum(|it| it.limit.saturating_sub(it.used)),
        percent: (used * 100).checked_div(slots).unwrap_or_default(),
    }
}
