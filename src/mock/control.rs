//! The vendor's own paths: what it saw (`/mock/stats`), what came (`/mock/echo`), how it is to be
//! (`/mock/settings`, `/mock/reset`, `/mock/expire`), and `/health`.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::reply::Reply;
use super::tally::Arrived;
use super::vendor::State;
use crate::clock;
use crate::secret::Secret;

/// Headers whose values `/mock/stats` does not show whole. Anybody may ask for the statistics; an
/// echo goes to none but the sender.
const SECRETS: [&str; 6] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "proxy-authorization",
    "cookie",
];

/// The answer, if the request is for the vendor itself and not for the API that it plays.
pub(super) fn answer(state: &State, arrived: &Arrived) -> Option<Response<Reply>> {
    let parts = &arrived.parts;
    let path = parts.uri.path();
    if path == "/health" {
        state.tally.check_health();
        let status = state.settings.load().health;
        let word = if status < 400 { "OK" } else { "error" };
        return Some(json_of(status, &json!({"status": word})));
    }
    let own = path.strip_prefix("/mock/");
    if own == Some("echo") || (own.is_none() && parts.headers.contains_key("x-mock-echo")) {
        return Some(json_of(200, &echo(state, arrived)));
    }
    Some(match (own?, &parts.method) {
        ("stats", &Method::GET) => json_of(200, &stats(state)),
        ("reset", &Method::POST) => {
            state.tally.reset();
            json_of(200, &json!({"status": "OK"}))
        }
        ("expire", &Method::POST) => {
            state.issued.expire(clock::now());
            json_of(200, &json!({"status": "OK"}))
        }
        ("settings", &Method::POST) => match state.settings.load().changed(&arrived.body) {
            Ok(settings) => {
                state.replace(settings);
                json_of(200, &json!({"status": "OK"}))
            }
            Err(problem) => json_of(400, &json!({"error": {"message": problem.to_string()}})),
        },
        _ => json_of(
            404,
            &json!({"error": {"message": "the mock has no such path"}}),
        ),
    })
}

fn json_of(status: u16, json: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(json.to_string(), None));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn stats(state: &State) -> Value {
    let mut stats = json!(state.stats());
    if let Some(last) = state.tally.last() {
        let query = last.parts.uri.query().unwrap_or_default();
        let shown = if query.contains("key=") {
            "****"
        } else {
            query
        };
        let mut it = request(&last, shown);
        it["headers"] = headers(&last.parts.headers, |name| SECRETS.contains(&name));
        stats["last_request"] = it;
    }
    stats
}

fn echo(state: &State, arrived: &Arrived) -> Value {
    let query = arrived.parts.uri.query().unwrap_or_default();
    let mut it = request(arrived, query);
    it["vendor"] = Value::from(state.settings.load().name.as_str());
    it["headers"] = headers(&arrived.parts.headers, |_| false);
    it
}

fn request(arrived: &Arrived, query: &str) -> Value {
    let parts = &arrived.parts;
    json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": query,
        "version": format!("{:?}", parts.version),
        "body_length": arrived.body.len(),
        "body_xxh3": format!("{:016x}", xxh3_64(&arrived.body)),
    })
}

/// Each name with the list of its values, in the order of arrival.
fn headers(headers: &HeaderMap, hidden: impl Fn(&str) -> bool) -> Value {
    let mut map = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            if hidden(name.as_str()) {
                Value::from(Secret::new(text).masked())
            } else {
                Value::from(text)
            }
        });
        map.insert(name.to_string(), values.collect());
    }
    Value::Object(map)
}
