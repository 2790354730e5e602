//! Leases are exclusive, and what is wrong with the file is said in words.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;

use super::gather::{Item, Sums};
use super::spent::Before;
use super::usage::Name;
use super::{FILE, Store, StoreError};
use crate::clock::SystemTime;
use crate::config::Keep;

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

async fn take(store: &Store, holder: &str, seconds: u64) -> bool {
    let taken = store.lease("refresh/a", holder, MINUTE, at(seconds));
    taken.await.unwrap()
}

async fn error(dir: &Path) -> String {
    Store::open(dir).await.err().unwrap().to_string()
}

#[tokio::test]
async fn a_lease_is_one_holders_until_it_ends_or_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(take(&store, "one", 0).await);
    assert!(!take(&store, "two", 59).await);
    assert!(take(&store, "one", 59).await, "its holder makes it longer");
    assert!(!take(&store, "two", 118).await);
    assert!(take(&store, "two", 119).await, "its time is over");
    store.release("refresh/a", "one").await.unwrap();
    assert!(
        !take(&store, "one", 120).await,
        "only its holder gives it back"
    );
    store.release("refresh/a", "two").await.unwrap();
    assert!(take(&store, "one", 120).await);
    let other = store.lease("refresh/b", "two", MINUTE, at(120));
    assert!(other.await.unwrap(), "another name is another lease");
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_lease_last_for_hours() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(take(&store, "one", 7200).await);
    assert!(
        !take(&store, "two", 7199).await,
        "clocks are corrected a little"
    );
    assert!(take(&store, "two", 3600).await);
}

#[tokio::test]
async fn records_outlive_the_process_and_are_their_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(take(&store, "one", 0).await);
    for name in ["", "-wal", "-shm"] {
        let path = dir.path().join(format!("{FILE}{name}"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    drop(store);
    let path = dir.path().join(FILE);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    assert!(!take(&store, "two", 1).await);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_race_for_a_lease_exactly_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let one = Arc::new(Store::open(dir.path()).await.unwrap());
    let two = Arc::new(Store::open(dir.path()).await.unwrap());
    // They go through each ten from its two ends and meet somewhere inside: both win some, whoever
    // of them the scheduler prefers.
    let ten = Arc::new(Barrier::new(2));
    let racer = |store: &Arc<Store>, holder: &'static str, backwards: bool| {
        let (store, ten) = (store.clone(), ten.clone());
        tokio::spawn(async move {
            let mut won = vec![false; 1000];
            for step in 0..1000 {
                if step % 10 == 0 {
                    ten.wait().await;
                }
                let round = if backwards {
                    step / 10 * 10 + 9 - step % 10
                } else {
                    step
                };
                let name = format!("race/{round}");
                won[round] = store.lease(&name, holder, MINUTE, at(0)).await.unwrap();
            }
            won
        })
    };
    let (one, two) = (racer(&one, "one", false), racer(&two, "two", true));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert!(one.iter().zip(&two).all(|(one, two)| one != two));
    for won in [one, two] {
        assert!(won.contains(&true), "both were in the race");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_folder_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let path = dir.path().to_owned();
        tokio::spawn(async move { Store::open(&path).await.map(drop) })
    };
    let opened = futures::future::join_all((0..8).map(|_| open())).await;
    for opened in opened {
        opened.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_or_damaged_is_said_to_be_and_a_new_one_helps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    std::fs::write(
        &path,
        "not a database, but long enough to be looked at ".repeat(100),
    )
    .unwrap();
    let store = Store::in_dir(dir.path());
    let error = store.ready().await.err().unwrap().to_string();
    assert!(error.starts_with(path.to_str().unwrap()), "{error}");
    assert!(error.contains("is damaged, or no database"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(take(&store, "one", 0).await, "the same store goes on");
}

#[tokio::test]
async fn a_database_of_a_newer_poolgate_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let pool = store.db.durable().await.unwrap();
    sqlx::query("PRAGMA user_version = 99")
        .execute(pool)
        .await
        .unwrap();
    let error = error(dir.path()).await;
    assert!(error.contains("format 99, of a newer poolgate"), "{error}");
}

#[tokio::test]
async fn a_backup_holds_every_column_of_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let pool = store.db.reading().await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(pool).await.unwrap();
    // Neither is anybody's to restore.
    tables.retain(|table| table != "leases" && table != "counters");
    let mut held: Vec<&str> = super::backup::TABLES.map(|(table, _)| table).to_vec();
    held.sort_unstable();
    assert_eq!(held, tables);
    for (table, columns) in super::backup::TABLES {
        let all = "SELECT name || CASE type WHEN 'INTEGER' THEN '#' ELSE '' END \
             FROM pragma_table_info($1) ORDER BY cid";
        let all: Vec<String> = sqlx::query_scalar(all)
            .bind(table)
            .fetch_all(pool)
            .await
            .unwrap();
        let held: Vec<&str> = columns.split_whitespace().collect();
        assert_eq!(held, all, "{table}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let missing = error(&dir.path().join("missing")).await;
    assert!(
        missing.contains("cannot be used: No such file or directory"),
        "{missing}"
    );
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = error(&file).await;
    assert!(error.contains("cannot be used: Not a directory"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_no_more_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let pool = store.db.loose().await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(pool)
        .await
        .unwrap();
    let limit = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(limit(pages)).execute(pool).await.unwrap();
    let long = "x".repeat(100_000);
    let full = store.lease("refresh/a", &long, MINUTE, at(0)).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    sqlx::query(limit(1_000_000)).execute(pool).await.unwrap();
    assert!(
        store
            .lease("refresh/a", &long, MINUTE, at(0))
            .await
            .unwrap()
    );
}

fn used(requests: i64) -> Item {
    Item::Used {
        hour: 0,
        key: "k".to_owned(),
        account: "a".to_owned(),
        model: "m".to_owned(),
        sums: Sums {
            requests,
            ..Sums::default()
        },
    }
}

#[tokio::test]
async fn what_is_written_again_because_its_answer_was_lost_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = |run| Name {
        run,
        gateway: "g".to_owned(),
    };
    let items = [used(1), used(10), used(100), used(1000)];
    let sum = async || store.totals(&[], 0, 1, 10).await.unwrap()[0].requests;
    store.add(&name(1), 1, &items[..2], 0).await.unwrap();
    store.add(&name(1), 1, &items[..2], 0).await.unwrap();
    assert_eq!(sum().await, 11);
    // In parts of another size, as to a database that is slow.
    store.add(&name(1), 2, &items[1..3], 0).await.unwrap();
    store.add(&name(1), 1, &items[..1], 0).await.unwrap();
    assert_eq!(sum().await, 111);
    store.add(&name(1), 3, &items[2..], 0).await.unwrap();
    assert_eq!(sum().await, 1111);
    store.add(&name(2), 1, &items[..1], 0).await.unwrap();
    assert_eq!(sum().await, 1112, "each writer has numbers of its own");
}

#[tokio::test]
async fn an_open_gateway_knows_what_it_spent_itself_and_what_all_did() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for (run, gateway, requests) in [(1, "one", 1), (2, "one", 10), (3, "two", 100)] {
        let gateway = gateway.to_owned();
        let spent = |at| Item::Spent {
            at,
            key: "k".to_owned(),
            model: String::new(),
            requests,
            tokens: 5,
            cost: 7,
        };
        let spent = [spent(10), spent(20)];
        store
            .add(&Name { run, gateway }, 1, &spent, 0)
            .await
            .unwrap();
    }
    let asked = async |not_of, of, from, most| {
        let spent = store
            .spent(
                Before {
                    not_of,
                    of,
                    only: None,
                },
                from,
                most,
            )
            .await;
        let requests = spent.unwrap().into_iter().map(|spent| spent.requests);
        requests.collect::<Vec<_>>()
    };
    assert_eq!(asked(2, Some("one"), 15, 9).await, [1]);
    assert_eq!(asked(4, Some("one"), 0, 9).await.iter().sum::<u64>(), 22);
    assert_eq!(asked(4, None, 15, 9).await.iter().sum::<u64>(), 111);
    assert_eq!(
        asked(4, None, 0, 3).await.iter().sum::<u64>(),
        111,
        "the latest"
    );
}

#[tokio::test]
async fn what_was_spent_is_known_for_as_long_as_a_limit_looks_at_it_however_short_usage_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let gateway = "g".to_owned();
    let spent = Item::Spent {
        at: 0,
        key: "k".to_owned(),
        model: String::new(),
        requests: 1,
        tokens: 5,
        cost: 7,
    };
    store
        .add(&Name { run: 1, gateway }, 1, &[spent], 0)
        .await
        .unwrap();
    let keep = Keep {
        requests: hours(1),
        usage: hours(1),
        audit: hours(1),
    };
    let known = async |age: u64, longest: Option<u64>| {
        let now = hours(age).as_millis() as i64;
        let forgot = store.forget(&keep, longest.map(hours), now).await;
        assert!(!forgot.unwrap());
        let before = Before {
            not_of: 2,
            of: Some("g"),
            only: None,
        };
        store.spent(before, 0, 9).await.unwrap().len()
    };
    assert_eq!(known(1000, None).await, 1, "nobody knows the limits yet");
    assert_eq!(known(40, Some(48)).await, 1);
    assert_eq!(known(49, Some(48)).await, 0);
}
