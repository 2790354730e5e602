//! What gateways that share accounts tell one another of them: how long an account waits, and that its
//! breaker has opened. What is heard changes the account as if it had happened here, and is not told
//! on.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::live::reason;
use super::marks::Model;
use super::{Account, Pool};
use crate::clock::Instant;

/// Something that concerns other gateways, too. Times are milliseconds from when it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The account serves nobody for so long.
    Cools {
        account: String,
        ms: u64,
        for_limit: bool,
    },
    /// It does not serve this model, known by its hash, for so long.
    Lacks {
        account: String,
        model: u64,
        /// Its name, for those who look on.
        #[serde(default)]
        name: Option<String>,
        ms: u64,
        /// For a limit; else it does not have the model.
        #[serde(default)]
        for_limit: bool,
    },
    /// Its breaker is open for so long.
    Opened { account: String, ms: u64 },
}

impl News {
    fn account(&self) -> &str {
        match self {
            News::Cools { account, .. }
            | News::Lacks { account, .. }
            | News::Opened { account, .. } => account,
        }
    }

    fn ms(&self) -> u64 {
        match self {
            News::Cools { ms, .. } | News::Lacks { ms, .. } | News::Opened { ms, .. } => *ms,
        }
    }
}

impl Pool {
    /// From now on others are told what happens to accounts here.
    pub fn tell_others(&self, outbox: mpsc::Sender<News>) {
        // The first one stays: a pool is shared once.
        let _ = self.outbox.set(outbox);
    }

    /// Tells the others; where they cannot be told that fast, not at all.
    pub(super) fn tell(&self, news: impl FnOnce() -> News) {
        if let Some(outbox) = self.outbox.get() {
            let _ = outbox.try_send(news());
        }
    }

    /// Something happened to an account elsewhere, so long ago. False: it is not of this pool.
    pub fn hear(self: &Arc<Self>, news: &News, ago: Duration, now: Instant) -> bool {
        let table = self.table.load();
        let Some(account) = table.find(news.account()) else {
            return false;
        };
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let ticks = self.ticks(now);
        // What is over by now is no news.
        let Some(left) = news.ms().checked_sub(ago).filter(|left| *left > 0) else {
            return true;
        };
        let until = ticks.saturating_add(left);
        match news {
            News::Cools { for_limit, .. } => self.cool_until(account, until, *for_limit, ticks),
            News::Lacks {
                model,
                name,
                for_limit,
                ..
            } => {
                let model = Model::told(*model, name.as_deref());
                let marks = &self.marks;
                marks.mark(account.slot, &model, *for_limit, until, ticks);
                self.due.add(account.slot, until);
            }
            News::Opened { .. } => {
                if account.live.breaker.open_elsewhere(until) {
                    self.due.add(account.slot, until);
                    self.changed(account, ticks, None);
                }
            }
        }
        true
    }

    /// All that holds of accounts now: for those who may have missed it.
    pub fn standing(&self, now: Instant) -> Vec<News> {
        let ticks = self.ticks(now);
        let table = self.table.load();
        let mut all = Vec::new();
        for account in table.accounts() {
            self.standing_of(account, ticks, &mut all);
        }
        all
    }

    fn standing_of(&self, account: &Account, ticks: u64, all: &mut Vec<News>) {
        let id = || account.config.id.clone();
        let left = |until: u64| until.checked_sub(ticks).filter(|left| *left > 0);
        let live = &account.live;
        if live.blocked() & reason::COOLING != 0 {
            let rare = live.rare.lock();
            let for_limit = rare.cooling_for_limit;
            all.extend(left(rare.cooling_until).map(|ms| News::Cools {
                account: id(),
                ms,
                for_limit,
            }));
        }
        let opened = live.breaker.open_until().and_then(left);
        all.extend(opened.map(|ms| News::Opened { account: id(), ms }));
        let marks = self.marks.of(account.slot).into_iter();
        all.extend(marks.filter_map(|said| {
            Some(News::Lacks {
                account: id(),
                model: said.model.id,
                name: said.model.name.as_deref().map(str::to_owned),
                ms: left(said.until)?,
                for_limit: said.is_limit,
            })
        }));
    }
}
