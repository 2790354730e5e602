//! Slots of keys that one gateway knows before another does.

use std::sync::Arc;

use super::super::{Scope, Slots};
use super::{SECOND, World};
use crate::key::Keys;
use crate::store::KeyRecord;
use crate::telemetry::Metrics;

#[tokio::test]
async fn a_slot_that_was_just_taken_is_not_freed_by_who_has_not_heard_of_its_key() {
    let here = World::new(&[]).await;
    let new: KeyRecord = serde_json::from_value(serde_json::json!({
        "id": "key_new", "name": "new", "hash": "ab".repeat(32), "tier": "medium", "created_at": 0,
    }))
    .unwrap();
    let of_no_slot = KeyRecord {
        tier: "default".to_owned(),
        ..new.clone()
    };
    here.keys.set_records(&here.config, vec![new]);
    // Another gateway knows nothing of the key yet, a third one not that its tier is another now.
    for known in [Vec::new(), vec![of_no_slot]] {
        let client = here.keys.client("key_new").unwrap();
        let placed = here.place(&client, &["a"], here.began).await;
        placed.unwrap();
        let metrics = Metrics::new("test", here.began.wall).unwrap();
        let there = Slots::new(here.book.clone(), Arc::new(metrics), here.began.now);
        let known = Keys::new(&here.config, Some(known));
        for (later, held) in [(0, 1), (1, 1), (9, 1), (11, 0)] {
            let at = here.after(SECOND * later);
            let swept = there.sweep(&known, &here.config, Scope::Records, at);
            swept.await.unwrap();
            assert_eq!(here.held().await.len(), held, "after {later} s");
        }
        // This one sees what became of it.
        let at = here.after(SECOND * 11);
        let looked = here.slots.refresh(&here.keys, &here.config, at);
        looked.await.unwrap();
    }
}
