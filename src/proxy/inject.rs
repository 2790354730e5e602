//! What goes upstream: the client's credentials come off, the account's go on. This is done anew
//! for each attempt, on a copy, so that no token of one account ever reaches another's upstream.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING,
    USER_AGENT,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{PercentEncode, utf8_percent_encode};
use pingora::http::RequestHeader;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::body::{Replay, patience};
use super::context::{Attempt, Context, Request};
use super::names;
use super::origin::X_REQUEST_ID;
use super::upgrade;
use super::verdict;
use crate::clock;
use crate::config::Usage;
use crate::credential::{Injection, RESERVED};
use crate::dialect::{self, Kind, Reject, replace_model};
use crate::key;
use crate::pool::{Account, Pool};

/// Who the client is, said by proxies before us; replaced or dropped.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

/// The request's head as this attempt's account needs it.
pub(super) fn apply(
    gateway: &Gateway,
    session: &Session,
    head: &mut RequestHeader,
    ctx: &mut Context,
) -> Result<()> {
    let mut parts = names::parts(head);
    change(gateway, session, &mut parts, ctx)?;
    *head = parts.into();
    Ok(())
}

fn change(gateway: &Gateway, session: &Session, head: &mut Parts, ctx: &mut Context) -> Result<()> {
    let (Some(request), Some(attempt)) = (&ctx.request, &mut ctx.attempt) else {
        return Err(verdict::give_up());
    };
    let account = attempt.lease.account().clone();
    attempt.secrets = account.credential.secrets();
    let injection = account
        .credential
        .injection(&attempt.secrets, request.demand.dialect);
    if !rewrite_model(request, attempt, &account) {
        let most = request.pool.settings().retry.max_body;
        ctx.reject = Some(Reject::cannot_rename(most));
        return Err(refused());
    }
    ask_for_usage(request, attempt);
    attempt.lease.sent();

    // What is about to be replaced need not be taken off first.
    let replaced = match &injection {
        Injection::Header(name, _) => Some(name),
        Injection::None | Injection::Query(..) => None,
    };
    let websocket = request.demand.websocket;
    let is_stripped = |name: &&HeaderName| {
        let hidden = key::is_credential_header(name)
            || FORWARDED.contains(&name.as_str())
            || (!websocket && upgrade::is_handshake_header(name));
        hidden && Some(*name) != replaced
    };
    let stripped: Vec<HeaderName> = head.headers.keys().filter(is_stripped).cloned().collect();
    stripped
        .iter()
        .for_each(|name| drop(head.headers.remove(name)));
    head.headers.remove(EXPECT);
    if websocket {
        upgrade::put_protocols(session, &mut head.headers)?;
    }

    let target = target(session, request, &account, &injection);
    if !is_for(head, &target) {
        let target = PathAndQuery::try_from(target).map_err(|_| {
            Error::explain(ErrorType::InternalError, "the upstream path is not valid")
        })?;
        head.uri = target.into();
    }
    head.headers.insert(HOST, account.host.clone());
    let request_id = names::value(&ctx.line.request_id)?;
    head.headers.insert(X_REQUEST_ID, request_id);
    if request.kind.is_some() {
        // A compressed answer could neither be metered nor ended by an error event.
        let identity = HeaderValue::from_static("identity");
        head.headers.insert(ACCEPT_ENCODING, identity);
    }
    if let Some(body) = &attempt.rewritten {
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    if request.pool.settings().forward_client_ip
        && let Some(address) = ctx.line.client
    {
        let address = names::value(&address.to_string())?;
        head.headers.insert("x-forwarded-for", address);
    }
    add_user_agent_suffix(gateway, &mut head.headers)?;
    for (name, value) in attempt.secrets.headers() {
        head.headers.insert(name.clone(), value.clone());
    }
    if let Injection::Header(name, value) = injection {
        if name != AUTHORIZATION {
            head.headers.remove(AUTHORIZATION);
        }
        head.headers.insert(name, value);
    }
    Ok(())
}

fn add_user_agent_suffix(gateway: &Gateway, headers: &mut HeaderMap) -> Result<()> {
    let config = gateway.config.load();
    let suffix = &config.server.user_agent_suffix;
    if suffix.is_empty() {
        return Ok(());
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let agent = format!("{agent} {suffix}");
    headers.insert(USER_AGENT, names::value(agent.trim_start())?);
    Ok(())
}

/// Where a route or the account's upstream knows the model under another name, the body says that name.
/// False: it cannot, as it is not all here, and would ask for what is another model there.
fn rewrite_model(request: &Request, attempt: &mut Attempt, account: &Account) -> bool {
    let Some(name) = renamed(request, account).filter(|_| !request.model_in_path) else {
        return true;
    };
    let whole = request.body.whole();
    attempt.rewritten = whole
        .and_then(|body| replace_model(body, name))
        .map(Bytes::from);
    request.body.is_complete()
}

/// Ends a request by its client's fault.
fn refused() -> Box<Error> {
    Error::create(ErrorType::ReadError, ErrorSource::Downstream, None, None)
}

/// Does this pool want to know what such a request's stream comes to?
pub(super) fn asks_for_usage(pool: &Pool, kind: Option<Kind>, stream: bool) -> bool {
    let is_stream = stream && matches!(kind, Some(Kind::Chat | Kind::Completions));
    is_stream && pool.settings().usage == Usage::Ask
}

/// Where the pool wants to know what a stream comes to, the body asks for it.
fn ask_for_usage(request: &Request, attempt: &mut Attempt) {
    if !asks_for_usage(&request.pool, request.kind, request.stream) {
        return;
    }
    let body = attempt.rewritten.as_ref().or(request.body.whole());
    if let Some(asking) = body.and_then(|body| dialect::ask_for_usage(body)) {
        attempt.rewritten = Some(asking.into());
        attempt.asked_usage = true;
    }
}

/// The model's name at this account's upstream, where it is not what the client wrote.
fn renamed<'a>(request: &'a Request, account: &'a Account) -> Option<&'a str> {
    let asked = request.demand.model.as_deref()?;
    let name = account.model_name(asked).unwrap_or(asked);
    (name != request.said.as_deref().unwrap_or(asked)).then_some(name)
}

/// Path and query at this account's upstream.
fn target(
    session: &Session,
    request: &Request,
    account: &Account,
    injection: &Injection,
) -> String {
    let uri = &session.req_header().uri;
    let path = request.path.as_deref().unwrap_or_else(|| uri.path());
    let upstream = &account.config.upstream;
    let mut target = upstream.prefix.clone();
    let path = if upstream.prefix_has_version {
        without_version(path)
    } else {
        path
    };
    match renamed(request, account).filter(|_| request.model_in_path) {
        Some(name) => push_renamed(&mut target, path, name),
        None => target.push_str(path),
    }
    let query = uri.query().unwrap_or_default();
    let cleaned = key::without_key_parameter(query);
    let mut separator = '?';
    let mut add = |target: &mut String, text: &str| {
        target.push(separator);
        target.push_str(text);
        separator = '&';
    };
    let query = cleaned.as_deref().unwrap_or(query);
    if !query.is_empty() {
        add(&mut target, query);
    }
    if let Injection::Query(name, value) = injection {
        add(&mut target, &format!("{name}={}", encoded(value.expose())));
    }
    target
}

/// Nearly always the client's own path and query are the upstream's.
fn is_for(head: &Parts, target: &str) -> bool {
    let uri = &head.uri;
    uri.authority().is_none() && uri.path_and_query().is_some_and(|it| it.as_str() == target)
}

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, &RESERVED)
}

/// The path behind its version: the account's prefix has one already.
fn without_version(path: &str) -> &str {
    let rest = path
        .strip_prefix("/v1beta")
        .or_else(|| path.strip_prefix("/v1"));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// Gemini names the model in the path: `/v1beta/models/NAME:verb`, whose colon may be escaped.
fn push_renamed(target: &mut String, path: &str, name: &str) {
    let renamed = path.split_once("/models/").map(|(before, rest)| {
        let colon = rest.rfind(':').map(|at| (at, 1));
        let escaped = rest.to_ascii_uppercase().rfind("%3A").map(|at| (at, 3));
        let verb = colon.max(escaped).map(|(at, length)| &rest[at + length..]);
        let verb = verb.map(|verb| format!(":{verb}")).unwrap_or_default();
        format!("{before}/models/{}{verb}", encoded(name))
    });
    target.push_str(renamed.as_deref().unwrap_or(path));
}

/// The part of the body that Pingora is about to send, replaced by what has to go out.
pub(super) fn body(
    gateway: &Gateway,
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Context,
) -> Result<()> {
    let (Some(request), Some(attempt)) = (&ctx.request, &mut ctx.attempt) else {
        return Ok(());
    };
    attempt.sent = true;
    match &request.body {
        Replay::None | Replay::Sent => {}
        // Trailers come after all of it.
        Replay::Whole(_) if attempt.head_sent => *body = None,
        Replay::Whole(whole) => {
            attempt.head_sent = true;
            *body = Some(attempt.rewritten.as_ref().unwrap_or(whole).clone());
        }
        Replay::Kept(_) => {}
        Replay::Head(_) if attempt.head_sent => {}
        Replay::Head(head) => {
            attempt.head_sent = true;
            let rest = body.take().unwrap_or_default();
            *body = Some(Bytes::from([&head[..], &rest[..]].concat()));
        }
    }
    if request.body.is_complete() {
        return Ok(());
    }
    let clients = &gateway.config.load().clients;
    let length = session.as_ref().body_bytes_read();
    let took = clock::now().saturating_duration_since(attempt.lease.began());
    if length > clients.max_body {
        ctx.reject = Some(Reject::request_too_large(clients.max_body));
    } else if !end && took > patience(clients.body_timeout, length) {
        ctx.reject = Some(Reject::request_timeout());
    } else {
        return Ok(());
    }
    Err(refused())
}
