//! The records in `state.dir/poolgate.db`: leases between processes, and a gateway that serves
//! although it can keep none.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use poolgate::store::Store;

use crate::support::{Gateway, Mock, chat, pool, wait_for};

const ROUNDS: usize = 1000;

/// Where and as whom the other process races.
const RACE: &str = "POOLGATE_TEST_RACE";

#[test]
fn of_two_processes_that_race_for_a_lease_exactly_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let racer = |holder: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leases::racer", "--ignored"])
            .env(RACE, format!("{holder}:{}", dir.path().display()))
            .spawn()
            .unwrap()
    };
    let mut racers = [racer("one"), racer("two")];
    for racer in &mut racers {
        assert!(racer.wait().unwrap().success());
    }
    let won = |holder: &str| fs::read_to_string(dir.path().join(holder)).unwrap();
    let (one, two) = (won("one"), won("two"));
    assert_eq!(one.len(), ROUNDS);
    for (round, (one, two)) in one.chars().zip(two.chars()).enumerate() {
        assert_ne!(one, two, "round {round}");
    }
}

/// Races for each lease, and writes down which ones it won.
#[test]
#[ignore = "the other process of the test above"]
fn racer() {
    let Ok(race) = std::env::var(RACE) else {
        return;
    };
    let (holder, dir) = race.split_once(':').unwrap();
    let dir = std::path::Path::new(dir);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let won = runtime.block_on(async {
        let store = Store::open(dir).await.unwrap();
        fs::write(dir.join(format!("{holder}.here")), "").unwrap();
        wait_for("both to be here", || {
            let here = |name: &str| dir.join(name).exists();
            (here("one.here") && here("two.here")).then_some(())
        });
        let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
        let mut won = String::new();
        for round in 0..ROUNDS {
            let name = format!("race/{round}");
            let taken = store.lease(&name, holder, minute, now).await.unwrap();
            won.push(if taken { '1' } else { '0' });
        }
        won
    });
    fs::write(dir.join(holder), won).unwrap();
}

#[test]
fn a_gateway_whose_records_are_damaged_says_so_and_serves() {
    let vendors = Mock::several(1, &[]);
    let good = Gateway::start(&pool(&vendors, ""));
    wait_for("the records", || {
        let made = good.program.folder().join("data/poolgate.db").exists();
        made.then_some(())
    });
    let noise = "no database at all, but a text of some length ".repeat(100);
    let text = pool(&vendors, "").replace("pools:", "state: {dir: .}\npools:");
    let gateway = Gateway::start_with(&text, &[("poolgate.db", &noise)], &[]);
    wait_for("the error", || {
        let log = gateway.log();
        log.contains("poolgate.db: is damaged, or no database")
            .then_some(())
    });
    assert_eq!(gateway.send(&chat(false)).status, 200);
    let kept = fs::read_to_string(gateway.program.folder().join("poolgate.db"));
    assert_eq!(kept.unwrap(), noise, "what is there is left alone");
}
