//! A request in a straight line: who asks, is there room, what is asked, how it goes, the answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::sleep;

use super::behaviour::{Behaviour, Hang};
use super::call::{self, Call};
use super::control;
use super::line::{End, Line};
use super::oauth::{self, Worth};
use super::reply::Reply;
use super::settings::{AtCapacity, Settings};
use super::tally::{Arrived, Place};
use super::vendor::State;
use super::wear::Now;
use crate::clock;
use crate::dialect::Dialect;

/// Longer bodies are refused.
const MAX_BODY: usize = 256 << 20;

/// Answers one request; pending for ever where the answer is silence.
pub(super) async fn answer(
    state: Arc<State>,
    line: Arc<Line>,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let upgrades = request.headers().contains_key(UPGRADE);
    let upgrade = upgrades.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        let mut refused = Response::new(Reply::whole(Bytes::new(), None));
        *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(refused);
    };
    let arrived = Arrived {
        parts: Arc::new(parts),
        body: body.to_bytes(),
    };
    if let Some(reply) = control::answer(&state, &arrived) {
        return Ok(reply);
    }
    if let Some(reply) = oauth::answer(&state, &arrived, &line).await {
        return Ok(reply);
    }
    let number = state.tally.arrive(&arrived);
    let settings = state.settings.load_full();
    let headers = &arrived.parts.headers;
    let call = Call::of(&arrived.parts.method, &arrived.parts.uri, headers)
        .filter(|call| settings.dialects.contains(&call.dialect));
    let visit = Visit {
        request_id: format!("req_{}_{number}", settings.name),
        dialect: match &call {
            Some(call) => call.dialect,
            None => guess(&arrived, &settings),
        },
        now: Now {
            instant: clock::now(),
            wall: clock::wall(),
        },
        number,
        arrived,
        settings,
        line,
        upgrade,
    };
    Ok(match call {
        Some(call) => visit.serve(&state, &call).await,
        None => visit.refuse("not_found"),
    })
}

/// Who would say that there is no such path.
fn guess(arrived: &Arrived, settings: &Settings) -> Dialect {
    match settings.dialects.as_slice() {
        [one] => *one,
        _ if arrived.parts.uri.path().starts_with("/v1beta") => Dialect::Gemini,
        _ => call::asker(&arrived.parts.headers),
    }
}

/// One request on its way through the vendor.
pub(super) struct Visit {
    pub(super) number: u64,
    pub(super) request_id: String,
    pub(super) dialect: Dialect,
    pub(super) arrived: Arrived,
    pub(super) settings: Arc<Settings>,
    pub(super) line: Arc<Line>,
    pub(super) now: Now,
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Visit {
    async fn serve(self, state: &State, call: &Call) -> Response<Reply> {
        let token = token(&self.arrived).unwrap_or_default();
        let allowance = state
            .tally
            .spend(&token, self.settings.rate_limit, self.now.instant);
        if let Err(error) = self.admit(state, &token) {
            return self.refuse(error);
        }
        let mut place = match self.enter(state, call) {
            Ok(place) => place,
            Err(error) => return self.refuse(error),
        };
        if let Some(spent) = allowance.filter(|a| !a.allowed) {
            Place::leave(place);
            return self.refuse_until(spent);
        }
        let mut behaviour = self.settings.behaviour_of(self.number);
        if let Err(problem) = behaviour.add_from(&self.arrived.parts.headers, &self.settings.name) {
            Place::leave(place);
            return self.explain(&format!("x-mock-{problem}"));
        }
        self.stall(&behaviour, &mut place).await;
        self.respond(state, call, &behaviour, allowance, place)
    }

    /// The error for a token that is not accepted.
    fn admit(&self, state: &State, token: &str) -> Result<(), &'static str> {
        let Settings { tokens, oauth, .. } = &*self.settings;
        let anybody = tokens.is_empty() && oauth.is_none();
        if anybody || tokens.iter().any(|accepted| accepted.expose() == token) {
            return Ok(());
        }
        match state.issued.worth(token, self.now.instant) {
            Worth::Good => Ok(()),
            Worth::Expired => Err("token_expired"),
            Worth::Unknown => Err("invalid_key"),
        }
    }

    /// A place, where the call takes one and there is one, or the error for there being none.
    fn enter(&self, state: &State, call: &Call) -> Result<Option<Place>, &'static str> {
        if !call.takes_a_place() {
            return Ok(None);
        }
        let (place, inside) = state.tally.enter();
        let max = self.settings.max_concurrent.unwrap_or(u32::MAX);
        if inside <= u64::from(max) {
            return Ok(Some(place));
        }
        state.tally.violate();
        let error = match self.settings.at_capacity {
            AtCapacity::Record => return Ok(Some(place)),
            AtCapacity::RateLimited => "rate_limit",
            AtCapacity::Overloaded => "overloaded",
        };
        Place::leave(Some(place));
        Err(error)
    }

    /// What happens before the head: a wait, silence, a dropped connection.
    async fn stall(&self, behaviour: &Behaviour, place: &mut Option<Place>) {
        if let Some(delay) = behaviour.delay {
            sleep(delay).await;
        }
        let reset = behaviour.reset == Some(true) && behaviour.cut.is_none();
        if reset {
            Place::leave(place.take());
            self.line.end(End::Rst);
        }
        if reset || behaviour.hang == Some(Hang::Head) {
            std::future::pending::<()>().await;
        }
    }
}

/// The token of a request, wherever its dialect carries it.
fn token(arrived: &Arrived) -> Option<String> {
    let text = |name: &str| arrived.parts.headers.get(name)?.to_str().ok();
    let bearer = || {
        let (scheme, token) = text("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    let query = || {
        let pairs = arrived.parts.uri.query()?.split('&');
        pairs.filter_map(|pair| pair.strip_prefix("key=")).next()
    };
    bearer()
        .or_else(|| text("x-api-key"))
        .or_else(|| text("api-key"))
        .or_else(|| text("x-goog-api-key"))
        .or_else(query)
        .map(str::to_owned)
}
