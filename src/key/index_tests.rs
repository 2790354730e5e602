//! Which keys are let in, when, and what is told of the others.

use std::time::Duration;

use super::*;
use crate::clock;
use crate::config;
use crate::key::register::blank;
use crate::store::millis;

const DAY: Duration = Duration::from_secs(86_400);

fn config(text: &str) -> Config {
    let account = "pools: {p: {accounts: [{id: a, upstream: openai, credential: {api_key: k}}]}}";
    let loaded = config::parse(
        &format!("{text}\n{account}"),
        "poolgate.yaml".as_ref(),
        &|_| None,
    );
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

fn record(key: &str, now: SystemTime) -> KeyRecord {
    KeyRecord {
        name: key.to_owned(),
        hash: KeyHash::of(key).to_hex(),
        ..blank(now).unwrap()
    }
}

fn ask(keys: &Keys, key: &str, now: SystemTime) -> Result<Arc<Client>, Refused> {
    keys.authenticate([key].into_iter(), now)
}

fn why(keys: &Keys, key: &str, now: SystemTime) -> Option<Refused> {
    ask(keys, key, now).err()
}

#[test]
fn a_key_is_let_in_until_it_expires_is_disabled_or_revoked() {
    let now = clock::wall();
    let config = config("");
    let expires_at = Some(millis(now + DAY));
    let expiring = KeyRecord {
        expires_at,
        ..record("expiring", now)
    };
    let disabled = KeyRecord {
        enabled: false,
        ..record("disabled", now)
    };
    let revoked_at = Some(millis(now));
    let revoked = KeyRecord {
        revoked_at,
        ..record("revoked", now)
    };
    let tier = "gone".to_owned();
    let of_no_tier = KeyRecord {
        tier,
        ..record("of no tier", now)
    };
    let keys = Keys::new(&config, Some(vec![expiring, disabled, revoked, of_no_tier]));
    let just_before = now + DAY - Duration::from_secs(1);
    assert_eq!(why(&keys, "expiring", just_before), None);
    assert_eq!(why(&keys, "expiring", now + DAY), Some(Refused::Expired));
    assert_eq!(why(&keys, "disabled", now), Some(Refused::Disabled));
    assert_eq!(why(&keys, "revoked", now), Some(Refused::Revoked));
    assert_eq!(why(&keys, "of no tier", now), Some(Refused::Disabled));
    assert_eq!(why(&keys, "another", now), Some(Refused::Unknown));
    let active = |at| keys.active(at).values().sum::<usize>();
    assert_eq!((active(just_before), active(now + DAY)), (1, 0));
}

#[test]
fn after_a_rotation_the_old_key_is_good_for_its_grace_and_is_the_same_client() {
    let now = clock::wall();
    let previous = Some((KeyHash::of("old").to_hex(), millis(now + DAY)));
    let rotated = KeyRecord {
        previous,
        ..record("new", now)
    };
    let keys = Keys::new(&config(""), Some(vec![rotated]));
    let (old, new) = (
        ask(&keys, "old", now).unwrap(),
        ask(&keys, "new", now).unwrap(),
    );
    assert!(
        Arc::ptr_eq(&old, &new),
        "limits and slot are those of one key"
    );
    assert_eq!(why(&keys, "old", now + DAY), Some(Refused::Expired));
    assert_eq!(why(&keys, "new", now + DAY), None);
}

#[test]
fn the_first_valid_key_counts_and_of_none_the_best_reason_is_told() {
    let now = clock::wall();
    let revoked_at = Some(millis(now));
    let revoked = KeyRecord {
        revoked_at,
        ..record("revoked", now)
    };
    let keys = Keys::new(&config(""), Some(vec![revoked, record("good", now)]));
    let refused = |presented: &[&str]| keys.authenticate(presented.iter().copied(), now).err();
    assert_eq!(refused(&["dummy", "revoked", "good"]), None);
    assert_eq!(refused(&["dummy", "revoked", "x"]), Some(Refused::Revoked));
    assert_eq!(refused(&[]), Some(Refused::Missing));
}

#[test]
fn before_the_records_were_read_nobody_is_told_that_a_key_is_wrong() {
    let now = clock::wall();
    let config = config("clients: {keys: [{name: fixed, key: sk-fixed}]}");
    let keys = Keys::new(&config, None);
    assert_eq!(why(&keys, "sk-fixed", now), None, "it needs no records");
    assert_eq!(why(&keys, "issued", now), Some(Refused::Unsure));
    keys.set_records(&config, vec![record("issued", now)]);
    assert_eq!(why(&keys, "issued", now), None);
    assert_eq!(why(&keys, "other", now), Some(Refused::Unknown));
}

#[test]
fn a_gateway_on_loopback_asks_for_no_key_until_there_ever_was_one() {
    let now = clock::wall();
    let config = config("");
    let keys = Keys::new(&config, Some(Vec::new()));
    assert!(keys.are_open() && ask(&keys, "whatever", now).is_ok());
    keys.set_records(&config, vec![record("first", now)]);
    assert_eq!(why(&keys, "whatever", now), Some(Refused::Unknown));
    keys.set_records(&config, Vec::new());
    assert_eq!(why(&keys, "whatever", now), Some(Refused::Unknown));
    let keys = Keys::new(&config, None);
    assert!(!keys.are_open(), "there may be keys");
    keys.set_records(&config, Vec::new());
    assert!(keys.are_open(), "there are none");
}

#[test]
fn what_is_counted_of_a_key_outlives_every_change_of_it() {
    let now = clock::wall();
    let config =
        config("tiers: {default: {max_concurrent: 1, limits: [{requests: 1, window: 1h}]}}");
    let mut key = record("key", now);
    let keys = Keys::new(&config, Some(vec![key.clone()]));
    let before = ask(&keys, "key", now).unwrap();
    let _under_way = before.permits.take(before.may.max_concurrent).unwrap();
    let asked = crate::limit::Ask {
        model: None,
        tokens: 0,
        cost: 0,
    };
    let _used = before.limits.admit(&asked, clock::now()).unwrap();
    key.notes = "another".to_owned();
    keys.set_records(&config, vec![key]);
    let after = ask(&keys, "key", now).unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(after.permits.take(after.may.max_concurrent).is_none());
    assert!(after.limits.admit(&asked, clock::now()).is_err());
}

#[test]
fn of_several_limits_of_what_is_under_way_the_lowest_holds() {
    let now = clock::wall();
    let config = config(
        "clients: {max_concurrent_per_key: 5}\ntiers: {default: {max_concurrent: 4}, free: {}}",
    );
    let own = KeyRecord {
        max_concurrent: 3,
        ..record("own", now)
    };
    let tier = "free".to_owned();
    let free = KeyRecord {
        tier,
        ..record("free", now)
    };
    let keys = Keys::new(&config, Some(vec![own, record("tier", now), free]));
    let most = ["own", "tier", "free"].map(|key| ask(&keys, key, now).unwrap().may.max_concurrent);
    assert_eq!(most, [3, 4, 5]);
}

#[test]
fn a_key_is_narrowed_to_its_models_and_addresses_within_its_tier() {
    let now = clock::wall();
    let config = config("tiers: {default: {models: ['gpt-*', 'claude-*']}}");
    let narrow = KeyRecord {
        models: vec!["*-mini".to_owned()],
        allowed_ips: vec!["10.0.0.0/8".to_owned(), "::1/128".to_owned()],
        ..record("narrow", now)
    };
    let keys = Keys::new(&config, Some(vec![narrow, record("wide", now)]));
    let [narrow, wide] = ["narrow", "wide"].map(|key| ask(&keys, key, now).unwrap());
    let models = [Some("gpt-5-mini"), Some("gpt-5"), Some("o4-mini"), None];
    assert_eq!(
        models.map(|m| narrow.may.allows_model(m)),
        [true, false, false, false]
    );
    assert_eq!(
        models.map(|m| wide.may.allows_model(m)),
        [true, true, false, false]
    );
    let addresses = ["10.1.2.3", "::1", "192.168.0.1"].map(|ip| Some(ip.parse().unwrap()));
    assert_eq!(
        addresses.map(|a| narrow.may.allows_address(a)),
        [true, true, false]
    );
    assert!(!narrow.may.allows_address(None) && wide.may.allows_address(None));
}

#[test]
fn what_counts_goes_on_when_a_key_is_disabled_or_its_file_unreadable_for_a_while() {
    let now = clock::wall();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "of-the-file\n").unwrap();
    let config = config(&format!(
        "clients: {{keys_file: '{}'}}\ntiers: {{default: {{limits: [{{requests: 1, window: 1h}}]}}}}",
        file.display()
    ));
    let issued = record("issued", now);
    let keys = Keys::new(&config, Some(vec![issued.clone()]));
    let asked = crate::limit::Ask {
        model: None,
        tokens: 0,
        cost: 0,
    };
    let of = |key: &str| ask(&keys, key, now).unwrap();
    let permits: Vec<_> = ["issued", "of-the-file"]
        .map(|key| {
            let hold = of(key).limits.admit(&asked, clock::now()).unwrap();
            hold.settle(Spent::default(), clock::now());
            of(key).permits.take(1).unwrap()
        })
        .into();
    let disabled = KeyRecord {
        enabled: false,
        ..issued.clone()
    };
    std::fs::remove_file(&file).unwrap();
    keys.set_records(&config, vec![disabled]);
    assert_eq!(why(&keys, "issued", now), Some(Refused::Disabled));
    assert_eq!(why(&keys, "of-the-file", now), Some(Refused::Unknown));
    std::fs::write(&file, "of-the-file\n").unwrap();
    keys.set_records(&config, vec![issued]);
    for key in ["issued", "of-the-file"] {
        assert!(of(key).limits.admit(&asked, clock::now()).is_err(), "{key}");
        assert!(of(key).permits.take(1).is_none(), "{key}");
    }
    drop(permits);
    assert!(of("issued").permits.take(1).is_some());
    keys.set_records(&config, vec![]);
    assert_eq!(keys.kept.lock().live.len(), 2, "its window is not over");
}

#[test]
fn a_key_whose_addresses_cannot_be_read_is_refused_from_everywhere() {
    let now = clock::wall();
    let spoilt = KeyRecord {
        allowed_ips: vec!["10.0.0.0/8".to_owned(), "10.0.0".to_owned()],
        ..record("spoilt", now)
    };
    let keys = Keys::new(&config(""), Some(vec![spoilt]));
    assert_eq!(why(&keys, "spoilt", now), Some(Refused::Disabled));
}

/// The older router's file: what is beside it decides who is let in, and a look at it that fails does not.
#[test]
fn the_older_routers_gate_is_open_until_there_was_a_key_and_never_again() {
    let now = clock::wall();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("multi_account_config.json");
    let text = r#"{"accounts": [{"id": "a", "auth_file": "a.json", "port": 2048}], "router": {"host": "0.0.0.0"}}"#;
    std::fs::write(&path, text).unwrap();
    let load = || config::load(&path, &|_| None);
    let read = || load().ok().unwrap().config;
    let without = read();
    let keys = Keys::new(&without, Some(Vec::new()));
    assert!(keys.are_open(), "no key, and no folder for one: as before");
    std::fs::create_dir(folder.path().join("auth_profiles")).unwrap();
    let file = folder.path().join("auth_profiles/key.txt");
    std::fs::write(&file, "sk-one\n").unwrap();
    // The file is watched although it was not there; a reload finds it as well.
    let opened = Keys::new(&read(), Some(Vec::new()));
    assert!(!opened.are_open());
    keys.reload(&without);
    assert!(!keys.are_open());
    assert!(ask(&keys, "sk-one", now).is_ok());
    // Half written, then unreadable, at a reload.
    std::fs::write(&file, "").unwrap();
    keys.reload(&read());
    assert!(
        !keys.are_open(),
        "an empty file opens nothing that was shut"
    );
    std::fs::write(&file, b"\xff\xfe").unwrap();
    let problems = load().err().unwrap();
    assert!(problems.to_string().contains("key.txt"), "{problems}");
    keys.reload(&without);
    assert!(!keys.are_open());
}
