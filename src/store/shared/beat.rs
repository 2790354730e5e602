//! A gateway says that it lives, and asks for its shares of accounts' places (`beat.lua`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::link::Away;
use super::{Shared, give};
use crate::clock;
use crate::store::millis;

/// A gateway that has said nothing for so long counts as dead, and what it held is free.
pub const LASTS: Duration = Duration::from_secs(4);

/// After a loss of everything nobody gets a place that it did not have, until all have had the time
/// to say what they hold.
pub const SETTLES: Duration = Duration::from_secs(2);

/// So many accounts are asked about in one go, for a script holds up all others.
const MOST: usize = 200;

/// What one gateway has and needs of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub account: String,
    /// Places that there are for all gateways.
    pub most: u32,
    /// In use here.
    pub using: u32,
    /// Held here: no more than this is used until there is an answer. Never less than `using`.
    pub hold: u32,
    /// In use here or waited for.
    pub need: u32,
    /// So many more are wanted, for the next requests.
    pub room: u32,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub share: u32,
    /// Less than `share` where another gateway has a better right to the rest.
    pub target: u32,
}

/// What a beat came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The server's time, milliseconds since 1970.
    pub at: i64,
    /// Redis had lost everything, and nobody gets more than it had.
    pub settling: bool,
    /// The place of this gateway in the row of all.
    pub rank: u32,
    pub gateways: u32,
    /// Some of the accounts of which some gateway lacks a place.
    pub lacking: Vec<String>,
    /// In the order of what was asked.
    pub given: Vec<Given>,
}

impl Shared {
    /// Says that this gateway lives, and asks about these accounts, in several goes if need be.
    /// `was_alone`: since the last beat it had to go by itself.
    ///
    /// # Errors
    /// Redis is away. What it had answered to earlier goes is lost, and is told again with the next
    /// beat: until then nobody else gets it.
    pub async fn beat(&self, asks: &[Ask], was_alone: bool) -> Result<Beat, Away> {
        let (first, others) = asks.split_at(asks.len().min(MOST));
        let mut beat = self.beat_once(first, was_alone).await?;
        for some in others.chunks(MOST) {
            beat.given.extend(self.beat_once(some, false).await?.given);
        }
        self.gateways.store(beat.gateways.max(1), Ordering::Relaxed);
        let ahead = beat.at - millis(clock::wall());
        self.ahead.store(ahead, Ordering::Relaxed);
        Ok(beat)
    }

    async fn beat_once(&self, asks: &[Ask], was_alone: bool) -> Result<Beat, Away> {
        let run = self.run().await;
        let mut call = self.scripts.beat.prepare_invoke();
        for name in ["alive", "facts", "lacking"] {
            call.key(self.key("places", &format!(":{name}")));
        }
        for ask in asks {
            call.key(self.key("places", &format!(":of:{}", ask.account)));
        }
        call.arg(&self.me).arg(self.next_beat());
        give(
            &mut call,
            [LASTS, SETTLES].map(|time| time.as_millis() as u64),
        );
        call.arg(&*run).arg(u32::from(was_alone));
        for ask in asks {
            call.arg(&ask.account);
            give(
                &mut call,
                [ask.most, ask.using, ask.hold, ask.need, ask.room],
            );
        }
        let answer: Vec<Value> = self.ask("beat", &call).await?;
        read(answer, asks.len()).ok_or(Away)
    }

    /// This gateway ends, and what it held is free at once.
    ///
    /// # Errors
    /// Redis is away; then it is free in its time.
    pub async fn leave(&self) -> Result<(), Away> {
        let [alive, facts] = ["alive", "facts"].map(|of| self.key("places", &format!(":{of}")));
        let mut leave = redis::pipe();
        leave.atomic();
        leave.zrem(alive, &self.me).ignore();
        leave.hdel(facts, format!("seq:{}", self.me)).ignore();
        let ask = async |to: &mut MultiplexedConnection| leave.query_async(to).await;
        self.link.ask("leave", ask).await
    }
}

fn read(answer: Vec<Value>, asked: usize) -> Option<Beat> {
    let mut answer = answer.into_iter();
    let mut number = || match answer.next() {
        Some(Value::Int(number)) => Some(number),
        _ => None,
    };
    let (at, settling) = (number()?, number()? != 0);
    let (rank, gateways) = (number()?.try_into().ok()?, number()?.try_into().ok()?);
    let lacking = redis::from_redis_value(answer.next()?).ok()?;
    let numbers: Vec<u32> = answer
        .map(|value| redis::from_redis_value(value).ok())
        .collect::<Option<_>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    let given: Vec<Given> = pairs
        .iter()
        .map(|&[share, target]| Given { share, target })
        .collect();
    (rest.is_empty() && given.len() == asked).then_some(Beat {
        at,
        settling,
        rank,
        gateways,
        lacking,
        given,
    })
}
