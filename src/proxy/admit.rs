//! Who may come in, and where the request goes: steps 1 to 5.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use pingora_proxy::Session;

use super::Gateway;
use super::body::{self, Replay};
use super::context::{Context, Fallback, Request};
use super::head;
use super::inject;
use super::limits::{self, Bill};
use super::local;
use super::models;
use super::names;
use super::origin;
use super::reject::Refused;
use super::upgrade;
use crate::clock::{self, Instant};
use crate::config::{Config, Paths};
use crate::dialect::{Call, Dialect, Kind, Peek, Reject, patience};
use crate::key::{self, Client, Refused as KeyRefused};
use crate::pool::{Demand, Pool, Tried};
use crate::route::{self, Caller, Way};

/// Longest name of a model. Names are looked up and remembered, and clients write them.
const MODEL_LENGTH: usize = 256;

/// So many reloads one request may meet between two of its steps.
const RELOADS: usize = 3;

/// What becomes of an accepted request.
pub(super) enum Accepted {
    Proxy,
    Answered,
}

/// Sets what a client may take of this connection. Pingora forgets the keep-alive limit after the
/// first request, so this is done for each.
pub(super) fn limit_session(gateway: &Gateway, session: &mut Session) {
    let config = gateway.config.load();
    let clients = &config.clients;
    // Where Pingora switched it off it had its reasons: the framing, or the end of the process.
    if session.get_keepalive().is_some() {
        session.set_keepalive(Some(clients.keepalive.as_secs().max(1)));
    }
    session.set_write_timeout(Some(clients.write_timeout));
    names::forget_spelling(session.req_header_mut());
    // Of an upstream's interim answers none is for the client; ours to `Expect` still goes out.
    session.set_ignore_info_resp(true);
}

/// From the bare request to one that may be sent to an account.
pub(super) async fn accept(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
) -> Result<Accepted, Refused> {
    let config = gateway.config.load_full();
    origin::identify(&config, session, ctx);
    head::check(&config, session)?;
    let websocket = upgrade::asked(session)?;
    origin::check(&config, &gateway.keys, session)?;
    if local::answer(gateway, session).await? {
        ctx.is_local = true;
        return Ok(Accepted::Answered);
    }
    if gateway.refusing.load(Ordering::SeqCst) {
        return Err(Reject::draining().into());
    }
    let target = target(&config, session, websocket)?;
    // Whoever is refused from here on is shown with what is known of the request.
    ctx.line.path = target.kind.map_or("other", path_name);
    ctx.line.model = asked_model(&target, None)?.map(str::to_owned);
    let (client, way) = admitted(gateway, &config, session, ctx, &target)?;
    ctx.permit = Some(limits::permit(gateway, &client).await?);
    // Who asks for a head alone asks whether anybody answers.
    if target.kind == Some(Kind::Models) && session.req_header().method == Method::GET {
        let question = models::Question {
            client: &client,
            dialect: target.dialect,
            model: target.model.as_deref(),
        };
        // In a box: most requests never ask this, and each would have room for it.
        if Box::pin(models::answer(gateway, &config, session, ctx, &question)).await? {
            return Ok(Accepted::Answered);
        }
    }
    if target.websocket {
        upgrade::admit(session, &client, &way.pool, target.dialect)?;
    }
    let known = &mut ctx.line.model;
    let (mut request, bill) = read(gateway, &config, session, target, &client, way, known).await?;
    request.deadline = deadline(session, &request.pool, ctx.began);
    ctx.bill = Some(bill);
    ctx.line.model = request.demand.model.as_deref().map(str::to_owned);
    ctx.line.pool = Some(request.pool.name.clone());
    ctx.request = Some(request);
    Ok(Accepted::Proxy)
}

/// When it is too late for another account: the client does not wait any longer, or the pool's
/// settings say so. A client that is told just before it gives up does not ask twice.
fn deadline(session: &Session, pool: &Pool, began: Instant) -> Option<Instant> {
    const BEFORE: Duration = Duration::from_secs(1);
    let own = pool.settings().retry.deadline;
    let own = Some(own).filter(|deadline| !deadline.is_zero());
    let stated = patience(&session.req_header().headers);
    let stated = stated.map(|it| it - BEFORE.min(it / 10));
    let earliest = own.into_iter().chain(stated).min();
    earliest.map(|after| began + after)
}

/// The kind of path, for the access line: a path itself may hold a client's text.
fn path_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Messages => "messages",
        Kind::CountTokens => "count_tokens",
        Kind::Chat => "chat",
        Kind::Completions => "completions",
        Kind::Responses | Kind::ResponsesSocket => "responses",
        Kind::Embeddings => "embeddings",
        Kind::Models => "models",
        Kind::Generate => "generate",
        Kind::Verb => "verb",
    }
}

/// What the path and the headers say.
struct Target {
    dialect: Dialect,
    websocket: bool,
    kind: Option<Kind>,
    path: Option<String>,
    model: Option<String>,
    stream: Option<bool>,
}

impl Target {
    /// The vendor's path, also where the client's is another one.
    fn path<'a>(&'a self, session: &'a Session) -> &'a str {
        let asked = || session.req_header().uri.path();
        self.path.as_deref().unwrap_or_else(asked)
    }
}

fn target(config: &Config, session: &Session, websocket: bool) -> Result<Target, Refused> {
    let head = session.req_header();
    let path = head.uri.path();
    if let Some(call) = Call::detect(&head.method, path, head.uri.query(), &head.headers) {
        return Ok(Target {
            dialect: call.dialect,
            websocket,
            kind: Some(call.kind),
            path: (*call.path != *path).then(|| call.path.into_owned()),
            model: call.model.map(|model| model.into_owned()),
            stream: call.stream,
        });
    }
    match config.clients.paths {
        Paths::Any => {
            let dialect = Dialect::of_errors(path, &head.headers);
            Ok(Target {
                dialect,
                websocket,
                kind: None,
                path: None,
                model: None,
                stream: None,
            })
        }
        Paths::Inference => Err(Reject::not_found().into()),
    }
}

/// The client of the key, where that one may be used from.
fn authenticate(
    gateway: &Gateway,
    session: &Session,
    ctx: &Context,
) -> Result<Arc<Client>, Refused> {
    let head = session.req_header();
    let presented = key::client_keys(&head.headers, head.uri.query());
    let client = gateway.keys.authenticate(presented, ctx.line.time);
    let client = client.map_err(|refused| {
        gateway.metrics.key_rejected(refused.label());
        match refused {
            KeyRefused::Unsure => Reject::keys_unknown(),
            _ => Reject::invalid_api_key(),
        }
    })?;
    if !client.may.allows_address(ctx.line.client) {
        gateway.metrics.key_rejected("address");
        return Err(Reject::permission_denied("this gateway from this address").into());
    }
    Ok(client)
}

/// Who calls, and where the request goes as far as its head says. A reload brings pools, exchanges the keys, and takes pools away, in
/// this order: a key whose pool is gone was read before, and is read again.
fn admitted(
    gateway: &Gateway,
    config: &Config,
    session: &Session,
    ctx: &mut Context,
    target: &Target,
) -> Result<(Arc<Client>, Way), Refused> {
    let path = target.path(session);
    for _ in 0..RELOADS {
        let client = authenticate(gateway, session, ctx)?;
        ctx.line.key = Some(client.name.clone());
        ctx.client = Some(client.clone());
        let pools = gateway.pools.load();
        let model = target.model.as_deref();
        if let Some(way) = route::way(&config.routes, &pools, &client, path, model) {
            return Ok((client, way));
        }
    }
    match ctx.client.as_ref().is_some_and(|client| client.is_bound()) {
        true => Err(Reject::account_gone().into()),
        false => Err(Reject::not_found().into()),
    }
}

/// The longest body that is kept so that it can be sent again. Where the body decides the pool, that of
/// the pool with the longest.
fn max_replay(gateway: &Gateway, config: &Config, pool: &Pool) -> usize {
    let of = |pool: &Pool| pool.settings().retry.max_body;
    match config.routes.is_empty() {
        true => of(pool),
        false => gateway
            .pools
            .load()
            .iter()
            .map(|pool| of(pool))
            .max()
            .unwrap_or(0),
    }
}

/// What the body says, as far as it is here.
fn look<'a>(target: &Target, body: &'a Replay) -> Peek<'a> {
    let has_json = target.kind.is_some() && !matches!(body, Replay::None);
    match (has_json, body.is_complete()) {
        (true, true) => Peek::of(body.seen()),
        (true, false) => Peek::of_beginning(body.seen()),
        (false, _) => Peek::default(),
    }
}

/// The model that is asked for in the path, or else in the body.
fn asked_model<'a>(
    target: &'a Target,
    peek: Option<&'a Peek<'_>>,
) -> Result<Option<&'a str>, Refused> {
    let in_body = || peek.and_then(|peek| peek.model.as_deref());
    let model = target.model.as_deref().or_else(in_body);
    if model.is_some_and(|model| model.len() > MODEL_LENGTH) {
        return Err(Reject::bad_request("the name of the model is too long").into());
    }
    Ok(model)
}

/// Could the request make a model work? On a path that nobody knows it could, unless it is of a kind that has
/// nothing done.
fn asks_for_model(target: &Target, method: &Method, body: &Replay) -> bool {
    match target.kind {
        Some(kind) => kind != Kind::Models,
        None => {
            let is_idle = method.is_safe() || method == Method::DELETE;
            !(is_idle && matches!(body, Replay::None))
        }
    }
}

/// May the key use this model?
fn allow_model(
    gateway: &Gateway,
    client: &Client,
    asks_for_model: bool,
    model: Option<&str>,
    is_sure: bool,
) -> Result<(), Refused> {
    if asks_for_model && !client.may.allows_model(model.filter(|_| is_sure)) {
        gateway.metrics.key_rejected("model");
        return Err(Reject::permission_denied("this model").into());
    }
    Ok(())
}

/// What the request asks of its pool, and of the fallback if there is one.
fn demand(
    target: &Target,
    caller: &Caller<'_>,
    model: Option<Arc<str>>,
    way: &Way,
    tokens: Option<u64>,
) -> (Demand, Option<Fallback>) {
    let told = |pool: &Pool| {
        let settings = pool.settings();
        (caller.place(&settings), caller.session(&settings))
    };
    let (place, session) = told(&way.pool);
    let fallback = way.fallback.as_ref().map(|pool| {
        let (caller, session) = told(pool);
        Fallback {
            pool: pool.clone(),
            caller,
            session,
        }
    });
    let client = caller.client;
    let only = client.account.clone().or_else(|| {
        let answer = caller.peek.previous_response_id.as_deref();
        answer.and_then(|answer| way.pool.account_that_knows(answer, clock::now()))
    });
    let demand = Demand {
        dialect: target.dialect,
        websocket: target.websocket,
        model,
        caller: place,
        session,
        tokens,
        priority: client.may.priority,
        key: client.turn(),
        tried: Tried::new(),
        again: false,
        only,
    };
    (demand, fallback)
}

/// May the body go out with another name for the model, or with a question of ours?
fn is_rewritten(target: &Target, way: &Way, stream: bool) -> bool {
    let of = |pool: &Arc<Pool>| {
        let renames = way.alias.is_some() || pool.renames_models();
        renames && target.model.is_none() || inject::asks_for_usage(pool, target.kind, stream)
    };
    of(&way.pool) || way.fallback.as_ref().is_some_and(of)
}

/// Reads the body, looks for the model in it, and says what the request asks of its pool. The model is
/// `known` even where the request is refused then.
async fn read(
    gateway: &Gateway,
    config: &Config,
    session: &mut Session,
    target: Target,
    client: &Client,
    way: Way,
    known: &mut Option<String>,
) -> Result<(Request, Bill), Refused> {
    let sizes = body::Limits {
        max_body: config.clients.max_body,
        max_replay: max_replay(gateway, config, &way.pool),
        timeout: config.clients.body_timeout,
    };
    let (body, mut budget) = body::read(gateway, session, &sizes).await?;
    let peek = look(&target, &body);
    let model_in_path = target.model.is_some();
    // Of a body that is not all here another model may count in the end.
    let is_sure = model_in_path || body.is_complete();
    let model = asked_model(&target, Some(&peek))?;
    *known = model.map(str::to_owned);
    let asks = asks_for_model(&target, &session.req_header().method, &body);
    allow_model(gateway, client, asks, model, is_sure)?;
    let model = model.map(Arc::<str>::from);
    // The body may name the model that a route asks for.
    let way = match config.routes.is_empty() || model_in_path {
        true => way,
        false => {
            let (pools, path) = (gateway.pools.load(), target.path(session));
            route::way(&config.routes, &pools, client, path, model.as_deref()).unwrap_or(way)
        }
    };
    let way = way.to_whoever_knows(peek.previous_response_id.as_deref(), clock::now());
    let said = way.alias.as_ref().and_then(|_| model.clone());
    let model = way.alias.clone().filter(|_| said.is_some()).or(model);
    let sure = model.as_deref().filter(|_| is_sure);
    let size = match body.is_complete() {
        true => body.seen().len(),
        false => body::stated_length(session).unwrap_or(body.seen().len()),
    };
    let bill = Bill::estimated(client, target.kind, sure, size, peek.max_tokens);
    let bill = limits::hold(gateway, client, sure, bill).await?;
    let stream = target.stream.or(peek.stream).unwrap_or(false);
    if is_rewritten(&target, &way, stream) {
        budget = body::reserve_copy(gateway, &body, budget).await?;
    }
    let head = session.req_header();
    let caller = Caller {
        client,
        headers: &head.headers,
        query: head.uri.query(),
        peek: &peek,
        body: body.seen(),
    };
    let (demand, fallback) = demand(&target, &caller, model, &way, bill.tokens());
    // What a key without a slot may use is decided by now; where one with a slot sits is not.
    let goes_on_at = demand.only.clone().filter(|_| client.takes_slot());
    let pool = way.pool;
    let (kind, path) = (target.kind, target.path);
    let request = Request {
        kind,
        path,
        said,
        fallback,
        goes_on_at,
        model_in_path,
        stream,
        pool,
        demand,
        body,
        deadline: None,
        budget,
        seated: None,
        new_slot: None,
    };
    Ok((request, bill))
}
