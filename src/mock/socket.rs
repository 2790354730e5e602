//! A session over a WebSocket: each `response.create` is answered with the events of a stream, one
//! in each message; anything else comes back as it was. The faults of a stream count its messages.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::answer::Visit;
use super::behaviour::{Behaviour, Hang};
use super::call::{Call, Kind, Wish};
use super::line::End;
use super::reply::{BEFORE_A_CUT, Reply};
use super::speech::{Event, Framing};
use super::tally::Place;
use crate::dialect::Dialect;

/// What an answer over the socket is: that of `POST /v1/responses`.
const RESPONSES: Call = Call {
    dialect: Dialect::OpenAi,
    kind: Kind::Responses,
    model: None,
};

impl Visit {
    /// 101; from then on the connection is a session's.
    pub(super) fn switch_protocols(
        mut self,
        behaviour: &Behaviour,
        place: Option<Place>,
    ) -> Response<Reply> {
        let asked = &self.arrived.parts.headers;
        let (Some(key), Some(upgrade)) = (asked.get(SEC_WEBSOCKET_KEY), self.upgrade.take()) else {
            Place::leave(place);
            return self.explain("a WebSocket needs a Sec-WebSocket-Key");
        };
        let mut response = Response::new(Reply::whole("", None));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        headers.extend(accept.map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        let offered = asked.get(SEC_WEBSOCKET_PROTOCOL);
        let first = offered.and_then(|list| list.to_str().ok()?.split(',').next());
        let first = first.and_then(|name| HeaderValue::from_str(name.trim()).ok());
        headers.extend(first.map(|name| (SEC_WEBSOCKET_PROTOCOL, name)));
        let response = self.finish(response, behaviour);
        let (line, behaviour) = (Arc::clone(&self.line), behaviour.clone());
        line.hand_over(Box::pin(self.hold(upgrade, behaviour, place)));
        response
    }

    /// The session, to its end.
    async fn hold(self, upgrade: OnUpgrade, behaviour: Behaviour, place: Option<Place>) {
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let mut session = Session {
            stream: WebSocketStream::from_raw_socket(io, Role::Server, None).await,
            behaviour,
            sent: 0,
        };
        // The place of a client that goes without a word is dropped, as one that was aborted.
        let Ok(over) = self.converse(&mut session).await else {
            return;
        };
        Place::leave(place);
        if let Over::Cut(how) = over {
            sleep(BEFORE_A_CUT).await;
            self.line.end(how);
        }
    }

    async fn converse(&self, session: &mut Session) -> Result<Over, Gone> {
        if let Some(over) = session.fault().await {
            return Ok(over);
        }
        loop {
            let message = match session.stream.next().await {
                Some(Ok(message)) => message,
                None | Some(Err(Error::ConnectionClosed)) => return Ok(Over::Closed),
                Some(Err(_)) => return Err(Gone),
            };
            let over = match &message {
                Message::Text(text) if asks_for_response(text) => self.tell(session, text).await?,
                Message::Text(_) | Message::Binary(_) => session.say(message).await?,
                // The library answers these as it reads on.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
            };
            if let Some(over) = over {
                return Ok(over);
            }
        }
    }

    /// The events of one response.
    async fn tell(&self, session: &mut Session, asked: &Utf8Bytes) -> Step {
        let body = asked.clone().into();
        let Some(wish) = Wish::of(&RESPONSES, &body) else {
            return session.close(CloseCode::Invalid, "not a request").await;
        };
        let mut telling = self.telling(&RESPONSES, &wish, &session.behaviour);
        telling.framing = Framing::Bare;
        for (n, Event { bytes, word }) in telling.enumerate() {
            match session.behaviour.gap {
                Some(gap) if word && n > 0 => sleep(gap).await,
                _ => {}
            }
            let text = Utf8Bytes::try_from(bytes).map_err(|_| Gone)?;
            let over = session.say(Message::Text(text)).await?;
            if over.is_some() {
                return Ok(over);
            }
        }
        if session.behaviour.drop_keepalive == Some(true) {
            return session.close(CloseCode::Away, "enough").await;
        }
        Ok(None)
    }
}

/// How a session ends but by the client.
enum Over {
    /// With a handshake, as both sides agreed.
    Closed,
    Cut(End),
}

/// The client went without a word.
struct Gone;

/// One step of a session: it goes on, or is over.
type Step = Result<Option<Over>, Gone>;

struct Session {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    behaviour: Behaviour,
    /// Messages so far.
    sent: u32,
}

impl Session {
    async fn say(&mut self, message: Message) -> Step {
        self.stream.send(message).await.map_err(|_| Gone)?;
        self.sent += 1;
        Ok(self.fault().await)
    }

    /// Asks the client to close; the rest is the library's.
    async fn close(&mut self, code: CloseCode, reason: &'static str) -> Step {
        let reason = reason.into();
        let frame = CloseFrame { code, reason };
        let closed = self.stream.close(Some(frame)).await;
        closed.map(|()| None).map_err(|_| Gone)
    }

    /// What goes wrong after the messages sent so far; silence never returns.
    async fn fault(&mut self) -> Option<Over> {
        if self.behaviour.hang == Some(Hang::After(self.sent)) {
            std::future::pending::<()>().await;
        }
        let end = match self.behaviour.reset {
            Some(true) => End::Rst,
            _ => End::Fin,
        };
        (self.behaviour.cut == Some(self.sent)).then_some(Over::Cut(end))
    }
}

fn asks_for_response(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow, rename = "type")]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Asked<'_>>(text).is_ok_and(|asked| asked.kind == "response.create")
}
