//! What happens to an account at one gateway the others know at once.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{gateways, patient_gateways};
use crate::support::{Gateway, Mock, Redis, chat, pool, post, wait_for};

fn house() -> (Redis, Vec<Mock>, String) {
    let (redis, vendors) = (Redis::start(), Mock::several(2, &[]));
    let text = pool(
        &vendors,
        "    strategy: round_robin\n    breaker: {consecutive_failures: 3}\n",
    );
    (redis, vendors, text)
}

#[track_caller]
fn wait_for_status(gateway: &Gateway, account: &str, status: &str) {
    wait_for(&format!("{account} to be {status}"), || {
        (gateway.account(account)["status"] == status).then_some(())
    });
}

#[test]
fn a_limit_that_one_gateway_meets_and_a_breaker_that_opens_there_keep_all_from_asking() {
    let (redis, vendors, text) = house();
    let gateways = gateways(2, &redis.url(), &text);
    vendors[0].set(&json!({"behaviour": {"status": "429", "retry-after": "60"}}));
    for _ in 0..2 {
        assert_eq!(gateways[0].send(&chat(false)).status, 200);
    }
    let told = |gateway: &Gateway| {
        wait_for("the account to be left alone", || {
            let before = vendors[0].count("requests");
            (0..2).for_each(|_| assert_eq!(gateway.send(&chat(false)).status, 200));
            (vendors[0].count("requests") == before).then_some(())
        });
    };
    told(&gateways[1]);
    gateways[0].act("a0", "reset");
    vendors[0].set(&json!({"behaviour": {"status": "500"}}));
    for _ in 0..8 {
        assert_eq!(gateways[0].send(&chat(false)).status, 200);
    }
    wait_for_status(&gateways[0], "a0", "open");
    wait_for_status(&gateways[1], "a0", "open");
    // One that starts later knows of it, too.
    let late = super::gateways_beside(2, &redis.url(), &text);
    wait_for_status(&late, "a0", "open");
    gateways[1].act("a0", "reset");
    wait_for_status(&gateways[0], "a0", "healthy");
    wait_for_status(&late, "a0", "healthy");
}

#[test]
fn what_an_operator_orders_at_one_gateway_holds_at_all() {
    let (redis, _vendors, text) = house();
    let mut gateways = patient_gateways(2, &redis.url(), &text);
    gateways[0].act("a1", "disable");
    wait_for_status(&gateways[1], "a1", "disabled");
    // Each has records of its own, and so writes it down itself.
    wait_for("it to be written down", || {
        let shown = gateways[1].account("a1");
        (shown["override"] == json!(["enabled"])).then_some(())
    });
    gateways[1].program.stop(Signal::SIGTERM);
    gateways[1].start_again();
    super::wait_for_all(&gateways[1], 2);
    assert_eq!(gateways[1].account("a1")["status"], "disabled");
    gateways[1].act("a1", "enable");
    wait_for_status(&gateways[0], "a1", "healthy");
    let order = post(
        "/api/v1/pools/default/strategy",
        &json!({"strategy": "random"}),
    );
    assert_eq!(gateways[0].admin(order).status, 200);
    wait_for("the strategy", || {
        let pools = gateways[1]
            .admin(crate::support::get("/api/v1/pools"))
            .json();
        (pools["pools"][0]["strategy"] == "random").then_some(())
    });
}

#[test]
fn an_order_that_would_not_reach_the_others_is_refused_and_what_they_missed_they_hear_later() {
    let (redis, vendors, text) = house();
    let gateways = gateways(2, &redis.url(), &text);
    redis.freeze();
    for gateway in &gateways {
        wait_for("Redis to be away", || {
            (gateway.metric("poolgate_redis_up", &[]) == 0.0).then_some(())
        });
    }
    let order = post("/api/v1/accounts/a0/disable", &json!({}));
    let refused = gateways[0].admin(order);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "store_unavailable");
    vendors[0].set(&json!({"behaviour": {"status": "402"}}));
    for _ in 0..2 {
        assert_eq!(gateways[0].send(&chat(false)).status, 200);
    }
    wait_for_status(&gateways[0], "a0", "cooling");
    redis.go_on();
    wait_for_status(&gateways[1], "a0", "cooling");
}
