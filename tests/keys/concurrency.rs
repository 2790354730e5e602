//! How many requests of one key may be under way.

use serde_json::json;

use super::{create, gateway, status, wait_of};
use crate::support::{Request, chat, wait_for};

/// Answers only when its client has had enough.
fn hanging() -> Request {
    chat(false).header("x-mock-hang", "head")
}

#[test]
fn a_key_has_no_more_requests_under_way_than_it_may_and_those_that_end_make_room() {
    let (gateway, vendors) = gateway("tiers: {default: {max_concurrent: 2}}");
    let key = create(&gateway.program, &[]);
    let other = create(&gateway.program, &[]);
    wait_for("the keys", || {
        (status(&gateway, &other) == 200).then_some(())
    });
    let open = || hanging().bearer(&key).open(gateway.address).unwrap();
    let begun = vendors[0].count("requests");
    std::thread::scope(|scope| {
        let held = [0; 2].map(|_| scope.spawn(open));
        wait_for("both to be under way", || {
            (vendors[0].count("requests") == begun + 2).then_some(())
        });
        let refused = gateway.send(&chat(false).bearer(&key));
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        assert_eq!(wait_of(&refused), 1);
        assert_eq!(status(&gateway, &other), 200, "another key has its own");
        vendors[0].set(&json!({"release": true}));
        drop(held);
    });
}

#[test]
fn a_client_that_asks_one_after_the_other_is_never_in_its_own_way() {
    let (gateway, _vendors) = gateway("clients_: 0".replace("clients_: 0", "").as_str());
    let key = create(&gateway.program, &["--max-concurrent", "1"]);
    wait_for("the key", || (status(&gateway, &key) == 200).then_some(()));
    for turn in 0..200 {
        assert_eq!(status(&gateway, &key), 200, "{turn}");
    }
}
