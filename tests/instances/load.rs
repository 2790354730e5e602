//! Programs that are killed while requests keep coming.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use super::house::{House, QUICK, account, pool, signal};
use crate::support::{Connection, chat, count, wait_for};

/// An answer that has begun cannot be taken back; the programs here give theirs whole or not at all.
#[test]
fn whichever_program_is_killed_under_load_no_request_fails() {
    let accounts = ["a", "b", "c"].map(|id| account(id, "", ""));
    // Otherwise three kills in a row would be a crash loop.
    let config = QUICK.replace("give_up_after: 3", "give_up_after: 1000");
    let house = House::start(&(config + &pool("", &accounts)), &[]);
    for id in ["a", "b", "c"] {
        house.pid(id);
    }
    let is_over = AtomicBool::new(false);
    let statuses = std::thread::scope(|scope| {
        let client = || {
            let mut statuses = BTreeMap::<u16, usize>::new();
            let mut connection = Connection::open(house.address).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                let status = connection.send(&chat(false)).unwrap().status;
                *statuses.entry(status).or_default() += 1;
            }
            statuses
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        for n in 0..count(3, 60) {
            let id = ["a", "b", "c"][n % 3];
            let pid = house.becomes_any(id, &["ready", "busy"]);
            signal(pid, Signal::SIGKILL);
            wait_for("another process", || {
                let next = house.instance(id).unwrap();
                let serves = next["state"] == "ready" || next["state"] == "busy";
                (serves && next["pid"] != pid).then_some(())
            });
        }
        is_over.store(true, Ordering::Relaxed);
        let all = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        all.fold(BTreeMap::new(), |mut sum, (status, n)| {
            *sum.entry(status).or_insert(0) += n;
            sum
        })
    });
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
    assert!(house.metric("poolgate_instance_restarts_total", &[]) >= 3.0);
}
