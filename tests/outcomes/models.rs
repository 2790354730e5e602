//! Models that an account does not have, or has too little room for: nothing that an account is to
//! blame for.

use serde_json::{Value, json};

use super::{KEY, assert_a1_took_over, generate, house, message, of_model};
use crate::support::{Gateway, chat, get, post, ranked};

#[test]
fn a_model_that_one_account_does_not_have_is_asked_of_the_others_from_then_on() {
    let mut house = house();
    let fate = house.ask(&of_model("m1"), "a0", &[("body", "model_not_found")]);
    assert_a1_took_over(&fate, "model_unavailable");
    assert_eq!(
        house.ask(&of_model("m1"), "nobody", &[]).tries,
        "a1:success"
    );
    assert_eq!(
        house.ask(&of_model("m2"), "nobody", &[]).tries,
        "a0:success"
    );
    house.assert_all_are_healthy();
    let shown = house.gateway.program.command(&["status", "--json"]).1;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let cooling = &shown["accounts"][0]["cooling_models"];
    assert_eq!(cooling[0]["model"], "m1", "{cooling}");
    assert_eq!(cooling[0]["reason"], "model_unavailable");
    assert_eq!(shown["accounts"][1]["cooling_models"], json!([]));
}

#[test]
fn a_model_that_nobody_has_is_the_clients_mistake_and_marks_nobody() {
    let mut house = house();
    for (request, body) in [
        (of_model("m1"), "model_not_found"),
        (message(), "model_not_found"),
        (message(), "model_forbidden"),
        (generate(), "model_not_found"),
    ] {
        let fate = house.ask(&request, "a0,a1,a2", &[("body", body)]);
        let status = if body == "model_forbidden" { 403 } else { 404 };
        assert_eq!(fate.answer.status, status, "{}", fate.answer.text());
        let tries = "a0:model_unavailable,a1:model_unavailable,a2:model_unavailable";
        assert_eq!(fate.tries, tries);
        assert_eq!(house.ask(&request, "nobody", &[]).tries, "a0:success");
    }
    house.assert_all_are_healthy();
}

#[test]
fn a_model_is_known_by_the_name_that_the_account_was_told() {
    let (_vendors, pool) = ranked("");
    let renamed = pool.replacen("priority: 0,", "priority: 0, models: {m1: of-a0},", 1);
    let gateway = Gateway::start(&renamed);
    // Anthropic says it in a sentence, with the name that it got.
    let refused = post("/v1/messages", &json!({"model": "m1", "messages": []}))
        .header("x-request-id", "renamed")
        .header("x-mock-only", "a0")
        .header("x-mock-body", "model_forbidden");
    assert_eq!(gateway.send(&refused).status, 200);
    assert_eq!(gateway.tries("renamed"), "a0:model_unavailable,a1:success");
}

#[test]
fn an_overloaded_vendor_is_not_the_accounts_fault() {
    let mut house = house();
    for (request, faults) in [
        (message(), &[("status", "529")][..]),
        (chat(false), &[("body", "slow_down")]),
        (generate(), &[("body", "overloaded")]),
        (chat(false), &[("body", "model_capacity")]),
    ] {
        let fate = house.ask(&request, "a0", faults);
        assert_a1_took_over(&fate, "overloaded");
        house.assert_all_are_healthy();
    }
    let fate = house.ask(&message(), "a0,a1,a2", &[("status", "529")]);
    assert_eq!(fate.answer.status, 529, "the last real answer");
    assert_eq!(fate.answer.json()["error"]["type"], "overloaded_error");
    assert_eq!(fate.tries, "a0:overloaded,a1:overloaded,a2:overloaded");
    house.assert_all_are_healthy();
}

#[test]
fn a_list_of_models_comes_from_the_other_accounts_and_blames_nobody() {
    let house = house();
    let broken = json!({"behaviour": {"status": "500"}});
    house.vendors[0].set(&broken);
    let answer = house.gateway.send(&get("/v1/models").bearer(KEY));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "list");
    house.assert_all_are_healthy();
}
