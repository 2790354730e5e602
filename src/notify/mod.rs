//! Tells the operators' webhooks when an account leaves the rotation and when it is back.
//!
//! Each hook has its own queue and its own pace; whoever has something to tell only puts it there.
//! What is true of the accounts is looked at from time to time and told each time: a hook knows
//! what it was told before. So nothing is told twice, and a hook that a reload adds learns what is
//! the case.

mod event;
mod format;
mod hook;
mod signature;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;

pub use event::{Event, Kind};

use crate::clock;
use crate::config::{self, SecretError};
use crate::net::{BadProxy, Egress, Proxies, Reach};
use crate::pool::{Moment, Pool, Status};
use crate::telemetry::Metrics;
use hook::{Hook, Settings};

/// So long a stop waits for hooks that have not been told all yet.
const AT_A_STOP: Duration = Duration::from_secs(5);

/// How often the accounts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The hooks, and what they are told.
pub struct Notices {
    /// This machine, as notices name it.
    gateway: String,
    anywhere: Egress,
    public: Egress,
    metrics: Arc<Metrics>,
    hooks: ArcSwap<Vec<Arc<Hook>>>,
    changed: Notify,
    /// Nothing is told any more.
    closed: AtomicBool,
}

/// What hooks were told of accounts that are out: hook, account, events.
pub type Told = HashMap<String, HashMap<String, Vec<String>>>;

/// What came of trying one hook.
pub struct Tested {
    /// The host of its address; the rest may be a secret.
    pub host: String,
    /// An error says what was wrong.
    pub result: Result<(), String>,
}

impl Notices {
    /// Hooks as configured; they are told once [`Notices::deliver`] runs.
    ///
    /// # Errors
    /// A proxy's address is not usable.
    pub fn new(
        config: &[config::Notify],
        gateway: String,
        proxies: &Proxies,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BadProxy> {
        let notices = Notices {
            gateway,
            anywhere: Egress::new(Reach::Anywhere, proxies)?,
            public: Egress::new(Reach::Public, proxies)?,
            metrics,
            hooks: ArcSwap::default(),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        };
        notices.reconfigure(config);
        Ok(notices)
    }

    /// Other hooks from now on. One whose settings stay keeps what waits for it; one that had said
    /// that it is gone gets another chance.
    pub fn reconfigure(&self, config: &[config::Notify]) {
        let old = self.hooks.load();
        let mut hooks = Vec::new();
        for (n, hook) in config.iter().enumerate() {
            match settings(hook) {
                Ok(settings) => {
                    let same = old
                        .iter()
                        .find(|old| old.settings == settings && !old.is_off());
                    hooks.push(same.cloned().unwrap_or_else(|| self.hook(settings)));
                }
                Err(error) => tracing::error!("notify[{n}] is told nothing: its secret: {error}"),
            }
        }
        self.hooks.store(Arc::new(hooks));
        self.changed.notify_one();
    }

    fn hook(&self, settings: Settings) -> Arc<Hook> {
        let egress = match settings.allow_private {
            true => self.anywhere.clone(),
            false => self.public.clone(),
        };
        Arc::new(Hook::new(settings, egress, self.metrics.clone()))
    }

    /// Tells those hooks of the event that are to hear of it. Waits for nobody.
    pub fn tell(&self, event: &Event<'_>) {
        for hook in self.hooks.load().iter() {
            hook.tell(event, &self.gateway);
        }
        if self.closed.load(Ordering::SeqCst) {
            self.close();
        }
    }

    /// What a successor need not tell again.
    pub fn told(&self) -> Told {
        let hooks = self.hooks.load();
        hooks
            .iter()
            .map(|hook| (hook.name(), hook.told()))
            .collect()
    }

    /// A predecessor told this.
    pub fn were_told(&self, told: &Told) {
        for hook in self.hooks.load().iter() {
            if let Some(told) = told.get(&hook.name()) {
                hook.was_told(told);
            }
        }
    }

    /// Sends each hook a notice that nothing has happened, once and now.
    pub async fn test(&self) -> Vec<Tested> {
        let body = event::test_body(&self.gateway, clock::wall());
        let hooks = self.hooks.load_full();
        let tests = hooks.iter().map(|hook| {
            let body = body.clone();
            async move {
                Tested {
                    host: hook.host().to_owned(),
                    result: hook.test(body).await,
                }
            }
        });
        futures::future::join_all(tests).await
    }

    /// Does a stop have to wait for what hooks are being told?
    pub fn is_busy(&self) -> bool {
        let is_open = !self.closed.load(Ordering::SeqCst);
        is_open && self.hooks.load().iter().any(|hook| hook.is_waiting())
    }

    /// Nothing is told any more; what waited is counted and logged as lost.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.hooks.load().iter().for_each(|hook| hook.give_up());
    }

    /// Delivers what is told, until `stop` says so; then, within a few seconds, what waits.
    pub async fn deliver(&self, mut stop: Receiver<bool>) {
        loop {
            let hooks = self.hooks.load_full();
            let runs = futures::future::join_all(hooks.iter().map(|hook| hook.run()));
            let work = async {
                runs.await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work => {}
                () = self.changed.notified() => {}
                _ = stop.changed() => break,
            }
        }
        let hooks = self.hooks.load_full();
        let all = futures::future::join_all(hooks.iter().map(|hook| hook.run_out()));
        // What did not get there is told by `close`.
        let _ = tokio::time::timeout(AT_A_STOP, all).await;
        self.close();
    }

    /// Looks at the accounts from time to time, and tells what became of them, until `stop` says
    /// so.
    pub async fn watch(
        &self,
        pools: impl Fn() -> (Arc<Vec<Arc<Pool>>>, Moment),
        mut stop: Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => return,
            }
            if !self.hooks.load().is_empty() {
                let (pools, at) = pools();
                self.look(&pools, at);
            }
        }
    }

    fn look(&self, pools: &[Arc<Pool>], at: Moment) {
        let mut accounts = HashSet::new();
        for pool in pools {
            for account in pool.accounts() {
                let (status, since) = pool.status(&account, at);
                if let Some(kind) = kind_of(status) {
                    self.tell(&Event {
                        kind,
                        account: &account.config.id,
                        pool: &pool.name,
                        reason: status.name(),
                        at: since,
                    });
                }
                accounts.insert(account.id.clone());
            }
        }
        for hook in self.hooks.load().iter() {
            hook.keep_only(|account| accounts.contains(account));
        }
    }
}

/// What a state is to those who are told. An account that only waits is as it was before: limits
/// come and go, one that is half open has yet to show itself, and an operator who takes an account
/// out knows it.
fn kind_of(status: Status) -> Option<Kind> {
    match status {
        Status::Healthy | Status::Full => Some(Kind::AccountUp),
        Status::Unhealthy => Some(Kind::AccountDown),
        Status::Open => Some(Kind::BreakerOpen),
        Status::NeedsLogin => Some(Kind::NeedsLogin),
        Status::Cooling
        | Status::HalfOpen
        | Status::Disabled
        | Status::Draining
        | Status::Unknown => None,
    }
}

fn settings(hook: &config::Notify) -> Result<Settings, SecretError> {
    let secret = hook.secret.as_ref().map(config::read_secret).transpose()?;
    Ok(Settings {
        url: hook.webhook.clone(),
        format: hook.format,
        secret,
        allow_private: hook.allow_private,
        events: hook
            .events
            .iter()
            .filter_map(|word| Kind::named(word))
            .collect(),
    })
}
