//! The pulse of the gateway: once a second it is looked at, and whoever listens is told what is new.
//! An hour of it is kept for charts.

mod history;
mod places;
mod rows;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

pub(super) use history::{History, Hour, Recent};
pub(super) use places::Place;

use super::Control;
use crate::clock::{self, Moment};
use crate::pool::{AccountView, Status};
use history::{Sample, Sparks};
use places::Places;
use rows::Rows;

/// How often all is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Messages that one who is slow may be behind.
const BEHIND: usize = 16;

/// The latest events that are kept.
const EVENTS: usize = 200;

/// State changes of one look that are told; with more of them the page reads all anew anyway.
const AT_ONCE: usize = 100;

/// What is known of the seconds before.
pub struct Pulse {
    known: Mutex<Known>,
    told: broadcast::Sender<Bytes>,
    places: Arc<Places>,
}

#[derive(Default)]
struct Known {
    history: History,
    sparks: Sparks,
    states: HashMap<Arc<str>, Status>,
    events: VecDeque<Event>,
    next_event: u64,
    rows: Rows,
    numbers: Option<Numbers>,
}

/// How busy the gateway is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Numbers {
    /// RFC 3339.
    at: String,
    requests_per_second: f64,
    /// Answers 429 or from 500 on, or none.
    errors_per_second: f64,
    tokens_per_minute: f64,
    /// Of the last minute.
    first_byte_ms: Option<Percentiles>,
    /// Requests under way.
    in_flight: u64,
    /// Requests that wait for an account.
    waiting: u64,
    /// Of clients.
    connections: u64,
    accounts: Reachable,
    /// How many accounts are in which state.
    by_status: HashMap<&'static str, usize>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Percentiles {
    pub(super) p50: u32,
    pub(super) p95: u32,
}

/// Accounts, and those of them that may serve.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
struct Reachable {
    total: usize,
    available: usize,
}

/// Something that happened.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Event {
    /// Grows.
    id: u64,
    at: String,
    /// `account` or `operator`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// The account's state before; none of one that has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    /// None of one that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Somebody who listens; the place is free again when it is dropped.
pub(super) struct Listener {
    pub(super) told: broadcast::Receiver<Bytes>,
    _place: Place,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            known: Mutex::default(),
            told: broadcast::channel(BEHIND).0,
            places: Arc::default(),
        }
    }
}

impl Pulse {
    /// Looks once a second, until `stop` says so.
    pub async fn beat(&self, control: &dyn Control, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look(control, clock::moment()),
                _ = stop.changed() => return,
            }
        }
    }

    /// One look.
    pub(super) fn look(&self, control: &dyn Control, at: Moment) {
        let states = control.states();
        let counts = control.counts();
        let mut known = self.known.lock();
        let queue = control.queue();
        let first_byte = control.first_byte_ms(at.wall - Duration::from_secs(60));
        let available = control.pools().iter().map(|pool| pool.available).sum();
        let sample = Sample {
            at: at.wall,
            counts,
            in_flight: queue.active,
            waiting: queue.waiting,
            available,
            first_byte_ms: first_byte.map(|(p50, p95)| Percentiles { p50, p95 }),
        };
        known.history.add(at.now, sample);
        let (requests, errors) = known.history.per_second(Duration::from_secs(5));
        let mut by_status: HashMap<&'static str, usize> = HashMap::new();
        for (_, status) in &states {
            *by_status.entry(status.name()).or_default() += 1;
        }
        let numbers = Numbers {
            at: clock::rfc3339(at.wall),
            requests_per_second: requests,
            errors_per_second: errors,
            tokens_per_minute: known.history.tokens_per_minute(),
            first_byte_ms: sample.first_byte_ms,
            in_flight: queue.active,
            waiting: queue.waiting,
            connections: control.connections(),
            accounts: Reachable {
                total: states.len(),
                available,
            },
            by_status,
        };
        known.numbers = Some(numbers.clone());
        let changes = known.changes(states, control, at);
        if known.sparks.is_due(at.now) {
            known.sparks.add(at.now, &control.accounts());
        }
        if self.told.receiver_count() > 0 {
            for event in &changes {
                self.tell("state", event);
            }
            let rows = known.rows.changes(&control.accounts());
            if let Some(rows) = rows {
                self.tell("accounts", &rows);
            }
            self.tell("numbers", &numbers);
        } else {
            known.rows.forget();
        }
    }

    /// An operator has done this.
    pub(super) fn operator(&self, actor: &str, action: &str, target: &str) {
        let mut known = self.known.lock();
        let event = Event {
            at: clock::rfc3339(clock::wall()),
            kind: "operator",
            actor: Some(actor.to_owned()),
            action: Some(action.to_owned()),
            target: Some(target.to_owned()).filter(|target| !target.is_empty()),
            ..Event::default()
        };
        let event = known.keep(event);
        self.tell("state", &event);
    }

    fn tell(&self, name: &str, data: &impl Serialize) {
        // Nobody listening is no mistake.
        let _ = self.told.send(message(name, data));
    }

    /// A place for one who listens to something else; `actor` is the name of the token.
    pub(super) fn place(&self, actor: &Arc<str>) -> Option<Place> {
        self.places.take(actor)
    }

    /// Listens from now on. The first thing is how all stands.
    pub(super) fn listen(
        &self,
        control: &dyn Control,
        actor: &Arc<str>,
    ) -> Option<(Bytes, Listener)> {
        let place = self.place(actor)?;
        let known = self.known.lock();
        let told = self.told.subscribe();
        let all = Rows::all(&control.accounts());
        let numbers = known.numbers.as_ref();
        let numbers = numbers.map(|numbers| message("numbers", numbers));
        let first = [message("accounts", &all), numbers.unwrap_or_default()].concat();
        Some((
            first.into(),
            Listener {
                told,
                _place: place,
            },
        ))
    }

    /// The numbers of the last look; none before the first.
    pub(super) fn numbers(&self) -> Option<Numbers> {
        self.known.lock().numbers.clone()
    }

    /// The latest events, the latest first.
    pub(super) fn events(&self, most: usize) -> Vec<Event> {
        let known = self.known.lock();
        known.events.iter().rev().take(most).cloned().collect()
    }

    pub(super) fn history(&self) -> Hour {
        self.known.lock().history.shown()
    }

    /// How the account did in the last hour; the last step is the one under way.
    pub(super) fn recent(&self, account: &AccountView) -> Option<Recent> {
        self.known.lock().sparks.of(account)
    }
}

/// What of an account's state is worth an event. A busy account is full and not full from one second
/// to the next, and whoever needs that hears it with the numbers.
fn standing(status: Status) -> Status {
    match status {
        Status::Full => Status::Healthy,
        status => status,
    }
}

impl Known {
    /// What became of accounts since the last look.
    fn changes(
        &mut self,
        states: Vec<(Arc<str>, Status)>,
        control: &dyn Control,
        at: Moment,
    ) -> Vec<Event> {
        let before = std::mem::take(&mut self.states);
        let is_first = self.history.is_first();
        let mut changed: Vec<(Arc<str>, Option<Status>, Option<Status>)> = Vec::new();
        for (id, status) in &states {
            let was = before.get(id).copied();
            if was.map(standing) != Some(standing(*status)) && !is_first {
                changed.push((id.clone(), was, Some(*status)));
            }
        }
        self.states = states.into_iter().collect();
        let gone = before
            .iter()
            .filter(|(id, _)| !self.states.contains_key(*id));
        changed.extend(gone.map(|(id, was)| (id.clone(), Some(*was), None)));
        changed.truncate(AT_ONCE);
        let event = |(id, from, to): (Arc<str>, Option<Status>, Option<Status>)| {
            let view = to.and_then(|_| control.account(&id));
            let is_well = matches!(to, None | Some(Status::Healthy | Status::Full));
            Event {
                at: clock::rfc3339(at.wall),
                kind: "account",
                account: Some(id.to_string()),
                from: from.map(Status::name),
                to: to.map(Status::name),
                pool: view.as_ref().map(|view| view.pool.clone()),
                until: view
                    .as_ref()
                    .and_then(|view| view.until.map(clock::rfc3339)),
                reason: view.and_then(|view| view.last_error).filter(|_| !is_well),
                ..Event::default()
            }
        };
        let events: Vec<Event> = changed.into_iter().map(event).collect();
        events.into_iter().map(|event| self.keep(event)).collect()
    }

    fn keep(&mut self, event: Event) -> Event {
        self.next_event += 1;
        let id = self.next_event;
        let event = Event { id, ..event };
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }
}

/// One event of the stream, as the HTML standard's server-sent events are written.
pub(super) fn message(name: &str, data: &impl Serialize) -> Bytes {
    // JSON of ours has no line break in it.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
