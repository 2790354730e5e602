//! The book of slots in Redis: it decides as that of the records does, for all gateways at once, and
//! survives the loss of everything.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use poolgate::store::shared::{Shared, SharedSlots};
use poolgate::store::{Ask, Assignment, Candidate, Change, Ledger, Placed, Store};
use tokio::runtime::Runtime;

use super::{connect, connect_for};
use crate::support::{Redis, wait_for};

const DAY: i64 = 86_400_000;

/// A gateway's view of the book, with records of its own.
struct Book {
    slots: Arc<SharedSlots>,
    records: Arc<dyn Ledger>,
    _folder: tempfile::TempDir,
}

impl Book {
    fn open(redis: &Redis, runtime: &Runtime) -> Book {
        Book::over(connect(redis.url(), runtime), runtime)
    }

    fn over(shared: Arc<Shared>, runtime: &Runtime) -> Book {
        let folder = tempfile::tempdir().unwrap();
        let records: Arc<dyn Ledger> =
            Arc::new(runtime.block_on(Store::open(folder.path())).unwrap());
        Book {
            slots: Arc::new(SharedSlots::new(shared, records.clone())),
            records,
            _folder: folder,
        }
    }
}

fn shared(redis: &Redis, runtime: &Runtime) -> Arc<Shared> {
    connect(redis.url(), runtime)
}

/// Makes the book look as if it had been there for long.
fn settled(redis: &Redis, book: &Book, runtime: &Runtime) {
    runtime.block_on(book.slots.version()).unwrap();
    redis.command(&["HSET", "test:{slots}:facts", "born", "1"]);
}

fn candidates(accounts: &[&str]) -> Vec<Candidate> {
    let candidate = |account: &&str| Candidate {
        account: (*account).into(),
        rank: 0,
    };
    accounts.iter().map(candidate).collect()
}

fn ask<'a>(key: &'a str, candidates: &'a [Candidate], rotate_every: i64) -> Ask<'a> {
    Ask {
        key,
        tier: "medium",
        candidates,
        limit: 2,
        may_stay: false,
        rotate_every,
        idle_release: DAY,
        now: 1_800_000_000_000,
    }
}

fn held(placed: Placed) -> Option<(Assignment, Change)> {
    match placed {
        Placed::Held { assignment, change } => Some((assignment, change)),
        Placed::Full { .. } => None,
    }
}

#[test]
fn of_a_hundred_first_calls_over_three_gateways_twenty_get_the_twenty_slots() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let books: Vec<Book> = (0..3).map(|_| Book::open(&redis, &runtime)).collect();
    settled(&redis, &books[0], &runtime);
    let names: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let accounts = candidates(&names);
    let calls = (0..100).map(|n| {
        let (slots, accounts) = (books[n % 3].slots.clone(), accounts.clone());
        runtime.spawn(async move {
            let key = format!("k{n}");
            slots.place(&ask(&key, &accounts, DAY)).await.unwrap()
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut taken: HashMap<Arc<str>, u32> = HashMap::new();
    for call in calls {
        if let Some((assignment, change)) = held(runtime.block_on(call).unwrap()) {
            assert_eq!(change, Change::First);
            *taken.entry(assignment.account).or_default() += 1;
        }
    }
    assert_eq!(taken.len(), 10);
    assert!(taken.values().all(|count| *count == 2), "{taken:?}");
    for book in &books {
        assert_eq!(runtime.block_on(book.slots.all()).unwrap().len(), 20);
    }
}

#[test]
fn it_decides_as_the_records_do() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let book = Book::open(&redis, &runtime);
    settled(&redis, &book, &runtime);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for step in 0..600 {
        let key = format!("k{}", random.u32(..12));
        let mut accounts = candidates(&["a", "b", "c", "d", "e"]);
        accounts.retain(|_| random.u32(..4) > 0);
        accounts.iter_mut().for_each(|it| it.rank = random.u32(..2));
        let because = format!("seed {seed}, step {step}");
        if random.u32(..4) == 0 {
            let account = ["a", "b", "c", "d", "e"][random.usize(..5)];
            let freed = runtime.block_on(book.slots.release(&key, account, None));
            let other = runtime.block_on(book.records.release(&key, account, None));
            assert_eq!(freed.unwrap(), other.unwrap(), "{because}");
            continue;
        }
        let ask = Ask {
            tier: ["medium", "high"][random.usize(..2)],
            limit: random.u32(1..4),
            ..ask(&key, &accounts, DAY)
        };
        let ours = held(runtime.block_on(book.slots.place(&ask)).unwrap());
        let others = held(runtime.block_on(book.records.place(&ask)).unwrap());
        let told = |held: Option<(Assignment, Change)>| {
            held.map(|(it, change)| (it.tier, it.account, it.previous_account, change))
        };
        assert_eq!(told(ours), told(others), "{because}");
    }
}

#[test]
fn an_answer_that_is_late_says_what_was_done_and_is_waited_for_only_once() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let within = Duration::from_millis(50);
    let book = Book::over(connect_for("it", redis.url(), within, &runtime), &runtime);
    wait_for("the book to answer", || {
        runtime.block_on(book.slots.version()).ok()
    });
    redis.command(&["HSET", "test:{slots}:facts", "born", "1"]);
    let names: Vec<String> = (0..200).map(|n| format!("a{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let accounts = candidates(&names);
    let mut keys = 0..;
    wait_for("one that is late and not too late", || {
        let (slots, accounts) = (book.slots.clone(), accounts.clone());
        let key = format!("k{}", keys.next().unwrap());
        redis.freeze();
        let place = runtime.spawn(async move {
            let began = Instant::now();
            (
                slots.place(&ask(&key, &accounts, DAY)).await,
                began.elapsed(),
            )
        });
        thread::sleep(Duration::from_millis(80));
        redis.go_on();
        let (placed, took) = runtime.block_on(place).unwrap();
        let (_, change) = held(placed.ok()?).unwrap();
        assert_eq!(change, Change::First);
        // Else it was asked only when Redis had gone on.
        (took > Duration::from_millis(60)).then_some(())
    });
}

#[test]
fn a_key_whose_time_is_over_gives_its_slot_up_and_gets_the_least_taken_account() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let book = Book::open(&redis, &runtime);
    settled(&redis, &book, &runtime);
    let both = candidates(&["a", "b"]);
    let place = |key: &str, every: i64| {
        held(
            runtime
                .block_on(book.slots.place(&ask(key, &both, every)))
                .unwrap(),
        )
        .unwrap()
    };
    assert_eq!(&*place("one", 0).0.account, "a");
    assert_eq!(&*place("two", DAY).0.account, "b");
    assert_eq!(&*place("three", DAY).0.account, "a", "the name decides");
    let (moved, change) = place("one", DAY);
    assert_eq!((&*moved.account, change), ("b", Change::Rotated));
    assert_eq!(moved.previous_account.as_deref(), Some("a"));
    assert_eq!(moved.next_rotation, moved.last_rotation + DAY);
    let (same, change) = place("one", DAY);
    assert_eq!((same, change), (moved, Change::None));
    let (sooner, _) = place("one", 1000);
    assert!(
        sooner.next_rotation < sooner.last_rotation + DAY,
        "the period was made shorter"
    );
}

#[test]
fn after_the_loss_of_everything_the_gateways_put_the_book_together_again() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let books = [Book::open(&redis, &runtime), Book::open(&redis, &runtime)];
    settled(&redis, &books[0], &runtime);
    let accounts = candidates(&["a", "b"]);
    for (n, key) in ["k0", "k1", "k2"].iter().enumerate() {
        let ask = ask(key, &accounts, DAY);
        runtime.block_on(books[n % 2].slots.place(&ask)).unwrap();
    }
    // What the second has placed the first has not read.
    let mut before = runtime.block_on(books[1].slots.all()).unwrap();
    redis.command(&["FLUSHALL"]);
    // Each gateway looks at the book now and then.
    let looking = books[1].slots.clone();
    runtime.spawn(async move { looking.version().await });
    let fourth = held(
        runtime
            .block_on(books[0].slots.place(&ask("k3", &accounts, DAY)))
            .unwrap(),
    );
    let (fourth, _) = fourth.expect("a slot is left");
    let fifth = held(
        runtime
            .block_on(books[1].slots.place(&ask("k4", &accounts, DAY)))
            .unwrap(),
    );
    assert_eq!(fifth, None, "all four are taken");
    before.push(fourth);
    assert_eq!(runtime.block_on(books[0].slots.all()).unwrap(), before);
}

/// How a Redis comes back with what it knew some time ago.
type ComesBack = fn(&mut Redis);

/// A server that was started again, or another one that was promoted.
fn in_another_run(redis: &mut Redis) {
    redis.stop();
    redis.start_again();
}

/// An old copy in the same run.
fn in_the_same_run(redis: &mut Redis) {
    assert_eq!(redis.command(&["DEBUG", "RELOAD", "NOSAVE"]), "OK");
}

#[test]
fn an_older_copy_of_the_book_is_told_what_the_gateways_know() {
    for comes_back in [in_another_run as ComesBack, in_the_same_run] {
        let mut redis = Redis::start_with(&["--enable-debug-command", "yes"]);
        let runtime = Runtime::new().unwrap();
        let books = [Book::open(&redis, &runtime), Book::open(&redis, &runtime)];
        settled(&redis, &books[0], &runtime);
        let accounts = candidates(&["a", "b"]);
        let place = |book: &Book, key: &str| {
            held(wait_for("the book to answer", || {
                let ask = ask(key, &accounts, DAY);
                runtime.block_on(book.slots.place(&ask)).ok()
            }))
        };
        place(&books[0], "k0").unwrap();
        place(&books[0], "k1").unwrap();
        redis.save();
        let freed = books[0].slots.release("k0", "a", None);
        assert!(runtime.block_on(freed).unwrap());
        for (n, key) in ["k2", "k3", "k4"].iter().enumerate() {
            place(&books[n % 2], key).unwrap();
        }
        // Gateways read the book when it has changed.
        let [_, before] = [0, 1].map(|n| runtime.block_on(books[n].slots.all()).unwrap());
        assert_eq!(before.len(), 4);
        comes_back(&mut redis);
        // Either may be the first to come.
        let looking = books[1].slots.clone();
        let looks = async move {
            while looking.version().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        runtime.spawn(looks);
        assert_eq!(place(&books[0], "k5"), None, "all four are taken");
        let after = wait_for("the book", || runtime.block_on(books[0].slots.all()).ok());
        assert_eq!(after, before);
    }
}

#[test]
fn what_was_freed_since_the_copy_stays_free_also_when_one_who_has_read_nothing_comes_first() {
    for comes_back in [in_another_run as ComesBack, in_the_same_run] {
        let mut redis = Redis::start_with(&["--enable-debug-command", "yes"]);
        let runtime = Runtime::new().unwrap();
        let [knows, fresh] = [(); 2].map(|()| Book::open(&redis, &runtime));
        settled(&redis, &knows, &runtime);
        let accounts = candidates(&["a", "b"]);
        for key in ["k0", "k1", "k2"] {
            let ask = ask(key, &accounts, DAY);
            runtime.block_on(knows.slots.place(&ask)).unwrap();
        }
        redis.save();
        let freed = knows.slots.release("k0", "a", None);
        assert!(runtime.block_on(freed).unwrap());
        let before = runtime.block_on(knows.slots.all()).unwrap();
        assert_eq!(before.len(), 2);
        // It has not read the book yet, and gives a slot out that nobody else has read of.
        let ask = ask("k3", &accounts, DAY);
        let (its_own, _) = held(runtime.block_on(fresh.slots.place(&ask)).unwrap()).unwrap();
        comes_back(&mut redis);
        let look = |book: &Book| wait_for("it", || runtime.block_on(book.slots.version()).ok());
        look(&fresh);
        look(&knows);
        let all = |book: &Book| wait_for("it", || runtime.block_on(book.slots.all()).ok());
        let after = all(&fresh);
        assert_eq!(after, all(&knows));
        assert_eq!(after, [before, vec![its_own]].concat());
    }
}

#[test]
fn a_key_keeps_the_slot_of_an_account_that_is_out_where_no_other_has_room() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let book = Book::open(&redis, &runtime);
    settled(&redis, &book, &runtime);
    let place = |key: &str, accounts: &[&str]| {
        let accounts = candidates(accounts);
        let ask = ask(key, &accounts, DAY);
        held(runtime.block_on(book.slots.place(&ask)).unwrap())
    };
    place("one", &["a"]).unwrap();
    place("two", &["b"]).unwrap();
    place("three", &["b"]).unwrap();
    assert_eq!(place("one", &["b"]), None, "a is out, and b is full");
    let before = runtime.block_on(book.records.all()).unwrap();
    assert_eq!(before, [], "nothing was copied");
    redis.command(&["FLUSHALL"]);
    let after = runtime.block_on(book.slots.all()).unwrap();
    let keys: Vec<&str> = after.iter().map(|slot| &*slot.key).collect();
    assert_eq!(keys, ["one", "three", "two"], "it is known here still");
}

#[test]
fn a_gateway_that_begins_after_the_loss_knows_the_book_from_its_records() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let book = Book::open(&redis, &runtime);
    settled(&redis, &book, &runtime);
    let copying = book.slots.clone();
    runtime.spawn(async move { copying.keep_copy().await });
    let accounts = candidates(&["a", "b"]);
    runtime
        .block_on(book.slots.place(&ask("k", &accounts, DAY)))
        .unwrap();
    let before = runtime.block_on(book.slots.all()).unwrap();
    wait_for("the copy", || {
        let copy = runtime.block_on(book.records.all()).unwrap();
        (copy == before).then_some(())
    });
    redis.command(&["FLUSHALL"]);
    let again = SharedSlots::new(shared(&redis, &runtime), book.records.clone());
    assert_eq!(runtime.block_on(again.all()).unwrap(), before);
    runtime
        .block_on(again.release("k", &before[0].account, None))
        .unwrap();
    let restarted = SharedSlots::new(shared(&redis, &runtime), book.records.clone());
    assert_eq!(
        runtime.block_on(restarted.all()).unwrap(),
        [],
        "an old copy brings nothing back"
    );
}

#[test]
fn the_older_systems_names_say_what_is_true() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let book = Book::open(&redis, &runtime);
    settled(&redis, &book, &runtime);
    book.slots.keep_legacy_names(&["medium".to_owned()]);
    let accounts = candidates(&["a"]);
    let place = |key: &str| {
        runtime
            .block_on(book.slots.place(&ask(key, &accounts, DAY)))
            .unwrap()
    };
    let (one, _) = held(place("one")).unwrap();
    place("two");
    assert_eq!(redis.command(&["GET", "medium_pool:slots:a"]), "2");
    assert_eq!(redis.command(&["HGET", "key_rotation:one", "account"]), "a");
    assert_eq!(
        redis.command(&["HGET", "key_rotation:one", "previous_account"]),
        ""
    );
    let [last, next] = ["last_rotation", "next_rotation"].map(|field| {
        redis
            .command(&["HGET", "key_rotation:one", field])
            .parse::<i64>()
            .unwrap()
    });
    assert_eq!((last, next), (one.last_rotation, last + DAY));
    runtime
        .block_on(book.slots.release("one", "a", None))
        .unwrap();
    assert_eq!(redis.command(&["GET", "medium_pool:slots:a"]), "1");
    assert_eq!(redis.command(&["EXISTS", "key_rotation:one"]), "0");
    redis.command(&["FLUSHALL"]);
    runtime.block_on(book.slots.version()).unwrap();
    assert_eq!(redis.command(&["GET", "medium_pool:slots:a"]), "1");
    assert_eq!(redis.command(&["HGET", "key_rotation:two", "account"]), "a");
}
