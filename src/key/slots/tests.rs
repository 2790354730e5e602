//! Keys and their accounts over the real book, with time as these tests say.

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
}

impl Watched {
    fn up(&self) -> Result<&Store, LedgerError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(LedgerError("it is away".to_owned())),
            false => Ok(&self.store),
        }
    }
}

#[async_trait]
impl Ledger for Watched {
    async fn place(&self, ask: &Ask<'_>) -> Result<Placed, LedgerError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
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
        self.slots.place(client, tier, &candidates, at).await
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

#[tokio::test]
async fn a_key_gets_its_account_with_its_first_request_and_the_book_is_asked_no_more() {
    let world = World::new(&["one"]).await;
    assert_eq!(world.held().await, [""; 0]);
    for hour in 0..24 {
        let at = world.after(HOUR * hour);
        assert_eq!(world.ask("one", &["a", "b"], at).await.unwrap(), "a");
    }
    assert_eq!(
        (world.asked(), world.held().await),
        (1, vec!["one a".to_owned()])
    );
}

#[tokio::test]
async fn two_keys_first_used_an_hour_apart_rotate_an_hour_apart() {
    let world = World::new(&["one", "two"]).await;
    let accounts = ["a", "b", "c", "d"];
    let at = |minutes: u32| world.after(Duration::from_secs(60) * minutes);
    let both = async |minutes| {
        let one = world.ask("one", &accounts, at(minutes)).await.unwrap();
        let two = world.ask("two", &accounts, at(minutes)).await.unwrap();
        [one, two]
    };
    world.ask("one", &accounts, at(0)).await.unwrap();
    assert_eq!(both(60).await, ["a", "b"]);
    assert_eq!(both(24 * 60 - 1).await, ["a", "b"]);
    assert_eq!(both(24 * 60).await, ["c", "b"], "the first, after a day");
    assert_eq!(both(25 * 60 - 1).await, ["c", "b"]);
    assert_eq!(both(25 * 60).await, ["c", "d"], "the second, an hour later");
    assert_eq!(both(48 * 60 - 1).await, ["c", "d"]);
    assert_eq!(both(48 * 60).await[0], "a", "a day after its rotation");
}

#[tokio::test]
async fn the_period_begins_with_the_first_use_after_the_one_before() {
    let world = World::new(&["one"]).await;
    let accounts = ["a", "b"];
    world.ask("one", &accounts, world.began).await.unwrap();
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 40))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 63))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(
        world
            .ask("one", &accounts, world.after(HOUR * 64))
            .await
            .unwrap(),
        "a"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_of_a_key_that_is_due_move_it_once() {
    let world = Arc::new(World::new(&["one", "two"]).await);
    let accounts = ["a", "b", "c"];
    world.ask("one", &accounts, world.began).await.unwrap();
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.ask("one", &accounts, world.after(HOUR * 24)).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "b");
    }
    assert_eq!(world.asked(), 2, "once at first, once at the rotation");
    assert_eq!(world.held().await, ["one b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_whose_account_went_away_move_their_key_once() {
    let world = Arc::new(World::new(&["one"]).await);
    world
        .ask("one", &["a", "b", "c"], world.began)
        .await
        .unwrap();
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.ask("one", &["b", "c"], world.after(SECOND)).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap(), "b");
    }
    assert_eq!(
        (world.asked(), world.held().await),
        (2, vec!["one b".to_owned()])
    );
}

#[tokio::test]
async fn a_wall_clock_that_jumps_while_the_gateway_runs_rotates_nobody() {
    let world = World::new(&["one"]).await;
    let accounts = ["a", "b"];
    world
        .ask("one", &accounts, world.after(HOUR))
        .await
        .unwrap();
    for jump in [HOUR * 24 * 365, Duration::ZERO] {
        let at = Moment {
            now: world.began.now + HOUR * 2,
            wall: world.began.wall + jump,
        };
        world.sweep(at).await;
        assert_eq!(world.ask("one", &accounts, at).await.unwrap(), "a");
    }
    let due = world.after(HOUR * 25);
    assert_eq!(
        world.ask("one", &accounts, due).await.unwrap(),
        "b",
        "and it rotates in its time"
    );
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let world = World::new(&["one", "two"]).await;
    let accounts = ["a", "b", "c"];
    world.ask("one", &accounts, world.began).await.unwrap();
    world
        .ask("two", &accounts, world.after(HOUR))
        .await
        .unwrap();
    let World { dir, began, .. } = world;
    let next = World {
        began,
        ..World::of(dir, &["one", "two"], "").await
    };
    let next = World {
        slots: Arc::new(Slots::new(
            next.book.clone(),
            Arc::new(Metrics::new("test", began.wall).unwrap()),
            began.now,
        )),
        ..next
    };
    next.sweep(next.after(HOUR * 2)).await;
    assert_eq!(
        next.ask("one", &accounts, next.after(HOUR * 23))
            .await
            .unwrap(),
        "a"
    );
    assert_eq!(
        next.ask("two", &accounts, next.after(HOUR * 23))
            .await
            .unwrap(),
        "b"
    );
    assert_eq!(next.asked(), 0, "what it read at first is enough");
    assert_eq!(
        next.ask("one", &accounts, next.after(HOUR * 24))
            .await
            .unwrap(),
        "c"
    );
    assert_eq!(
        next.ask("two", &accounts, next.after(HOUR * 24))
            .await
            .unwrap(),
        "b"
    );
}

#[tokio::test]
async fn idle_keys_give_their_slots_back_and_used_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::of(dir, &["idle", "used", "busy"], ", idle_release: 2h").await;
    let accounts = ["a", "b", "c"];
    for name in ["idle", "used", "busy"] {
        world.ask(name, &accounts, world.began).await.unwrap();
    }
    let busy = world.client("busy");
    let stream = world.slots.enter(&busy, world.began.now);
    for quarter in 1..10 {
        let at = world.after(HOUR / 4 * quarter);
        world.ask("used", &accounts, at).await.unwrap();
        world.sweep(at).await;
    }
    assert_eq!(world.held().await, ["busy c", "used b"]);
    drop(stream);
    world.sweep(world.after(HOUR / 4 * 17 - SECOND)).await;
    assert_eq!(
        world.held().await,
        ["busy c", "used b"],
        "two hours have not gone by"
    );
    world.sweep(world.after(HOUR / 4 * 17)).await;
    assert_eq!(world.held().await, [""; 0]);
    assert_eq!(
        world.slots.held(&busy, world.after(HOUR / 4 * 17).now),
        None
    );
}

#[tokio::test]
async fn a_key_that_is_used_at_another_gateway_is_not_idle() {
    let dir = tempfile::tempdir().unwrap();
    let here = World::of(dir, &["one"], ", idle_release: 2h").await;
    let there = Slots::new(
        here.book.clone(),
        Arc::new(Metrics::new("test", here.began.wall).unwrap()),
        here.began.now,
    );
    let there_keys = Keys::new(&here.config, Some(Vec::new()));
    here.ask("one", &["a"], here.began).await.unwrap();
    for hour in 1..6 {
        let at = here.after(HOUR * hour);
        here.ask("one", &["a"], at).await.unwrap();
        here.sweep(at).await;
        let swept = there.sweep(&there_keys, &here.config, Scope::All, at);
        swept.await.unwrap();
    }
    assert_eq!(here.held().await, ["one a"]);
}

#[tokio::test]
async fn a_key_that_is_gone_gives_its_slot_back_unless_it_may_be_another_gateways() {
    let world = World::new(&["one"]).await;
    world.ask("one", &["a"], world.began).await.unwrap();
    let nobody = Config {
        clients: config::Clients {
            keys: Vec::new(),
            ..world.config.clients.clone()
        },
        ..world.config.clone()
    };
    world.keys.reload(&nobody);
    for scope in [Scope::Nobody, Scope::Records] {
        let swept = world.slots.sweep(&world.keys, &nobody, scope, world.began);
        swept.await.unwrap();
        assert_eq!(world.held().await, ["one a"], "{scope:?}");
    }
    let swept = world
        .slots
        .sweep(&world.keys, &nobody, Scope::All, world.began);
    swept.await.unwrap();
    assert_eq!(world.held().await, [""; 0]);
}

#[tokio::test]
async fn who_finds_all_taken_does_not_ask_the_book_each_time_and_gets_a_slot_when_one_is_free() {
    let world = World::new(&["one", "two", "three"]).await;
    for name in ["one", "two"] {
        world.ask(name, &["a"], world.began).await.unwrap();
    }
    let at = |ms| world.after(Duration::from_millis(ms));
    for ms in [1, 2, 499] {
        let full = world.ask("three", &["a"], at(ms)).await.unwrap_err();
        let NoSlot::Full { next_release } = full else {
            panic!("{full:?}");
        };
        assert!(next_release.unwrap() > at(ms).wall + HOUR * 23);
    }
    assert_eq!(world.asked(), 3);
    let book = &*world.book;
    book.release("cfg:one", "a", None).await.unwrap();
    world.sweep(at(499)).await;
    assert_eq!(world.ask("three", &["a"], at(500)).await.unwrap(), "a");
    assert_eq!(world.held().await, ["three a", "two a"]);
    assert_eq!(
        world.slots.held(&world.client("one"), at(500).now),
        None,
        "it knows"
    );
}

#[tokio::test]
async fn while_the_book_is_away_known_keys_stay_where_they_are() {
    let world = World::new(&["one", "two"]).await;
    world.ask("one", &["a", "b"], world.began).await.unwrap();
    world.book.away.store(true, Ordering::SeqCst);
    let due = world.after(HOUR * 24);
    assert_eq!(world.ask("one", &["a", "b"], due).await.unwrap(), "a");
    assert_eq!(world.ask("one", &["a", "b"], due).await.unwrap(), "a");
    assert_eq!(world.asked(), 2, "not once for each request");
    assert_eq!(world.ask("one", &["b"], due).await, Err(NoSlot::Unknown));
    assert_eq!(
        world.ask("two", &["a", "b"], due).await,
        Err(NoSlot::Unknown)
    );
    world.book.away.store(false, Ordering::SeqCst);
    let back = world.after(HOUR * 24 + SECOND * 5);
    assert_eq!(world.ask("one", &["a", "b"], back).await.unwrap(), "b");
}

#[tokio::test]
async fn what_another_gateway_did_to_a_key_is_seen() {
    let world = World::new(&["one"]).await;
    world.ask("one", &["a", "b"], world.began).await.unwrap();
    let candidates = [Candidate {
        account: "b".into(),
        rank: 0,
    }];
    let elsewhere = Ask {
        key: "cfg:one",
        tier: "medium",
        candidates: &candidates,
        limit: 2,
        rotate_every: 1000,
        idle_release: 1000,
        now: crate::store::millis(world.began.wall),
    };
    world.book.place(&elsewhere).await.unwrap();
    world.sweep(world.after(SECOND / 2)).await;
    let held = world
        .slots
        .held(&world.client("one"), world.after(SECOND / 2).now);
    assert_eq!(held.as_deref(), Some("b"));
    let due = world
        .slots
        .held(&world.client("one"), world.after(SECOND * 2).now);
    assert_eq!(due, None, "and when it is due");
}

#[tokio::test]
async fn a_key_that_fails_everywhere_is_not_dragged_from_account_to_account() {
    let world = World::new(&["one"]).await;
    let client = world.client("one");
    let at = |seconds| world.after(SECOND * seconds).now;
    assert!(world.slots.may_flee(&client, at(0)));
    assert!(!world.slots.may_flee(&client, at(9)));
    assert!(world.slots.may_flee(&client, at(11)));
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
