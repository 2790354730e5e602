//! Several gateways whose keys and slots are in one PostgreSQL, without a Redis.

use std::sync::Barrier;
use std::thread;

use super::{clients, held, with_key};
use crate::support::{Gateway, Mock, Postgres, wait_for};

const ACCOUNTS: usize = 10;

fn house(postgres: &Postgres) -> (Mock, [Gateway; 2]) {
    let vendor = Mock::start(&[]);
    let account = |n| format!("      - {{id: a{n}, upstream: \"{}\"}}\n", vendor.url());
    let accounts: String = (0..ACCOUNTS).map(account).collect();
    let text = format!(
        "state: {{postgres: \"{}\"}}\n{}pools:\n  default:\n    accounts:\n{accounts}",
        postgres.url(),
        clients(100, "")
    );
    let gateways = [(); 2].map(|()| Gateway::start(&text));
    (vendor, gateways)
}

#[test]
fn of_a_hundred_first_calls_over_two_gateways_exactly_twenty_are_served() {
    let postgres = Postgres::start();
    let (vendor, gateways) = house(&postgres);
    let start = Barrier::new(100);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let (start, gateways) = (&start, &gateways);
        let client = |n: usize| {
            scope.spawn(move || {
                start.wait();
                let answer = gateways[n % 2].send(&with_key(n));
                if answer.status == 503 {
                    assert_eq!(answer.json()["error"]["code"], "capacity_error");
                }
                answer.status
            })
        };
        let clients: Vec<_> = (0..100).map(client).collect();
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.collect()
    });
    let of = |status: u16| {
        (0..100)
            .filter(|n| statuses[*n] == status)
            .collect::<Vec<_>>()
    };
    let served = of(200);
    assert_eq!((served.len(), of(503).len()), (20, 80), "{statuses:?}");
    assert_eq!(vendor.count("requests"), 20);
    let slots = "SELECT COUNT(*), MAX(keys) FROM \
        (SELECT COUNT(*) AS keys FROM assignments GROUP BY account) AS accounts";
    assert_eq!(postgres.sql(slots), "10|2", "accounts, and keys on one");
    // Both see the same, and a key has its account at either.
    for (n, gateway) in gateways.iter().enumerate() {
        wait_for("the book to be read", || {
            (held(gateway).len() == 20).then_some(())
        });
        for key in &served {
            let answer = gateway.send(&with_key(*key));
            assert_eq!(answer.status, 200, "gateway {n}: {}", answer.text());
        }
    }
    assert_eq!(held(&gateways[0]), held(&gateways[1]));
    assert_eq!(postgres.sql(slots), "10|2");
}
