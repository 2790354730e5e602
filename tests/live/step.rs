//! A reload is one step to whoever sends requests meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Connection, Gateway, Mock, chat, count, wait_for};

/// The file of this round: its own pool and account, its own key, and one key that is always there
/// and moves from pool to pool.
fn file(round: usize, vendor: &Mock) -> String {
    let url = vendor.url();
    format!(
        "log: {{access: false}}\n\
         clients:\n  keys:\n  \
         - {{key: key-of-round-{round}, name: now, tier: now, expose_account: true}}\n  \
         - {{key: key-of-always, name: always, tier: moves}}\n\
         tiers:\n  now: {{pools: [stays]}}\n  moves: {{pools: [of-{round}]}}\n\
         pools:\n  of-{round}:\n    accounts: [{{id: m{round}, upstream: \"{url}\"}}]\n  \
         stays:\n    accounts: [{{id: s{round}, upstream: \"{url}\"}}]\n"
    )
}

#[test]
fn a_new_key_meets_only_the_new_accounts_and_a_key_whose_pool_changes_finds_one() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&file(0, &vendors[0]));
    let path = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let head = text.strip_suffix(&file(0, &vendors[0])).unwrap();
    let is_over = AtomicBool::new(false);
    let always = || {
        let mut connection = Connection::open(gateway.address).unwrap();
        while !is_over.load(Ordering::SeqCst) {
            let request = chat(false).bearer("key-of-always");
            let answer = connection.send(&request).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    let first_served = |round: usize| {
        let mut connection = Connection::open(gateway.address).unwrap();
        let request = chat(false).bearer(&format!("key-of-round-{round}"));
        wait_for("the new key to be let in", || {
            let answer = connection.send(&request).unwrap();
            if answer.status == 401 {
                return None;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            let account = answer.header("x-poolgate-account").unwrap();
            assert_eq!(account, format!("s{round}"));
            Some(())
        });
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(always);
        }
        // A test that fails must not leave its clients running.
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=count(20, 400) {
                let waits = scope.spawn(move || first_served(round));
                let next = head.to_owned() + &file(round, &vendors[0]);
                gateway.program.write("poolgate.yaml", &next);
                let (code, _, complaints) = gateway.program.command(&["reload"]);
                assert_eq!(code, Some(0), "{complaints}");
                waits.join().unwrap();
            }
        }));
        is_over.store(true, Ordering::SeqCst);
        if let Err(panic) = rounds {
            std::panic::resume_unwind(panic);
        }
    });
}
