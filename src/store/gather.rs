//! What requests come to until it is written: their sums, which are exact, and rows of single requests,
//! of which as many are kept as anybody will look at.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::usage::Row;
use super::{RequestRecord, millis};
use crate::clock::Instant;

/// In milliseconds.
const HOUR: i64 = 3_600_000;

/// While the database is away, what was spent is told apart by no less: it may take hours.
const MINUTE: i64 = 60_000;

/// Sums that wait in memory, some 30 MB. What would need one more is lost.
const MOST: usize = 100_000;

/// Sums that are written in a second, and the longest that they may then take to be written: each
/// costs about as much as a row, and thousands of keys make thousands of them.
const A_SECOND: usize = 1_000;
const LONGEST: Duration = Duration::from_secs(30);

/// Rows of single requests that are kept: all for as long as there were not this many, then so many a
/// second; and as many again of those that failed, which are looked for.
const BURST: f64 = 20_000.0;
const RATE: f64 = 100.0;

/// Rows that wait in memory, some 20 MB.
const ROWS: usize = 50_000;

/// The longest text of a client's that is kept, in bytes.
const TEXT: usize = 256;

/// As much of a text as is kept. PostgreSQL has no text with a NUL in it.
pub(super) fn kept(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(TEXT)];
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "")),
        false => Cow::Borrowed(text),
    }
}

/// What several requests come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) requests: i64,
    pub(super) tokens_in: i64,
    pub(super) tokens_out: i64,
    /// A part of `tokens_in`.
    pub(super) tokens_cached: i64,
    /// In billionths.
    pub(super) cost: i64,
    /// For so many of the requests the vendor stated no amount.
    pub(super) estimated: i64,
}

impl Sums {
    fn of(row: &Row) -> Sums {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Sums {
            requests: 1,
            tokens_in: number(row.usage.input),
            tokens_out: number(row.usage.output),
            tokens_cached: number(row.usage.cached),
            cost: number(row.cost),
            estimated: i64::from(row.estimated),
        }
    }

    fn requests_only(&self) -> Sums {
        Sums {
            requests: self.requests,
            ..Sums::default()
        }
    }

    fn all_else(&self) -> Sums {
        Sums {
            requests: 0,
            ..*self
        }
    }

    fn add(&mut self, other: &Sums) {
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more);
        add(&mut self.requests, other.requests);
        add(&mut self.tokens_in, other.tokens_in);
        add(&mut self.tokens_out, other.tokens_out);
        add(&mut self.tokens_cached, other.tokens_cached);
        add(&mut self.cost, other.cost);
        add(&mut self.estimated, other.estimated);
    }
}

/// One row to be written, or to be added to one that is there. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Item {
    Request(Box<RequestRecord>),
    /// What counts as used in the hour that began then.
    Used {
        hour: i64,
        key: String,
        account: String,
        model: String,
        sums: Sums,
    },
    /// What counts in the limits of a key from then on.
    Spent {
        at: i64,
        key: String,
        model: String,
        requests: i64,
        tokens: i64,
        cost: i64,
    },
}

impl Item {
    /// How many requests' usage would be lost with it.
    pub(super) fn requests(&self) -> usize {
        match self {
            Item::Used { sums, .. } => usize::try_from(sums.requests).unwrap_or(0),
            Item::Request(_) | Item::Spent { .. } => 0,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It counts, and has a row of its own.
    Whole,
    /// It counts.
    Sum,
    Nothing,
}

/// Sums by their time, and then by the texts that they are of with a NUL between.
type Grains = BTreeMap<i64, HashMap<Box<str>, Sums>>;

pub(super) struct Gather {
    used: Grains,
    spent: Grains,
    /// How many sums there are.
    sums: usize,
    requests: Vec<RequestRecord>,
    /// Of those that went well, and of those that did not.
    allowances: [Allowance; 2],
    /// The shortest time that what was spent is told apart by.
    grain: i64,
    /// Written anew for each look.
    texts: String,
}

impl Gather {
    pub(super) fn new(now: Instant) -> Self {
        Gather {
            used: Grains::new(),
            spent: Grains::new(),
            sums: 0,
            requests: Vec::new(),
            allowances: [Allowance::new(now), Allowance::new(now)],
            grain: 1,
            texts: String::new(),
        }
    }

    /// Counts a request that an account was asked for, and keeps its row as `id` if there is one left
    /// for it.
    pub(super) fn take(&mut self, id: i64, row: &Row, now: Instant) -> Kept {
        if !self.count(row) {
            return Kept::Nothing;
        }
        let allowance = &mut self.allowances[usize::from(has_failed(row))];
        if self.requests.len() >= ROWS || !allowance.take(now) {
            return Kept::Sum;
        }
        self.requests.push(RequestRecord::of(id, row));
        Kept::Whole
    }

    /// False: there is no room.
    fn count(&mut self, row: &Row) -> bool {
        let sums = Sums::of(row);
        let line = &row.line;
        let model = line.model.as_deref().map(kept).unwrap_or_default();
        let account = line.account.as_deref().map(kept).unwrap_or_default();
        let key = kept(&row.key);
        let began = millis(line.time);
        // A name that no account knew is only what a client wrote.
        let known = if line.status < 400 { &*model } else { "" };
        let hour = began - began.rem_euclid(HOUR);
        let texts = put(&mut self.texts, &[&key, &account, known]);
        let room = self.sums < MOST;
        let Some(new) = add(&mut self.used, hour, texts, &sums, room) else {
            return false;
        };
        self.sums += usize::from(new);
        if !row.is_spent() {
            return true;
        }
        // A request counts in its key's limits from its beginning, all else from its end. Both are
        // taken to be a little later, as nothing is to count for too short a time.
        let grain = (row.grain.as_millis() as i64).max(self.grain);
        let at = |time: i64| time + (-time).rem_euclid(grain);
        let ended = began.saturating_add(i64::try_from(line.duration.as_millis()).unwrap_or(0));
        let (from, to) = (at(began), at(ended));
        let texts = put(&mut self.texts, &[&key, &model]);
        let spent = match from == to {
            true => [(from, sums), (from, Sums::default())],
            false => [(from, sums.requests_only()), (to, sums.all_else())],
        };
        for (at, sums) in spent.iter().filter(|(_, sums)| *sums != Sums::default()) {
            let new = add(&mut self.spent, *at, texts, sums, true);
            self.sums += usize::from(new == Some(true));
        }
        true
    }

    /// How long this waits for more before it is written.
    pub(super) fn patience(&self) -> Duration {
        let seconds = self.sums.div_ceil(A_SECOND).max(1) as u64;
        Duration::from_secs(seconds).min(LONGEST)
    }

    /// The database is away, or is not: only then what was spent is told apart to the second.
    pub(super) fn be_coarse(&mut self, is_away: bool) {
        self.grain = if is_away { MINUTE } else { 1 };
    }

    /// All of it, to be written: in one order for all gateways, as two of them could else wait for each
    /// other.
    pub(super) fn seal(&mut self) -> VecDeque<Item> {
        let requests = std::mem::take(&mut self.requests).into_iter();
        let requests = requests.map(|request| Item::Request(Box::new(request)));
        let used = sorted(std::mem::take(&mut self.used)).map(|(hour, texts, sums)| {
            let [key, account, model] = parts(&texts);
            Item::Used {
                hour,
                key,
                account,
                model,
                sums,
            }
        });
        let spent = sorted(std::mem::take(&mut self.spent)).map(|(at, texts, sums)| {
            let [key, model] = parts(&texts);
            Item::Spent {
                at,
                key,
                model,
                requests: sums.requests,
                tokens: sums.tokens_in.saturating_add(sums.tokens_out),
                cost: sums.cost,
            }
        });
        self.sums = 0;
        requests.chain(used).chain(spent).collect()
    }
}

/// Other than well. The client may have had a good answer from another account.
fn has_failed(row: &Row) -> bool {
    let is_bad = |outcome: &'static str| outcome != "success";
    row.line.tries.iter().any(|one| is_bad(one.outcome))
}

fn put<'a>(texts: &'a mut String, parts: &[&str]) -> &'a str {
    texts.clear();
    for part in parts {
        texts.push_str(part);
        texts.push('\0');
    }
    texts
}

fn parts<const N: usize>(texts: &str) -> [String; N] {
    let mut parts = texts.split('\0').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Adds to a sum; whether it is a new one. None: there is no such sum, and no room for it.
fn add(grains: &mut Grains, at: i64, texts: &str, sums: &Sums, room: bool) -> Option<bool> {
    if let Some(known) = grains.get_mut(&at).and_then(|grain| grain.get_mut(texts)) {
        known.add(sums);
        return Some(false);
    }
    if !room {
        return None;
    }
    grains.entry(at).or_default().insert(texts.into(), *sums);
    Some(true)
}

fn sorted(grains: Grains) -> impl Iterator<Item = (i64, Box<str>, Sums)> {
    grains.into_iter().flat_map(|(at, grain)| {
        let mut grain: Vec<_> = grain.into_iter().collect();
        grain.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        grain
            .into_iter()
            .map(move |(texts, sums)| (at, texts, sums))
    })
}

/// So many at once, and so many a second.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(at: Instant) -> Self {
        Allowance { left: BURST, at }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at);
        self.left = (self.left + since.as_secs_f64() * RATE).min(BURST);
        self.at = self.at.max(now);
        let is_left = self.left >= 1.0;
        self.left -= if is_left { 1.0 } else { 0.0 };
        is_left
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
