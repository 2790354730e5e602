//! The right to renew an account's token: one task of one process has it at a time.

use std::time::Duration;

use super::keeper::{Applicant, Failed, Keeper};
use crate::clock::{self, Instant};
use crate::store::StoreError;

/// The most that one renewal takes: the client's own limits, and the save.
pub(super) const LASTS: Duration = Duration::from_secs(60);

/// Waits for a lease that another process holds.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The right to renew, until it runs out.
pub(super) struct Lease {
    name: String,
    began: Instant,
}

impl Lease {
    /// Might it run out before the vendor has answered and the answer is saved?
    pub(super) fn is_old(&self) -> bool {
        clock::now().saturating_duration_since(self.began) > LASTS / 4
    }
}

impl Keeper {
    /// Waits until nobody else renews this account. `None`: the records cannot be used, and nobody
    /// knows.
    pub(super) async fn lease(&self, who: &Applicant<'_>) -> Result<Option<Lease>, Failed> {
        let name = format!("token/{}", who.id);
        let deadline = clock::now() + LASTS;
        loop {
            if self.underway.is_closed() {
                return Err(Failed::later("the gateway stops"));
            }
            let began = clock::now();
            match self.store.lease(&name, who.me, LASTS, clock::wall()).await {
                Ok(true) => return Ok(Some(Lease { name, began })),
                Ok(false) => {}
                Err(error) => return self.without_records(who, &error),
            }
            if let Ok(Some(other)) = self.store.holder(&name).await
                && self.holder.is_gone(&other)
                && self.store.release(&name, &other).await.is_ok()
            {
                continue;
            }
            if clock::now() >= deadline {
                return Err(Failed::later("another process renews this account's token"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Records that are in use, or a newer program's, mean that another process is there, which may
    /// be spending the same refresh token. Broken ones mean nothing, and an account must not be lost
    /// by them.
    fn without_records(
        &self,
        who: &Applicant<'_>,
        error: &StoreError,
    ) -> Result<Option<Lease>, Failed> {
        let is_shared = matches!(error, StoreError::Busy { .. } | StoreError::Newer { .. });
        if is_shared && who.login.rotates() {
            let why = "nobody knows whether another process renews this account's token";
            return Err(Failed::later(format!("{why}: {error}")));
        }
        tracing::warn!(account = who.id, "renewed without a lease: {error}");
        Ok(None)
    }

    pub(super) async fn release(&self, lease: &Lease, who: &Applicant<'_>) {
        if let Err(error) = self.store.release(&lease.name, who.me).await {
            tracing::warn!(account = who.id, "a lease runs out by itself: {error}");
        }
    }
}
