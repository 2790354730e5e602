//! Keys and their accounts over the real book, with time as these tests say.

mod freed;
mod rotation;
mod settled;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{NoSlot, Scope, Sits, Slots, in_words};
use crate::clock::{self, Moment};
use crate::config::{self, Config};
use crate::key::{Client, Keys};
use crate::store::{Ask, Assignment, Candidate, Ledger, LedgerError, Placed, Store};
use crate::telemetry::Metrics;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A gateway with a tier `medium` of two slots an account, and these keys in it.
struct World {
    slots: Arc<Slots>,
    book: Arc<Watched>,
    keys: Keys,
    config: Config,
    began: Moment,
    dir: tempfile::TempDir,
}

/// The book in the records, of which it is counted how often it was asked, and that can be away.
struct Watched {
    store: Store,
    asked: AtomicU32,
    away: AtomicBool,
    is_known_away: AtomicBool,
}

impl Watched {
    fn up(&self) -> Result<&Store, LedgerError> {
        match self.away.load(Ordering::SeqCst) {
            true if self.is_known_away.load(Ordering::SeqCst) => {
                Err(LedgerError::away("it is away"))
            }
            true => Err(LedgerError::failed("it is away")),
            false => Ok(&self.store),
        }
    }
}

#[async_trait]
impl Ledger for Watched {
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        // As all that is asked over a wire.
        tokio::task::yield_now().await;
        Ledger::place(self.up()?, ask).await
    }

    async fn release(
        &self,
        key: &str,
        account: &str,
        unused_since: Option<i64>,
    ) -> Result<bool, LedgerError> {
        Ledger::release(self.up()?, key, account, unused_since).await
    }

    async fn touch(&self, used: &[(Arc<str>, i64)]) -> Result<(), LedgerError> {
        self.up()?.touch(used).await
    }

    async fn all(&self) -> Result<Vec<Assignment>, LedgerError> {
        self.up()?.all().await
    }

    async fn version(&self) -> Result<u64, LedgerError> {
        self.up()?.version().await
    }

    async fn restore(&self, known: &[Assignment]) -> Result<(), LedgerError> {
        Ledger::restore(self.up()?, known).await
    }
}

impl World {
    async fn new(keys: &[&str]) -> World {
        let dir = tempfile::tempdir().unwrap();
        World::of(dir, keys, "").await
    }

    /// With more keys of the tier, each beginning with a comma.
    async fn of(dir: tempfile::TempDir, names: &[&str], more: &str) -> World {
        let key = |name: &&str| format!("{{name: {name}, key: secret-of-{name}, tier: medium}}");
        let keys: Vec<String> = names.iter().map(key).collect();
        let text = format!(
            "clients: {{keys: [{}]}}\n\
             tiers: {{medium: {{assignment: slots{more}}}}}\n\
             pools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}",
            keys.join(", ")
        );
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &|_| None);
        let config = loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        let book = Arc::new(Watched {
            store: Store::open(dir.path()).await.unwrap(),
            asked: AtomicU32::new(0),
            away: AtomicBool::new(false),
            is_known_away: AtomicBool::new(false),
        });
        let began = clock::moment();
        let metrics = Arc::new(Metrics::new("test", began.wall).unwrap());
        World {
            slots: Arc::new(Slots::new(book.clone(), metrics, began.now)),
            keys: Keys::new(&config, Some(Vec::new())),
            book,
            config,
            began,
            dir,
        }
    }

    /// Both clocks so long after the start.
    fn after(&self, span: Duration) -> Moment {
        Moment {
            now: self.began.now + span,
            wall: self.began.wall + span,
        }
    }

    fn client(&self, name: &str) -> Arc<Client> {
        self.keys.client(&format!("cfg:{name}")).unwrap()
    }

    /// As a request does: from memory, or else from the book.
    async fn ask(&self, name: &str, accounts: &[&str], at: Moment) -> Result<String, NoSlot> {
        let client = self.client(name);
        let _seated = self.slots.enter(&client, at.now);
        if let Some(held) = self.slots.held(&client, at.now)
            && accounts.contains(&&*held)
        {
            return Ok(held.to_string());
        }
        let sits = self.place(&client, accounts, at).await?;
        Ok(sits.account.to_string())
    }

    async fn place(&self, client: &Client, accounts: &[&str], at: Moment) -> Result<Sits, NoSlot> {
        let tier = &self.config.tiers["medium"];
        let candidate = |account: &&str| Candidate {
            account: (*account).into(),
            rank: 0,
        };
        let candidates: Vec<_> = accounts.iter().map(candidate).collect();
        let patience = SECOND * 30;
        let placed = self.slots.place(client, tier, &candidates, at, patience);
        placed.await
    }

    async fn sweep(&self, at: Moment) {
        let swept = self.slots.sweep(&self.keys, &self.config, Scope::All, at);
        swept.await.unwrap();
    }

    /// `key account`, sorted.
    async fn held(&self) -> Vec<String> {
        let all = self.book.store.all().await.unwrap();
        let held = |it: &Assignment| format!("{} {}", &it.key["cfg:".len()..], it.account);
        all.iter().map(held).collect()
    }

    fn asked(&self) -> u32 {
        self.book.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn spans_are_said_in_their_largest_whole_unit() {
    let said = [86_400, 86_399, 3600, 3599, 60, 1, 0].map(|s| in_words(SECOND * s));
    let want = [
        "24 hours",
        "23 hours",
        "1 hour",
        "59 minutes",
        "1 minute",
        "1 second",
        "0 seconds",
    ];
    assert_eq!(said, want);
}
