//! The task that renews one account's token: in time, once, and so that what a vendor rotated is on
//! the disk before anybody uses it.
//!
//! Between a vendor's reply and the end of the save lies the one moment in which a loss of power, or
//! a SIGKILL, loses a rotated refresh token: one write, two syncs and a rename. A room on the disk
//! for it is made before the vendor is asked, and a stop waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;

use super::holder;
use super::login::LoginError;
use super::{Phase, Renewal, State, Wish};
use crate::clock::{self, SystemTime};
use crate::credential::Credential;
use crate::credential::cache::{Saved, Slot, TokenCache};
use crate::credential::exchange::{Asked, Exchange, Granted, Reply};
use crate::net::Egress;
use crate::secret::Secret;
use crate::store::Store;

/// The most that one renewal takes: the client's own limits, and the save.
const LEASE: Duration = Duration::from_secs(60);

/// Waits for a lease that another process holds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// After failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The longest sleep: the clock of the wall may jump, and accounts go.
const NAP: Duration = Duration::from_secs(30);

/// Before a token that cannot be saved is used all the same.
const SAVES_AT_ONCE: u32 = 3;

/// What could not be saved is saved again so soon.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// A token is renewed when this part of its life is left, if that is less than is configured.
const LAST_PART: f64 = 0.3;

/// What all accounts' refreshers share.
pub struct Keeper {
    egress: Egress,
    cache: TokenCache,
    store: Arc<Store>,
    /// Who we are among the processes that share the folder.
    me: String,
    /// Renewals that a stop must wait for.
    busy: Arc<AtomicUsize>,
}

impl Keeper {
    pub fn new(
        egress: Egress,
        cache: TokenCache,
        store: Arc<Store>,
        busy: Arc<AtomicUsize>,
    ) -> Self {
        Keeper {
            egress,
            cache,
            store,
            me: holder::this_process(),
            busy,
        }
    }
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    Success,
    Transient,
    Dead,
}

/// Told of each change of an account's state, and of what a renewal came to.
pub type Told = Box<dyn Fn(&State, Option<Renewed>) + Send + Sync>;

/// Renews the token of one account.
pub struct Refresher {
    id: Arc<str>,
    credential: Arc<Credential>,
    keeper: Arc<Keeper>,
    told: Told,
    held: Option<Saved>,
    /// `held` is not on the disk.
    is_unsaved: bool,
    /// Failures in a row.
    failures: u32,
    due: Option<SystemTime>,
}

/// Why there is no new token.
enum Failed {
    Dead(String),
    Later { wait: Option<Duration>, why: String },
}

impl From<LoginError> for Failed {
    fn from(error: LoginError) -> Self {
        Failed::Dead(error.to_string())
    }
}

impl Refresher {
    /// `None`: this credential is none that is renewed.
    pub fn new(
        id: Arc<str>,
        credential: Arc<Credential>,
        keeper: Arc<Keeper>,
        told: Told,
    ) -> Option<Self> {
        credential.renewal()?;
        Some(Refresher {
            id,
            credential,
            keeper,
            told,
            held: None,
            is_unsaved: false,
            failures: 0,
            due: None,
        })
    }

    /// Works until nobody else has the credential any more.
    pub async fn run(mut self) {
        self.start().await;
        while Arc::strong_count(&self.credential) > 1 {
            let now = clock::wall();
            let due = self
                .due
                .map(|due| due.duration_since(now).unwrap_or_default());
            let nap = due.unwrap_or(NAP).min(NAP);
            let credential = self.credential.clone();
            let Some(renewal) = credential.renewal() else {
                return;
            };
            let wish = tokio::select! {
                wish = renewal.next_wish() => Some(wish),
                () = tokio::time::sleep(nap) => None,
            };
            // The clone above is one more.
            drop(credential);
            match wish {
                Some(Wish::Renew) => self.renew().await,
                Some(Wish::Look) => self.look().await,
                None if self.is_unsaved => self.save_again(),
                None if self.due.is_some_and(|due| due <= clock::wall()) => self.renew().await,
                None => {}
            }
        }
    }

    fn renewal(&self) -> Option<&Renewal> {
        self.credential.renewal()
    }

    /// What there is from before is used, unless it is time to renew it.
    async fn start(&mut self) {
        if let Some(renewal) = self.renewal() {
            // What was wished before is about to be done.
            *renewal.wish.lock() = None;
        }
        match self.keeper.cache.load(&self.id) {
            Ok(saved) => self.held = saved,
            Err(error) => {
                tracing::warn!(account = &*self.id, "{error}; the configured value is used");
            }
        }
        self.look().await;
    }

    /// What is configured may be another login than before.
    async fn look(&mut self) {
        let credential = self.credential.clone();
        let Some(renewal) = credential.renewal() else {
            return;
        };
        if renewal.login.written().is_some() {
            return self.renew().await;
        }
        let origin = match renewal.login.refresh_token() {
            Ok(token) => token.as_ref().map(Saved::origin_of),
            Err(error) => return self.ended(Err(error.into())),
        };
        let is_heir = |saved: &Saved| saved.descends_from == origin;
        let Some(saved) = self.held.take_if(|saved| is_heir(saved)) else {
            self.held = None;
            return self.renew().await;
        };
        let needs_login = matches!(renewal.state().phase, Phase::NeedsLogin(_));
        let is_due =
            due(&saved, renewal.login.refresh_before()).is_some_and(|due| due <= clock::wall());
        self.held = Some(saved.clone());
        if is_due || needs_login {
            self.publish(&saved, Phase::Refreshing);
            self.renew().await;
        } else {
            self.ended(Ok((saved, false)));
        }
    }

    async fn renew(&mut self) {
        if let Some(renewal) = self.renewal() {
            renewal.set_phase(Phase::Refreshing);
        }
        let _busy = Busy::new(&self.keeper.busy);
        let renewed = self.obtain().await;
        self.ended(renewed);
    }

    /// Another token, and whether a vendor granted it now.
    async fn obtain(&mut self) -> Result<(Saved, bool), Failed> {
        let credential = self.credential.clone();
        let Some(renewal) = credential.renewal() else {
            return Err(Failed::Dead("nothing to renew".to_owned()));
        };
        if let Some(written) = renewal.login.written() {
            return self.written(written?).map(|saved| (saved, true));
        }
        let Some(exchange) = renewal.login.exchange()? else {
            return Err(Failed::Dead("nothing to renew".to_owned()));
        };
        let name = format!("token/{}", self.id);
        let is_leased = self.lease(&name).await?;
        let renewed = self.obtain_alone(renewal, &exchange).await;
        if is_leased && let Err(error) = self.keeper.store.release(&name, &self.keeper.me).await {
            tracing::warn!(account = &*self.id, "a lease runs out by itself: {error}");
        }
        renewed
    }

    /// The token that another program wrote: one that has expired was forgotten by that program.
    fn written(&self, (access, expires_at): (Secret, Option<SystemTime>)) -> Result<Saved, Failed> {
        let now = clock::wall();
        if expires_at.is_some_and(|at| at <= now) {
            let why = "the token in the file has expired, and nobody has written another";
            return Err(Failed::Dead(why.to_owned()));
        }
        Ok(Saved {
            access,
            refresh: None,
            expires_at,
            descends_from: None,
            saved_at: now,
        })
    }

    /// Waits until no other process renews this account. `false`: the records cannot be used, and
    /// nobody knows.
    async fn lease(&self, name: &str) -> Result<bool, Failed> {
        let Keeper { store, me, .. } = &*self.keeper;
        let deadline = clock::now() + LEASE;
        loop {
            match store.lease(name, me, LEASE, clock::wall()).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    // Only while one process takes over from another does it matter.
                    tracing::warn!(account = &*self.id, "renewed without a lease: {error}");
                    return Ok(false);
                }
            }
            if let Ok(Some(other)) = store.holder(name).await
                && holder::is_gone(&other)
                && store.release(name, &other).await.is_ok()
            {
                continue;
            }
            if clock::now() >= deadline {
                let why = "another process renews this account's token".to_owned();
                return Err(Failed::Later { wait: None, why });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn obtain_alone(
        &mut self,
        renewal: &Renewal,
        exchange: &Exchange,
    ) -> Result<(Saved, bool), Failed> {
        let configured = renewal.login.refresh_token()?;
        let origin = configured.as_ref().map(Saved::origin_of);
        if let Some(saved) = self.renewed_elsewhere(origin) {
            return Ok((saved, false));
        }
        let known = self.held.as_ref().and_then(|held| held.refresh.clone());
        let refresh = known.or(configured);
        let slot = match self.keeper.cache.ready(&self.id) {
            Ok(slot) => Some(slot),
            // What can be had anew at any time need not be kept.
            Err(_) if !renewal.login.rotates() => None,
            Err(error) => {
                let why = format!("no token is asked for, as it could not be kept: {error}");
                return Err(Failed::Later { wait: None, why });
            }
        };
        let asked = exchange.request(refresh.as_ref(), clock::wall());
        let asked = asked.map_err(LoginError::from)?;
        let granted = match self.ask(exchange, asked).await {
            // A process that died in the middle of its save may have left a newer token than ours.
            Err(Failed::Dead(why)) if self.keeper.cache.take_up().is_ok() => {
                let found = self.renewed_elsewhere(origin).map(|saved| (saved, false));
                return found.ok_or(Failed::Dead(why));
            }
            granted => granted?,
        };
        let saved = Saved {
            access: granted.access,
            refresh: granted.refresh.or(refresh),
            expires_at: granted.expires_at,
            descends_from: origin,
            saved_at: clock::wall(),
        };
        self.save(slot, &saved);
        Ok((saved, true))
    }

    /// What another process was granted since.
    fn renewed_elsewhere(&self, origin: Option<[u8; 32]>) -> Option<Saved> {
        let saved = self.keeper.cache.load(&self.id).ok().flatten()?;
        let held = self.held.as_ref().map(|held| held.saved_at);
        let is_newer = held.is_none_or(|held| saved.saved_at > held);
        let is_alive = saved.expires_at.is_none_or(|at| at > clock::wall());
        (is_newer && is_alive && saved.descends_from == origin && self.held.is_some())
            .then_some(saved)
    }

    async fn ask(&self, exchange: &Exchange, asked: Asked) -> Result<Granted, Failed> {
        let headers = HeaderMap::from_iter(asked.headers);
        let most = Exchange::LONGEST_REPLY;
        let answer = self
            .keeper
            .egress
            .post(&asked.url, headers, asked.body, most);
        let answer = answer.await.map_err(|error| Failed::Later {
            wait: None,
            why: format!("the token endpoint: {error}"),
        })?;
        let status = answer.status.as_u16();
        match exchange.read(status, &answer.headers, &answer.body, clock::wall()) {
            Reply::Granted(granted) => Ok(granted),
            Reply::Dead(reason) => Err(Failed::Dead(format!("the vendor says {reason}"))),
            Reply::Transient { wait, why } => Err(Failed::Later {
                wait,
                why: format!("the token endpoint answered {status}: {why}"),
            }),
        }
    }

    fn save(&mut self, slot: Option<Slot>, saved: &Saved) {
        let Some(slot) = slot else {
            return;
        };
        let mut written = slot.write(saved);
        for _ in 0..SAVES_AT_ONCE {
            if written.is_ok() {
                break;
            }
            // In another file: what the disk refused once it may take the next time.
            written = self.keeper.cache.save(&self.id, saved);
        }
        if let Err(error) = written {
            self.is_unsaved = true;
            tracing::error!(
                account = &*self.id,
                "a new token is not on the disk yet, and would be lost with this process: {error}"
            );
        }
    }

    fn save_again(&mut self) {
        let Some(held) = &self.held else {
            return;
        };
        match self.keeper.cache.save(&self.id, held) {
            Ok(()) => {
                self.is_unsaved = false;
                self.due = self.next_due();
                tracing::info!(account = &*self.id, "the new token is on the disk now");
            }
            Err(_) => self.due = Some(clock::wall() + SAVE_AGAIN),
        }
    }

    /// What the outcome changes, for requests and for whoever is told.
    fn ended(&mut self, renewed: Result<(Saved, bool), Failed>) {
        let told = match renewed {
            Ok((saved, is_new)) => {
                self.failures = 0;
                self.publish(&saved, Phase::Ok);
                self.held = Some(saved);
                self.due = match self.is_unsaved {
                    true => Some(clock::wall() + SAVE_AGAIN),
                    false => self.next_due(),
                };
                is_new.then_some(Renewed::Success)
            }
            Err(Failed::Dead(why)) => {
                tracing::warn!(account = &*self.id, "the account needs a login: {why}");
                self.due = None;
                self.set_phase(Phase::NeedsLogin(why));
                Some(Renewed::Dead)
            }
            Err(Failed::Later { wait, why }) => {
                tracing::warn!(account = &*self.id, "the token was not renewed: {why}");
                let pause = wait.unwrap_or_default().max(pause(self.failures));
                self.failures = self.failures.saturating_add(1);
                self.due = Some(clock::wall() + pause);
                self.set_phase(Phase::Transient(why));
                Some(Renewed::Transient)
            }
        };
        if let Some(renewal) = self.renewal() {
            (self.told)(&renewal.state(), told);
        }
    }

    fn set_phase(&self, phase: Phase) {
        if let Some(renewal) = self.renewal() {
            renewal.set_phase(phase);
        }
    }

    /// The token goes on requests from now on.
    fn publish(&self, saved: &Saved, phase: Phase) {
        let Some(renewal) = self.renewal() else {
            return;
        };
        match self.credential.put(saved.access.clone()) {
            Ok(()) => renewal.set(phase, Some((saved.saved_at, saved.expires_at))),
            Err(error) => renewal.set_phase(Phase::NeedsLogin(error.to_string())),
        }
    }

    /// Not all accounts at one moment: those that began together would else ask together for ever.
    fn next_due(&self) -> Option<SystemTime> {
        let renewal = self.renewal()?;
        let held = self.held.as_ref()?;
        let due = due(held, renewal.login.refresh_before())?;
        let window = held.expires_at?.duration_since(due).unwrap_or_default();
        Some(due + window.mul_f64(fastrand::f64() / 10.0))
    }
}

/// When a token is to be renewed; `None`: when its vendor refuses it.
fn due(saved: &Saved, before: Duration) -> Option<SystemTime> {
    let expires_at = saved.expires_at?;
    let life = expires_at.duration_since(saved.saved_at);
    let before = before.min(life.unwrap_or_default().mul_f64(LAST_PART));
    expires_at.checked_sub(before)
}

/// Before the next try: longer each time, and not the same for all.
fn pause(failures: u32) -> Duration {
    let pause = FIRST_PAUSE
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE);
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// One renewal under way; a stop waits until it is dropped.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Busy(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
