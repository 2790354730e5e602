//! No key that was acknowledged is lost, and no revocation, whenever the gateway is killed.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{gateway, status};
use crate::support::{Request, count, post, wait_for};

/// What a gateway has acknowledged.
#[derive(Default)]
struct Acknowledged {
    valid: Vec<String>,
    revoked: Vec<String>,
}

#[test]
fn twenty_kills_lose_no_acknowledged_key_and_bring_no_revoked_one_back() {
    let (mut gateway, _vendors) = gateway("");
    let mut known = Acknowledged::default();
    for round in 0..count(5, 20) {
        let (admin, token) = (gateway.admin_address, gateway.admin_token());
        let is_over = AtomicBool::new(false);
        let acknowledged = std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let mut made = Acknowledged::default();
                let send = |request: Request| -> Option<Value> {
                    let answer = request.bearer(&token).try_send(admin).ok()?;
                    (answer.status < 300).then(|| answer.json())
                };
                while !is_over.load(Ordering::SeqCst) {
                    let Some(key) = send(post("/api/v1/keys", &json!({}))) else {
                        continue;
                    };
                    let text = |field: &str| key[field].as_str().unwrap().to_owned();
                    if made.valid.len() <= made.revoked.len() {
                        made.valid.push(text("key"));
                        continue;
                    }
                    let path = format!("/api/v1/keys/{}", text("id"));
                    if send(Request::new("DELETE", &path)).is_some() {
                        made.revoked.push(text("key"));
                    }
                }
                made
            });
            // At another moment each time: so many keys are made before.
            let before = 3 + round % 5;
            wait_for("some keys", || {
                let listed = crate::support::get("/api/v1/keys?limit=1000").bearer(&token);
                let listed = listed.try_send(admin).ok()?.json();
                let known = known.valid.len() + known.revoked.len();
                (listed["keys"].as_array()?.len() >= known + before).then_some(())
            });
            gateway.program.signal(Signal::SIGKILL);
            is_over.store(true, Ordering::SeqCst);
            changes.join().unwrap()
        });
        gateway.program.wait();
        known.valid.extend(acknowledged.valid);
        known.revoked.extend(acknowledged.revoked);
        gateway.start_again();
        for (keys, wanted) in [(&known.valid, 200), (&known.revoked, 401)] {
            for key in keys {
                assert_eq!(status(&gateway, key), wanted, "in round {round}");
            }
        }
    }
    assert!(known.valid.len() > 5 && !known.revoked.is_empty());
}
