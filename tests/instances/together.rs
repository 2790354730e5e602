//! Several programs serve at the same time, and one alone serves one after the other.

use std::thread;

use super::house::{House, QUICK, account, pool};
use crate::support::{chat, wait_for};

/// One that takes one request at a time.
fn alone(id: &str) -> String {
    let text = account(id, "", "");
    text.replace(
        "        instance:",
        "        max_concurrent: 1\n        instance:",
    )
}

/// Row 2-04: each of the three waits for the test, and all are at work before any is let go.
#[test]
fn as_many_requests_are_answered_at_once_as_there_are_programs() {
    let ids = ["a", "b", "c"];
    let accounts = ids.map(alone);
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    for id in ids {
        house.pid(id);
        house.write(&format!("{id}.slow"), "");
    }
    let address = house.address;
    let sent: Vec<_> = (0..3)
        .map(|_| thread::spawn(move || chat(false).send(address).status))
        .collect();
    for id in ids {
        house.becomes(id, "busy");
    }
    // It may be a tenth of a second old.
    wait_for("/health to know", || {
        (house.get("/health").json()["busy_instances"] == 3).then_some(())
    });
    for id in ids {
        house.remove(&format!("{id}.slow"));
    }
    let statuses: Vec<u16> = sent.into_iter().map(|sent| sent.join().unwrap()).collect();
    assert_eq!(statuses, [200; 3]);
}

/// Rows 2-23 to 2-25, 2-64, 2-67.
#[test]
fn one_program_alone_answers_one_after_the_other_and_the_log_names_it() {
    let accounts = [alone("instance_1")];
    let house = House::start(&(QUICK.to_owned() + &pool("", &accounts)), &[]);
    house.pid("instance_1");
    let health = house.get("/health").json();
    assert_eq!(health["multi_instance_mode"], false, "{health}");
    house.write("instance_1.slow", "");
    let address = house.address;
    let ask = |id: &'static str| {
        thread::spawn(move || chat(false).header("x-request-id", id).send(address).status)
    };
    let first = ask("one");
    house.becomes("instance_1", "busy");
    let second = ask("two");
    wait_for("the second to wait", || {
        (house.metric("poolgate_queue_waiting", &[]) == 1.0).then_some(())
    });
    house.remove("instance_1.slow");
    assert_eq!([first.join().unwrap(), second.join().unwrap()], [200, 200]);
    for id in ["one", "two"] {
        assert_eq!(house.tries(id), "instance_1:success");
    }
}
