//! Who takes an account out for want of a login, and who puts it back: its upstream, the renewal of its
//! token, a reload.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use super::{MINUTE, Rig, config};
use crate::credential::{Phase, State};
use crate::pool::{Outcome, Status};

const OAUTH2: &str = "id: a, credential: {oauth2: {token_url: \"https://vendor.test/t\", \
                      client_id: c, refresh_token: r}}";

/// The account's renewal says how it stands.
fn tell(rig: &Rig, phase: Phase) {
    let account = rig.pool.account_named("a").unwrap();
    let has_token = matches!(phase, Phase::Ok);
    let state = State {
        phase,
        expires_at: None,
        granted_at: has_token.then_some(SystemTime::UNIX_EPOCH),
    };
    let credential = Arc::downgrade(&account.credential);
    let now = SystemTime::UNIX_EPOCH;
    assert!(rig.pool.token_state("a", &credential, &state, now));
}

fn endpoint_down() -> Phase {
    Phase::Transient("the token endpoint: no answer".to_owned())
}

fn login_over() -> Phase {
    Phase::NeedsLogin("the vendor says invalid_grant".to_owned())
}

#[test]
fn an_account_with_another_kind_of_credential_serves_whatever_its_renewal_said() {
    let others = ["credential: {api_key: k}", "credential: none"];
    for (other, phase) in others
        .iter()
        .flat_map(|other| [(other, endpoint_down()), (other, login_over())])
    {
        let rig = Rig::new("", &[OAUTH2]);
        tell(&rig, phase);
        assert_eq!(rig.order(1), "-");
        assert!(!rig.pool.could_serve());
        let other = format!("id: a, {other}");
        rig.pool.reconfigure(&config("", &[other]));
        assert_eq!(rig.order(1), "a");
    }
}

#[test]
fn the_renewal_of_a_login_that_was_replaced_says_nothing_of_the_new_one() {
    let rig = Rig::new("", &[OAUTH2]);
    let old = rig.pool.account_named("a").unwrap();
    let new = OAUTH2.replace("refresh_token: r", "refresh_token: r2");
    rig.pool.reconfigure(&config("", &[new]));
    tell(&rig, Phase::Ok);
    for phase in [login_over(), endpoint_down()] {
        let state = State {
            phase,
            expires_at: None,
            granted_at: None,
        };
        let credential = Arc::downgrade(&old.credential);
        let is_heard = rig
            .pool
            .token_state("a", &credential, &state, SystemTime::UNIX_EPOCH);
        assert!(!is_heard);
        assert_eq!(rig.view("a").status, Status::Healthy);
        assert_eq!(rig.view("a").last_error, None);
    }
}

/// A vendor whose endpoint grants what its upstream refuses would else be asked for ever.
#[test]
fn new_tokens_do_not_make_up_for_an_upstream_that_refuses_each_of_them() {
    let mut rig = Rig::new("", &[OAUTH2]);
    tell(&rig, Phase::Ok);
    for _ in 0..2 {
        rig.one(&Outcome::AuthDead);
        tell(&rig, Phase::Ok);
        rig.pass(MINUTE);
        rig.pool.tick(rig.now);
    }
    rig.one(&Outcome::AuthDead);
    tell(&rig, Phase::Ok);
    assert_eq!(rig.view("a").status, Status::NeedsLogin);
    rig.pass(MINUTE);
    rig.pool.tick(rig.now);
    assert_eq!(rig.view("a").status, Status::NeedsLogin, "in five minutes");
    rig.pool.secret_changed("a");
    assert_eq!(rig.order(1), "a");
}

#[test]
fn a_login_that_its_endpoint_refuses_waits_for_a_new_token_and_not_for_a_try() {
    let mut rig = Rig::new("", &[OAUTH2]);
    tell(&rig, login_over());
    for _ in 0..3 {
        rig.pass(60 * MINUTE);
        rig.pool.tick(rig.now);
        assert_eq!(rig.view("a").status, Status::NeedsLogin);
    }
    rig.pool.reset("a");
    assert_eq!(rig.order(1), "-", "it is tried by its renewal first");
    tell(&rig, Phase::Ok);
    assert_eq!(rig.order(1), "a");
}

#[test]
fn a_secret_that_cannot_be_read_yet_is_waited_for_however_often_one_reloads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let rig = Rig::new("", &[OAUTH2]);
    tell(&rig, Phase::Ok);
    let file = format!(
        "id: a, credential: {{api_key: {{file: {}}}}}",
        path.display()
    );
    for _ in 0..2 {
        rig.pool.reconfigure(&config("", &[&file]));
        let account = rig.pool.account_named("a").unwrap();
        assert_eq!(account.credential.files().collect::<Vec<_>>(), [&path]);
        assert_eq!(rig.view("a").status, Status::NeedsLogin);
        assert!(account.credential.state().is_none(), "nobody renews it");
    }
    fs::write(&path, "k").unwrap();
    rig.pool.reconfigure(&config("", &[&file]));
    assert_eq!(rig.order(1), "a");
    // Of the same kind and for the same upstream, the secret in use is better than none.
    let moved = file.replace("key}", "moved}");
    for _ in 0..2 {
        rig.pool.reconfigure(&config("", &[&moved]));
        assert_eq!(rig.order(1), "a");
    }
}

/// A request that waited for the token meanwhile knows only that there is none.
#[test]
fn why_a_login_is_over_is_not_forgotten_for_a_request_that_got_no_token() {
    let rig = Rig::new("", &[OAUTH2]);
    tell(&rig, Phase::Ok);
    let lease = rig.take().unwrap();
    tell(&rig, login_over());
    rig.end(lease, &Outcome::AuthExpired);
    let why = rig.view("a").last_error;
    assert_eq!(why.as_deref(), Some("the vendor says invalid_grant"));
}
