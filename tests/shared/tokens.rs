//! Several gateways have one login: one of them renews its token, and all use it.

use std::thread;

use serde_json::json;

use super::gateways;
use crate::support::{Gateway, Mock, Redis, chat, post, wait_for};

const FIRST: &str = "rt-the-configured-one";

fn configuration(vendor: &Mock) -> String {
    let url = vendor.url();
    format!(
        "pools:\n  default:\n    accounts:\n      - {{id: a, upstream: \"{url}\", dialects: [openai], credential: \
         {{oauth2: {{token_url: \"{url}/oauth/token\", client_id: me, client_secret: cs, refresh_token: {FIRST}}}}}}}\n"
    )
}

/// A state that all gateways share, with a key that all have.
fn state(redis: &Redis) -> String {
    let key = "0123456789abcdef".repeat(4);
    format!("{}\", key: \"{key}", redis.url())
}

/// The token that a request of this gateway carries.
fn token(gateway: &Gateway) -> String {
    // On a busy machine Redis may be away for a moment, and nobody renews anything then.
    let answer = wait_for("an answer", || {
        let answer = gateway.send(&chat(false).header("x-mock-echo", 1));
        (answer.status == 200).then_some(answer)
    });
    let shown = answer.json()["headers"]["authorization"][0].clone();
    shown.as_str().unwrap().to_owned()
}

/// A vendor whose refresh tokens are good once.
fn vendor() -> Mock {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {"refresh_tokens": [FIRST]}}));
    vendor
}

#[test]
fn two_gateways_with_one_login_renew_once_and_both_see_the_rotated_token() {
    let (redis, vendor) = (Redis::start(), vendor());
    let gateways = gateways(2, &state(&redis), &configuration(&vendor));
    assert_eq!(token(&gateways[0]), token(&gateways[1]));
    assert_eq!(vendor.count("token_requests"), 1, "one is enough for both");
    let before = token(&gateways[0]);
    let renewed = gateways[0].admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let after = token(&gateways[0]);
    assert_ne!(before, after);
    wait_for("the other to have it", || {
        (token(&gateways[1]) == after).then_some(())
    });
    // The one that did not renew has the refresh token that is good.
    let renewed = gateways[1].admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    assert_eq!(vendor.count("token_requests"), 3);
    wait_for("the first to have it", || {
        (token(&gateways[0]) == token(&gateways[1])).then_some(())
    });
    let all: String = redis.command(&["HGETALL", "poolgate:{token:a}:newest"]);
    assert!(
        !all.contains(after.trim_start_matches("Bearer ")),
        "it is sealed"
    );
}

#[test]
fn a_token_that_the_others_could_not_be_given_is_given_when_redis_is_back() {
    let (redis, vendor) = (Redis::start(), vendor());
    let gateways = gateways(2, &state(&redis), &configuration(&vendor));
    let before = token(&gateways[0]);
    wait_for("both to have it", || {
        (token(&gateways[1]) == before).then_some(())
    });
    let asked = vendor.count("token_requests");
    vendor.set(&json!({"oauth": {"refresh_tokens": [FIRST], "delay": "1s"}}));
    let renewed = thread::scope(|scope| {
        let renewing =
            scope.spawn(|| gateways[0].admin(post("/api/v1/accounts/a/refresh", &json!({}))));
        wait_for("the vendor to be asked", || {
            (vendor.count("token_requests") > asked).then_some(())
        });
        redis.freeze();
        renewing.join().unwrap()
    });
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let after = token(&gateways[0]);
    assert_ne!(before, after);
    redis.go_on();
    wait_for("the other to have it", || {
        (token(&gateways[1]) == after).then_some(())
    });
    let renewed = gateways[1].admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(renewed.status, 200, "{}", renewed.text());
}

#[test]
fn a_login_is_not_spent_while_nobody_knows_who_spends_it() {
    let (redis, vendor) = (Redis::start(), vendor());
    let gateways = gateways(2, &state(&redis), &configuration(&vendor));
    redis.freeze();
    wait_for("Redis to be away", || {
        (gateways[0].metric("poolgate_redis_up", &[]) == 0.0).then_some(())
    });
    let refused = gateways[0].admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(vendor.count("token_requests"), 1);
    token(&gateways[0]);
    redis.go_on();
    wait_for("it to be renewed all the same", || {
        (vendor.count("token_requests") == 2).then_some(())
    });
    wait_for("the other to have it", || {
        (token(&gateways[0]) == token(&gateways[1])).then_some(())
    });
}
