//! The vendor's token endpoint: issues, renews and refuses tokens as OAuth servers (RFC 6749 §5, §6)
//! and AWS SSO-OIDC (`CreateToken`) do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64;

use super::line::{End, Line};
use super::reply::Reply;
use super::tally::Arrived;
use super::vendor::State;
use crate::clock::{self, Instant};
use crate::secret::Secret;

/// Beyond so many tokens the oldest knowledge is forgotten.
const MAX_TOKENS: usize = 10_000;

/// How tokens are issued.
#[derive(Clone)]
pub struct OAuth {
    /// How long an access token is accepted.
    pub lifetime: Duration,
    /// Each renewal brings a new refresh token, and the one it took is dead.
    pub rotate: bool,
    /// Refresh tokens accepted besides the issued ones; none = any that was not used up.
    pub refresh_tokens: Vec<Secret>,
    /// Every request is answered with this error (`invalid_grant`, `slow_down`, `server_error` …).
    pub error: Option<String>,
    /// Silence before each answer.
    pub delay: Duration,
    /// What is asked for is done, and the connection reset before the answer.
    pub lost: bool,
}

impl Default for OAuth {
    fn default() -> Self {
        OAuth {
            lifetime: Duration::from_secs(3600),
            rotate: true,
            refresh_tokens: Vec::new(),
            error: None,
            delay: Duration::ZERO,
            lost: false,
        }
    }
}

/// The tokens that were given out.
#[derive(Default)]
pub(super) struct Issued(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    requests: u64,
    /// Until when each is accepted.
    access: HashMap<u64, Instant>,
    refresh: HashSet<u64>,
    used_up: HashSet<u64>,
    last: Option<Arrived>,
}

/// What an issued access token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Good,
    Expired,
    Unknown,
}

impl Issued {
    pub(super) fn worth(&self, token: &str, now: Instant) -> Worth {
        match self.0.lock().access.get(&xxh3_64(token.as_bytes())) {
            Some(until) if now < *until => Worth::Good,
            Some(_) => Worth::Expired,
            None => Worth::Unknown,
        }
    }

    /// Every access token given out so far is expired from `now` on.
    pub(super) fn expire(&self, now: Instant) {
        self.0
            .lock()
            .access
            .values_mut()
            .for_each(|until| *until = now);
    }

    pub(super) fn requests(&self) -> u64 {
        self.0.lock().requests
    }

    pub(super) fn last(&self) -> Option<Arrived> {
        self.0.lock().last.clone()
    }
}

/// How a request is written, and so its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Standard,
    /// AWS: `camelCase` JSON.
    Aws,
}

/// The answer, if this is the token endpoint and the vendor has one.
pub(super) async fn answer(
    state: &State,
    arrived: &Arrived,
    line: &Line,
) -> Option<Response<Reply>> {
    let settings = state.settings.load_full();
    let oauth = settings.oauth.as_ref()?;
    let path = arrived.parts.uri.path();
    let here = matches!(path, "/token" | "/oauth/token" | "/oauth2/token");
    if !here || arrived.parts.method != Method::POST {
        return None;
    }
    {
        let mut tokens = state.issued.0.lock();
        tokens.requests += 1;
        tokens.last = Some(arrived.clone());
    }
    sleep(oauth.delay).await;
    let (style, fields) = read(arrived);
    let outcome = grant(&state.issued, oauth, &settings.name, &fields, clock::now());
    if oauth.lost {
        line.end(End::Rst);
        std::future::pending::<()>().await;
    }
    Some(respond(style, outcome))
}

/// The request's fields, under the names of RFC 6749.
fn read(arrived: &Arrived) -> (Style, BTreeMap<String, String>) {
    let Ok(json) = serde_json::from_slice::<Map<String, Value>>(&arrived.body) else {
        let pairs = form_urlencoded::parse(&arrived.body);
        return (Style::Standard, pairs.into_owned().collect());
    };
    let style = if json.contains_key("grantType") {
        Style::Aws
    } else {
        Style::Standard
    };
    let fields = json.into_iter().map(|(name, value)| {
        let name = match name.as_str() {
            "grantType" => "grant_type".to_owned(),
            "refreshToken" => "refresh_token".to_owned(),
            _ => name,
        };
        (name, value.as_str().unwrap_or_default().to_owned())
    });
    (style, fields.collect())
}

/// What is given.
struct Given {
    access: String,
    refresh: Option<String>,
    lifetime: Duration,
}

fn grant(
    issued: &Issued,
    oauth: &OAuth,
    vendor: &str,
    fields: &BTreeMap<String, String>,
    now: Instant,
) -> Result<Given, String> {
    if let Some(error) = &oauth.error {
        return Err(error.clone());
    }
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let renews = match field("grant_type") {
        "refresh_token" => true,
        "client_credentials" | "urn:ietf:params:oauth:grant-type:jwt-bearer" => false,
        _ => return Err("unsupported_grant_type".to_owned()),
    };
    let mut tokens = issued.0.lock();
    if tokens.access.len() + tokens.refresh.len() + tokens.used_up.len() > MAX_TOKENS {
        tokens.access.retain(|_, until| now < *until);
        tokens.used_up.clear();
    }
    let mut refresh = None;
    if renews {
        let shown = field("refresh_token");
        let key = xxh3_64(shown.as_bytes());
        let first = oauth.refresh_tokens.is_empty()
            || oauth
                .refresh_tokens
                .iter()
                .any(|token| token.expose() == shown);
        let known = tokens.refresh.contains(&key) || first;
        if shown.is_empty() || !known || tokens.used_up.contains(&key) {
            return Err("invalid_grant".to_owned());
        }
        if oauth.rotate {
            tokens.used_up.insert(key);
            let next = format!("mock-refresh-{vendor}-{:08}", tokens.requests);
            tokens.refresh.insert(xxh3_64(next.as_bytes()));
            refresh = Some(next);
        }
    }
    let access = format!("mock-access-{vendor}-{:08}", tokens.requests);
    let until = now + oauth.lifetime;
    tokens.access.insert(xxh3_64(access.as_bytes()), until);
    Ok(Given {
        access,
        refresh,
        lifetime: oauth.lifetime,
    })
}

fn respond(style: Style, outcome: Result<Given, String>) -> Response<Reply> {
    let failed = outcome.as_ref().err().cloned();
    let (status, body) = match outcome {
        Ok(given) => (200, success(style, given)),
        Err(error) => {
            let status = match error.as_str() {
                "invalid_client" => 401,
                "server_error" => 500,
                "temporarily_unavailable" => 503,
                _ => 400,
            };
            (
                status,
                json!({"error": error, "error_description": format!("mock: {error}")}),
            )
        }
    };
    let mut response = Response::new(Reply::whole(body.to_string(), None));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let (Style::Aws, Some(error)) = (style, failed)
        && let Ok(name) = HeaderValue::from_str(&exception(&error))
    {
        headers.insert(HeaderName::from_static("x-amzn-errortype"), name);
    }
    response
}

fn success(style: Style, given: Given) -> Value {
    let seconds = given.lifetime.as_secs();
    let (mut body, refresh) = match style {
        Style::Aws => (
            json!({"accessToken": given.access, "tokenType": "Bearer", "expiresIn": seconds}),
            "refreshToken",
        ),
        Style::Standard => (
            json!({"access_token": given.access, "token_type": "Bearer", "expires_in": seconds}),
            "refresh_token",
        ),
    };
    if let Some(token) = given.refresh {
        body[refresh] = Value::from(token);
    }
    body
}

/// AWS names its exceptions after the error: `invalid_grant` is `InvalidGrantException`.
fn exception(error: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_uppercase() + rest
    };
    error.split('_').map(capital).collect::<String>() + "Exception"
}

#[cfg(test)]
mod tests {
    use super::{Duration, Issued, OAuth, Worth, exception, grant};
    use crate::clock;
    use std::collections::BTreeMap;

    fn renewal(token: &str) -> BTreeMap<String, String> {
        [("grant_type", "refresh_token"), ("refresh_token", token)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_refresh_token_that_was_used_up_is_refused() {
        let (issued, now) = (Issued::default(), clock::now());
        let oauth = OAuth::default();
        let first = grant(&issued, &oauth, "v", &renewal("r-1"), now)
            .ok()
            .unwrap();
        assert_eq!(
            grant(&issued, &oauth, "v", &renewal("r-1"), now)
                .err()
                .unwrap(),
            "invalid_grant"
        );
        let next = first.refresh.unwrap();
        assert!(grant(&issued, &oauth, "v", &renewal(&next), now).is_ok());
        let keep = OAuth {
            rotate: false,
            ..oauth
        };
        let kept = grant(&issued, &keep, "v", &renewal("r-2"), now)
            .ok()
            .unwrap();
        assert!(kept.refresh.is_none());
        assert!(grant(&issued, &keep, "v", &renewal("r-2"), now).is_ok());
    }

    #[test]
    fn an_access_token_is_good_until_it_expires() {
        let (issued, now) = (Issued::default(), clock::now());
        let oauth = OAuth {
            lifetime: Duration::from_secs(10),
            ..OAuth::default()
        };
        let given = grant(&issued, &oauth, "v", &renewal("r"), now)
            .ok()
            .unwrap();
        let worth = |seconds| issued.worth(&given.access, now + Duration::from_secs(seconds));
        assert_eq!((worth(9), worth(10)), (Worth::Good, Worth::Expired));
        assert_eq!(issued.worth("another", now), Worth::Unknown);
        issued.expire(now);
        assert_eq!(worth(1), Worth::Expired);
    }

    #[test]
    fn aws_names_its_exceptions_after_the_error() {
        assert_eq!(exception("invalid_grant"), "InvalidGrantException");
        assert_eq!(exception("slow_down"), "SlowDownException");
    }
}
