//! Which account serves: each strategy, priorities, dialects and models.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Rig, SECOND, accounts, anything, by_caller, counts, for_model};
use crate::dialect::Dialect;
use crate::pool::Demand;

#[test]
fn round_robin_keeps_its_turns_when_one_is_skipped() {
    let rig = Rig::new("strategy: round_robin,", &accounts(4, ""));
    assert_eq!(rig.order(9), "abcdabcda");
    rig.pool.set_enabled("c", false);
    assert_eq!(rig.order(6), "bdabda");
    rig.pool.set_enabled("c", true);
    assert_eq!(rig.order(5), "bcdab");
    // A request that already tried the next in turn takes the one behind it; nobody is asked twice.
    let slot_of_c = rig.pool.account_named("c").unwrap().slot;
    let tried = Demand {
        tried: [slot_of_c].into_iter().collect(),
        ..anything()
    };
    assert_eq!(rig.served_by(&tried).as_deref(), Some("d"));
    assert_eq!(rig.order(4), "abcd");
}

#[test]
fn a_websocket_goes_to_accounts_that_take_one_by_the_same_strategy() {
    let able = [
        "id: a",
        "id: b, websocket: true",
        "id: c",
        "id: d, websocket: true",
    ];
    let rig = Rig::new("strategy: round_robin,", &able);
    let socket = Demand {
        websocket: true,
        ..anything()
    };
    let order: String = (0..5).filter_map(|_| rig.served_by(&socket)).collect();
    assert_eq!(order, "bdbdb");
    assert_eq!(rig.order(4), "abcd");
    assert!(rig.pool.takes_websockets(Dialect::OpenAi));
    let none = Rig::new("", &["id: a"]);
    assert!(!none.pool.takes_websockets(Dialect::OpenAi));
    assert!(none.take_for(&socket).is_none());
}

#[test]
fn weights_are_kept_exactly_and_evenly_spread() {
    let rig = Rig::new("", &["id: a, weight: 2", "id: b", "id: c"]);
    for _ in 0..100 {
        assert_eq!(rig.shares(4), counts([("a", 2), ("b", 1), ("c", 1)]));
    }
}

#[test]
fn when_a_weighted_account_is_down_the_others_keep_their_proportion() {
    let rig = Rig::new("", &["id: a, weight: 2", "id: b", "id: c"]);
    rig.pool.set_enabled("b", false);
    assert_eq!(rig.shares(300), counts([("a", 200), ("c", 100)]));
    rig.pool.set_enabled("b", true);
    rig.pool.set_enabled("a", false);
    assert_eq!(rig.shares(300), counts([("b", 150), ("c", 150)]));
}

#[test]
fn weights_hold_by_chance_where_few_of_many_are_left() {
    // 200 accounts, two of them ready: far apart in the schedule.
    let mut many = accounts(200, "enabled: false");
    many[10] = "id: light, weight: 1".to_owned();
    many[150] = "id: heavy, weight: 3".to_owned();
    let shares = Rig::new("", &many).shares(4_000);
    assert!((2_850..3_150).contains(&shares["heavy"]), "{shares:?}");
}

#[test]
fn least_connections_fills_accounts_by_their_weight() {
    let rig = Rig::new(
        "strategy: least_connections,",
        &["id: a, weight: 2", "id: b", "id: c"],
    );
    let mut held: Vec<_> = (0..40).map(|_| rig.take().unwrap()).collect();
    let in_flight = |id| rig.view(id).in_flight;
    assert_eq!(
        [in_flight("a"), in_flight("b"), in_flight("c")],
        [20, 10, 10]
    );
    // Whoever becomes empty is filled again first.
    held.retain(|lease| &*lease.account().id != "c");
    held.extend((0..10).map(|_| rig.take().unwrap()));
    assert_eq!(
        [in_flight("a"), in_flight("b"), in_flight("c")],
        [20, 10, 10]
    );
}

#[test]
fn least_connections_shares_evenly_when_nothing_is_in_flight() {
    let rig = Rig::new("strategy: least_connections,", &accounts(3, ""));
    assert_eq!(
        rig.shares(300),
        counts([("a", 100), ("b", 100), ("c", 100)])
    );
}

#[test]
fn least_used_lets_those_catch_up_that_served_less() {
    let rig = Rig::new("strategy: least_used,", &accounts(2, ""));
    assert_eq!(rig.shares(20), counts([("a", 10), ("b", 10)]));
    rig.pool.set_enabled("b", false);
    assert_eq!(rig.shares(10), counts([("a", 10)]));
    rig.pool.set_enabled("b", true);
    assert_eq!(rig.shares(10), counts([("b", 10)]));
    assert_eq!(rig.shares(10), counts([("a", 5), ("b", 5)]));
}

fn owners(rig: &Rig, callers: u64) -> BTreeMap<u64, String> {
    (0..callers)
        .map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()))
        .map(|caller| (caller, rig.served_by(&by_caller(caller)).unwrap()))
        .collect()
}

#[test]
fn a_caller_stays_on_its_account_and_only_the_callers_of_one_that_left_move() {
    let rig = Rig::new("strategy: hash,", &accounts(10, ""));
    let before = owners(&rig, 2_000);
    assert_eq!(owners(&rig, 2_000), before);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    before
        .values()
        .for_each(|id| *shares.entry(id).or_default() += 1);
    assert!(
        shares.len() == 10 && shares.values().all(|n| (120..320).contains(n)),
        "{shares:?}"
    );

    rig.pool.set_enabled("d", false);
    for (caller, id) in owners(&rig, 2_000) {
        assert!(id == before[&caller] || before[&caller] == "d");
    }
    rig.pool.set_enabled("d", true);
    assert_eq!(owners(&rig, 2_000), before, "they come back to it");

    // Removed for good while others are out: the same.
    rig.pool.set_enabled("a", false);
    let before = owners(&rig, 2_000);
    let left: Vec<_> = accounts(10, "")
        .into_iter()
        .filter(|keys| !keys.starts_with("id: d"))
        .collect();
    rig.pool
        .reconfigure(&super::config("strategy: hash,", &left));
    for (caller, id) in owners(&rig, 2_000) {
        assert!(id == before[&caller] || before[&caller] == "d", "{id}");
    }
}

#[test]
fn a_caller_keeps_its_place_although_nearly_all_accounts_are_out() {
    let mut many = accounts(300, "enabled: false");
    many[7] = "id: x".to_owned();
    many[200] = "id: y".to_owned();
    let rig = Rig::new("strategy: hash,", &many);
    let before = owners(&rig, 500);
    assert_eq!(owners(&rig, 500), before);
    rig.pool.set_enabled("account_33", true);
    for (caller, id) in owners(&rig, 500) {
        assert!(id == before[&caller] || id == "account_33");
    }
}

#[test]
fn requests_of_no_caller_take_turns() {
    let rig = Rig::new("strategy: hash,", &accounts(3, ""));
    assert_eq!(rig.order(6), "abcabc");
}

#[test]
fn random_gives_each_account_the_same_probability() {
    // Half of them are out, so that guesses miss too.
    let rig = Rig::new("strategy: random,", &accounts(6, ""));
    for id in ["a", "c", "f"] {
        rig.pool.set_enabled(id, false);
    }
    let shares = rig.shares(3_000);
    assert_eq!(shares.len(), 3);
    // Six standard deviations.
    assert!(
        shares.values().all(|n| (845..1_155).contains(n)),
        "{shares:?}"
    );
}

/// Serves requests one second apart, each account with its time to first byte.
fn serve(rig: &mut Rig, requests: usize, speed: impl Fn(&str) -> u64) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let lease = rig.take().unwrap();
        let id = lease.account().id.to_string();
        lease.first_byte(rig.now + Duration::from_millis(speed(&id)));
        drop(lease);
        *shares.entry(id).or_default() += 1;
        rig.pass(SECOND / 10);
    }
    shares
}

#[test]
fn response_time_prefers_the_fast_one_and_notices_a_change() {
    let mut rig = Rig::new("strategy: response_time,", &accounts(2, ""));
    let shares = serve(&mut rig, 102, |id| if id == "a" { 10 } else { 200 });
    assert!(shares["a"] >= 95, "{shares:?}");
    assert!(shares["b"] >= 1, "each is asked once");
    let shares = serve(&mut rig, 100, |id| if id == "a" { 2_000 } else { 200 });
    assert!(shares["b"] >= 90, "{shares:?}");
    // Whoever was slow is asked again one day, and then stays.
    let shares = serve(&mut rig, 2_000, |id| if id == "a" { 10 } else { 200 });
    assert!(shares["a"] >= 1_000, "{shares:?}");
}

#[test]
fn a_lower_priority_number_serves_until_none_of_it_can() {
    let rig = Rig::new(
        "strategy: round_robin,",
        &[
            "id: s, priority: 5",
            "id: a",
            "id: b, max_concurrent: 1",
            "id: t, priority: 9",
        ],
    );
    assert_eq!(rig.order(4), "abab");
    rig.pool.set_enabled("a", false);
    let held = rig.take().unwrap();
    assert_eq!(&*held.account().id, "b");
    assert_eq!(rig.order(3), "sss");
    rig.pool.set_enabled("s", false);
    assert_eq!(rig.order(2), "tt");
    drop(held);
    assert_eq!(rig.order(2), "bb");
}

#[test]
fn weight_0_serves_only_when_nothing_else_is_left() {
    let rig = Rig::new(
        "",
        &[
            "id: z, weight: 0, priority: -5",
            "id: a",
            "id: b, priority: 7",
        ],
    );
    assert_eq!(rig.shares(50), counts([("a", 50)]));
    rig.pool.set_enabled("a", false);
    assert_eq!(rig.shares(50), counts([("b", 50)]));
    rig.pool.set_enabled("b", false);
    assert_eq!(rig.shares(50), counts([("z", 50)]));
}

#[test]
fn an_account_serves_its_dialects_only() {
    let rig = Rig::new(
        "",
        &[
            "id: a, dialects: [openai]",
            "id: b, dialects: [anthropic, gemini]",
        ],
    );
    for (dialect, id) in [
        (Dialect::OpenAi, "a"),
        (Dialect::Anthropic, "b"),
        (Dialect::Gemini, "b"),
    ] {
        let demand = Demand {
            dialect,
            ..anything()
        };
        assert_eq!(rig.served_by(&demand).as_deref(), Some(id), "{dialect:?}");
    }
}

#[test]
fn an_account_serves_its_models_only_by_list_pattern_or_map() {
    let rig = Rig::new(
        "",
        &[
            "id: a, models: [gpt-5, \"claude-*\"]",
            "id: b, models: {fast: gpt-5-mini}",
        ],
    );
    for (model, id) in [
        ("gpt-5", Some("a")),
        ("claude-opus-4", Some("a")),
        ("fast", Some("b")),
        ("gpt-5-mini", None),
        ("gpt-51", None),
    ] {
        // Twice, for the second look finds a remembered view.
        for _ in 0..2 {
            assert_eq!(rig.served_by(&for_model(model)).as_deref(), id, "{model}");
        }
    }
    let map = rig.pool.account_named("b").unwrap();
    assert_eq!(map.model_name("fast"), Some("gpt-5-mini"));
    assert_eq!(map.model_name("other"), None);
    assert!(
        rig.served_by(&anything()).is_some(),
        "no model asked: anyone"
    );
}

#[test]
fn any_number_of_invented_models_is_answered() {
    let rig = Rig::new("", &["id: a, models: [\"m-*\"]"]);
    for n in 0..2_000 {
        assert!(rig.served_by(&for_model(&format!("m-{n}"))).is_some());
        assert!(rig.served_by(&for_model(&format!("x-{n}"))).is_none());
    }
}

/// So many requests so far apart, each under way as long as its account takes; the share of account `b` among
/// them.
async fn share_of_b(rig: &Rig, requests: u32, gap: Duration, speed: fn(&str) -> u64) -> f64 {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..requests {
        tokio::time::sleep(gap).await;
        let pool = rig.pool.clone();
        running.spawn(async move {
            let lease = pool.try_lease(&anything(), crate::clock::now()).unwrap();
            let id = lease.account().id.clone();
            tokio::time::sleep(Duration::from_millis(speed(&id))).await;
            lease.first_byte(crate::clock::now());
            usize::from(&*id == "b")
        });
    }
    let mut of_b = 0;
    while let Some(ended) = running.join_next().await {
        of_b += ended.unwrap();
    }
    of_b as f64 / f64::from(requests)
}

#[tokio::test(start_paused = true)]
async fn response_time_gives_a_slow_account_little_and_half_within_half_a_minute_of_its_recovery() {
    let rig = Rig::new("strategy: response_time,", &accounts(2, ""));
    let slow = |id: &str| if id == "b" { 2_000 } else { 200 };
    // Now with next to nothing under way, so that its time alone speaks against the slow one, and now with much.
    let often = SECOND / 10;
    for (requests, gap) in [(600, 3 * SECOND), (3_000, often)] {
        let share = share_of_b(&rig, requests, gap, slow).await;
        assert!(share < 0.15, "{share} of the requests went to the slow one");
        assert!(share > 0.0, "it is asked now and then");
    }
    // Within this time it is found out that it is fast again.
    share_of_b(&rig, 300, often, |_| 200).await;
    let share = share_of_b(&rig, 600, often, |_| 200).await;
    assert!((0.4..0.6).contains(&share), "{share} of the requests");
}
