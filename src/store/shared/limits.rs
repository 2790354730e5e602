//! Limits of keys, counted for all gateways (`limit_*.lua`).

use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use redis::Script;

use super::{Away, Shared};
use crate::limit::{Draw, Drawn, Tally};

/// A limit of no more than this is counted to the millisecond; a larger one slides in this many steps.
const STEPS: u64 = 200;

/// Of so many limits is known which of their books this process has seen.
const MOST: usize = 100_000;

pub(super) struct Scripts {
    draw: Script,
    back: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            draw: Script::new(include_str!("limit_draw.lua")),
            back: Script::new(include_str!("limit_back.lua")),
        }
    }
}

/// Since when the count of each limit is whole, as this process saw it last.
pub(super) type Books = HashMap<String, String>;

impl Shared {
    fn limit_key(&self, limit: &str) -> String {
        self.key("limit", &format!(":{limit}"))
    }

    async fn draw_once(&self, draw: &Draw<'_>) -> Result<Drawn, Away> {
        let span = draw.span.as_millis().max(1) as u64;
        let step = match draw.most {
            0..=STEPS => 1,
            _ => span.div_ceil(STEPS),
        };
        let saw = self.books.lock().get(draw.limit).cloned();
        let mut call = self.scripts.limits.draw.prepare_invoke();
        call.key(self.limit_key(draw.limit)).arg(&self.me);
        call.arg(draw.most).arg(span).arg(draw.owed).arg(draw.least);
        call.arg(draw.want).arg(draw.known);
        call.arg(saw.as_deref().unwrap_or("0")).arg(step);
        let (word, number, born): (String, u64, String) = self.ask("limit", &call).await?;
        if saw.as_ref() != Some(&born) {
            let mut books = self.books.lock();
            if books.len() >= MOST {
                books.clear();
            }
            books.insert(draw.limit.to_owned(), born);
        }
        match word.as_str() {
            "granted" => Ok(Drawn::Granted(number)),
            "spent" => Ok(Drawn::Spent(Duration::from_millis(number))),
            _ => Err(Away),
        }
    }
}

impl Tally for Shared {
    fn draw<'a>(&'a self, draw: Draw<'a>) -> BoxFuture<'a, Drawn> {
        Box::pin(async move { self.draw_once(&draw).await.unwrap_or(Drawn::Away) })
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
