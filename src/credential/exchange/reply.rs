//! What a token endpoint's answer means: a token, a refusal for good, or come again.
//!
//! Only errors that RFC 6749 §5.2 or AWS name end an account's login. Whatever cannot be read may
//! come from a proxy, a firewall or a vendor in trouble, and passes.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::dialect::retry_after;
use crate::secret::Secret;

/// What to do about an answer.
pub enum Reply {
    Granted(Granted),
    /// Asking again will not help: a person must log in, or change the configuration.
    Dead(Reason),
    /// Asking again may help, after `wait` where it is stated or known.
    Transient {
        wait: Option<Duration>,
        why: Why,
        /// There is no token, but a next refresh token all the same: the one that was used is dead.
        rotated: Option<Secret>,
    },
}

/// A new token.
pub struct Granted {
    /// It can stand in a header.
    pub access: Secret,
    /// Present: the refresh token that was used is dead (RFC 6749 §6). Absent: it stays.
    pub refresh: Option<Secret>,
    /// Absent: the vendor did not say.
    pub expires_at: Option<SystemTime>,
}

/// Why a login is over. Only words of the RFC: what the vendor writes may quote our secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    InvalidGrant,
    InvalidClient,
    UnauthorizedClient,
    ExpiredToken,
    AccessDenied,
}

/// Why there is no token this time. Holds nothing that the vendor wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// 429, or an error that says the same.
    SlowDown,
    /// A server's error, or a name for one.
    Unavailable,
    /// No error, but no usable token either.
    NotAToken,
    /// A refusal that does not say that the login is over, with its error where that is a known one.
    Refused(Option<&'static str>),
    /// The vendor's clock and ours differ, so that it cannot believe what we sign.
    Clock,
}

/// Whose ways of saying things are understood beside the RFC's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Any,
    Aws,
    Google,
}

/// Refusals that nothing explains are not worth asking about more often.
const UNEXPLAINED: Duration = Duration::from_secs(300);
/// The RFC's unit, of which it knows no parts.
const SHORTEST_LIFE: f64 = 1.0;
/// A longer life is a mistaken unit.
const LONGEST_LIFE: f64 = 10.0 * 366.0 * 86_400.0;
/// Google takes assertions whose time is a few minutes off.
const CLOCKS_AGREE: Duration = Duration::from_secs(300);

pub(super) fn read(
    vendor: Vendor,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Reply {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let is_success = (200..300).contains(&status);
    let stated = retry_after(headers, now);
    let transient = |wait, why, rotated| Reply::Transient { wait, why, rotated };
    if is_success {
        match granted(&mut fields, now) {
            Ok(granted) => return Reply::Granted(granted),
            Err(rotated @ Some(_)) => return transient(stated, Why::NotAToken, rotated),
            Err(None) => {}
        }
    }
    let again = |why| transient(stated, why, None);
    let refused = |error| {
        let wait = stated.max(Some(UNEXPLAINED));
        transient(wait, Why::Refused(error), None)
    };
    // Whatever the body says: a server in trouble is not to be believed that a login is over.
    match status {
        429 => return again(Why::SlowDown),
        408 | 425 | 500.. => return again(Why::Unavailable),
        _ => {}
    }
    match named(vendor, headers, &fields) {
        Some(Named::Dead(_)) if vendor == Vendor::Google && is_off(headers, now) => {
            again(Why::Clock)
        }
        Some(Named::Dead(reason)) => Reply::Dead(reason),
        Some(Named::Passing(why)) => again(why),
        Some(Named::Refused(error)) => refused(Some(error)),
        None if status < 400 => again(Why::NotAToken),
        None => refused(None),
    }
}

/// The error is the refresh token of an answer without a token that can be used.
fn granted(fields: &mut Map<String, Value>, now: SystemTime) -> Result<Granted, Option<Secret>> {
    let life = ["expires_in", "expiresIn"]
        .iter()
        .find_map(|name| seconds(fields.get(*name)?));
    let mut text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| fields.remove(*name))?;
        match found {
            Value::String(text) if !text.is_empty() => Some(Secret::new(text)),
            _ => None,
        }
    };
    // Taken as it is: it goes into a body, where anything can stand, and may be the only one.
    let refresh = text(["refresh_token", "refreshToken"]);
    let access = text(["access_token", "accessToken"]).filter(can_stand_in_a_header);
    let Some(access) = access else {
        return Err(refresh);
    };
    Ok(Granted {
        access,
        refresh,
        expires_at: life.and_then(|life| now.checked_add(life)),
    })
}

/// Printable ASCII (RFC 6749 §A.12) that no header's parser would trim.
fn can_stand_in_a_header(token: &Secret) -> bool {
    let text = token.expose();
    text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && text.trim() == text
}

/// A number of seconds, also one in quotes. Less than one says nothing: some vendors mean by it that
/// a token does not expire, and one that is over as it comes would be renewed without end.
fn seconds(value: &Value) -> Option<Duration> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let is_usable = number.is_finite() && number >= SHORTEST_LIFE;
    let life = is_usable.then(|| number.min(LONGEST_LIFE))?;
    Duration::try_from_secs_f64(life).ok()
}

/// What a known error means.
enum Named {
    Dead(Reason),
    Passing(Why),
    Refused(&'static str),
}

/// The first known error among the places where vendors write it.
fn named(vendor: Vendor, headers: &HeaderMap, fields: &Map<String, Value>) -> Option<Named> {
    let error = fields.get("error").and_then(Value::as_str);
    if let Some(named) = error.and_then(Named::of) {
        return Some(named);
    }
    // Elsewhere these names are those of a gateway in front of the vendor.
    if vendor != Vendor::Aws {
        return None;
    }
    let header = headers.get("x-amzn-errortype");
    let header = header.and_then(|value| value.to_str().ok());
    let kind = fields.get("__type").and_then(Value::as_str);
    header
        .into_iter()
        .chain(kind)
        .find_map(|name| Named::of(bare(name)))
}

/// `Name` of `namespace#Name:link`, as AWS writes it.
fn bare(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

impl Named {
    fn of(error: &str) -> Option<Self> {
        Some(match error {
            "invalid_grant" | "InvalidGrantException" => Named::Dead(Reason::InvalidGrant),
            "invalid_client" | "InvalidClientException" => Named::Dead(Reason::InvalidClient),
            "unauthorized_client" | "UnauthorizedClientException" => {
                Named::Dead(Reason::UnauthorizedClient)
            }
            "expired_token" | "ExpiredTokenException" => Named::Dead(Reason::ExpiredToken),
            "access_denied" | "AccessDeniedException" => Named::Dead(Reason::AccessDenied),
            "slow_down"
            | "SlowDownException"
            | "ThrottlingException"
            | "TooManyRequestsException" => Named::Passing(Why::SlowDown),
            "temporarily_unavailable" | "server_error" | "InternalServerException" => {
                Named::Passing(Why::Unavailable)
            }
            "invalid_request" | "InvalidRequestException" => Named::Refused("invalid_request"),
            "invalid_scope" | "InvalidScopeException" => Named::Refused("invalid_scope"),
            "unsupported_grant_type" | "UnsupportedGrantTypeException" => {
                Named::Refused("unsupported_grant_type")
            }
            _ => return None,
        })
    }
}

/// Does the answer's `Date` differ from our time by more than a signed time may?
fn is_off(headers: &HeaderMap, now: SystemTime) -> bool {
    let date = headers.get(http::header::DATE);
    let date = date.and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    date.is_some_and(|date| {
        let (earlier, later) = (date.min(now), date.max(now));
        later
            .duration_since(earlier)
            .is_ok_and(|apart| apart > CLOCKS_AGREE)
    })
}

impl Reason {
    /// The error as RFC 6749 §5.2 and RFC 8628 §3.5 write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidGrant => "invalid_grant",
            Reason::InvalidClient => "invalid_client",
            Reason::UnauthorizedClient => "unauthorized_client",
            Reason::ExpiredToken => "expired_token",
            Reason::AccessDenied => "access_denied",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::SlowDown => f.write_str("the token endpoint asks to slow down"),
            Why::Unavailable => f.write_str("the token endpoint is unavailable"),
            Why::NotAToken => f.write_str("not a token reply"),
            Why::Refused(None) => f.write_str("the token endpoint refuses and does not say why"),
            Why::Refused(Some(error)) => write!(f, "the token endpoint refuses: {error}"),
            Why::Clock => f.write_str("our clock differs from the vendor's"),
        }
    }
}
