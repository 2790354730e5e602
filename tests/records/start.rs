//! What a start says of a database that it cannot use.

use poolgate::secret::Secret;
use poolgate::store::Store;

use super::{Records, over_both};
use crate::support::{Postgres, free_address};

async fn error(url: &str) -> String {
    let store = Store::on_server(&Secret::new(url));
    let ready = match store {
        Ok(store) => store.ready().await,
        Err(error) => Err(error),
    };
    let error = ready.unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    format!(
        "{}: {error}",
        if error.is_lasting() {
            "lasting"
        } else {
            "away"
        }
    )
}

#[test]
fn what_is_wrong_with_the_url_is_said_without_the_password_in_it() {
    let server = Postgres::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let at = server.address;
        let good = Store::on_server(&Secret::new(server.url()));
        good.unwrap().ready().await.unwrap();
        let wrong = error(&server.url_with("s3cret")).await;
        assert_eq!(
            wrong,
            format!(
                "lasting: PostgreSQL at {at}, database poolgate: cannot be used: \
                 password authentication failed for user \"poolgate\""
            )
        );
        let missing = server.url() + "-less";
        let missing = error(&missing).await;
        assert!(missing.contains("does not exist"), "{missing}");
        let tls = error(&format!("{}?sslmode=require", server.url())).await;
        assert!(tls.starts_with("lasting: ") && tls.contains("TLS"), "{tls}");
        let nonsense = error("postgres://poolgate:s3cret@host:port/").await;
        assert!(
            nonsense.contains("the URL cannot be understood"),
            "{nonsense}"
        );
        let nobody = free_address();
        let nobody = error(&format!("postgres://poolgate:s3cret@{nobody}/x")).await;
        assert!(
            nobody.starts_with("away: ") && nobody.contains("cannot be reached"),
            "{nobody}"
        );
    });
}

#[test]
fn many_processes_may_make_the_tables_at_once() {
    over_both(async |records: Records| {
        let opened = (0..6).map(|_| {
            let store = records.open();
            async move { store.ready().await }
        });
        for opened in futures::future::join_all(opened).await {
            opened.unwrap();
        }
    });
}

#[test]
fn a_database_of_a_newer_poolgate_is_left_alone() {
    let server = Postgres::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        Store::on_server(&Secret::new(server.url()))
            .unwrap()
            .ready()
            .await
            .unwrap();
        server.sql("UPDATE format SET version = 99");
        let said = error(&server.url()).await;
        assert!(said.starts_with("lasting: "), "{said}");
        assert!(
            said.contains("is in format 99, of a newer poolgate"),
            "{said}"
        );
    });
}
