//! What one request carries from hook to hook.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora::http::ResponseHeader;
use tokio::sync::OwnedSemaphorePermit;

use super::body::Replay;
use super::limits::Bill;
use crate::clock::{self, Instant};
use crate::credential::Secrets;
use crate::dialect::{Kind, Meter, Reading, Reject};
use crate::key::{Client, Seated};
use crate::limit::Permit;
use crate::pool::{Account, Demand, Lease, Outcome, Pool, Refusal, Retrying};
use crate::telemetry::AccessLine;

/// The context of a request: what is known before any account is asked, then the attempt under way.
pub struct Context {
    pub(super) began: Instant,
    /// The access line, filled in as the request goes.
    pub(super) line: AccessLine,
    pub(super) client: Option<Arc<Client>>,
    /// One of the requests that the key may have under way.
    pub(super) permit: Option<Permit>,
    /// What the request holds of its key's limits.
    pub(super) bill: Option<Bill>,
    pub(super) request: Option<Request>,
    pub(super) attempt: Option<Attempt>,
    pub(super) retry: Retry,
    /// The error that poolgate itself writes.
    pub(super) reject: Option<Reject>,
    /// A real answer that may still have to go to the client.
    pub(super) last_answer: Option<HeldAnswer>,
    /// Why the pool had no account.
    pub(super) refusal: Option<Refusal>,
    /// What the answer said about itself, once it was read to its end.
    pub(super) reading: Option<Reading>,
    /// What a stream that broke off ends with.
    pub(super) last_words: Option<Bytes>,
    /// The request failed, and its client has the whole of an answer all the same.
    pub(super) is_answered: bool,
    /// Answered by `local`, without an account and without an access line.
    pub(super) is_local: bool,
    /// Counts the request as under way until it is over.
    pub(super) in_flight: Option<super::meter::InFlight>,
}

/// An accepted request: what every attempt sends.
pub(super) struct Request {
    pub(super) kind: Option<Kind>,
    /// The vendor's path, where the client's is another one.
    pub(super) path: Option<String>,
    /// The model's name as the client wrote it, where a route gave it another.
    pub(super) said: Option<Arc<str>>,
    /// Asked where the pool cannot serve.
    pub(super) fallback: Option<Fallback>,
    /// The account whose answer a request goes on from whose key has a slot, perhaps of another one by
    /// now.
    pub(super) goes_on_at: Option<Arc<str>>,
    /// The model stands in the path.
    pub(super) model_in_path: bool,
    pub(super) stream: bool,
    pub(super) pool: Arc<Pool>,
    pub(super) demand: Demand,
    pub(super) body: Replay,
    /// When nobody waits for an answer any more, as the client or the pool's settings say.
    pub(super) deadline: Option<Instant>,
    /// The body's share of the memory for bodies.
    pub(super) budget: Option<OwnedSemaphorePermit>,
    /// Its key's slot is in use while this is held.
    pub(super) seated: Option<Seated>,
    /// The account that its key was given just now, as long as nobody was told.
    pub(super) new_slot: Option<Arc<str>>,
}

/// Another pool, and what tells the caller from others there.
pub(super) struct Fallback {
    pub(super) pool: Arc<Pool>,
    pub(super) caller: Option<u64>,
    pub(super) session: Option<u64>,
}

impl Request {
    /// May another pool be asked? Its accounts do not know an answer that is gone on from.
    pub(super) fn may_fall_back(&self) -> bool {
        self.fallback.is_some() && self.demand.only.is_none()
    }

    /// From now on the fallback's accounts are asked, as often as that pool allows. False: there is none,
    /// or they are asked already.
    pub(super) fn fall_back(&mut self, retry: &mut Retry, now: Instant) -> bool {
        if !self.may_fall_back() {
            return false;
        }
        let Some(fallback) = self.fallback.take() else {
            return false;
        };
        retry.before = retry.attempts;
        self.demand.caller = fallback.caller;
        self.demand.session = fallback.session;
        // Slots are those of a pool's own table.
        self.demand.tried.clear();
        self.pool = fallback.pool;
        self.pool.count_request(now);
        true
    }

    /// A lease of the fallback's, if somebody is free there at once.
    pub(super) fn lease_of_fallback(&mut self, retry: &mut Retry, now: Instant) -> Option<Lease> {
        let fallback = self.fallback.as_ref()?;
        let demand = Demand {
            caller: fallback.caller,
            session: fallback.session,
            tried: Default::default(),
            ..self.demand.clone()
        };
        let lease = fallback.pool.try_lease(&demand, now)?;
        self.fall_back(retry, now).then_some(lease)
    }

    /// Nothing will be sent again: gives back the memory that a body took which is on its way.
    pub(super) fn forget_body(&mut self, attempt: &mut Attempt) {
        if attempt.sent && matches!(self.body, Replay::Whole(_)) {
            self.body = Replay::Sent;
            self.budget = None;
            attempt.rewritten = None;
        }
    }
}

/// One account being asked.
pub(super) struct Attempt {
    pub(super) lease: Lease,
    /// Something was sent: the account may have begun the work.
    pub(super) sent: bool,
    /// The upstream has said so, in an interim answer.
    pub(super) taken_up: bool,
    /// The secrets on the request, which the account's may be no more when the answer comes.
    pub(super) secrets: Secrets,
    /// An error answer that is held back until it is judged.
    pub(super) held: Option<HeldAnswer>,
    /// The body as this account needs it, if it is another one.
    pub(super) rewritten: Option<Bytes>,
    /// We asked for the usage of the stream, and the client did not.
    pub(super) asked_usage: bool,
    pub(super) meter: Option<Meter>,
    /// What was kept of the body went out: all of it, or its beginning.
    pub(super) head_sent: bool,
}

/// What failover has done so far.
#[derive(Default)]
pub(super) struct Retry {
    /// Answers asked for.
    pub(super) attempts: u32,
    /// So many of them of the pool before this one.
    pub(super) before: u32,
    /// In queues, all together.
    pub(super) waited: Duration,
    /// This attempt is made because an upstream failed, which the pool's budget must cover.
    pub(super) retrying: Option<Retrying>,
    /// A wait before the next account is asked.
    pub(super) pause: Option<Duration>,
    /// Addresses that could not be reached.
    pub(super) addresses: u32,
    /// A pooled connection was dead: the next one is new.
    pub(super) fresh_connection: bool,
    /// Accounts whose connection failures were counted against them for this request.
    pub(super) counted: bool,
    pub(super) silent: bool,
    pub(super) forbidden: bool,
    pub(super) refused: Option<RefusedToken>,
    /// That was so once: a token is renewed once for a request.
    pub(super) renewed: bool,
    /// Accounts that said they do not know the model, each with its pool.
    pub(super) without_model: Vec<(Arc<Pool>, Arc<Account>)>,
    /// The last attempt failed because of its account, which a key that sits there may leave.
    pub(super) blames_account: bool,
    /// The key of this request has left one already.
    pub(super) fled: bool,
    /// The last failure of an attempt that gave no answer.
    pub(super) last_failure: Option<Failure>,
}

/// A token that its account's upstream refused.
pub(super) struct RefusedToken {
    pub(super) account: Arc<Account>,
    pub(super) slot: u32,
    /// What the request carried.
    pub(super) secrets: Secrets,
}

/// Why an attempt gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unreachable,
    Silent,
    /// The account had no valid token, and got none: nobody was asked.
    NoToken,
}

/// The head and the body, as far as it was read, of an error answer.
pub(super) struct HeldAnswer {
    pub(super) head: Box<ResponseHeader>,
    pub(super) body: BytesMut,
    pub(super) outcome: Outcome,
    pub(super) account: Arc<Account>,
    /// What its request carried.
    pub(super) secrets: Secrets,
    pub(super) since: Instant,
}

impl HeldAnswer {
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }
}

impl Context {
    pub(super) fn new() -> Self {
        let line = AccessLine::new(clock::wall(), String::new(), http::Method::GET);
        Context {
            began: clock::now(),
            line,
            client: None,
            permit: None,
            bill: None,
            request: None,
            attempt: None,
            retry: Retry::default(),
            reject: None,
            last_answer: None,
            refusal: None,
            reading: None,
            last_words: None,
            is_answered: false,
            is_local: false,
            in_flight: None,
        }
    }

    pub(super) fn request_id(&self) -> &str {
        &self.line.request_id
    }
}

/// A panic in a hook ends the task of its request: the client's connection is closed, over HTTP/2
/// its stream is reset, and what is held here is given back. No hook comes to write it down.
impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let request_id = self.request_id();
            tracing::error!(request_id, "the request was ended by a panic");
        }
    }
}
