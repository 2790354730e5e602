//! A gateway that is killed at any moment leaves every slot with the key that holds it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{clients, held, with_key};
use crate::support::{Gateway, Mock, count};

const KEYS: usize = 30;
const ACCOUNTS: usize = 10;

fn house(tier: &str) -> (Mock, Gateway) {
    let vendor = Mock::start(&[]);
    let account = |n| format!("      - {{id: a{n}, upstream: \"{}\"}}\n", vendor.url());
    let accounts: String = (0..ACCOUNTS).map(account).collect();
    let text = clients(KEYS, tier) + "pools:\n  default:\n    accounts:\n" + &accounts;
    let gateway = Gateway::start(&text);
    (vendor, gateway)
}

/// Has all keys used until `kill` has killed the gateway; which account each was served by last.
fn used_until_killed(gateway: &Gateway, wait: Duration) -> BTreeMap<usize, String> {
    let (served, killed) = (Mutex::new(BTreeMap::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        for first in 0..6 {
            let (served, killed) = (&served, &killed);
            scope.spawn(move || {
                for n in (first..KEYS).step_by(6).cycle() {
                    if killed.load(Ordering::SeqCst) {
                        return;
                    }
                    // The kill may meet any request.
                    let Ok(answer) = with_key(n).try_send(gateway.address) else {
                        continue;
                    };
                    if answer.status == 200 {
                        let account = answer.header("x-poolgate-account").unwrap();
                        served.lock().insert(n, account.to_owned());
                    }
                }
            });
        }
        thread::sleep(wait);
        gateway.program.signal(Signal::SIGKILL);
        killed.store(true, Ordering::SeqCst);
    });
    served.into_inner()
}

#[track_caller]
fn assert_sound(gateway: &Gateway) -> BTreeMap<String, String> {
    let held = held(gateway);
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    for account in held.values() {
        *used.entry(account).or_default() += 1;
    }
    assert!(used.values().all(|used| *used <= 2), "{used:?}");
    held
}

#[test]
fn a_killed_gateway_leaves_each_slot_with_its_key_and_no_account_with_too_many() {
    let (_vendor, mut gateway) = house(", rotate_every: 20ms");
    for round in 0..count(10, 100) {
        let wait = Duration::from_millis(fastrand::u64(1..150));
        let served = used_until_killed(&gateway, wait);
        gateway.program.wait();
        gateway.start_again();
        let held = assert_sound(&gateway);
        for n in served.keys() {
            let name = format!("k{n}");
            assert!(
                held.contains_key(&name),
                "round {round}: {name} was served: {held:?}"
            );
        }
    }
}

#[test]
fn no_assignment_that_was_used_is_lost_when_the_gateway_is_killed() {
    let (_vendor, mut gateway) = house("");
    let mut known = BTreeMap::new();
    for _ in 0..count(3, 30) {
        let served = used_until_killed(&gateway, Duration::from_millis(fastrand::u64(1..300)));
        known.extend(served);
        gateway.program.wait();
        gateway.start_again();
        let held = assert_sound(&gateway);
        for (n, account) in &known {
            assert_eq!(held.get(&format!("k{n}")), Some(account));
        }
    }
}
