//! How another token is had: over a lease, with room for it on the disk, and there before anybody
//! uses it.
//!
//! Between a vendor's reply and the end of the save lies the one moment in which a loss of power, or
//! a SIGKILL, loses a rotated refresh token: one write, two syncs and a rename. A room on the disk
//! for it is made before the vendor is asked, and a stop waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;

use super::holder;
use super::login::{Login, LoginError};
use crate::clock::{self, Instant, SystemTime};
use crate::credential::cache::{Saved, Slot, TokenCache, Unreadable};
use crate::credential::exchange::{Asked, Exchange, Granted, Reply};
use crate::net::Egress;
use crate::store::Store;
use crate::telemetry::Metrics;

/// The most that one renewal takes: the client's own limits, and the save.
const LEASE: Duration = Duration::from_secs(60);

/// Waits for a lease that another process holds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Before a token that cannot be saved is used all the same.
const SAVES_AT_ONCE: u32 = 3;

/// What all accounts' refreshers share.
pub struct Keeper {
    pub egress: Egress,
    pub cache: TokenCache,
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    /// Renewals that a stop must wait for.
    pub busy: Arc<AtomicUsize>,
}

/// A token to use.
pub(super) struct Obtained {
    pub(super) saved: Saved,
    /// It was granted now, not found.
    pub(super) is_new: bool,
    /// It could not be saved: it is lost with this process, unless a later save works.
    pub(super) is_unsaved: bool,
}

/// Why there is no new token.
pub(super) enum Failed {
    /// Asking again does not help.
    Dead(String),
    Later {
        wait: Option<Duration>,
        why: String,
    },
}

impl From<LoginError> for Failed {
    fn from(error: LoginError) -> Self {
        Failed::Dead(error.to_string())
    }
}

/// One account's renewal, and who does it: no two tasks have the same name, also not of one process.
pub(super) struct Applicant<'a> {
    pub(super) id: &'a str,
    pub(super) me: &'a str,
    pub(super) login: &'a Login,
}

impl Keeper {
    /// What was kept of the account.
    pub(super) fn load(&self, id: &str) -> Result<Option<Saved>, Unreadable> {
        let loaded = self.cache.load(id);
        loaded.inspect_err(|_| self.count("load"))
    }

    /// Saves what could not be saved when it came.
    pub(super) fn save(&self, id: &str, saved: &Saved) -> std::io::Result<()> {
        let saved = self.cache.save(id, saved);
        saved.inspect_err(|_| self.count("save"))
    }

    fn count(&self, operation: &'static str) {
        self.metrics.store_error("tokens", operation);
    }

    /// A stop waits until this is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self.busy.clone())
    }

    /// Another token than `held`, which is the newest that this task knows, and on the disk.
    pub(super) async fn obtain(
        &self,
        who: &Applicant<'_>,
        held: Option<&Saved>,
    ) -> Result<Obtained, Failed> {
        let Some(exchange) = who.login.exchange()? else {
            return Err(Failed::Dead("nothing to renew".to_owned()));
        };
        let name = format!("token/{}", who.id);
        let lease = self.lease(&name, who).await?;
        let renewed = self
            .obtain_alone(who, held, &exchange, lease.as_ref())
            .await;
        if lease.is_some()
            && let Err(error) = self.store.release(&name, who.me).await
        {
            tracing::warn!(account = who.id, "a lease runs out by itself: {error}");
        }
        renewed
    }

    /// Waits until nobody else renews this account. `None`: the records cannot be used, and nobody
    /// knows.
    async fn lease(&self, name: &str, who: &Applicant<'_>) -> Result<Option<Lease>, Failed> {
        let deadline = clock::now() + LEASE;
        loop {
            let began = clock::now();
            match self.store.lease(name, who.me, LEASE, clock::wall()).await {
                Ok(true) => return Ok(Some(Lease { began })),
                Ok(false) => {}
                Err(error) => {
                    // Only while one process takes over from another does it matter.
                    tracing::warn!(account = who.id, "renewed without a lease: {error}");
                    return Ok(None);
                }
            }
            if let Ok(Some(other)) = self.store.holder(name).await
                && holder::is_gone(&other)
                && self.store.release(name, &other).await.is_ok()
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
        &self,
        who: &Applicant<'_>,
        held: Option<&Saved>,
        exchange: &Exchange,
        lease: Option<&Lease>,
    ) -> Result<Obtained, Failed> {
        let configured = who.login.refresh_token()?;
        let origin = configured.as_ref().map(Saved::origin_of);
        // A login that was configured since has a token of its own.
        let held = held.filter(|held| held.descends_from == origin);
        self.check_place(who.id, held)?;
        let found = self.renewed_elsewhere(who.id, held, origin);
        if let Some(saved) = found.as_ref().filter(|saved| is_alive(saved)) {
            return Ok(Obtained::found(saved.clone()));
        }
        // One that has expired meanwhile still has the refresh token that is good.
        let newest = found.as_ref().or(held);
        let refresh = newest.and_then(|newest| newest.refresh.clone());
        let refresh = refresh.or(configured);
        let slot = match self.cache.ready(who.id) {
            Ok(slot) => Some(slot),
            // What can be had anew at any time need not be kept.
            Err(_) if !who.login.rotates() => None,
            Err(error) => {
                self.count("prepare");
                let why = format!("no token is asked for, as it could not be kept: {error}");
                return Err(Failed::Later { wait: None, why });
            }
        };
        if lease.is_some_and(Lease::is_old) {
            let why = "the disk took too long for a token to be asked for".to_owned();
            return Err(Failed::Later { wait: None, why });
        }
        let asked = exchange.request(refresh.as_ref(), clock::wall());
        let asked = asked.map_err(LoginError::from)?;
        let granted = match self.ask(exchange, asked).await {
            // A process that died in the middle of its save may have left a newer token than ours.
            Err(Failed::Dead(why)) if self.cache.take_up().is_ok() => {
                let found = self.renewed_elsewhere(who.id, newest, origin);
                let found = found.filter(is_alive).map(Obtained::found);
                return found.ok_or(Failed::Dead(why));
            }
            granted => granted?,
        };
        let saved = Saved {
            access: granted.access,
            refresh: granted.refresh.or(refresh),
            expires_at: granted.expires_at,
            descends_from: origin,
            saved_at: later_than(newest),
        };
        let is_kept = slot.is_none_or(|slot| self.keep(who.id, slot, &saved));
        Ok(Obtained {
            saved,
            is_new: true,
            is_unsaved: !is_kept,
        })
    }

    /// Is the file still that of our login? Whoever goes on with an older configuration must not put
    /// its token over that of a newer one.
    fn check_place(&self, id: &str, held: Option<&Saved>) -> Result<(), Failed> {
        let kept = held.and_then(|_| self.load(id).ok().flatten());
        let origins = (
            held.map(|held| held.descends_from),
            kept.map(|kept| kept.descends_from),
        );
        match origins {
            (Some(ours), Some(theirs)) if ours != theirs => Err(Failed::Later {
                wait: None,
                why: "another login has taken this one's place".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What another process was granted since, told by its text: clocks may have been set back.
    fn renewed_elsewhere(
        &self,
        id: &str,
        held: Option<&Saved>,
        origin: Option<[u8; 32]>,
    ) -> Option<Saved> {
        let saved = self.load(id).ok().flatten()?;
        let is_other = held.is_none_or(|held| held.access != saved.access);
        (is_other && saved.descends_from == origin).then_some(saved)
    }

    async fn ask(&self, exchange: &Exchange, asked: Asked) -> Result<Granted, Failed> {
        let headers = HeaderMap::from_iter(asked.headers);
        let most = Exchange::LONGEST_REPLY;
        let answer = self.egress.post(&asked.url, headers, asked.body, most);
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

    /// Puts a new token where room was made for it.
    fn keep(&self, id: &str, slot: Slot, saved: &Saved) -> bool {
        let mut written = slot.write(saved);
        for _ in 0..SAVES_AT_ONCE {
            if written.is_ok() {
                break;
            }
            // In another file: what the disk refused once it may take the next time.
            written = self.cache.save(id, saved);
        }
        if let Err(error) = &written {
            self.count("save");
            tracing::error!(
                account = id,
                "a new token is not on the disk yet, and would be lost with this process: {error}"
            );
        }
        written.is_ok()
    }
}

/// The right to renew, until it runs out.
struct Lease {
    began: Instant,
}

impl Lease {
    /// Might it run out before the vendor has answered and the answer is saved?
    fn is_old(&self) -> bool {
        clock::now().saturating_duration_since(self.began) > LEASE / 4
    }
}

impl Obtained {
    pub(super) fn found(saved: Saved) -> Self {
        Obtained {
            saved,
            is_new: false,
            is_unsaved: false,
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

fn is_alive(saved: &Saved) -> bool {
    saved.expires_at.is_none_or(|at| at > clock::wall())
}

/// One renewal under way; a stop waits until it is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
