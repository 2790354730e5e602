//! Keys and leases are the same whichever database keeps them.

use std::time::{Duration, SystemTime};

use poolgate::config::{Limit, LimitUnit};
use poolgate::store::KeyRecord;

use super::{Records, key, over_both};

#[test]
fn all_that_is_known_of_a_key_is_kept() {
    over_both(async |records: Records| {
        let limit = Limit {
            models: "*opus*".to_owned(),
            unit: LimitUnit::Cost,
            amount: 12.5,
            window: Duration::from_secs(5 * 3600),
        };
        let full = KeyRecord {
            hint: "cafe".to_owned(),
            account: Some("a@example.com".to_owned()),
            expires_at: Some(1_900_000_000_000),
            models: vec!["gpt-5*".to_owned()],
            limits: vec![limit],
            max_concurrent: 7,
            allowed_ips: vec!["10.0.0.0/8".to_owned()],
            labels: [("team".to_owned(), "blue \"é\" \\".to_owned())].into(),
            notes: "two\nlines".to_owned(),
            enabled: false,
            previous: Some(("ab".repeat(32), 1_800_000_360_000)),
            expose_account: true,
            ..key("full")
        };
        let store = records.open();
        store.put_keys(&[full.clone(), key("plain")]).await.unwrap();
        let other = records.open();
        assert_eq!(other.keys().await.unwrap(), [full.clone(), key("plain")]);
        assert_eq!(other.key("id-full").await.unwrap(), Some(full));
        assert_eq!(other.key("id-other").await.unwrap(), None);
        assert!(other.delete_key("id-plain").await.unwrap());
        assert!(!other.delete_key("id-plain").await.unwrap());
        assert_eq!(store.keys().await.unwrap().len(), 1);
    });
}

#[test]
fn every_change_of_a_key_is_seen_by_its_number() {
    over_both(async |records: Records| {
        let (store, other) = (records.open(), records.open());
        let mut seen = vec![other.keys_version().await.unwrap()];
        store.put_key(&key("one")).await.unwrap();
        seen.push(other.keys_version().await.unwrap());
        let changed = store.change_key("id-one", |key| key.enabled = false).await;
        assert!(!changed.unwrap().unwrap().enabled);
        seen.push(other.keys_version().await.unwrap());
        let none = store.change_key("id-two", |key| key.enabled = false).await;
        assert_eq!(none.unwrap(), None);
        assert_eq!(other.keys_version().await.unwrap(), seen[2]);
        store.delete_key("id-one").await.unwrap();
        seen.push(other.keys_version().await.unwrap());
        assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    });
}

#[test]
fn no_two_keys_have_one_name_or_one_hash() {
    over_both(async |records: Records| {
        let store = records.open();
        store.put_key(&key("one")).await.unwrap();
        let twin = KeyRecord {
            id: "other".to_owned(),
            hash: "cd".repeat(32),
            ..key("one")
        };
        let both = store.put_keys(&[key("two"), twin.clone()]).await;
        let said = both.unwrap_err().to_string();
        assert_eq!(said, "there is a key named \"one\" already");
        assert_eq!(store.keys().await.unwrap().len(), 1, "all of them or none");
        let same = KeyRecord {
            id: "other".to_owned(),
            name: "other".to_owned(),
            ..key("one")
        };
        let said = store.put_key(&same).await.unwrap_err().to_string();
        assert_eq!(said, "this key is known already, as \"one\"");
        let revoke = |key: &mut KeyRecord| key.revoked_at = Some(1);
        store.change_key("id-one", revoke).await.unwrap();
        store.put_key(&twin).await.unwrap();
        let back = store
            .change_key("id-one", |key| key.revoked_at = None)
            .await;
        assert!(back.is_err(), "its name is another's by now");
    });
}

#[test]
fn changes_of_one_key_at_the_same_time_are_all_made() {
    over_both(async |records: Records| {
        records.open().put_key(&key("one")).await.unwrap();
        let change = async |store: poolgate::store::Store| {
            for _ in 0..20 {
                let change = |key: &mut KeyRecord| key.max_concurrent += 1;
                store.change_key("id-one", change).await.unwrap();
            }
        };
        let all = (0..3).map(|_| change(records.open()));
        futures::future::join_all(all).await;
        let key = records.open().key("id-one").await.unwrap().unwrap();
        assert_eq!(key.max_concurrent, 60);
    });
}

#[test]
fn a_lease_over_postgresql_is_one_gateways() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let records = Records::on_server();
        let stores = [records.open(), records.open()];
        let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
        for round in 0..50 {
            let name = format!("race/{round}");
            let [one, two] = [("one", &stores[0]), ("two", &stores[1])]
                .map(|(holder, store)| store.lease(&name, holder, minute, now));
            let (one, two) = futures::join!(one, two);
            assert_ne!(one.unwrap(), two.unwrap(), "round {round}");
        }
    });
}
