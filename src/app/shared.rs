//! What this gateway tells the others that share its Redis, and hears from them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::App;
use super::news;
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::credential::Others;
use crate::limit::Tally;
use crate::pool::Pool;
use crate::store::shared::{Ask, Away, Beat, LASTS, Shared, SharedSlots};
use crate::store::{Ledger, Store, gateway_name};
use crate::telemetry::Metrics;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(200);
/// While somebody waits for a place that another gateway has.
const SOON: Duration = Duration::from_millis(25);
/// However many requests want a place.
const LEAST: Duration = Duration::from_millis(5);
/// Shares are used this much shorter than Redis remembers them.
const MARGIN: Duration = Duration::from_secs(1);
/// Readiness waits no longer for the first shares, and nobody longer for a Redis that is not there.
const FIRST: Duration = Duration::from_secs(3);

/// The gateways that share a Redis, as this one sees them.
pub(super) struct Sharing {
    pub(super) redis: Arc<Shared>,
    pub(super) slots: Arc<SharedSlots>,
    /// Woken when a request waits for a place.
    wanted: Arc<Notify>,
    pub(super) news: Arc<news::Outbox>,
    /// Of this gateway in the row of all.
    rank: AtomicU32,
    /// The first shares are here, or nobody can be asked for them.
    has_begun: AtomicBool,
    /// This process ends, and has given back what it held.
    is_over: AtomicBool,
}

/// What the beats know from one to the next.
struct Beats<'a> {
    sharing: &'a Sharing,
    /// Accounts of which some gateway lacks a place.
    lacking: HashSet<String>,
    /// How many gateways the log was told of.
    known: u32,
    /// When Redis last answered; at first, when this began.
    heard: Instant,
    /// Since then this gateway has gone by itself.
    was_alone: bool,
}

impl Sharing {
    /// With these pools; `None`: there is no Redis.
    ///
    /// # Errors
    /// There can be none at the configured address.
    pub(super) fn new(
        config: &Config,
        store: &Arc<Store>,
        metrics: &Arc<Metrics>,
        pools: &[Arc<Pool>],
    ) -> Result<Option<Self>> {
        let Some(redis) = &config.state.redis else {
            return Ok(None);
        };
        let gateway = gateway_name(&config.state.dir);
        let redis = Arc::new(Shared::new(redis, &gateway, Some(metrics.clone()))?);
        let sharing = Sharing {
            slots: Arc::new(SharedSlots::new(redis.clone(), store.clone())),
            redis,
            wanted: Arc::default(),
            news: Arc::new(news::Outbox::new()),
            rank: AtomicU32::new(0),
            has_begun: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        sharing.reconfigure(config);
        pools.iter().for_each(|pool| sharing.take_part(pool));
        Ok(Some(sharing))
    }

    /// The way to the gateways that have the same accounts.
    pub(super) fn others(&self) -> Others {
        let outbox = self.news.clone();
        Others {
            redis: self.redis.clone(),
            tell: Box::new(move |account| {
                let account = account.to_owned();
                outbox.put(news::News::Renewed { account });
            }),
        }
    }

    /// Does Redis answer, and how many gateways are there?
    pub(super) fn seen(&self) -> (bool, u32) {
        (self.redis.is_up(), self.redis.gateways())
    }

    /// Puts another configuration in force.
    pub(super) fn reconfigure(&self, config: &Config) {
        let tiers = config.tiers.iter();
        let legacy = tiers.filter(|(_, tier)| tier.legacy_redis_names);
        let names = legacy.map(|(name, _)| name.clone());
        self.slots.keep_legacy_names(&names.collect::<Vec<_>>());
    }

    /// From now on this pool's accounts have the places that others leave them.
    pub(super) fn take_part(&self, pool: &Pool) {
        pool.share_with_others(&self.wanted);
        pool.tell_others(self.news.of_pools());
    }
}

/// The book of slots: in Redis where there is one, else in the records.
pub(super) fn ledger(sharing: Option<&Sharing>, store: &Arc<Store>) -> Arc<dyn Ledger> {
    match sharing {
        Some(sharing) => sharing.slots.clone(),
        None => store.clone(),
    }
}

/// Who counts limits of keys for all gateways.
pub(super) fn tally(app: &App) -> Option<Arc<dyn Tally>> {
    let sharing = app.sharing.as_ref()?;
    Some(sharing.redis.clone())
}

/// Works as long as the process lives: also one that only finishes its last requests has places.
pub(super) async fn keep(app: &App) {
    if let Some(sharing) = &app.sharing {
        tokio::join!(
            sharing.redis.keep(),
            beat(app, sharing),
            sharing.slots.keep_copy(),
            settle_limits(app, sharing),
            news::tell(app, sharing),
            news::listen(app, sharing),
            news::keep(app, sharing),
        );
    }
}

/// Gives back what this gateway holds, at its end. Else it would be free only in its time.
pub(super) fn leave(app: &App) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    if let (Some(sharing), Ok(runtime)) = (&app.sharing, { runtime }.enable_all().build()) {
        sharing.is_over.store(true, Ordering::SeqCst);
        let _ = runtime.block_on(sharing.redis.leave());
    }
}

/// Returns when the first shares are here.
pub(super) async fn first_shares(app: &App) {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let Some(sharing) = &app.sharing else {
        return;
    };
    let begun = async {
        while !sharing.has_begun.load(Ordering::SeqCst) {
            sleep(LOOK_EVERY).await;
        }
    };
    // Who comes before waits for a place.
    let _ = timeout(FIRST, begun).await;
}

/// Gives back what was drawn of limits and not used, and tells what was used while Redis was away.
async fn settle_limits(app: &App, sharing: &Sharing) {
    const EVERY: Duration = Duration::from_secs(1);
    while !sharing.is_over.load(Ordering::SeqCst) {
        sleep(EVERY).await;
        if !sharing.redis.is_up() {
            continue;
        }
        for client in app.keys.clients() {
            client.limits.settle_up(&*sharing.redis, clock::now()).await;
        }
    }
}

async fn beat(app: &App, sharing: &Sharing) {
    let mut beats = Beats {
        sharing,
        lacking: HashSet::new(),
        known: 1,
        heard: clock::now(),
        was_alone: false,
    };
    while !sharing.is_over.load(Ordering::SeqCst) {
        let pause = beats.once(app).await;
        sleep(LEAST).await;
        tokio::select! {
            () = sharing.wanted.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

impl Beats<'_> {
    /// One beat; returns when the next one is due.
    async fn once(&mut self, app: &App) -> Duration {
        let pools = app.pools.load_full();
        let began = clock::now();
        let is_leaving = app.leaving() || app.refusing.load(Ordering::SeqCst);
        let mut asking: Vec<(&Arc<Pool>, Ask)> = Vec::new();
        for pool in pools.iter() {
            let asks = pool.share_asks(&self.lacking, is_leaving, began);
            asking.extend(asks.into_iter().map(|ask| (pool, ask)));
        }
        let asks: Vec<Ask> = asking.iter().map(|(_, ask)| ask.clone()).collect();
        match self.sharing.redis.beat(&asks, self.was_alone).await {
            Ok(beat) => {
                self.heard = began;
                self.was_alone = false;
                self.take(&pools, &asking, beat)
            }
            Err(Away) => {
                self.go_alone(&pools);
                // What was asked has to be asked again.
                pools.iter().for_each(|pool| pool.forget_told());
                if self.sharing.redis.is_up() {
                    SOON
                } else {
                    BEAT
                }
            }
        }
    }

    fn take(&mut self, pools: &[Arc<Pool>], asking: &[(&Arc<Pool>, Ask)], beat: Beat) -> Duration {
        let sharing = self.sharing;
        sharing.rank.store(beat.rank, Ordering::Relaxed);
        if self.known != beat.gateways {
            self.known = beat.gateways;
            tracing::info!(
                gateways = beat.gateways,
                "so many gateways share their state"
            );
        }
        let mut is_short = false;
        for ((pool, ask), given) in asking.iter().zip(beat.given) {
            is_short |= pool.take_share(ask, given);
        }
        let until = self.heard + (LASTS - MARGIN);
        let now = clock::now();
        for pool in pools {
            pool.shares_last(until, now);
            pool.is_one_of(beat.rank, beat.gateways, now);
        }
        self.lacking = beat.lacking.into_iter().collect();
        if !beat.settling {
            sharing.has_begun.store(true, Ordering::SeqCst);
        }
        if is_short { SOON } else { BEAT }
    }

    /// Redis is away: what others hold runs out with its time, and then each has its part.
    fn go_alone(&mut self, pools: &[Arc<Pool>]) {
        let sharing = self.sharing;
        if sharing.redis.is_up() {
            return;
        }
        let now = clock::now();
        let silent = now.saturating_duration_since(self.heard);
        let has_begun = sharing.has_begun.load(Ordering::SeqCst);
        let rises = silent > if has_begun { LASTS } else { FIRST - MARGIN };
        if !has_begun && !rises {
            return;
        }
        let (rank, gateways) = (
            sharing.rank.load(Ordering::Relaxed),
            sharing.redis.gateways(),
        );
        self.was_alone = true;
        for pool in pools {
            pool.go_alone(rank, gateways, rises, now);
        }
        sharing.has_begun.store(true, Ordering::SeqCst);
    }
}
