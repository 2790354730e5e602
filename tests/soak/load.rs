//! The load of a soak: as many requests as the machine can do, of every kind that a day brings.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

/// Requests at once.
const CLIENTS: usize = 64;

/// A body that is read in many pieces.
const LARGE: usize = 200 << 10;

/// What a request is and what its vendors are asked to do; half of them are as they should be.
const KINDS: [(&str, &[(&str, &str)]); 12] = [
    ("plain", &[]),
    ("plain", &[]),
    ("plain", &[]),
    ("stream", &[]),
    ("stream", &[]),
    ("stream", &[("x-mock-gap", "2ms"), ("x-mock-events", "40")]),
    ("large", &[]),
    ("leaves", &[("x-mock-gap", "5ms")]),
    ("fails", &[("x-mock-status", "500"), ("x-mock-only", "a0")]),
    (
        "fails",
        &[
            ("x-mock-status", "429"),
            ("x-mock-retry-after", "100ms"),
            ("x-mock-only", "a1"),
        ],
    ),
    ("fails", &[("x-mock-status", "400")]),
    ("breaks", &[("x-mock-cut", "3"), ("x-mock-only", "a0")]),
];

/// How many requests of each kind came to an end, and how many had an answer they should not have.
#[derive(Default)]
pub(super) struct Counts {
    whole: AtomicU64,
    failed: AtomicU64,
    broken: AtomicU64,
    left: AtomicU64,
    wrong: AtomicU64,
    /// The first few of those, as they were.
    odd: Mutex<Vec<String>>,
}

/// More would not be read.
const MOST_ODD: usize = 10;

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [whole, failed, broken, left, wrong] = [
            &self.whole,
            &self.failed,
            &self.broken,
            &self.left,
            &self.wrong,
        ]
        .map(count);
        write!(
            f,
            "{whole} whole, {failed} failed, {broken} broken, {left} left, {wrong} wrong"
        )
    }
}

impl Counts {
    fn note(&self, odd: String) {
        let mut noted = self.odd.lock();
        if noted.len() < MOST_ODD {
            noted.push(odd);
        }
    }

    /// Every kind of end was met, and what should have been served was.
    pub(super) fn assert_all_kinds_came(&self) {
        for counter in [&self.whole, &self.failed, &self.broken, &self.left] {
            assert!(counter.load(Ordering::Relaxed) > 0, "{self}");
        }
        let wrong = self.wrong.load(Ordering::Relaxed);
        assert_eq!(wrong, 0, "{self}: {:#?}", self.odd.lock());
    }
}

type Clients = Client<HttpConnector, Full<Bytes>>;

/// Asks until it is over.
pub(super) fn run(to: SocketAddr, counts: &Counts, over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let one = |n: usize| {
            let client = client.clone();
            async move {
                let mut rng = Rng::with_seed(n as u64);
                while !over.load(Ordering::Relaxed) {
                    ask(&client, to, &mut rng, counts).await;
                }
            }
        };
        futures::future::join_all((0..CLIENTS).map(one)).await;
    });
}

async fn ask(client: &Clients, to: SocketAddr, rng: &mut Rng, counts: &Counts) {
    let (kind, asked) = rng.choice(KINDS).unwrap();
    let stream = matches!(kind, "stream" | "leaves" | "breaks");
    let mut body = format!(r#"{{"model":"gpt-5","stream":{stream},"messages":[]}}"#).into_bytes();
    if kind == "large" {
        body.resize(LARGE, b' ');
    }
    let mut request = http::Request::post(format!("http://{to}/v1/chat/completions"));
    for (name, value) in asked {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).unwrap();
    let counter = match (kind, client.request(request).await) {
        ("leaves", Ok(answer)) => {
            let mut body = answer.into_body();
            drop(body.frame().await);
            &counts.left
        }
        (_, Ok(answer)) => {
            let status = answer.status().as_u16();
            let whole = answer.into_body().collect().await;
            let body = whole.map(|body| body.to_bytes()).unwrap_or_default();
            let is_whole = !stream || body.ends_with(b"data: [DONE]\n\n");
            match (kind, status) {
                ("breaks", 200) if !is_whole => &counts.broken,
                ("fails", 200 | 400) if is_whole => &counts.failed,
                (_, 200) if is_whole => &counts.whole,
                _ => {
                    counts.note(format!(
                        "{kind}: {status} {}",
                        String::from_utf8_lossy(&body)
                    ));
                    &counts.wrong
                }
            }
        }
        (_, Err(e)) => {
            counts.note(format!("{kind}: {e:?}"));
            &counts.wrong
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
}
