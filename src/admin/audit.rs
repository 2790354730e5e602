//! The audit record: each write that was done is written down, by whom, from where. One layer over
//! all routes that write, so that none is forgotten; and `/api/v1/audit` reads it.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponseParts, Response, ResponseParts};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::api::{Answer, Shared};
use super::auth::Actor;
use super::list::Page;
use super::reply::Problem;
use super::requests::{records, time, unreadable};
use crate::clock;
use crate::store::{AuditRecord, millis};

/// What was done is answered no later for being written down.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to say of a write, put beside its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    /// Where the path does not say it.
    target: Option<String>,
    detail: Value,
    /// Nothing was done.
    is_nothing: bool,
}

impl Noted {
    /// `detail` holds no secret.
    pub(super) fn with(detail: Value) -> Self {
        Noted {
            detail,
            ..Noted::default()
        }
    }

    pub(super) fn at(target: &str, detail: Value) -> Self {
        let target = Some(target.to_owned());
        Noted {
            target,
            ..Noted::with(detail)
        }
    }

    pub(super) fn nothing() -> Self {
        Noted {
            is_nothing: true,
            ..Noted::default()
        }
    }
}

impl IntoResponseParts for Noted {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

/// Writes down what goes through here, once it is done.
pub(super) async fn note(State(control): State<Shared>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    if method.is_safe() {
        return next.run(request).await;
    }
    let extensions = request.extensions();
    let actor = extensions.get::<Actor>().map(|actor| actor.name.clone());
    let source = extensions.get::<IpAddr>().map(IpAddr::to_string);
    let matched = extensions.get::<MatchedPath>();
    let template = matched.map_or("", MatchedPath::as_str).to_owned();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let noted = response.extensions().get::<Noted>();
    let noted = noted.cloned().unwrap_or_default();
    if !response.status().is_success() || noted.is_nothing {
        return response;
    }
    let (action, target) = words(&method, &template, &path);
    let target = noted.target.unwrap_or(target);
    let actor = actor.unwrap_or_default();
    // What has a name is known to people by that.
    let name = noted.detail["name"]
        .as_str()
        .filter(|name| !name.is_empty());
    let known_as = name.unwrap_or(&target);
    control.pulse().operator(&actor, &action, known_as);
    let at = millis(clock::wall());
    let record = AuditRecord {
        id: AuditRecord::id_at(at, fastrand::i64(..)),
        at,
        actor: actor.to_string(),
        action,
        target,
        source: source.unwrap_or_default(),
        detail: noted.detail,
    };
    put(&control, &record).await;
    response
}

/// Writes it down as soon as it can be; what cannot be is at least in the log.
pub(super) async fn put(control: &Shared, record: &AuditRecord) {
    let Some(records) = control.records() else {
        return;
    };
    let put = tokio::time::timeout(PATIENCE, records.store.put_audit(record)).await;
    let why = match put {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the records do not answer".to_owned(),
    };
    let AuditRecord {
        actor,
        action,
        target,
        source,
        ..
    } = record;
    tracing::error!(
        actor,
        action,
        target,
        source,
        "not in the audit record: {why}"
    );
}

/// `accounts.disable` and `a` for `POST /api/v1/accounts/a/disable`.
fn words(method: &Method, template: &str, path: &str) -> (String, String) {
    let template = template.strip_prefix("/api/v1").unwrap_or(template);
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let (mut words, mut target) = (Vec::new(), String::new());
    let mut ends_with_name = false;
    for (part, said) in template.split('/').zip(path.split('/')).skip(1) {
        let said = percent_decode_str(said).decode_utf8_lossy();
        ends_with_name = part.starts_with('{');
        match part {
            "{action}" => words.push(said.into_owned()),
            part if part.starts_with('{') => target = said.into_owned(),
            part => words.push(part.to_owned()),
        }
    }
    let is_of_all = !ends_with_name && words.len() == 1;
    match *method {
        Method::DELETE => words.push("delete".to_owned()),
        Method::PATCH => words.push("change".to_owned()),
        Method::POST if is_of_all && matches!(&*words[0], "accounts" | "keys" | "session") => {
            words.push("create".to_owned());
        }
        _ => {}
    }
    (words.join("."), target)
}

/// A page of what was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Audit {
    audit: Vec<Deed>,
    /// The next page's `cursor`; null on the last one.
    next: Option<String>,
}

/// A write that was done.
#[derive(Serialize, ToSchema)]
struct Deed {
    /// A number as a text: JavaScript's numbers cannot hold it.
    id: String,
    at: String,
    /// The name of the token that was shown.
    actor: String,
    #[schema(example = "accounts.disable")]
    action: String,
    /// Empty where there is only one such thing.
    target: String,
    /// The address that it was done from; empty where it is not known.
    source: String,
    /// What there is to say of it, without a secret.
    detail: Value,
}

/// What operators did, the latest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "operations", params(Page),
    responses((status = 200, description = "`audit` and `next`", body = Audit)))]
pub(super) async fn list(State(control): State<Shared>, Query(page): Query<Page>) -> Answer<Audit> {
    let most = page.most()?;
    let before = match page.cursor() {
        None => i64::MAX,
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Problem::bad("cursor", "is not one of ours"))?,
    };
    let records = records(&*control)?;
    let rows = records.store.audit(before, most as u32 + 1).await;
    let mut rows = rows.map_err(|error| unreadable(&error))?;
    let is_more = rows.len() > most;
    rows.truncate(most);
    let next = rows
        .last()
        .filter(|_| is_more)
        .map(|row| row.id.to_string());
    let audit = rows.into_iter().map(Deed::of).collect();
    Ok(Json(Audit { audit, next }))
}

impl Deed {
    fn of(row: AuditRecord) -> Self {
        Deed {
            id: row.id.to_string(),
            at: clock::rfc3339(time(row.at)),
            actor: row.actor,
            action: row.action,
            target: row.target,
            source: row.source,
            detail: row.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use axum::http::Method;

    #[test]
    fn a_write_is_called_by_what_it_does_and_to_what() {
        for (method, template, path, action, target) in [
            (
                Method::POST,
                "/api/v1/accounts",
                "/api/v1/accounts",
                "accounts.create",
                "",
            ),
            (
                Method::PATCH,
                "/api/v1/keys/{id}",
                "/api/v1/keys/k_1",
                "keys.change",
                "k_1",
            ),
            (
                Method::DELETE,
                "/api/v1/accounts/{id}/override",
                "/api/v1/accounts/a%40b/override",
                "accounts.override.delete",
                "a@b",
            ),
            (
                Method::POST,
                "/api/v1/accounts/{id}/{action}",
                "/api/v1/accounts/a/disable",
                "accounts.disable",
                "a",
            ),
            (
                Method::POST,
                "/api/v1/reload",
                "/api/v1/reload",
                "reload",
                "",
            ),
            (
                Method::POST,
                "/router/set-strategy",
                "/router/set-strategy",
                "router.set-strategy",
                "",
            ),
        ] {
            let expected = (action.to_owned(), target.to_owned());
            assert_eq!(words(&method, template, path), expected);
        }
    }
}
