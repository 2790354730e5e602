//! How many requests of one key may be under way.

use super::{create, gateway, status, wait_of};
use crate::support::{Request, chat, get, wait_for};

/// Begins to answer and goes on when its client has had enough.
fn hanging() -> Request {
    chat(true).header("x-mock-hang", "1")
}

#[test]
fn a_key_has_no_more_requests_under_way_than_it_may_and_those_that_end_make_room() {
    let tier = "tiers: {default: {max_concurrent: 2, models: ['gpt-*']}}";
    let (gateway, _vendors) = gateway(tier);
    let key = create(&gateway.program, &[]);
    let other = create(&gateway.program, &[]);
    wait_for("the keys", || {
        (status(&gateway, &other) == 200).then_some(())
    });
    let held = [0; 2].map(|_| hanging().bearer(&key).open(gateway.address).unwrap());
    let refused = gateway.send(&chat(false).bearer(&key));
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(wait_of(&refused), 1);
    let list = gateway.send(&get("/v1/models").bearer(&key));
    assert_eq!(list.status, 429, "a list is work as well: {}", list.text());
    assert_eq!(status(&gateway, &other), 200, "another key has its own");
    drop(held);
    wait_for("room", || (status(&gateway, &key) == 200).then_some(()));
    let rejected = gateway.metric("poolgate_key_rejections_total", &["reason=\"concurrency\""]);
    assert!(rejected >= 1.0);
}

#[test]
fn a_client_that_asks_one_after_the_other_is_never_in_its_own_way() {
    let (gateway, _vendors) = gateway("");
    let key = create(&gateway.program, &["--max-concurrent", "1"]);
    wait_for("the key", || (status(&gateway, &key) == 200).then_some(()));
    for turn in 0..200 {
        assert_eq!(status(&gateway, &key), 200, "{turn}");
    }
}
