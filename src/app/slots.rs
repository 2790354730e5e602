//! The slots of keys, as the gateway as a whole has them: swept again and again, and shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::ShutdownWatch;

use super::App;
use crate::admin::{SlotKey, SlotPlace, SlotsView};
use crate::clock::{self, SystemTime};
use crate::config::Assignment;
use crate::key::{Client, Scope};

/// How often memory and book are brought together. A slot that was freed elsewhere is seen so late.
const EVERY: Duration = Duration::from_millis(500);

impl App {
    /// The account that alone would serve a request of this client now.
    pub(super) fn only_account(&self, client: &Client) -> Option<Arc<str>> {
        match client.takes_slot() {
            true => self.slots.held(client, clock::now()),
            false => client.account.clone(),
        }
    }

    /// Each account of a tier with slots, with the keys that hold one of its slots and that may.
    pub(super) fn slot_counts(&self) -> Vec<(String, u64, u64)> {
        let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for place in self.places_of_slots() {
            let (used, limit) = counts.entry(place.account).or_default();
            *used += u64::from(place.used);
            *limit += u64::from(place.limit);
        }
        let flat = |(account, (used, limit))| (account, used, limit);
        counts.into_iter().map(flat).collect()
    }

    /// Each account of each tier with slots, and those that are gone and whose slots are held still.
    pub(super) fn places_of_slots(&self) -> Vec<SlotPlace> {
        let config = self.config.load();
        let pools = self.pools.load();
        let book = self.slots.book();
        let mut used: BTreeMap<(String, String), u32> = BTreeMap::new();
        for held in book.iter() {
            let place = (held.tier.to_string(), held.account.to_string());
            *used.entry(place).or_default() += 1;
        }
        let mut places = Vec::new();
        for (tier, rules) in &config.tiers {
            if rules.assignment != Assignment::Slots {
                continue;
            }
            let pool = match rules.pools.first() {
                Some(name) => pools.iter().find(|pool| *pool.name == **name),
                None => pools.first(),
            };
            for account in pool.iter().flat_map(|pool| pool.accounts()) {
                let place = (tier.clone(), account.id.to_string());
                let used = used.remove(&place).unwrap_or_default();
                let (tier, account) = place;
                places.push(SlotPlace {
                    tier,
                    account,
                    used,
                    limit: rules.slots_per_account,
                });
            }
        }
        places.extend(used.into_iter().map(|((tier, account), used)| SlotPlace {
            tier,
            account,
            used,
            limit: 0,
        }));
        places
    }

    /// Which keys hold which slots. Where the book cannot be read, as it was last.
    pub(super) async fn slots_now(&self) -> SlotsView {
        let config = self.config.load_full();
        let now = clock::moment();
        let read = self.slots.refresh(&self.keys, &config, now);
        let problem = read.await.err().map(|error| error.to_string());
        let at = |ms: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
        let book = self.slots.book();
        let keys = book.iter().map(|held| {
            let client = self.keys.client(&held.key);
            let last_used = self.slots.last_used(held, client.as_deref(), now);
            let name = client.map_or_else(|| held.key.clone(), |client| client.name.clone());
            SlotKey {
                id: held.key.to_string(),
                name: name.to_string(),
                tier: held.tier.to_string(),
                account: held.account.to_string(),
                last_rotation: at(held.last_rotation),
                next_rotation: at(held.next_rotation),
                last_used: at(last_used),
                previous_account: held.previous_account.as_deref().map(str::to_owned),
            }
        });
        SlotsView {
            keys: keys.collect(),
            places: self.places_of_slots(),
            problem,
        }
    }

    /// Sweeps slots until the gateway stops, and tells the book a last time which keys were used.
    pub(super) async fn keep_slots(&self, mut stop: ShutdownWatch) {
        let mut is_well = true;
        loop {
            let config = self.config.load_full();
            let swept = self
                .slots
                .sweep(&self.keys, &config, self.scope(), clock::moment())
                .await;
            // The same trouble is told once.
            if let Err(error) = &swept
                && is_well
            {
                tracing::error!("slots stay as they are: {error}");
            }
            is_well = swept.is_ok();
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.slots.woken() => {}
                _ = stop.changed() => break,
            }
        }
        if let Err(error) = self.slots.tell_uses_now(&self.keys, clock::moment()).await {
            tracing::error!("the last uses of keys with slots are not kept: {error}");
        }
    }

    /// Whose keys are surely gone when this gateway does not know them.
    fn scope(&self) -> Scope {
        let state = &self.first.state;
        if self.leaving() {
            return Scope::None;
        }
        // Without records in common each gateway has keys of its own.
        let is_apart = state.redis.is_some() && state.postgres.is_none();
        if is_apart || self.keys.is_partial() {
            return Scope::Nobody;
        }
        match state.redis.is_some() || state.postgres.is_some() {
            true => Scope::Records,
            false => Scope::All,
        }
    }
}
