//! Who waits for an upstream's list, and how often the upstream is asked, over sockets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config;
use crate::pool::Pool;
use crate::telemetry::Metrics;

/// An upstream whose list has one model: `m-1` when asked for the first time, then `m-2` …
struct Vendor {
    asked: Arc<AtomicUsize>,
    /// An account of it; its pool lives as long.
    account: Arc<Account>,
    _pool: Arc<Pool>,
}

impl Vendor {
    async fn start(status: &'static str) -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let read = socket.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(b"GET /v1/models HTTP/1.1"));
                let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
                let body = format!("{{\"data\": [{{\"id\": \"m-{nth}\"}}]}}");
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let text =
            format!("pools: {{default: {{accounts: [{{id: a, upstream: 'http://{address}'}}]}}}}");
        let loaded = config::parse(&text, "poolgate.yaml".as_ref(), &|_| None);
        let config = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Arc::new(Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap());
        let pool = Pool::new(&config.config.pools[0], &metrics, clock::now());
        Vendor {
            asked,
            account: pool.account_named("a").unwrap(),
            _pool: pool,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn model_of(&self, catalogue: &Arc<Catalogue>, is_alone: bool) -> Option<String> {
        let list = catalogue
            .of(&self.account, Dialect::OpenAi, is_alone)
            .await?;
        Some(list[0].id.to_string())
    }

    async fn model(&self, catalogue: &Arc<Catalogue>) -> Option<String> {
        self.model_of(catalogue, false).await
    }
}

fn catalogue(fresh: Duration) -> Arc<Catalogue> {
    Arc::new(Catalogue {
        fresh,
        ..Catalogue::new(Arc::default(), Arc::default())
    })
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_request() {
    let vendor = Vendor::start("200 OK").await;
    let catalogue = catalogue(FRESH);
    let all = join_all((0..50).map(|_| vendor.model(&catalogue))).await;
    assert!(all.iter().all(|model| model.as_deref() == Some("m-1")));
    assert_eq!(vendor.asked(), 1);
}

#[tokio::test]
async fn who_may_use_one_account_alone_gets_that_accounts_list() {
    let vendor = Vendor::start("200 OK").await;
    let catalogue = catalogue(FRESH);
    assert_eq!(vendor.model(&catalogue).await.as_deref(), Some("m-1"));
    for _ in 0..3 {
        let own = vendor.model_of(&catalogue, true).await;
        assert_eq!(own.as_deref(), Some("m-2"), "asked for with it, once");
    }
    assert_eq!(vendor.model(&catalogue).await.as_deref(), Some("m-1"));
}

#[tokio::test]
async fn an_old_list_is_told_while_the_next_is_asked_for() {
    let vendor = Vendor::start("200 OK").await;
    let catalogue = catalogue(Duration::ZERO);
    assert_eq!(vendor.model(&catalogue).await.as_deref(), Some("m-1"));
    // The answer to this comes before the upstream is asked again.
    assert_eq!(vendor.model(&catalogue).await.as_deref(), Some("m-1"));
    while vendor.model(&catalogue).await.as_deref() == Some("m-1") {
        tokio::task::yield_now().await;
    }
    assert!(vendor.asked() >= 2);
}

#[tokio::test]
async fn an_upstream_that_gives_no_list_is_left_alone_for_a_while() {
    let vendor = Vendor::start("500 Oops").await;
    let catalogue = catalogue(FRESH);
    for _ in 0..20 {
        assert_eq!(vendor.model(&catalogue).await, None);
    }
    assert_eq!(vendor.asked(), 1);
}
