//! The book of slots over records that hang: nobody waits for it for long.

use std::time::Duration;

use poolgate::store::Ledger;
use sqlx::{AnyConnection, Connection, Executor};

use super::Records;

#[test]
fn a_step_that_the_database_does_not_answer_fails_in_time() {
    let Records::Server(server) = Records::on_server() else {
        unreachable!()
    };
    let url = server.url();
    let records = Records::Server(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = records.open();
        assert!(Ledger::all(&store).await.unwrap().is_empty());
        let mut other = AnyConnection::connect(&url).await.unwrap();
        for step in [
            "BEGIN",
            "LOCK TABLE assignments, counters IN ACCESS EXCLUSIVE MODE",
        ] {
            other.execute(step).await.unwrap();
        }
        let used = [("key".into(), 1)];
        // Else they would wait for as long as the lock is held.
        let steps = async {
            tokio::join!(
                Ledger::all(&store),
                Ledger::version(&store),
                Ledger::release(&store, "key", "a", None),
                store.touch(&used),
                Ledger::restore(&store, &[]),
            )
        };
        let (all, version, release, touch, restore) =
            tokio::time::timeout(Duration::from_secs(60), steps)
                .await
                .expect("each has its deadline");
        assert!(all.is_err() && version.is_err() && release.is_err());
        assert!(touch.is_err() && restore.is_err());
        other.execute("ROLLBACK").await.unwrap();
        assert!(
            Ledger::all(&store).await.unwrap().is_empty(),
            "it serves on"
        );
    });
}
