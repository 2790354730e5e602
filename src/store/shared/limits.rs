//! Limits of keys, counted for all gateways (`limit_*.lua`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use redis::Script;
use redis::aio::MultiplexedConnection;

use super::{Away, Shared, give};
use crate::limit::{Draw, Drawn, Late, Tally};

/// A limit of no more than this is counted to the millisecond; a larger one slides in this many steps.
const STEPS: u64 = 200;

/// Of so many limits is known which of their books this process has seen.
const MOST: usize = 100_000;

pub(super) struct Scripts {
    draw: Arc<Script>,
    back: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            draw: Arc::new(Script::new(include_str!("limit_draw.lua"))),
            back: Script::new(include_str!("limit_back.lua")),
        }
    }
}

/// Word, number, `born`.
type Words = (String, u64, String);

/// Since when the count of each limit is whole, as this process saw it last.
pub(super) type Books = HashMap<String, String>;

impl Shared {
    fn limit_key(&self, limit: &str) -> String {
        self.key("limit", &format!(":{limit}"))
    }

    async fn draw_once(&self, draw: &Draw<'_>, late: Late) -> Result<Drawn, Away> {
        let span = draw.span.as_millis().max(1) as u64;
        let step = match draw.most {
            0..=STEPS => 1,
            _ => span.div_ceil(STEPS),
        };
        let saw = self.books.lock().get(draw.limit).cloned();
        let (key, script) = (self.limit_key(draw.limit), self.scripts.limits.draw.clone());
        let numbers = [
            draw.most, span, draw.owed, draw.least, draw.want, draw.known,
        ];
        let (me, saw_last, ever) = (self.me.clone(), saw.clone(), draw.ever);
        let ask = async move |mut to: MultiplexedConnection| {
            let mut call = script.prepare_invoke();
            call.key(key).arg(me);
            give(&mut call, numbers);
            call.arg(saw_last.as_deref().unwrap_or("0"));
            call.arg(step).arg(ever);
            call.invoke_async::<Words>(&mut to).await
        };
        let too_late = |(word, number, _): Words| late(drawn(&word, number));
        let answer = self.link.ask_even_late("limit", ask, too_late).await;
        let (word, number, born) = answer?;
        if saw.as_ref() != Some(&born) {
            let mut books = self.books.lock();
            if books.len() >= MOST {
                books.clear();
            }
            books.insert(draw.limit.to_owned(), born);
        }
        Ok(drawn(&word, number))
    }
}

fn drawn(word: &str, number: u64) -> Drawn {
    match word {
        "granted" => Drawn::Granted(number),
        "spent" => Drawn::Spent(Duration::from_millis(number)),
        _ => Drawn::Away,
    }
}

impl Tally for Shared {
    fn draw<'a>(&'a self, draw: Draw<'a>, late: Late) -> BoxFuture<'a, Drawn> {
        Box::pin(async move {
            let drawn = self.draw_once(&draw, late).await;
            drawn.unwrap_or_else(|Away| match self.is_up() {
                true => Drawn::Late,
                false => Drawn::Away,
            })
        })
    }

    fn give_back<'a>(&'a self, limit: &'a str, _: Duration, amount: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut call = self.scripts.limits.back.prepare_invoke();
            call.key(self.limit_key(limit)).arg(&self.me).arg(amount);
            // What is not given back leaves the window in its time.
            let _: Result<String, Away> = self.ask("limit", &call).await;
        })
    }

    fn gateways(&self) -> u32 {
        Shared::gateways(self)
    }
}
