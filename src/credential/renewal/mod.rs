//! A token that is renewed before it expires: what requests and the one task that renews it
//! ([`refresher`]) share. Requests never ask a vendor for a token; they wait on a watch.

mod endpoints;
mod holder;
mod keeper;
mod kept;
mod lease;
pub mod login;
mod others;
pub mod refresher;
mod schedule;
#[cfg(test)]
mod tests;
mod underway;

pub use endpoints::Endpoints;
pub use holder::Holder;
pub use keeper::Keeper;
pub use kept::Kept;
pub use others::Others;
pub use underway::Underway;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{timeout, timeout_at};

use self::login::Login;
use crate::clock::{self, Instant, SystemTime};

/// A refused token is renewed at once, but no more often than this: a vendor that refuses each new
/// one would else be asked for ever.
const FORCED_EVERY: Duration = Duration::from_secs(60);

/// Longer than a renewal takes that waits for another process's.
const LONGEST: Duration = Duration::from_secs(150);

/// How the renewal of one account's token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Of the token in use; `None`: there is none, or its vendor did not say.
    pub expires_at: Option<SystemTime>,
    /// When the token in use was granted.
    pub granted_at: Option<SystemTime>,
}

impl State {
    /// Is there a token, and one that has not expired?
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.granted_at.is_some() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// What is being done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has looked yet whether there is a token from before.
    Starting,
    Ok,
    Refreshing,
    /// It did not work this time, and is tried again.
    Transient(String),
    /// Only a person can help. The vendor is not asked again until something changes.
    NeedsLogin(String),
}

/// Why a request gets no token of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account has no valid token")]
pub struct NoToken;

/// Why the task that renews is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// A token is wanted now, whatever the one in use says.
    Renew,
    /// What is configured may have changed.
    Look,
    /// Another gateway has a newer token.
    Hear,
}

/// One account's.
pub(super) struct Renewal {
    pub(super) login: Login,
    state: watch::Sender<State>,
    wish: Mutex<Option<Wish>>,
    wished: Notify,
    /// Milliseconds since 1970 at which the token in use expires; 0 = there is none.
    valid_until: AtomicU64,
    /// The upstream refused the newest token there is, so that nobody uses it any more.
    refused: AtomicBool,
    forced_at: Mutex<Option<Instant>>,
}

impl Renewal {
    pub(super) fn new(login: Login) -> Self {
        let state = State {
            phase: Phase::Starting,
            expires_at: None,
            granted_at: None,
        };
        Renewal {
            login,
            state: watch::Sender::new(state),
            wish: Mutex::new(None),
            wished: Notify::new(),
            valid_until: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            forced_at: Mutex::new(None),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        millis(now) < self.valid_until.load(Ordering::Relaxed)
    }

    /// Waits until the token in use has not expired, while there is hope that it comes.
    pub(super) async fn valid(&self, until: Instant) -> Result<(), NoToken> {
        if self.is_valid(clock::wall()) {
            return Ok(());
        }
        let mut state = self.state.subscribe();
        if matches!(state.borrow_and_update().phase, Phase::Ok) {
            self.begin();
        }
        loop {
            if self.is_valid(clock::wall()) {
                return Ok(());
            }
            let hopeless = matches!(
                state.borrow_and_update().phase,
                Phase::Transient(_) | Phase::NeedsLogin(_)
            );
            let changed = timeout_at(until.into(), state.changed());
            if hopeless || !matches!(changed.await, Ok(Ok(()))) {
                return Err(NoToken);
            }
        }
    }

    /// The upstream refused the token: nobody uses it from now on, and the next one is waited for.
    /// `is_other` says whether the one in use is another than the refused.
    pub(super) async fn replaced(&self, is_other: impl Fn() -> bool, until: Instant) -> bool {
        let mut state = self.state.subscribe();
        if is_other() {
            return true;
        }
        if state.borrow_and_update().phase == Phase::Refreshing {
            self.refuse();
        } else if !self.force(clock::now()) {
            return false;
        }
        loop {
            if is_other() {
                return true;
            }
            let renewing = state.borrow_and_update().phase == Phase::Refreshing;
            let changed = timeout_at(until.into(), state.changed());
            if !renewing || !matches!(changed.await, Ok(Ok(()))) {
                return is_other();
            }
        }
    }

    /// Requests that come now wait for the next token, or go to another account.
    fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.valid_until.store(0, Ordering::Relaxed);
        self.state
            .send_modify(|state| (state.expires_at, state.granted_at) = (None, None));
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// A request whose token was refused wants another one.
    fn force(&self, now: Instant) -> bool {
        let mut forced_at = self.forced_at.lock();
        if is_recent(*forced_at, now) {
            return false;
        }
        *forced_at = Some(now);
        drop(forced_at);
        self.refuse();
        self.begin();
        true
    }

    /// Would [`Renewal::replaced`] ask for another token, or wait for one that is asked for?
    pub(super) fn may_force(&self, now: Instant) -> bool {
        let renewing = self.state.borrow().phase == Phase::Refreshing;
        renewing || !is_recent(*self.forced_at.lock(), now)
    }

    /// An operator wants another token, and to know what became of it.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let mut state = self.state.subscribe();
        self.renew_now();
        let settled =
            state.wait_for(|state| !matches!(state.phase, Phase::Starting | Phase::Refreshing));
        let phase = match timeout(LONGEST, settled).await {
            Ok(Ok(state)) => state.phase.clone(),
            Ok(Err(_)) => return Err("the gateway stops".to_owned()),
            Err(_) => return Err("it takes too long".to_owned()),
        };
        match phase {
            Phase::Transient(why) | Phase::NeedsLogin(why) => Err(why),
            Phase::Starting | Phase::Ok | Phase::Refreshing => Ok(()),
        }
    }

    /// A new token is asked for at once, though the account may need a login, and though one is on its
    /// way that was asked for before.
    pub(super) fn renew_now(&self) {
        if !self.begin() {
            *self.wish.lock() = Some(Wish::Renew);
            self.wished.notify_one();
        }
    }

    /// Nobody can renew it, for now. Requests need not wait.
    pub(super) fn is_stuck(&self, why: String) {
        self.set_phase(Phase::Transient(why));
    }

    /// What is configured may have changed.
    pub(super) fn look_again(&self) {
        self.wish.lock().get_or_insert(Wish::Look);
        self.wished.notify_one();
    }

    /// Another gateway was granted a newer token, which can be had.
    pub(super) fn hear(&self) {
        self.wish.lock().get_or_insert(Wish::Hear);
        self.wished.notify_one();
    }

    /// A new token is asked for, unless that has begun. Returns whether it had not.
    fn begin(&self) -> bool {
        // Told here and not by the task, so that who looks next sees that it is under way; and wished
        // in the same moment, so that a task that ends one renewal takes it for another.
        let begins = self.state.send_if_modified(|state| {
            let begins = !matches!(state.phase, Phase::Starting | Phase::Refreshing);
            if begins {
                state.phase = Phase::Refreshing;
                *self.wish.lock() = Some(Wish::Renew);
            }
            begins
        });
        if begins {
            self.wished.notify_one();
        }
        begins
    }

    /// A renewal begins, and with it all that was wished before.
    fn begun(&self) {
        self.state.send_modify(|state| {
            state.phase = Phase::Refreshing;
            *self.wish.lock() = None;
        });
    }

    async fn next_wish(&self) -> Wish {
        loop {
            self.wished.notified().await;
            if let Some(wish) = self.wish.lock().take() {
                return wish;
            }
        }
    }

    /// Of the token that is in use from now on, and how things stand.
    fn set(&self, phase: Phase, granted_at: SystemTime, expires_at: Option<SystemTime>) {
        let valid_until = expires_at.map_or(u64::MAX, millis);
        self.refused.store(false, Ordering::Relaxed);
        self.valid_until.store(valid_until, Ordering::Relaxed);
        self.state.send_replace(State {
            phase,
            expires_at,
            granted_at: Some(granted_at),
        });
    }

    fn set_phase(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
    }
}

fn is_recent(forced_at: Option<Instant>, now: Instant) -> bool {
    forced_at.is_some_and(|at| now.saturating_duration_since(at) < FORCED_EVERY)
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1)
    })
}
