//! What gateways tell one another: cooldowns and openings of accounts, what operators order by the API,
//! that an account has a new token.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::App;
use super::shared::Sharing;
use crate::clock;
use crate::config::Strategy;
use crate::pool;
use crate::store::{Place, shared};

/// So much may wait to be told. More would be old when it is.
const MOST: usize = 1_000;

/// One thing that is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    Pool(pool::News),
    Order(Order),
    /// The account's token was renewed, and the new one can be had.
    Renewed {
        account: String,
    },
}

/// What an operator ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Enable {
        account: String,
    },
    Disable {
        account: String,
    },
    Reset {
        account: String,
    },
    /// Of all pools where none is named.
    Strategy {
        pool: Option<String>,
        strategy: String,
    },
}

/// What waits to be told, and what was heard and waits to be written down.
pub(super) struct Outbox {
    pools: (
        mpsc::Sender<pool::News>,
        Mutex<Option<mpsc::Receiver<pool::News>>>,
    ),
    others: (mpsc::Sender<News>, Mutex<Option<mpsc::Receiver<News>>>),
    heard: (mpsc::Sender<Order>, Mutex<Option<mpsc::Receiver<Order>>>),
}

impl Outbox {
    pub(super) fn new() -> Self {
        let channel = mpsc::channel(MOST);
        let (others, heard) = (mpsc::channel(MOST), mpsc::channel(MOST));
        Outbox {
            pools: (channel.0, Mutex::new(Some(channel.1))),
            others: (others.0, Mutex::new(Some(others.1))),
            heard: (heard.0, Mutex::new(Some(heard.1))),
        }
    }

    /// Where pools put theirs.
    pub(super) fn of_pools(&self) -> mpsc::Sender<pool::News> {
        self.pools.0.clone()
    }

    /// Puts one in, if there is room.
    pub(super) fn put(&self, news: News) {
        let _ = self.others.0.try_send(news);
    }
}

/// Tells what is put into the outbox. Of what could not be told while Redis was away, the others hear
/// what still holds once it is back.
pub(super) async fn tell(app: &App, sharing: &Sharing) {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    let outbox = &sharing.news;
    let (pools, others) = (outbox.pools.1.lock().take(), outbox.others.1.lock().take());
    let (Some(mut pools), Some(mut others)) = (pools, others) else {
        return;
    };
    let mut missed: Vec<News> = Vec::new();
    let mut is_behind = false;
    loop {
        let news = tokio::select! {
            Some(news) = pools.recv() => News::Pool(news),
            Some(news) = others.recv() => news,
            () = tokio::time::sleep(LOOK_EVERY), if is_behind => {
                if sharing.redis.is_up() {
                    is_behind = false;
                    tell_standing(app, sharing);
                    missed.drain(..).for_each(|news| sharing.news.put(news));
                }
                continue;
            }
        };
        let Ok(text) = serde_json::to_string(&news) else {
            continue;
        };
        if sharing.redis.tell(&text).await.is_err() {
            is_behind = true;
            // What becomes of accounts is told by what holds then.
            if !matches!(news, News::Pool(_)) && missed.len() < MOST {
                missed.push(news);
            }
        }
    }
}

/// Writes down which accounts operators took out at other gateways: one with records of its own would
/// have them serve again after its next start.
pub(super) async fn keep(app: &App, sharing: &Sharing) {
    let Some(mut heard) = sharing.news.heard.1.lock().take() else {
        return;
    };
    while let Some(order) = heard.recv().await {
        let (account, enabled) = match &order {
            Order::Enable { account } => (account, true),
            Order::Disable { account } => (account, false),
            Order::Reset { .. } | Order::Strategy { .. } => continue,
        };
        if let Err(error) = app.keep_switched(account, enabled).await {
            tracing::debug!(account, "an order of another gateway is not kept: {error}");
        }
    }
}

/// Tells all that holds of accounts here.
fn tell_standing(app: &App, sharing: &Sharing) {
    let now = clock::now();
    for pool in app.pools.load().iter() {
        for news in pool.standing(now) {
            sharing.news.put(News::Pool(news));
        }
    }
}

/// Hears what the others tell, for ever.
pub(super) async fn listen(app: &App, sharing: &Sharing) {
    // The others may have missed what happened here while Redis was away.
    let begins = || tell_standing(app, sharing);
    let hears = |news: shared::News<'_>| {
        let Ok(told) = serde_json::from_str::<News>(news.text) else {
            // A newer gateway may tell what this one does not know.
            tracing::debug!("another gateway told something unknown");
            return;
        };
        app.hear(told, news.ago, news.is_old);
    };
    sharing.redis.listen(begins, hears).await;
}

impl App {
    fn hear(&self, news: News, ago: Duration, is_old: bool) {
        let now = clock::now();
        let pools = self.pools.load();
        match news {
            News::Pool(news) => {
                let _ = pools.iter().any(|pool| pool.hear(&news, ago, now));
            }
            // A start goes by the file.
            News::Order(_) | News::Renewed { .. } if is_old => {}
            News::Order(order) => {
                tracing::info!(?order, "an operator's order at another gateway");
                let is_known = self.carry_out(&order);
                let is_alone_with_it = is_known && matches!(self.store.place(), Place::File(_));
                if let Some(sharing) = self.sharing.as_ref().filter(|_| is_alone_with_it) {
                    let _ = sharing.news.heard.0.try_send(order);
                }
            }
            News::Renewed { account } => {
                let accounts = pools.iter().filter_map(|pool| pool.account_named(&account));
                for account in accounts {
                    account.credential.renewed_elsewhere();
                }
            }
        }
    }

    /// Does here what was ordered anywhere. False: there is no such account or pool here.
    pub(super) fn carry_out(&self, order: &Order) -> bool {
        let pools = self.pools.load();
        let of = |change: &dyn Fn(&std::sync::Arc<pool::Pool>) -> bool| pools.iter().any(change);
        match order {
            Order::Enable { account } => of(&|pool| pool.set_enabled(account, true)),
            Order::Disable { account } => of(&|pool| pool.set_enabled(account, false)),
            Order::Reset { account } => of(&|pool| pool.reset(account)),
            Order::Strategy { pool, strategy } => {
                let Some(strategy) = Strategy::named(strategy) else {
                    return false;
                };
                let chosen = pools
                    .iter()
                    .filter(|it| pool.as_ref().is_none_or(|name| **name == *it.name));
                let chosen: Vec<_> = chosen.collect();
                chosen.iter().for_each(|pool| pool.set_strategy(strategy));
                !chosen.is_empty()
            }
        }
    }

    /// Does what an operator ordered here, and tells the others.
    pub(super) fn order(&self, order: Order) -> bool {
        let is_known = self.carry_out(&order);
        if let Some(sharing) = self.sharing.as_ref().filter(|_| is_known) {
            sharing.news.put(News::Order(order));
        }
        is_known
    }
}
