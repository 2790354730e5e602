//! A request in a straight line: who asks, is there room, what is asked, how it goes, the answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::sleep;

use super::behaviour::{Behaviour, Hang, StatedUsage};
use super::call::{self, Call, Kind, Wish};
use super::control;
use super::errors::{self, Mentions};
use super::line::{End, Line};
use super::oauth::{self, Worth};
use super::reply::Reply;
use super::settings::{AtCapacity, Settings};
use super::speech::{self, ErrorEvent, Facts, Framing, Speech, Telling};
use super::tally::{Allowance, Arrived, Place};
use super::vendor::State;
use super::wear::{self, Now};
use crate::clock;
use crate::dialect::{Dialect, Usage};

/// Longer bodies are refused.
const MAX_BODY: usize = 256 << 20;

/// Answers one request; pending for ever where the answer is silence.
pub(super) async fn answer(
    state: Arc<State>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
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
    if let Some(reply) = oauth::answer(&state, &arrived).await {
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
struct Visit {
    number: u64,
    request_id: String,
    dialect: Dialect,
    arrived: Arrived,
    settings: Arc<Settings>,
    line: Arc<Line>,
    now: Now,
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
        let mut place = None;
        if call.takes_a_place() {
            let (taken, inside) = state.tally.enter();
            place = Some(taken);
            if self
                .settings
                .max_concurrent
                .is_some_and(|max| inside > u64::from(max))
            {
                state.tally.violate();
                let refusal = match self.settings.at_capacity {
                    AtCapacity::Record => None,
                    AtCapacity::RateLimited => Some("rate_limit"),
                    AtCapacity::Overloaded => Some("overloaded"),
                };
                if let Some(name) = refusal {
                    place.take().into_iter().for_each(Place::served);
                    return self.refuse(name);
                }
            }
        }
        if let Some(spent) = allowance.filter(|a| !a.allowed) {
            place.take().into_iter().for_each(Place::served);
            return self.refuse_until(spent);
        }
        let mut behaviour = self.settings.behaviour_of(self.number);
        if let Err(problem) = behaviour.add_from(&self.arrived.parts.headers, &self.settings.name) {
            place.take().into_iter().for_each(Place::served);
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

    /// What happens before the head: a wait, silence, a dropped connection.
    async fn stall(&self, behaviour: &Behaviour, place: &mut Option<Place>) {
        if let Some(delay) = behaviour.delay {
            sleep(delay).await;
        }
        let reset = behaviour.reset == Some(true) && behaviour.cut.is_none();
        if reset {
            place.take().into_iter().for_each(Place::served);
            self.line.end(End::Rst);
        }
        if reset || behaviour.hang == Some(Hang::Head) {
            std::future::pending::<()>().await;
        }
    }

    fn respond(
        self,
        state: &State,
        call: &Call,
        behaviour: &Behaviour,
        allowance: Option<Allowance>,
        place: Option<Place>,
    ) -> Response<Reply> {
        let wish = match call.kind {
            Kind::Models | Kind::Model(_) => None,
            _ => match Wish::of(call, &self.arrived.body) {
                Some(wish) => Some(wish),
                None => return self.fail("invalid_request", behaviour, place),
            },
        };
        if let Some(wish) = &wish {
            let model = wish.model_name();
            state.tally.ask_for_model(&model);
            let known = &self.settings.models;
            if !known.is_empty() && !known.iter().any(|name| *name == model) {
                return self.fail("model_not_found", behaviour, place);
            }
        }
        if behaviour.body.is_some() || behaviour.status.is_some_and(|s| s.as_u16() >= 400) {
            return self.fail("", behaviour, place);
        }
        let mut kind = "application/json";
        let line = Arc::clone(&self.line);
        let piece = |bytes, place| Reply::broken(bytes, behaviour, place, line);
        let reply = match (wish, speech_of(call)) {
            (None, _) => match self.models(&call.kind) {
                Some(bytes) => piece(bytes, place),
                None => return self.fail("model_not_found", behaviour, place),
            },
            (Some(wish), None) => {
                let facts = self.facts(&wish, behaviour);
                piece(speech::embeddings(&facts, wish.inputs), place)
            }
            (Some(wish), Some(_)) if wish.stream && call.kind != Kind::Count => {
                let telling = self.telling(call, &wish, behaviour);
                if telling.framing == Framing::Sse {
                    kind = "text/event-stream; charset=utf-8";
                }
                Reply::events(telling, behaviour, place, Arc::clone(&self.line))
            }
            (Some(wish), Some(speech)) => {
                let mut facts = self.facts(&wish, behaviour);
                for n in 0..behaviour.words() {
                    facts.say(n, behaviour.words(), behaviour.size);
                }
                piece(speech.whole(&facts), place)
            }
        };
        let mut response = Response::new(reply);
        self.dress(response.headers_mut(), kind);
        if self.settings.limit_headers {
            wear::limits(response.headers_mut(), self.dialect, allowance, self.now);
        }
        self.finish(response, behaviour)
    }

    fn models(&self, kind: &Kind) -> Option<Bytes> {
        let Settings { models, name, .. } = &*self.settings;
        match kind {
            Kind::Model(id) => speech::model(self.dialect, id, models, name),
            _ => Some(speech::models(self.dialect, models, name)),
        }
    }

    fn facts(&self, wish: &Wish, behaviour: &Behaviour) -> Facts {
        Facts {
            number: self.number,
            vendor: self.settings.name.clone(),
            model: wish.model.clone(),
            created: clock::unix_seconds(self.now.wall) as u64,
            usage: Usage {
                input: (self.arrived.body.len() as u64 / 4).max(1),
                ..Usage::default()
            },
            stated: match behaviour.usage {
                Some(StatedUsage::These(usage)) => Some(usage),
                _ => None,
            },
            no_usage: behaviour.usage == Some(StatedUsage::Nothing),
            text: String::new(),
            last: 0,
            sequence: 0,
            error: (String::new(), String::new()),
        }
    }

    fn telling(&self, call: &Call, wish: &Wish, behaviour: &Behaviour) -> Telling {
        let mut facts = self.facts(wish, behaviour);
        let speech = match call.kind {
            Kind::Chat if wish.include_usage && !facts.no_usage => &speech::CHAT_WITH_USAGE,
            _ => speech_of(call).unwrap_or(&speech::CHAT),
        };
        let error = behaviour.error_event.map(|after| {
            let name = behaviour.body.as_deref().unwrap_or("overloaded");
            let model = wish.model_name();
            let body = errors::named(self.dialect, name, &self.mentions(&model, behaviour));
            let body = body.unwrap_or_else(|| {
                errors::of_status(self.dialect, 500, &self.mentions(&model, behaviour))
            });
            facts.error = body.parts;
            let event = match call.kind {
                Kind::Responses => ErrorEvent::Template(speech::RESPONSES_FAILED),
                Kind::Messages => ErrorEvent::Plain("error", body.bytes),
                _ => ErrorEvent::Plain("", body.bytes),
            };
            (after, event)
        });
        Telling {
            speech,
            facts,
            framing: match call.kind {
                Kind::StreamGenerate { sse: false } => Framing::Array,
                _ => Framing::Sse,
            },
            words: behaviour.words(),
            size: behaviour.size,
            error,
            next: 0,
        }
    }

    fn mentions<'a>(&'a self, model: &'a str, behaviour: &'a Behaviour) -> Mentions<'a> {
        Mentions {
            model,
            request_id: &self.request_id,
            retry_after: behaviour.retry_after.as_deref(),
            size: behaviour.size.unwrap_or(0),
        }
    }

    /// An error as the behaviour has it; without a word from it, the error `name`.
    fn fail(self, name: &str, behaviour: &Behaviour, place: Option<Place>) -> Response<Reply> {
        let model = serde_json::from_slice::<serde_json::Value>(&self.arrived.body)
            .ok()
            .and_then(|body| body["model"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "unknown".to_owned());
        let mentions = self.mentions(&model, behaviour);
        let name = behaviour.body.as_deref().unwrap_or(name);
        let body = match (behaviour.status, name) {
            (Some(status), "") => errors::of_status(self.dialect, status.as_u16(), &mentions),
            (_, name) => match errors::named(self.dialect, name, &mentions) {
                Some(body) => body,
                None => {
                    let known: Vec<&str> = errors::names(self.dialect).collect();
                    place.into_iter().for_each(Place::served);
                    return self.explain(&format!("x-mock-body: one of {}", known.join(", ")));
                }
            },
        };
        let reply = Reply::broken(body.bytes, behaviour, place, Arc::clone(&self.line));
        let mut response = Response::new(reply);
        *response.status_mut() =
            StatusCode::from_u16(body.status).unwrap_or(StatusCode::BAD_REQUEST);
        self.dress(response.headers_mut(), body.kind);
        self.finish(response, behaviour)
    }

    /// The vendor's own error of this name.
    fn refuse(self, name: &'static str) -> Response<Reply> {
        self.fail(name, &Behaviour::default(), None)
    }

    /// The limit is spent: 429 with what the vendor states about it.
    fn refuse_until(self, spent: Allowance) -> Response<Reply> {
        let left = spent.resets.saturating_duration_since(self.now.instant);
        let wait = match self.dialect {
            Dialect::Gemini => format!("{}ms", left.as_millis()),
            _ => left.as_millis().div_ceil(1000).to_string(),
        };
        let behaviour = Behaviour {
            retry_after: Some(wait),
            ..Behaviour::default()
        };
        let (dialect, now) = (self.dialect, self.now);
        let mut response = self.fail("rate_limit", &behaviour, None);
        wear::limits(response.headers_mut(), dialect, Some(spent), now);
        response
    }

    /// 400 that says what is wrong with the script of this request; no vendor says this.
    fn explain(self, problem: &str) -> Response<Reply> {
        let body = serde_json::json!({"error": {"message": problem, "type": "mock"}});
        let mut response = Response::new(Reply::whole(body.to_string(), None));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        self.dress(response.headers_mut(), "application/json");
        response
    }

    fn dress(&self, headers: &mut HeaderMap, kind: &'static str) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        wear::identity(headers, self.dialect, &self.settings, &self.request_id);
    }

    fn finish(&self, mut response: Response<Reply>, behaviour: &Behaviour) -> Response<Reply> {
        if let Some(status) = behaviour.status {
            *response.status_mut() = status;
        }
        if let Some(retry_after) = &behaviour.retry_after {
            wear::wait(response.headers_mut(), self.dialect, retry_after);
        }
        wear::asked(response.headers_mut(), behaviour);
        response
    }
}

/// None: an answer that is no template.
fn speech_of(call: &Call) -> Option<&'static Speech> {
    Some(match (&call.kind, call.dialect) {
        (Kind::Chat, _) => &speech::CHAT,
        (Kind::Completions, _) => &speech::COMPLETIONS,
        (Kind::Responses, _) => &speech::RESPONSES,
        (Kind::Messages, _) => &speech::MESSAGES,
        (Kind::Generate | Kind::StreamGenerate { .. }, _) => &speech::GENERATE,
        (Kind::Count, Dialect::Gemini) => &speech::GEMINI_COUNT,
        (Kind::Count, _) => &speech::ANTHROPIC_COUNT,
        (Kind::Embeddings | Kind::Models | Kind::Model(_), _) => return None,
    })
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
