//! Whatever keys ask for, and whenever: no account has more keys than it may have, and a key holds
//! one slot at most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Ask, Assignment, Candidate, Change, Decision, Ledger, Placed, Tally, decide};
use crate::store::Store;

const DAY: i64 = 24 * 3600 * 1000;
const HOUR: i64 = 3600 * 1000;
const NOW: i64 = 1_800_000_000_000;

fn candidates(names: &[&str]) -> Vec<Candidate> {
    let candidate = |name: &&str| Candidate {
        account: (*name).into(),
        rank: 0,
    };
    names.iter().map(candidate).collect()
}

fn ask<'a>(key: &'a str, candidates: &'a [Candidate], limit: u32, now: i64) -> Ask<'a> {
    Ask {
        key,
        tier: "medium",
        candidates,
        limit,
        may_stay: false,
        rotate_every: DAY,
        idle_release: DAY,
        now,
    }
}

/// The account, and what was done to get it.
async fn place(store: &dyn Ledger, ask: &Ask<'_>) -> Option<(String, Change)> {
    match store.place(ask).await.unwrap() {
        Placed::Held { assignment, change } => Some((assignment.account.to_string(), change)),
        Placed::Full { .. } => None,
    }
}

async fn used(store: &dyn Ledger) -> BTreeMap<String, u32> {
    let mut used = BTreeMap::new();
    for held in store.all().await.unwrap() {
        *used.entry(held.account.to_string()).or_default() += 1;
    }
    used
}

async fn store() -> (tempfile::TempDir, Arc<dyn Ledger>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, Arc::new(store))
}

#[tokio::test]
async fn keys_spread_evenly_and_by_a_rule_that_is_always_the_same() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["b", "a", "c"]);
    let mut got = Vec::new();
    for n in 0..7 {
        let key = format!("key{n}");
        got.push(place(&*store, &ask(&key, &accounts, 2, NOW)).await);
    }
    let got: Vec<_> = got
        .into_iter()
        .flatten()
        .map(|(account, _)| account)
        .collect();
    assert_eq!(
        got,
        ["a", "b", "c", "a", "b", "c"],
        "and the seventh gets none"
    );
    assert_eq!(
        used(&*store).await,
        BTreeMap::from([("a", 2), ("b", 2), ("c", 2)].map(|(name, n)| (name.to_owned(), n)))
    );
}

#[tokio::test]
async fn an_account_that_was_given_to_fewer_keys_comes_first_when_as_many_sit_there() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a", "b"]);
    place(&*store, &ask("one", &accounts, 2, NOW)).await;
    assert!(store.release("one", "a", None).await.unwrap());
    let second = place(&*store, &ask("two", &accounts, 2, NOW)).await;
    assert_eq!(second, Some(("b".to_owned(), Change::First)));
}

#[tokio::test]
async fn a_lower_rank_is_filled_first() {
    let (_dir, store) = store().await;
    let mut accounts = candidates(&["a", "b"]);
    accounts[0].rank = 1;
    let mut got = Vec::new();
    for key in ["one", "two", "three"] {
        got.extend(place(&*store, &ask(key, &accounts, 2, NOW)).await);
    }
    let got: Vec<_> = got.iter().map(|(account, _)| &**account).collect();
    assert_eq!(got, ["b", "b", "a"]);
}

#[tokio::test]
async fn a_key_stays_until_it_is_due_and_then_its_own_slot_counts_as_free() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a"]);
    let first = place(&*store, &ask("one", &accounts, 1, NOW)).await;
    assert_eq!(first, Some(("a".to_owned(), Change::First)));
    let early = place(&*store, &ask("one", &accounts, 1, NOW + DAY - 1)).await;
    assert_eq!(early, Some(("a".to_owned(), Change::None)));
    let due = store.place(&ask("one", &accounts, 1, NOW + DAY)).await;
    let Placed::Held { assignment, change } = due.unwrap() else {
        panic!("its own slot is free");
    };
    assert_eq!((change, &*assignment.account), (Change::Rotated, "a"));
    assert_eq!(assignment.previous_account.as_deref(), Some("a"));
    assert_eq!(assignment.last_rotation, NOW + DAY);
    assert_eq!(assignment.next_rotation, NOW + 2 * DAY);
}

#[tokio::test]
async fn a_key_whose_account_is_out_moves_at_once_and_its_period_begins_anew() {
    let (_dir, store) = store().await;
    place(&*store, &ask("one", &candidates(&["a", "b"]), 1, NOW)).await;
    let moved = store
        .place(&ask("one", &candidates(&["b"]), 1, NOW + HOUR))
        .await;
    let Placed::Held { assignment, change } = moved.unwrap() else {
        panic!("b has room");
    };
    assert_eq!((change, &*assignment.account), (Change::Rotated, "b"));
    assert_eq!(assignment.next_rotation, NOW + HOUR + DAY);
    assert_eq!(store.all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_whose_account_is_out_keeps_its_slot_where_no_other_has_room() {
    let (_dir, store) = store().await;
    let all = candidates(&["a", "b"]);
    place(&*store, &ask("one", &all, 1, NOW)).await;
    place(&*store, &ask("two", &all, 1, NOW)).await;
    assert_eq!(
        place(&*store, &ask("one", &candidates(&["b"]), 1, NOW + 2 * DAY)).await,
        None
    );
    let back = place(&*store, &ask("one", &all, 1, NOW + 1)).await;
    assert_eq!(back, Some(("a".to_owned(), Change::None)));
}

#[tokio::test]
async fn a_lower_limit_empties_accounts_by_rotation_and_not_before() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a"]);
    place(&*store, &ask("one", &accounts, 2, NOW)).await;
    place(&*store, &ask("two", &accounts, 2, NOW + HOUR)).await;
    let stays = place(&*store, &ask("one", &accounts, 1, NOW + HOUR)).await;
    assert_eq!(stays, Some(("a".to_owned(), Change::None)));
    assert_eq!(
        place(&*store, &ask("one", &accounts, 1, NOW + DAY)).await,
        None
    );
    assert_eq!(used(&*store).await["a"], 1);
    let other = place(&*store, &ask("two", &accounts, 1, NOW + DAY + HOUR)).await;
    assert_eq!(other, Some(("a".to_owned(), Change::Rotated)));
}

#[tokio::test]
async fn a_clock_that_is_set_back_and_a_shorter_period_leave_no_key_waiting_for_longer_than_a_period()
 {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a"]);
    place(&*store, &ask("one", &accounts, 2, NOW)).await;
    let earlier = NOW - 30 * DAY;
    let Placed::Held { assignment, change } = store
        .place(&ask("one", &accounts, 2, earlier))
        .await
        .unwrap()
    else {
        panic!("it holds a slot");
    };
    assert_eq!(
        (change, assignment.next_rotation),
        (Change::None, earlier + DAY)
    );
    let all = store.all().await.unwrap();
    assert_eq!(
        all[0].next_rotation,
        earlier + DAY,
        "and it is written down"
    );
}

#[tokio::test]
async fn who_finds_all_taken_is_told_when_the_first_holder_will_have_been_idle_for_long_enough() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a", "b"]);
    place(&*store, &ask("one", &accounts, 1, NOW)).await;
    place(&*store, &ask("two", &accounts, 1, NOW + 10)).await;
    store
        .touch(&[("one".into(), NOW + HOUR), ("two".into(), NOW + 20)])
        .await
        .unwrap();
    store.touch(&[("two".into(), NOW + 5)]).await.unwrap();
    let full = store
        .place(&ask("three", &accounts, 1, NOW + HOUR))
        .await
        .unwrap();
    let next_release = Some(NOW + 20 + DAY);
    assert_eq!(full, Placed::Full { next_release });
}

#[tokio::test]
async fn a_key_in_another_tier_leaves_its_slot_of_the_old_one() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a"]);
    place(&*store, &ask("one", &accounts, 1, NOW)).await;
    let other = Ask {
        tier: "high",
        ..ask("one", &accounts, 1, NOW + 1)
    };
    assert_eq!(
        place(&*store, &other).await,
        Some(("a".to_owned(), Change::First))
    );
    let all = store.all().await.unwrap();
    assert_eq!((all.len(), &*all[0].tier), (1, "high"));
    assert!(
        place(&*store, &ask("two", &accounts, 1, NOW + 2))
            .await
            .is_some()
    );
}

#[tokio::test]
async fn a_slot_is_freed_only_where_it_is_and_if_it_was_not_used() {
    let (_dir, store) = store().await;
    place(&*store, &ask("one", &candidates(&["a"]), 1, NOW)).await;
    let free =
        async |account, unused_since| store.release("one", account, unused_since).await.unwrap();
    assert!(!free("b", None).await, "it is of another account");
    assert!(!free("a", Some(NOW - 1)).await, "it was used since");
    let before = store.version().await.unwrap();
    assert!(free("a", Some(NOW)).await);
    assert!(!free("a", Some(NOW)).await, "it is free already");
    assert_ne!(store.version().await.unwrap(), before);
}

#[tokio::test]
async fn the_version_changes_with_who_holds_what_and_with_nothing_else() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a"]);
    let mut seen = vec![store.version().await.unwrap()];
    place(&*store, &ask("one", &accounts, 1, NOW)).await;
    seen.push(store.version().await.unwrap());
    place(&*store, &ask("one", &accounts, 1, NOW + 1)).await;
    place(&*store, &ask("two", &accounts, 1, NOW + 1)).await;
    store.touch(&[("one".into(), NOW + 5)]).await.unwrap();
    assert_eq!(store.version().await.unwrap(), seen[1]);
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn what_a_book_lost_is_put_back_and_what_it_knows_stays() {
    let (_dir, store) = store().await;
    let accounts = candidates(&["a", "b"]);
    place(&*store, &ask("one", &accounts, 1, NOW)).await;
    place(&*store, &ask("two", &accounts, 1, NOW)).await;
    let known = store.all().await.unwrap();
    store.release("two", "b", None).await.unwrap();
    let elsewhere = Assignment {
        account: "c".into(),
        ..known[0].clone()
    };
    store.restore(&[elsewhere, known[1].clone()]).await.unwrap();
    assert_eq!(store.all().await.unwrap(), known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_keys_that_race_over_two_processes_exactly_as_many_get_a_slot_as_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Ledger>; 2] = [
        Arc::new(Store::open(dir.path()).await.unwrap()),
        Arc::new(Store::open(dir.path()).await.unwrap()),
    ];
    let names: Vec<String> = (0..10).map(|n| format!("account{n}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let accounts: Arc<[Candidate]> = candidates(&names).into();
    let racers: Vec<_> = (0..100)
        .map(|n| {
            let (store, accounts) = (stores[n % 2].clone(), accounts.clone());
            tokio::spawn(async move {
                let key = format!("key{n}");
                place(&*store, &ask(&key, &accounts, 2, NOW))
                    .await
                    .is_some()
            })
        })
        .collect();
    let mut served = 0;
    for racer in racers {
        served += u32::from(racer.await.unwrap());
    }
    let used = used(&*stores[0]).await;
    assert_eq!(served, 20);
    assert!(
        used.len() == 10 && used.values().all(|n| *n == 2),
        "{used:?}"
    );
}

/// What a run of asks did, and how it left the book.
#[derive(Default)]
struct Model {
    held: BTreeMap<u8, Assignment>,
    given: HashMap<String, u64>,
}

impl Model {
    fn tally(&self, but: u8) -> HashMap<String, Tally> {
        let mut tally: HashMap<String, Tally> = HashMap::new();
        for (account, given) in &self.given {
            tally.entry(account.clone()).or_default().given = *given;
        }
        for (_, held) in self.held.iter().filter(|(key, _)| **key != but) {
            tally.entry(held.account.to_string()).or_default().used += 1;
        }
        tally
    }

    fn step(&mut self, key: u8, up: u8, limit: u32, now: i64) -> Result<(), TestCaseError> {
        let names = ["a", "b", "c", "d"];
        let up: Vec<&str> = (0..4)
            .filter(|n| up >> n & 1 == 1)
            .map(|n| names[n])
            .collect();
        let candidates = candidates(&up);
        let (text, tally) = (key.to_string(), self.tally(key));
        let ask = ask(&text, &candidates, limit, now);
        let before = self.held.get(&key).cloned();
        match decide(&ask, before.as_ref(), &tally) {
            Decision::Keep { next_rotation } => {
                let held = self.held.get_mut(&key).unwrap();
                prop_assert!(up.contains(&&*held.account));
                prop_assert!(next_rotation > now && next_rotation <= now + DAY);
                held.next_rotation = next_rotation;
            }
            Decision::Take { candidate } => {
                let account = candidates[candidate].account.clone();
                let Tally { used, .. } = tally.get(&*account).copied().unwrap_or_default();
                prop_assert!(used < limit, "{account} had {used}");
                let fewer = candidates.iter().map(|it| tally.get(&*it.account));
                let least = fewer.map(|it| it.map_or(0, |it| it.used)).min();
                prop_assert_eq!(Some(used), least, "the least taken one");
                *self.given.entry(account.to_string()).or_default() += 1;
                let assignment = Assignment {
                    key: text.as_str().into(),
                    tier: "medium".into(),
                    account,
                    last_rotation: now,
                    next_rotation: now + DAY,
                    last_used: now,
                    previous_account: before.map(|before| before.account),
                };
                self.held.insert(key, assignment);
            }
            Decision::Full { gives_up } => {
                let room =
                    |it: &Candidate| tally.get(&*it.account).is_none_or(|it| it.used < limit);
                prop_assert!(
                    !candidates.iter().any(room),
                    "nobody is turned away while there is room"
                );
                if gives_up {
                    let before = self.held.remove(&key);
                    prop_assert!(before.is_some_and(|before| before.next_rotation <= now));
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_account_is_ever_taken_beyond_its_limit_and_no_key_is_turned_away_while_there_is_room(
        steps in prop::collection::vec((0u8..12, 0u8..16, -2 * HOUR..30 * HOUR), 1..200),
        limit in 1u32..4,
    ) {
        let mut model = Model::default();
        let mut now = NOW;
        for (key, up, later) in steps {
            now += later;
            model.step(key, up, limit, now)?;
            let most = model.tally(u8::MAX).values().map(|it| it.used).max();
            prop_assert!(most.unwrap_or_default() <= limit);
        }
    }

    #[test]
    fn twice_as_many_keys_as_accounts_are_two_on_each(accounts in 1usize..5) {
        let mut model = Model::default();
        let up = (1u8 << accounts) - 1;
        for key in 0..2 * accounts as u8 {
            model.step(key, up, 2, NOW)?;
            let used: Vec<u32> = model.tally(u8::MAX).values().map(|it| it.used).collect();
            let (least, most) = (used.iter().min(), used.iter().max());
            let all_used = used.len() == accounts;
            prop_assert!(!all_used || most.unwrap() - least.unwrap() <= 1);
        }
        prop_assert!(model.tally(u8::MAX).values().all(|it| it.used == 2));
    }
}
