//! How another token is had: over a lease, with room for it on the disk, and there before anybody
//! uses it.
//!
//! Between a vendor's reply and the end of the save lies the one moment in which a loss of power, or
//! a SIGKILL, loses a rotated refresh token: one write, two syncs and a rename. A room on the disk
//! for it is made before the vendor is asked, and a stop waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::endpoints::Endpoints;
use super::holder::Holder;
use super::kept::Kept;
use super::lease::Lease;
use super::login::{Login, LoginError};
use super::others::Others;
use super::underway::Underway;
use crate::clock::{self, SystemTime};
use crate::credential::cache::{Saved, Slot};
use crate::credential::exchange::{Asked, Exchange, ExchangeError, Reply};
use crate::net::Egress;
use crate::secret::Secret;
use crate::store::Store;

/// What all accounts' refreshers share.
pub struct Keeper {
    pub egress: Egress,
    pub kept: Arc<Kept>,
    pub store: Arc<Store>,
    pub underway: Arc<Underway>,
    pub holder: Holder,
    pub endpoints: Endpoints,
    /// Other gateways that have the same accounts, if any.
    pub others: Option<Others>,
}

/// A token to use.
pub(super) struct Obtained {
    pub(super) saved: Saved,
    /// It was granted now, not found.
    pub(super) is_new: bool,
}

/// Why there is no new token.
pub(super) enum Failed {
    /// Asking again does not help.
    Dead(String),
    Later {
        wait: Option<Duration>,
        why: String,
    },
    /// There is nothing to ask with.
    Login(LoginError),
}

impl From<LoginError> for Failed {
    fn from(error: LoginError) -> Self {
        Failed::Login(error)
    }
}

impl From<ExchangeError> for Failed {
    fn from(error: ExchangeError) -> Self {
        Failed::Login(error.into())
    }
}

impl Failed {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Failed::Later {
            wait: None,
            why: why.into(),
        }
    }
}

/// One account's renewal, and who does it: no two tasks have the same name, also not of one process.
pub(super) struct Applicant<'a> {
    pub(super) id: &'a str,
    pub(super) me: &'a str,
    pub(super) login: &'a Login,
}

/// What a renewal goes by.
struct Asking<'a> {
    who: &'a Applicant<'a>,
    exchange: &'a Exchange,
    origin: Option<[u8; 32]>,
    lease: Option<&'a Lease>,
}

impl Keeper {
    /// Another token than `held`, which is the newest that this task knows, and on the disk.
    pub(super) async fn obtain(
        &self,
        who: &Applicant<'_>,
        held: Option<&Saved>,
    ) -> Result<Obtained, Failed> {
        let Some(exchange) = who.login.exchange()? else {
            return Err(Failed::Dead("nothing to renew".to_owned()));
        };
        let _place = self.endpoints.enter(&exchange.url()?).await;
        let lease = self.lease(who).await?;
        let asking = Asking {
            who,
            exchange: &exchange,
            origin: who.login.origin()?,
            lease: lease.as_ref(),
        };
        let renewed = match self.lease_of_all(who).await {
            Ok(()) => self.obtain_alone(&asking, held).await,
            Err(failed) => Err(failed),
        };
        self.release_of_all(who).await;
        if let Some(lease) = &lease {
            self.release(lease, who).await;
        }
        renewed
    }

    async fn obtain_alone(
        &self,
        asking: &Asking<'_>,
        held: Option<&Saved>,
    ) -> Result<Obtained, Failed> {
        let (id, origin) = (asking.who.id, asking.origin);
        // Else the next save might lose what only this process knows.
        let settled = self.with_disk(id, Kept::settle).await;
        settled.map_err(|error| {
            let why = "no token is asked for, as the last one is not saved yet";
            Failed::later(format!("{why}: {error}"))
        })?;
        // A login that was configured since has a token of its own.
        let held = held.filter(|held| held.descends_from == origin);
        self.check_place(id, held)?;
        // With Redis away it had no lease either, if it needs one.
        let _ = self.fetch(id, origin).await;
        let found = self.renewed_elsewhere(id, held, origin);
        if let Some(saved) = found.as_ref().filter(|saved| is_alive(saved)) {
            return Ok(Obtained::found(saved.clone()));
        }
        // One that has expired meanwhile still has the refresh token that is good.
        let newest = found.as_ref().or(held);
        let dead = match self.renew(asking, newest).await {
            Err(Failed::Dead(why)) => why,
            renewed => return renewed,
        };
        // A process that died in the middle of its save may have left a newer token than ours.
        let _ = self.with_disk(id, |kept, _| kept.take_up()).await;
        let _ = self.fetch(id, origin).await;
        match self.renewed_elsewhere(id, newest, origin) {
            Some(saved) if is_alive(&saved) => Ok(Obtained::found(saved)),
            Some(saved) if saved.refresh != newest.and_then(|newest| newest.refresh.clone()) => {
                self.renew(asking, Some(&saved)).await
            }
            _ => Err(Failed::Dead(dead)),
        }
    }

    /// Asks once, with the refresh token of `newest`, where there is one.
    async fn renew(&self, asking: &Asking<'_>, newest: Option<&Saved>) -> Result<Obtained, Failed> {
        let (id, login) = (asking.who.id, asking.who.login);
        let refresh = match newest.and_then(|newest| newest.refresh.clone()) {
            // A vendor may give one to a login that asks without; it is none of its means.
            Some(refresh) if login.rotates() => Some(refresh),
            _ => login.refresh_token()?,
        };
        let slot = self.slot(asking.who).await?;
        if asking.lease.is_some_and(Lease::is_old) {
            let why = "the disk took too long for a token to be asked for";
            return Err(Failed::later(why));
        }
        let asked = asking.exchange.request(refresh.as_ref(), clock::wall())?;
        let (status, reply) = self.ask(asking.exchange, asked).await?;
        let saved = |access, expires_at, next: Option<Secret>| Saved {
            access,
            refresh: next.or(refresh).filter(|_| login.rotates()),
            expires_at,
            descends_from: asking.origin,
            saved_at: later_than(newest),
        };
        let keep = |saved: &Saved| {
            if let Some(slot) = slot {
                self.kept.keep(id, slot, saved);
            }
        };
        match reply {
            Reply::Granted(granted) => {
                let saved = saved(granted.access, granted.expires_at, granted.refresh);
                keep(&saved);
                self.give(id, &saved).await;
                Ok(Obtained {
                    saved,
                    is_new: true,
                })
            }
            Reply::Dead(reason) => Err(Failed::Dead(format!("the vendor says {reason}"))),
            Reply::Transient { wait, why, rotated } => {
                if rotated.is_some() && login.rotates() {
                    // Beside it stands a token that nobody will use.
                    let access = newest.map_or_else(|| Secret::new(""), |old| old.access.clone());
                    let saved = saved(access, Some(SystemTime::UNIX_EPOCH), rotated);
                    keep(&saved);
                    self.give(id, &saved).await;
                }
                let why = format!("the token endpoint answered {status}: {why}");
                Err(Failed::Later { wait, why })
            }
        }
    }

    /// Room for the next token. `None`: what can be had anew at any time need not be kept.
    async fn slot(&self, who: &Applicant<'_>) -> Result<Option<Slot>, Failed> {
        match self.with_disk(who.id, Kept::ready).await {
            Ok(slot) => Ok(Some(slot)),
            Err(_) if !who.login.rotates() => Ok(None),
            Err(error) => {
                self.kept.was_not_ready();
                let why = "no token is asked for, as it could not be kept";
                Err(Failed::later(format!("{why}: {error}")))
            }
        }
    }

    /// Is the file still that of our login? Whoever goes on with an older configuration must not put
    /// its token over that of a newer one.
    fn check_place(&self, id: &str, held: Option<&Saved>) -> Result<(), Failed> {
        let kept = held.and_then(|_| self.kept.load(id).ok().flatten());
        let origins = (
            held.map(|held| held.descends_from),
            kept.map(|kept| kept.descends_from),
        );
        match origins {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Failed::later("another login has taken this one's place"))
            }
            _ => Ok(()),
        }
    }

    /// What another process was granted since, told by its text: clocks may have been set back.
    pub(super) fn renewed_elsewhere(
        &self,
        id: &str,
        held: Option<&Saved>,
        origin: Option<[u8; 32]>,
    ) -> Option<Saved> {
        let saved = self.kept.load(id).ok().flatten()?;
        (is_other(held, &saved) && saved.descends_from == origin).then_some(saved)
    }

    async fn ask(&self, exchange: &Exchange, asked: Asked) -> Result<(u16, Reply), Failed> {
        let headers = HeaderMap::from_iter(asked.headers);
        let most = Exchange::LONGEST_REPLY;
        let answer = self.egress.post(&asked.url, headers, asked.body, most);
        let failed = |error| Failed::later(format!("the token endpoint: {error}"));
        let answer = answer.await.map_err(failed)?;
        let status = answer.status.as_u16();
        let reply = exchange.read(status, &answer.headers, &answer.body, clock::wall());
        Ok((status, reply))
    }

    /// Work that may wait for the disk, away from those who serve.
    pub(super) async fn with_disk<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(&Kept, &str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (kept, id) = (self.kept.clone(), id.to_owned());
        let worked = tokio::task::spawn_blocking(move || work(&kept, &id)).await;
        worked.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Obtained {
    pub(super) fn found(saved: Saved) -> Self {
        Obtained {
            saved,
            is_new: false,
        }
    }
}

/// Now, but always later than what was saved before, though the clock was set back meanwhile: which
/// of two files is the newer one is told by it.
fn later_than(before: Option<&Saved>) -> SystemTime {
    const TICK: Duration = Duration::from_millis(1);
    let earliest = before.and_then(|before| before.saved_at.checked_add(TICK));
    let now = clock::wall();
    earliest.map_or(now, |earliest| earliest.max(now))
}

fn is_other(held: Option<&Saved>, saved: &Saved) -> bool {
    held.is_none_or(|held| held.access != saved.access || held.refresh != saved.refresh)
}

pub(super) fn is_alive(saved: &Saved) -> bool {
    saved.expires_at.is_none_or(|at| at > clock::wall())
}
