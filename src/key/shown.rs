//! A key as everybody may see it who may see keys: without its hashes.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::source::at;
use crate::clock::{self, SystemTime};
use crate::config::{Limit, LimitUnit};
use crate::store::{KeyRecord, millis};

/// What is known of a key. Times are RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    /// The last four characters of the key; empty when only its hash is known.
    pub hint: String,
    /// active, disabled, revoked or expired.
    pub status: &'static str,
    pub tier: String,
    /// The account that alone serves it.
    pub account: Option<String>,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
    /// Until when the key that it had before its rotation is good.
    pub previous_valid_until: Option<String>,
    /// Patterns; none: those of its tier.
    pub models: Vec<String>,
    /// Besides those of its tier.
    pub limits: Vec<LimitView>,
    /// 0: as its tier says.
    pub max_concurrent: u32,
    /// Addresses or ranges that it may be used from; none: all.
    pub allowed_ips: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub notes: String,
    pub enabled: bool,
    /// Its answers carry `X-Poolgate-Account`.
    pub expose_account: bool,
}

/// So many requests, tokens or so much cost in a sliding window.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyLimit)]
pub struct LimitView {
    /// Pattern of model names.
    models: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    #[schema(example = "5h")]
    window: String,
}

impl KeyView {
    /// The key as it is now.
    pub fn of(key: &KeyRecord, now: SystemTime) -> Self {
        let text = |millis: i64| clock::rfc3339(at(millis));
        let former = key.previous.as_ref().map(|(_, until)| *until);
        KeyView {
            id: key.id.clone(),
            name: key.name.clone(),
            hint: key.hint.clone(),
            status: status(key, now),
            tier: key.tier.clone(),
            account: key.account.clone(),
            created_at: text(key.created_at),
            expires_at: key.expires_at.map(text),
            revoked_at: key.revoked_at.map(text),
            previous_valid_until: former.filter(|until| *until > millis(now)).map(text),
            models: key.models.clone(),
            limits: key.limits.iter().map(LimitView::of).collect(),
            max_concurrent: key.max_concurrent,
            allowed_ips: key.allowed_ips.clone(),
            labels: key.labels.clone(),
            notes: key.notes.clone(),
            enabled: key.enabled,
            expose_account: key.expose_account,
        }
    }
}

impl LimitView {
    fn of(limit: &Limit) -> Self {
        let of = |unit| (limit.unit == unit).then_some(limit.amount);
        LimitView {
            models: limit.models.clone(),
            requests: of(LimitUnit::Requests),
            tokens: of(LimitUnit::Tokens),
            cost: of(LimitUnit::Cost),
            window: humantime::format_duration(limit.window).to_string(),
        }
    }
}

/// What becomes of a request with this key now: `active`, `disabled`, `revoked` or `expired`.
pub fn status(key: &KeyRecord, now: SystemTime) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if !key.enabled {
        "disabled"
    } else if key.expires_at.is_some_and(|until| until <= millis(now)) {
        "expired"
    } else {
        "active"
    }
}
