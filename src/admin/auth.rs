//! Who may use the management API: a token with a role, and only under the names this gateway is
//! known by, so that no web page can reach it through a name of its own (DNS rebinding).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};
use utoipa::openapi::OpenApi;

use super::reply::Problem;
use super::session::{Hash, Known, Sessions, hash};
use crate::clock::{self, Instant};
use crate::config::{self, Address, Role};
use crate::secret::Secret;

/// What a page of ours says with each write (`contract/http.md` §3).
const CSRF: &str = "x-poolgate-csrf";

/// What the browser says of the page that asks (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Tokens, sessions and names. Copies share their tokens and sessions.
#[derive(Clone)]
pub struct Auth {
    tokens: Arc<ArcSwap<Vec<Token>>>,
    sessions: Arc<Sessions>,
    hosts: Arc<Hosts>,
}

struct Token {
    /// Of the token itself, so that comparing takes the same time for any length.
    hash: Hash,
    name: Arc<str>,
    role: Role,
}

/// Whose token it was; found in the extensions of a request that was let in.
#[derive(Clone)]
pub(super) struct Actor {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    token: Hash,
    /// What the gate asks for that let it in.
    needed: Role,
    /// The session that stood for the token, if one did.
    pub(super) session: Option<Known>,
}

impl Auth {
    /// Without a token nobody is let in.
    pub fn new(tokens: Vec<(String, Secret, Role)>, hosts: Hosts) -> Self {
        let auth = Auth {
            tokens: Arc::default(),
            sessions: Arc::default(),
            hosts: Arc::new(hosts),
        };
        auth.replace(tokens);
        auth
    }

    /// Exchanges all tokens at once, as when a token's file changed.
    pub fn replace(&self, tokens: Vec<(String, Secret, Role)>) {
        let tokens = tokens
            .into_iter()
            .filter(|(_, secret, _)| !secret.expose().is_empty());
        let tokens = tokens.map(|(name, secret, role)| Token {
            hash: hash(secret.expose().as_bytes()),
            name: name.into(),
            role,
        });
        self.tokens.store(Arc::new(tokens.collect()));
    }

    /// The same tokens under other names, as on `listen`.
    pub fn with_hosts(&self, hosts: Hosts) -> Self {
        Auth {
            hosts: Arc::new(hosts),
            ..self.clone()
        }
    }

    /// A code with which somebody may open one session as an administrator, soon: whoever sees what
    /// this process prints may read its token's file, too.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn invite(&self) -> std::io::Result<Secret> {
        self.sessions.invite(clock::now())
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whose token this is.
    pub(super) fn actor(&self, offered: &[u8]) -> Option<Actor> {
        self.owner(hash(offered), None)
    }

    /// The administrator for whom a link's code stands.
    pub(super) fn administrator(&self) -> Option<Actor> {
        let tokens = self.tokens.load();
        let token = tokens.iter().find(|token| token.role == Role::Admin)?;
        Some(token.owner(None))
    }

    /// Opens a session; returns what its cookie holds.
    pub(super) fn open(&self, actor: &Actor, now: Instant) -> std::io::Result<(Secret, Known)> {
        self.sessions.open(actor.token, now)
    }

    /// Would this actor still be let in? A token may be gone by now or have another role, a session may
    /// have ended.
    pub(super) fn is_still(&self, actor: &Actor, headers: &HeaderMap, now: Instant) -> bool {
        let is_open = actor.session.is_none() || self.sessions.is_open(headers, now);
        let owner = self.owner(actor.token, None);
        is_open && owner.is_some_and(|owner| owner.role >= actor.needed)
    }

    /// Looks at every token, whether or not one fits already.
    fn owner(&self, offered: Hash, session: Option<Known>) -> Option<Actor> {
        let tokens = self.tokens.load();
        let mut found = None;
        for token in tokens.iter() {
            let same: Choice = token.hash.ct_eq(&offered);
            if same.into() {
                found = Some(token);
            }
        }
        found.map(|token| token.owner(session))
    }
}

impl Token {
    fn owner(&self, session: Option<Known>) -> Actor {
        Actor {
            name: self.name.clone(),
            role: self.role,
            token: self.hash,
            needed: Role::Metrics,
            session,
        }
    }
}

/// Names under which requests are taken.
#[derive(Debug)]
pub enum Hosts {
    Any,
    These {
        /// Lower case, without port.
        names: Vec<String>,
        /// Any address literal: we listen on every address, and rebinding needs a name.
        any_address: bool,
    },
}

impl Hosts {
    /// `admin.hosts`, the address itself, and this machine's own name for itself. A Unix socket is
    /// out of reach for any page.
    pub fn of(admin: &config::Admin) -> Self {
        let Address::Tcp(address) = &admin.address else {
            return Hosts::Any;
        };
        let own = [
            address.ip().to_string(),
            "localhost".into(),
            "127.0.0.1".into(),
            "::1".into(),
        ];
        let names = admin
            .hosts
            .iter()
            .map(|h| h.to_ascii_lowercase())
            .chain(own)
            .collect();
        Hosts::These {
            names,
            any_address: address.ip().is_unspecified(),
        }
    }

    fn take(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Hosts::These { .. } = self else {
            return true;
        };
        // HTTP/2 and absolute requests name the host in the URI; a Host beside it must be good too.
        let named = uri.authority().map(|a| a.as_str());
        let hosts = headers
            .get_all(HOST)
            .iter()
            .map(|h| h.to_str().unwrap_or_default())
            .chain(named);
        let mut some = false;
        for host in hosts {
            some = true;
            if !self.knows(host) {
                return false;
            }
        }
        some && headers.get_all(ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            origin
                .split_once("://")
                .is_some_and(|(_, host)| self.knows(host))
        })
    }

    /// `authority`: a host with or without port.
    fn knows(&self, authority: &str) -> bool {
        let Hosts::These { names, any_address } = self else {
            return true;
        };
        let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else {
            return false;
        };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.');
        names.iter().any(|name| name == host) || (*any_address && host.parse::<IpAddr>().is_ok())
    }
}

/// What one group of paths asks for.
#[derive(Clone)]
pub(super) struct Gate {
    auth: Auth,
    role: Role,
    older: bool,
}

impl Gate {
    pub(super) fn new(auth: &Auth, role: Role) -> Self {
        Gate {
            auth: auth.clone(),
            role,
            older: false,
        }
    }

    /// For the older systems' paths: also their headers, and no Content-Type.
    pub(super) fn older(auth: &Auth, role: Role) -> Self {
        Gate {
            older: true,
            ..Gate::new(auth, role)
        }
    }

    fn check(&self, request: &Request) -> Result<Actor, Problem> {
        let headers = request.headers();
        self.auth.check_names(request)?;
        let mut offered = offered(headers, self.older).peekable();
        let actor = match offered.peek() {
            Some(_) => offered.find_map(|token| self.auth.actor(token)),
            None if self.older => return Err(unauthorized(NO_TOKEN)),
            None => Some(self.of_page(request)?),
        };
        let Some(mut actor) = actor else {
            self.note_stranger(request);
            return Err(unauthorized("this admin token is not known"));
        };
        actor.needed = self.role;
        if actor.role < self.role {
            let message = "the role of this token does not allow it";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        if !self.older {
            check_json(request)?;
        }
        Ok(actor)
    }

    /// Who guesses tokens is in the log, a few times a minute, as who guesses at the page's login is.
    fn note_stranger(&self, request: &Request) {
        let from = request.extensions().get::<IpAddr>().copied();
        if self.auth.sessions.failed(from, clock::now()).is_ok() {
            tracing::warn!(client = ?from, "a request with an admin token that is not known");
        }
    }

    /// Who has opened the session whose cookie this is.
    fn of_page(&self, request: &Request) -> Result<Actor, Problem> {
        let headers = request.headers();
        let session = self.auth.sessions.of(headers, clock::now());
        let session = session.ok_or_else(|| unauthorized(NO_TOKEN))?;
        // Other ports of this machine are the same site to a browser.
        let others = headers.get_all(FETCH_SITE).iter();
        if { others }.any(|site| site != "same-origin" && site != "none") {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden_origin",
                "this is another page's request",
            ));
        }
        let said = headers.get(CSRF).map_or(&b""[..], |value| value.as_bytes());
        if !request.method().is_safe() && !session.is_own(said) {
            let message = "writes of a session need its `X-Poolgate-CSRF`";
            return Err(Problem::new(StatusCode::FORBIDDEN, "csrf", message));
        }
        let actor = self.auth.owner(session.token, Some(session));
        actor.ok_or_else(|| unauthorized("the token of this session is not known any more"))
    }
}

const NO_TOKEN: &str = "send an admin token as `Authorization: Bearer …`, or log in";

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

impl Auth {
    /// Does the request name us, and come from no other site?
    fn check_names(&self, request: &Request) -> Result<(), Problem> {
        match self.hosts.take(request.uri(), request.headers()) {
            true => Ok(()),
            false => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden_origin",
                "this host or origin is not one of admin.hosts",
            )),
        }
    }
}

/// The writes that there are, by path and method: one that no route takes is told that, whatever its
/// body is.
#[derive(Clone, Default)]
pub(super) struct Writes(Arc<HashSet<(String, Method)>>);

impl Writes {
    /// Those of a description of all routes.
    pub(super) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter();
        let writes = paths.flat_map(|(path, item)| {
            let taken = [(&item.post, Method::POST), (&item.patch, Method::PATCH)];
            let taken = taken.into_iter().filter(|(taken, _)| taken.is_some());
            taken.map(|(_, method)| (path.clone(), method))
        });
        Writes(Arc::new(writes.collect()))
    }

    fn take(&self, request: &Request) -> bool {
        let path = request.extensions().get::<MatchedPath>();
        let asked = path.map(|path| (path.as_str().to_owned(), request.method().clone()));
        asked.is_some_and(|asked| self.0.contains(&asked))
    }
}

/// A page of another site may send a `POST` without asking; a `DELETE`, which has no body, not. What no
/// route takes, as a `PUT`, is told so.
fn check_json(request: &Request) -> Result<(), Problem> {
    let writes = matches!(*request.method(), Method::POST | Method::PATCH);
    let known = request.extensions().get::<Writes>();
    let is_taken = writes && known.is_none_or(|known| known.take(request));
    match is_taken && !is_json(request.headers()) {
        false => Ok(()),
        true => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "write calls need `Content-Type: application/json`",
        )),
    }
}

/// Lets a request through to a group of paths, or answers 401 or 403.
pub(super) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.check(&request) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(problem) if gate.older => problem.with_detail().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Lets through whoever asks under one of our names, with or without a token: the page, the login.
pub(super) async fn door(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let checked = auth
        .check_names(&request)
        .and_then(|()| check_json(&request));
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn offered(headers: &HeaderMap, older: bool) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| token.trim_ascii())
    });
    let names: &[&str] = if older {
        &["x-api-key", "x-admin-key"]
    } else {
        &[]
    };
    bearer.chain(
        names
            .iter()
            .flat_map(|name| headers.get_all(*name))
            .map(|v| v.as_bytes()),
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
