//! The task that looks after one account's token: what is done when, and what becomes known of it.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::{Applicant, Failed, Keeper, Obtained, is_alive};
use super::kept::Kept;
use super::login::LoginError;
use super::schedule::{Due, Life};
use super::{Phase, Renewal, State, Wish};
use crate::clock::{self, SystemTime};
use crate::credential::Credential;
use crate::credential::cache::Saved;
use crate::secret::Secret;

/// What could not be saved is saved again so soon.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// What other gateways told, or were to be told, while Redis was away is asked for and told so soon.
const SHARE_AGAIN: Duration = Duration::from_secs(1);

/// A token that is found at the start and soon ends is replaced before it is used, if that takes no
/// longer.
const FIRST: Duration = Duration::from_secs(2);

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
    /// Who we are among all tasks that may renew it.
    me: String,
    credential: Arc<Credential>,
    keeper: Arc<Keeper>,
    told: Told,
    held: Option<Saved>,
    /// Failures in a row.
    failures: u32,
    due: Due,
    /// Another gateway has told of a token that could not be fetched.
    is_unheard: bool,
}

/// What a failure means for the account.
enum Unobtained {
    Dead(String),
    Later(Option<Duration>, String),
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
            me: keeper.holder.new_name(),
            credential,
            keeper,
            told,
            held: None,
            failures: 0,
            due: Due::Never,
            is_unheard: false,
        })
    }

    /// Works until nobody else has the credential any more.
    pub async fn run(mut self) {
        self.start().await;
        while Arc::strong_count(&self.credential) > 1 {
            let nap = self.due.wait().unwrap_or_default();
            let nap = match self.is_unheard || self.is_ungiven() {
                true => nap.min(SHARE_AGAIN),
                false => nap,
            };
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
            if Arc::strong_count(&self.credential) == 1 {
                return;
            }
            match wish {
                Some(Wish::Renew) => self.renew().await,
                Some(Wish::Look) => self.look().await,
                Some(Wish::Hear) => self.hear().await,
                None => self.go_on().await,
            }
        }
    }

    /// Nobody wishes anything: what was left undone, and what is due.
    async fn go_on(&mut self) {
        if self.is_unheard {
            self.hear().await;
        }
        if self.is_ungiven() {
            self.give_again().await;
        }
        match self.due.wait() {
            Some(_) => {}
            None if self.is_unsaved() => self.save_again().await,
            None => self.renew().await,
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
        let login = self.renewal().map(|renewal| &renewal.login);
        if let Some(Ok(origin)) = login.map(|login| login.origin()) {
            self.is_unheard = self.keeper.fetch(&self.id, origin).await.is_err();
        }
        match self.keeper.kept.load(&self.id) {
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
        let origin = match renewal.login.origin() {
            Ok(origin) => origin,
            Err(error) => return self.ended(Err(error.into())),
        };
        let Some(saved) = self.held.take_if(|saved| saved.descends_from == origin) else {
            self.held = None;
            return self.renew().await;
        };
        self.held = Some(saved.clone());
        let due = life(&saved).due(renewal.login.refresh_before());
        let is_due = due.is_some_and(|due| due <= clock::wall());
        match renewal.state().phase {
            // Whoever is in trouble already tries again: something changed.
            Phase::Transient(_) | Phase::NeedsLogin(_) => self.renew().await,
            Phase::Starting if is_due => self.renew_first(&saved).await,
            _ if is_due => self.renew().await,
            _ => self.ended(Ok(Obtained::found(saved))),
        }
    }

    /// Another gateway has told that it was granted a token.
    async fn hear(&mut self) {
        let login = self.renewal().map(|renewal| &renewal.login);
        let Some(Ok(origin)) = login.map(|login| login.origin()) else {
            return;
        };
        self.is_unheard = self.keeper.fetch(&self.id, origin).await.is_err();
        let held = self.held.as_ref();
        let found = self.keeper.renewed_elsewhere(&self.id, held, origin);
        if let Some(saved) = found.filter(is_alive) {
            tracing::info!(account = &*self.id, "another gateway has renewed the token");
            self.ended(Ok(Obtained::found(saved)));
        }
    }

    /// Requests wait for the next token a moment; then they have the one from before.
    async fn renew_first(&mut self, saved: &Saved) {
        let credential = self.credential.clone();
        let use_meanwhile = async {
            tokio::time::sleep(FIRST).await;
            publish(&credential, saved, Phase::Refreshing);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.renew() => {}
            () = use_meanwhile => {}
        }
    }

    async fn renew(&mut self) {
        let Some(begun) = self.keeper.underway.begin() else {
            self.due = Due::Never;
            return self.set_phase(Phase::Transient("the gateway stops".to_owned()));
        };
        let credential = self.credential.clone();
        let Some(renewal) = credential.renewal() else {
            return;
        };
        renewal.begun();
        // Of the others a stop loses nothing.
        let begun = Some(begun).filter(|_| renewal.login.rotates());
        let renewed = self.obtain().await;
        drop(begun);
        self.ended(renewed);
    }

    async fn obtain(&mut self) -> Result<Obtained, Failed> {
        let credential = self.credential.clone();
        let Some(renewal) = credential.renewal() else {
            return Err(Failed::Dead("nothing to renew".to_owned()));
        };
        if let Some(written) = renewal.login.written() {
            return self.written(written);
        }
        let who = Applicant {
            id: &self.id,
            me: &self.me,
            login: &renewal.login,
        };
        self.keeper.obtain(&who, self.held.as_ref()).await
    }

    /// The token that another program wrote: one that has expired was forgotten by that program.
    fn written(
        &self,
        written: Result<(Secret, Option<SystemTime>), LoginError>,
    ) -> Result<Obtained, Failed> {
        let now = clock::wall();
        let (access, expires_at) = written?;
        if expires_at.is_some_and(|at| at <= now) {
            let why = "the token in the file has expired, and nobody has written another";
            return Err(Failed::Dead(why.to_owned()));
        }
        let saved = Saved {
            access,
            refresh: None,
            expires_at,
            descends_from: None,
            saved_at: now,
        };
        Ok(Obtained {
            saved,
            is_new: true,
        })
    }

    fn is_unsaved(&self) -> bool {
        self.keeper.kept.is_unsaved(&self.id)
    }

    fn is_ungiven(&self) -> bool {
        self.keeper.kept.is_ungiven(&self.id)
    }

    async fn give_again(&self) {
        if let Some(renewal) = self.renewal() {
            let who = Applicant {
                id: &self.id,
                me: &self.me,
                login: &renewal.login,
            };
            self.keeper.give_again(&who).await;
        }
    }

    async fn save_again(&mut self) {
        match self.keeper.with_disk(&self.id, Kept::settle).await {
            Ok(()) => {
                let state = self.renewal().map(Renewal::state);
                // What had to wait for this need not wait any longer.
                self.due = match state.is_some_and(|state| state.phase != Phase::Ok) {
                    true => Due::after(Duration::ZERO),
                    false => self.next_due(),
                };
            }
            Err(_) => self.due = Due::after(SAVE_AGAIN),
        }
    }

    /// What the outcome changes, for requests and for whoever is told.
    fn ended(&mut self, renewed: Result<Obtained, Failed>) {
        let renewed = renewed.map_err(|failed| self.judged(failed));
        let told = match renewed {
            Ok(obtained) => {
                self.failures = 0;
                publish(&self.credential, &obtained.saved, Phase::Ok);
                self.held = Some(obtained.saved);
                self.due = match self.is_unsaved() {
                    true => Due::after(SAVE_AGAIN),
                    false => self.next_due(),
                };
                obtained.is_new.then_some(Renewed::Success)
            }
            Err(Unobtained::Dead(why)) => {
                tracing::warn!(account = &*self.id, "the account needs a login: {why}");
                self.due = Due::Never;
                self.set_phase(Phase::NeedsLogin(why));
                Some(Renewed::Dead)
            }
            Err(Unobtained::Later(wait, why)) => {
                tracing::warn!(account = &*self.id, "the token was not renewed: {why}");
                self.failures = self.failures.saturating_add(1);
                self.due = Due::after_failures(self.failures, wait);
                self.set_phase(Phase::Transient(why));
                Some(Renewed::Transient)
            }
        };
        if let Some(renewal) = self.renewal() {
            (self.told)(&renewal.state(), told);
        }
    }

    /// What is wrong here and not at the vendor may be mended while the token that there is lives; it
    /// may be in the middle of being written, too.
    fn judged(&self, failed: Failed) -> Unobtained {
        let now = clock::wall();
        let is_alive = |held: &Saved| held.expires_at.is_none_or(|at| at > now);
        match failed {
            Failed::Dead(why) => Unobtained::Dead(why),
            Failed::Later { wait, why } => Unobtained::Later(wait, why),
            Failed::Login(error)
                if error.may_pass() || self.held.as_ref().is_some_and(is_alive) =>
            {
                Unobtained::Later(None, error.to_string())
            }
            Failed::Login(error) => Unobtained::Dead(error.to_string()),
        }
    }

    /// The token that there is stays in use while it lives, unless its upstream has refused it.
    fn set_phase(&self, phase: Phase) {
        let Some(renewal) = self.renewal() else {
            return;
        };
        let is_unused = renewal.state().granted_at.is_none() && !renewal.is_refused();
        match self.held.as_ref().filter(|_| is_unused) {
            Some(held) => publish(&self.credential, held, phase),
            None => renewal.set_phase(phase),
        }
    }

    fn next_due(&self) -> Due {
        let (Some(renewal), Some(held)) = (self.renewal(), &self.held) else {
            return Due::Never;
        };
        Due::before_end(life(held), renewal.login.refresh_before())
    }
}

/// The token goes on requests from now on.
fn publish(credential: &Credential, saved: &Saved, phase: Phase) {
    let Some(renewal) = credential.renewal() else {
        return;
    };
    match credential.put(saved.access.clone()) {
        Ok(()) => renewal.set(phase, saved.saved_at, saved.expires_at),
        Err(error) => renewal.set_phase(Phase::NeedsLogin(error.to_string())),
    }
}

/// From when to when it may be used. One of the future was granted before the clock was set back.
fn life(saved: &Saved) -> Life {
    Life {
        granted_at: saved.saved_at.min(clock::wall()),
        expires_at: saved.expires_at,
    }
}
