//! A panic in a hook costs the request it happened in, and nothing else.
//!
//! The gateway itself has no panic to offer, so its hooks are wrapped: each does its work and then
//! panics where the request says so. Server, vendor and clients are real, over sockets, in one thread.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, Session, http_proxy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::context::Context;
use super::{Gateway, OlderAnswer, OlderPaths, OlderRequest};
use crate::config;
use crate::health::Catalogue;
use crate::key::{Keys, Slots};
use crate::mock;
use crate::pool::Pool;
use crate::store::{Store, Usage};
use crate::telemetry::{self, Access, Live, Metrics};

/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hook that panics.
const PANICS: &str = "x-panics";

/// The hooks that an ordinary request passes.
const PASSED: [&str; 9] = [
    "early_request_filter",
    "request_filter",
    "upstream_peer",
    "upstream_request_filter",
    "request_body_filter",
    "upstream_response_filter",
    "response_filter",
    "response_body_filter",
    "logging",
];

/// Those that only a vendor which breaks off its connection leads to.
const BROKEN: [&str; 2] = ["error_while_proxy", "fail_to_proxy"];

/// The gateway, whose hooks panic after their work when they are asked to.
struct Panics(Gateway);

fn at(hook: &str, session: &Session) {
    let asked = session.req_header().headers.get(PANICS);
    assert!(asked.is_none_or(|asked| asked != hook), "in {hook}");
}

#[async_trait]
impl ProxyHttp for Panics {
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        self.0.new_ctx()
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        let done = self.0.early_request_filter(session, ctx).await;
        at("early_request_filter", session);
        done
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        let done = self.0.request_filter(session, ctx).await;
        at("request_filter", session);
        done
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        let mut done = self.0.upstream_peer(session, ctx).await;
        at("upstream_peer", session);
        if let Ok(peer) = &mut done {
            // This proxy of hooks has Pingora's own connector.
            peer.options.alpn = ALPN::H1;
        }
        done
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        let done = self.0.upstream_request_filter(session, head, ctx).await;
        at("upstream_request_filter", session);
        done
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        let done = self.0.request_body_filter(session, body, end, ctx).await;
        at("request_body_filter", session);
        done
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        let done = self.0.upstream_response_filter(session, head, ctx).await;
        at("upstream_response_filter", session);
        done
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        self.0
            .upstream_response_body_filter(session, body, end, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        let done = self.0.response_filter(session, head, ctx).await;
        at("response_filter", session);
        done
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        let done = self.0.response_body_filter(session, body, end, ctx);
        at("response_body_filter", session);
        done
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        let e = self.0.error_while_proxy(peer, session, e, ctx, reused);
        at("error_while_proxy", session);
        e
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        let done = self.0.fail_to_proxy(session, e, ctx).await;
        at("fail_to_proxy", session);
        done
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Self::CTX) {
        self.0.logging(session, e, ctx).await;
        at("logging", session);
    }
}

/// A gateway without older paths.
struct NoOlder;

#[async_trait]
impl OlderPaths for NoOlder {
    fn serves(&self, _: &str) -> bool {
        false
    }

    async fn answer(&self, _: OlderRequest) -> OlderAnswer {
        OlderAnswer::default()
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn health(&self) -> (bool, Bytes) {
        (true, Bytes::new())
    }
}

struct House {
    gateway: Gateway,
    address: SocketAddr,
    pool: Arc<Pool>,
    _folder: tempfile::TempDir,
    _vendor: mock::Vendor,
    _shutdown: watch::Sender<bool>,
}

async fn house() -> House {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let vendor = mock::Vendor::start(any, mock::Settings::default())
        .await
        .unwrap();
    let text = format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{}\", max_concurrent: 2}}]}}}}",
        vendor.url()
    );
    let loaded = config::parse(&text, "poolgate.yaml".as_ref(), &|_| None);
    let config = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let metrics = Arc::new(Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap());
    let pool = Pool::new(&config.pools[0], &metrics, crate::clock::now());
    let keys = Keys::new(&config, Some(Vec::new()));
    let folder = tempfile::tempdir().unwrap();
    let keep = config.state.keep.clone();
    let store = Store::in_dir(folder.path());
    let book = Arc::new(Store::in_dir(folder.path()));
    let slots = Slots::new(book, metrics.clone(), crate::clock::now());
    let usage = Usage::start(store, keep, folder.path(), metrics.clone());
    let gateway = Gateway {
        slots: Arc::new(slots),
        config: Arc::new(ArcSwap::from_pointee(config)),
        pools: Arc::new(ArcSwap::from_pointee(vec![pool.clone()])),
        keys: Arc::new(keys),
        tally: None,
        resolver: Arc::default(),
        tunnels: Arc::default(),
        catalogue: Arc::new(Catalogue::new(Arc::default(), Arc::default())),
        metrics,
        access: Access::off(),
        usage: Arc::new(usage.unwrap()),
        older: Arc::new(NoOlder),
        body_budget: Arc::new(Semaphore::new(1024)),
        in_flight: Arc::default(),
        refusing: Arc::default(),
        leaving: Arc::default(),
    };
    let mut proxy = http_proxy(&Arc::new(ServerConf::default()), Panics(gateway.clone()));
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    proxy.server_options = Some(options);
    let listener = TcpListener::bind(any).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, watched) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(proxy), watched));
    House {
        gateway,
        address,
        pool,
        _folder: folder,
        _vendor: vendor,
        _shutdown: shutdown,
    }
}

/// As Pingora does it: a task for each connection.
async fn serve(
    listener: TcpListener,
    proxy: Arc<HttpProxy<Panics>>,
    shutdown: watch::Receiver<bool>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
        tokio::spawn(async move {
            let stream = Box::new(Stream::from(socket));
            proxy.process_new(stream, &shutdown).await;
        });
    }
}

fn chat(to: SocketAddr, headers: &[(&str, &str)]) -> http::Request<Full<Bytes>> {
    let body = r#"{"model":"gpt-5","stream":true,"messages":[]}"#;
    let mut request = http::Request::post(format!("http://{to}/v1/chat/completions"));
    request = request.header("host", to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

/// The whole answer over a connection of its own.
async fn over_http1(to: SocketAddr, headers: &[(&str, &str)]) -> hyper::Result<(u16, Bytes)> {
    let socket = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let answer = timeout(PATIENCE, sender.send_request(chat(to, headers))).await;
    let (head, body) = answer.unwrap()?.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.unwrap()?;
    Ok((head.status.as_u16(), body.to_bytes()))
}

impl House {
    /// Nobody is under way, and both places of the account can be had.
    async fn wait_until_free(&self, after: &str) {
        let is_free = || {
            let under_way = self
                .gateway
                .in_flight
                .load(std::sync::atomic::Ordering::SeqCst);
            under_way == 0 && self.pool.summary().in_flight == 0
        };
        let free = async {
            while !is_free() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, free)
            .await
            .unwrap_or_else(|_| panic!("not free after {after}"));
    }

    fn panics(&self) -> u64 {
        let text = self.gateway.metrics.encode(&Live::default(), false);
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("poolgate_panics_total "));
        count.unwrap().parse().unwrap()
    }

    async fn assert_serves(&self, after: &str) {
        let (status, body) = over_http1(self.address, &[]).await.unwrap();
        assert_eq!(status, 200, "after {after}");
        assert!(body.ends_with(b"data: [DONE]\n\n"), "after {after}");
    }
}

/// Everything that is logged, as one text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock())
            .matches(text)
            .count()
    }
}

/// The process's own panic hook, put back at the end.
struct Hook;

impl Drop for Hook {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

#[tokio::test]
async fn a_panic_in_any_hook_costs_one_request_and_is_told_once() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false);
    let _log = tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish());
    let house = house().await;
    telemetry::count_panics(house.gateway.metrics.clone());
    let _hook = Hook;
    let ordinary = PASSED.map(|hook| (hook, "x-mock-gap", "0ms"));
    let broken = BROKEN.map(|hook| (hook, "x-mock-reset", "1"));
    for (n, (hook, fault, value)) in ordinary.into_iter().chain(broken).enumerate() {
        let headers = [(PANICS, hook), (fault, value), ("x-request-id", hook)];
        let answer = over_http1(house.address, &headers).await;
        // By then the whole answer of an ordinary request is with the client.
        let is_late = matches!(hook, "logging" | "fail_to_proxy");
        assert!(answer.is_err() || is_late, "{hook}: {answer:?}");
        house.wait_until_free(hook).await;
        assert_eq!(house.panics(), n as u64 + 1, "{hook}");
        assert_eq!(log.count("a mistake in poolgate"), n + 1, "{hook}");
        let told = format!("the request was ended by a panic request_id=\"{hook}\"");
        // Before `request_filter` no request has an id.
        let is_early = hook == "early_request_filter";
        assert_eq!(log.count(&told), usize::from(!is_early), "{hook}");
        house.assert_serves(hook).await;
    }
}

#[tokio::test]
async fn other_streams_of_the_same_connection_go_on() {
    let house = house().await;
    telemetry::count_panics(house.gateway.metrics.clone());
    let _hook = Hook;
    let socket = TcpStream::connect(house.address).await.unwrap();
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (mut sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let slow = [("x-mock-gap", "20ms"), ("x-mock-events", "10")];
    let slow = sender
        .send_request(chat(house.address, &slow))
        .await
        .unwrap();
    for hook in [
        "request_filter",
        "upstream_response_filter",
        "response_body_filter",
    ] {
        let lost = sender.send_request(chat(house.address, &[(PANICS, hook)]));
        let lost = match timeout(PATIENCE, lost).await.unwrap() {
            Ok(answer) => answer.into_body().collect().await.map(drop),
            Err(error) => Err(error),
        };
        assert!(lost.is_err(), "{hook}");
    }
    let slow = timeout(PATIENCE, slow.into_body().collect()).await.unwrap();
    assert!(slow.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    house.wait_until_free("all of them").await;
}
