//! The answer itself: which text, in one piece or as a stream, or which error, with which headers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::Visit;
use super::behaviour::{Behaviour, StatedUsage};
use super::call::{Call, Kind, Wish};
use super::errors::{self, Mentions};
use super::reply::Reply;
use super::settings::Settings;
use super::speech::{self, ErrorEvent, Facts, Framing, Speech, Telling};
use super::tally::{Allowance, Place};
use super::vendor::State;
use super::wear;
use crate::clock;
use crate::dialect::{Dialect, Usage};

impl Visit {
    pub(super) fn respond(
        self,
        state: &State,
        call: &Call,
        behaviour: &Behaviour,
        allowance: Option<Allowance>,
        place: Option<Place>,
    ) -> Response<Reply> {
        let wish = match call.kind {
            Kind::Models | Kind::Model(_) | Kind::Socket => None,
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
        // Of a stream that is to fail later on, the body is that of its error event.
        let fails_later =
            behaviour.error_event.is_some() && wish.as_ref().is_some_and(|wish| wish.stream);
        let is_error = behaviour
            .status
            .is_some_and(|status| status.as_u16() >= 400);
        if is_error || (behaviour.body.is_some() && !fails_later) {
            return self.fail("", behaviour, place);
        }
        if call.kind == Kind::Socket {
            return self.switch_protocols(behaviour, place);
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

    pub(super) fn telling(&self, call: &Call, wish: &Wish, behaviour: &Behaviour) -> Telling {
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
                    Place::leave(place);
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
    pub(super) fn refuse(self, name: &'static str) -> Response<Reply> {
        self.fail(name, &Behaviour::default(), None)
    }

    /// The limit is spent: 429 with what the vendor states about it.
    pub(super) fn refuse_until(self, spent: Allowance) -> Response<Reply> {
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
    pub(super) fn explain(self, problem: &str) -> Response<Reply> {
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

    pub(super) fn finish(
        &self,
        mut response: Response<Reply>,
        behaviour: &Behaviour,
    ) -> Response<Reply> {
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
        (Kind::Embeddings | Kind::Models | Kind::Model(_) | Kind::Socket, _) => return None,
    })
}
