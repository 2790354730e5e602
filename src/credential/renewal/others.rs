//! Other gateways that have the same account: one of all renews its token, and all use it. What goes
//! between them is sealed under `state.key`, which is the same for all.

use std::io;
use std::sync::Arc;

use super::keeper::{Applicant, Failed, Keeper};
use super::kept::Kept;
use super::lease::{LASTS, LOOK_EVERY};
use crate::clock;
use crate::credential::cache::Saved;
use crate::store::millis;
use crate::store::shared::{Away, Shared};

/// The way to them.
pub struct Others {
    pub redis: Arc<Shared>,
    /// Called with the account whose newer token is there for them.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Keeper {
    /// Waits until no other gateway renews this account's token.
    pub(super) async fn lease_of_all(&self, who: &Applicant<'_>) -> Result<(), Failed> {
        let Some(others) = &self.others else {
            return Ok(());
        };
        let deadline = clock::now() + LASTS;
        loop {
            match others.redis.lease(who.id, who.me, LASTS).await {
                Ok(true) => return Ok(()),
                Ok(false) if clock::now() >= deadline => {
                    return Err(Failed::later("another gateway renews this account's token"));
                }
                Ok(false) if self.underway.is_closed() => {
                    return Err(Failed::later("the gateway stops"));
                }
                Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
                // Two who spend one refresh token may lose the account; a token without one can be
                // asked for as often as one likes.
                Err(Away) if who.login.rotates() => {
                    let why = "nobody knows whether another gateway renews this account's token";
                    return Err(Failed::later(format!("{why}: {Away}")));
                }
                Err(Away) => return Ok(()),
            }
        }
    }

    /// Not as long as the others would renew with a refresh token that is spent.
    pub(super) async fn release_of_all(&self, who: &Applicant<'_>) {
        if let Some(others) = &self.others
            && !self.kept.is_ungiven(who.id)
        {
            // Else it ends in its time.
            let _ = others.redis.release(who.id, who.me).await;
        }
    }

    /// Gives the others a token that was granted here.
    pub(super) async fn give(&self, id: &str, saved: &Saved) {
        let Some(others) = &self.others else {
            return;
        };
        let granted = millis(saved.saved_at).unsigned_abs();
        let given = match self.kept.seal(id, saved) {
            Ok(sealed) => others.redis.put_token(id, granted, &sealed).await,
            Err(_) => Err(Away),
        };
        let is_news = self.kept.set_given(id, given.is_ok());
        match given {
            Ok(()) => (others.tell)(id),
            Err(Away) if is_news => tracing::warn!(
                account = id,
                "the other gateways do not have the newest token yet: {Away}"
            ),
            Err(Away) => {}
        }
    }

    /// Gives them what they could not be given before.
    pub(super) async fn give_again(&self, who: &Applicant<'_>) {
        if let Ok(Some(saved)) = self.kept.load(who.id) {
            self.give(who.id, &saved).await;
            self.release_of_all(who).await;
        }
    }

    /// Takes over the token that another gateway was granted, if it is newer than what is on our disk
    /// and of the same login; they get ours if that is newer.
    ///
    /// # Errors
    /// Redis is away: what they have is not known.
    pub(super) async fn fetch(&self, id: &str, origin: Option<[u8; 32]>) -> Result<(), Away> {
        let Some(others) = &self.others else {
            return Ok(());
        };
        let sealed = others.redis.token(id).await?;
        let known = self.kept.load(id).ok().flatten();
        let known = known.filter(|known| known.descends_from == origin);
        let Some(sealed) = sealed else {
            if known.is_some() {
                self.kept.set_given(id, false);
            }
            return Ok(());
        };
        let saved = match self.kept.unseal(id, &sealed) {
            Ok(saved) => saved,
            Err(error) => {
                let hint = "have all gateways the same state.key?";
                tracing::error!(account = id, "another gateway's token {error}; {hint}");
                return Ok(());
            }
        };
        if saved.descends_from != origin {
            return Ok(());
        }
        if known.is_some_and(|known| known.saved_at > saved.saved_at) {
            self.kept.set_given(id, false);
            return Ok(());
        }
        let kept = self.with_disk(id, move |kept, id| take_over(kept, id, &saved));
        if let Err(error) = kept.await {
            tracing::warn!(account = id, "another gateway's token is not kept: {error}");
        }
        Ok(())
    }
}

fn take_over(kept: &Kept, id: &str, saved: &Saved) -> io::Result<()> {
    let known = kept.load(id).ok().flatten();
    if known.is_some_and(|known| known.saved_at >= saved.saved_at) {
        return Ok(());
    }
    let slot = kept.ready(id)?;
    kept.keep(id, slot, saved);
    Ok(())
}
