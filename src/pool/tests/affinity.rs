//! Who stays with its account, and when not.

use std::collections::{BTreeMap, HashMap};

use super::*;

fn in_session(session: u64) -> Demand {
    Demand {
        // Sessions are hashes.
        session: Some(xxhash_rust::xxh3::xxh3_64(&session.to_le_bytes())),
        ..anything()
    }
}

const TEN: [&str; 10] = [
    "id: a", "id: b", "id: c", "id: d", "id: e", "id: f", "id: g", "id: h", "id: i", "id: j",
];

#[test]
fn ten_thousand_sessions_stay_where_they_are_and_are_spread_evenly() {
    for strategy in [
        "weighted",
        "round_robin",
        "least_connections",
        "random",
        "response_time",
    ] {
        let mut rig = Rig::new(&format!("strategy: {strategy},"), &TEN);
        let mut homes: HashMap<u64, String> = HashMap::new();
        let (mut stayed, mut all) = (0, 0);
        for round in 0..4 {
            for session in 0..10_000 {
                let id = rig.served_by(&in_session(session)).unwrap();
                if round == 0 {
                    homes.insert(session, id);
                } else {
                    all += 1;
                    stayed += usize::from(homes[&session] == id);
                }
            }
            rig.pass(MINUTE);
        }
        assert!(stayed * 100 >= all * 99, "{strategy}: {stayed} of {all}");
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        for id in homes.values() {
            *shares.entry(id).or_default() += 1;
        }
        let most = shares.values().max().unwrap();
        assert!(*most <= 1_250, "{strategy}: {shares:?}");
    }
}

#[test]
fn an_account_that_leaves_moves_its_own_sessions_only() {
    let rig = Rig::new("", &TEN);
    let home = |session| rig.served_by(&in_session(session)).unwrap();
    let before: Vec<String> = (0..1_000).map(home).collect();
    rig.pool.set_enabled("c", false);
    let after: Vec<String> = (0..1_000).map(home).collect();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before == after, before != "c", "{before} -> {after}");
    }
    rig.pool.set_enabled("c", true);
    let back: Vec<String> = (0..1_000).map(home).collect();
    assert_eq!(after, back, "who moved stays where its cache is warm now");
}

#[test]
fn a_full_home_is_left_for_one_request_only() {
    let rig = Rig::new("", &["id: a, max_concurrent: 1", "id: b"]);
    let at_a = (0..).find(|session| rig.served_by(&in_session(*session)).as_deref() == Some("a"));
    let at_a = in_session(at_a.unwrap());
    let held = rig.take_for(&at_a).unwrap();
    assert_eq!(rig.served_by(&at_a).as_deref(), Some("b"));
    drop(held);
    assert_eq!(rig.served_by(&at_a).as_deref(), Some("a"));
}

#[test]
fn a_home_that_is_crowded_is_left_while_it_is() {
    let rig = Rig::new("", &["id: a", "id: b"]);
    let one = in_session(1);
    let home = rig.served_by(&one).unwrap();
    let held: Vec<_> = (0..40).map(|_| rig.take_for(&one).unwrap()).collect();
    let at_home = held.iter().filter(|lease| *lease.account().id == *home);
    let at_home = at_home.count();
    // A quarter above the mean, and eight.
    assert!((20..=33).contains(&at_home), "{at_home} of 40");
    drop(held);
    assert_eq!(rig.served_by(&one), Some(home));
}

#[test]
fn who_was_away_too_long_is_placed_anew_and_0_switches_it_off() {
    let mut rig = Rig::new("strategy: round_robin, affinity: {for: 1m},", &TEN);
    let one = in_session(1);
    assert_eq!(rig.served_by(&one).as_deref(), Some("a"));
    rig.pass(MINUTE);
    assert_eq!(rig.served_by(&one).as_deref(), Some("a"));
    rig.pass(2 * MINUTE);
    assert_eq!(rig.served_by(&one).as_deref(), Some("b"));
    let off = Rig::new("strategy: round_robin, affinity: {for: 0s},", &TEN);
    let home = || off.served_by(&one).unwrap();
    assert_eq!([home(), home()], ["a", "b"]);
}

#[test]
fn a_better_priority_comes_before_home() {
    let rig = Rig::new("", &["id: a", "id: spare, priority: 1"]);
    let one = in_session(1);
    rig.pool.set_enabled("a", false);
    assert_eq!(rig.served_by(&one).as_deref(), Some("spare"));
    rig.pool.set_enabled("a", true);
    assert_eq!(rig.served_by(&one).as_deref(), Some("a"));
}

#[test]
fn a_reload_and_a_successor_know_who_is_at_home_where() {
    let rig = Rig::new("", &TEN);
    let home = |rig: &Rig, session| rig.served_by(&in_session(session)).unwrap();
    let before: Vec<String> = (0..300).map(|session| home(&rig, session)).collect();
    rig.pool
        .reconfigure(&config("affinity: {max_entries: 5000},", &TEN));
    let after: Vec<String> = (0..300).map(|session| home(&rig, session)).collect();
    assert_eq!(before, after);

    let left = serde_json::to_string(&rig.pool.bequeath(100, rig.now)).unwrap();
    let successor = Rig::new("", &TEN);
    let left: Vec<crate::pool::Bequest> = serde_json::from_str(&left).unwrap();
    successor.pool.inherit(&left, successor.now);
    let there: Vec<String> = (0..300).map(|session| home(&successor, session)).collect();
    assert_eq!(before, there);
}

#[test]
fn an_answer_that_others_go_on_from_is_known_to_its_account_alone() {
    let rig = Rig::new("", &TEN);
    let lease = rig.take().unwrap();
    let id = lease.account().id.clone();
    rig.pool.remember_answer("resp_1", lease.account(), rig.now);
    drop(lease);
    assert_eq!(
        rig.pool.account_that_knows("resp_1", rig.now),
        Some(id.clone())
    );
    assert_eq!(rig.pool.account_that_knows("resp_2", rig.now), None);
    let others: Vec<&str> = TEN
        .into_iter()
        .filter(|keys| *keys != format!("id: {id}"))
        .collect();
    rig.pool.reconfigure(&config("", &others));
    assert_eq!(rig.pool.account_that_knows("resp_1", rig.now), None);
}
