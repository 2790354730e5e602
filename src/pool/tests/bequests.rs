//! What a successor makes of the state that is left to it.

use super::{MINUTE, Outcome, Rig};
use crate::pool::Status;

#[test]
fn a_secret_that_is_refused_is_refused_in_the_successor_until_it_is_another_one() {
    let with = |key: &str| Rig::new("", &[format!("id: a, credential: {{api_key: {key}}}")]);
    let mut rig = with("dead");
    rig.one(&Outcome::AuthDead);
    rig.pass(MINUTE);
    rig.one(&Outcome::AuthDead);
    assert_eq!(rig.view("a").status, Status::NeedsLogin);
    let (mut same, other) = (with("dead"), with("new"));
    rig.hand_over(&same);
    rig.hand_over(&other);
    // Its breaker has yet to see that this one is better.
    assert_ne!(other.view("a").status, Status::NeedsLogin);
    assert_eq!(same.view("a").status, Status::NeedsLogin);
    assert_eq!(same.view("a").last_error, rig.view("a").last_error);
    // It is tried again when it would have been, and by one request.
    assert!(same.take().is_none());
    same.pass(MINUTE);
    let _probe = same.take().unwrap();
    assert!(same.take().is_none());
}

#[test]
fn an_account_goes_on_through_its_program_and_not_through_one_that_it_never_had() {
    let with_program = || Rig::new("", &["id: a, instance: {command: [x], port: 1}"]);
    let (rig, successor) = (with_program(), with_program());
    rig.hand_over(&successor);
    assert!(successor.take().is_none(), "it was not ready there either");
    rig.pool.program_up("a");
    rig.hand_over(&successor);
    assert!(successor.take().is_some());
    let (without, successor) = (Rig::new("", &["id: a"]), with_program());
    assert!(without.take().is_some());
    without.hand_over(&successor);
    assert!(successor.take().is_none());
}
