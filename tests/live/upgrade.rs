//! One process takes another's place, under load of every kind, and no client notices.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::Signal;

use crate::support::{
    Authority, Connection, Gateway, Mock, PATIENCE, chat, count, free_address, get, pool, secure,
    wait_for,
};

#[track_caller]
pub(super) fn wait_for_only(gateway: &Gateway, process: i32) {
    wait_for("the old processes to end", || {
        (gateway.program.processes() == [process]).then_some(())
    });
}

/// What clients do until they are told that it is over.
struct Load<'a> {
    over: AtomicBool,
    served: AtomicUsize,
    gateway: &'a Gateway,
}

impl Load<'_> {
    fn is_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn served(&self) {
        self.served.fetch_add(1, Ordering::SeqCst);
    }

    /// One connection for as long as the gateway keeps it: it says so before it ends.
    fn keeping(&self) {
        let mut kept = None;
        while self.is_on() {
            let open = || Connection::open(self.gateway.address).unwrap();
            let answer = kept.get_or_insert_with(open).send(&chat(false));
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.header("connection") == Some("close") {
                kept = None;
            }
            self.served();
        }
    }

    /// A connection for each request.
    fn coming(&self) {
        while self.is_on() {
            let answer = self.gateway.send(&chat(true));
            assert!(answer.text().ends_with("[DONE]\n\n"), "{}", answer.text());
            self.served();
        }
    }

    /// Requests over HTTP/2, or over TLS, as a real client with a pool of connections sends them.
    fn pooled(&self, client: &impl Fn() -> Pooled) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = client();
            while self.is_on() {
                let (status, body) = client.ask().await;
                assert_eq!(status, 200, "{body}");
                self.served();
            }
        });
    }
}

enum Pooled {
    H2(
        Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
        SocketAddr,
    ),
    Tls(
        Client<
            hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
            Full<Bytes>,
        >,
        SocketAddr,
        http::Version,
    ),
}

impl Pooled {
    async fn ask(&self) -> (u16, String) {
        let request = |scheme: &str, to: &SocketAddr| {
            let uri = format!("{scheme}://localhost:{}/v1/chat/completions", to.port());
            http::Request::post(uri)
                .header("content-type", "application/json")
                .body(Full::<Bytes>::from(chat(false).body))
                .unwrap()
        };
        let answer = match self {
            Pooled::H2(client, to) => client.request(request("http", to)),
            Pooled::Tls(client, to, _) => client.request(request("https", to)),
        };
        let version = match self {
            Pooled::Tls(_, _, version) => *version,
            Pooled::H2(..) => http::Version::HTTP_2,
        };
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.version(), version);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

#[test]
fn upgrades_under_load_over_every_kind_of_connection_cost_no_request() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let (vendors, tls) = (Mock::several(2, &[]), free_address());
    let configuration = format!(
        "listen:\n  - {{address: \"{{listen}}\"}}\n  \
         - {{address: \"{tls}\", tls: {{cert: cert.pem, key: key.pem}}}}\n\
         clients: {{keepalive: 1s}}\nlog: {{access: false}}\n{}",
        pool(&vendors, "")
    );
    let files = [("cert.pem", &*issued.cert), ("key.pem", &*issued.key)];
    let gateway = Gateway::start_with(&configuration, &files, &[]);
    let load = Load {
        over: AtomicBool::new(false),
        served: AtomicUsize::new(0),
        gateway: &gateway,
    };
    let h2 = || {
        let mut builder = Client::builder(TokioExecutor::new());
        Pooled::H2(builder.http2_only(true).build_http(), gateway.address)
    };
    let over_tls = |version| {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http2_only(version == http::Version::HTTP_2);
        // What was sent on a connection that ends is a failure. Over HTTP/2 a client may send again what
        // a GOAWAY says was not looked at (RFC 9113 §6.8), and all do.
        builder.retry_canceled_requests(version == http::Version::HTTP_2);
        let alpn = ["h2"]
            .into_iter()
            .filter(|_| version == http::Version::HTTP_2);
        let tls_config = authority.client(&alpn.collect::<Vec<_>>());
        let mut tcp = hyper_util::client::legacy::connect::HttpConnector::new();
        tcp.enforce_http(false);
        Pooled::Tls(builder.build((tcp, tls_config).into()), tls, version)
    };
    let http1_over_tls = || over_tls(http::Version::HTTP_11);
    let h2_over_tls = || over_tls(http::Version::HTTP_2);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| load.keeping());
            scope.spawn(|| load.coming());
            scope.spawn(|| load.pooled(&h2));
            scope.spawn(|| load.pooled(&http1_over_tls));
            scope.spawn(|| load.pooled(&h2_over_tls));
        }
        // A client that fails must not leave the others running.
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..count(3, 20) {
                for _ in 0..count(1, 25) {
                    let before = load.served.load(Ordering::SeqCst);
                    wait_for("some requests", || {
                        (load.served.load(Ordering::SeqCst) >= before + 200).then_some(())
                    });
                }
                gateway.upgrade();
            }
        }));
        load.over.store(true, Ordering::SeqCst);
        if let Err(panic) = rounds {
            std::panic::resume_unwind(panic);
        }
    });
    eprintln!("requests served: {}", load.served.load(Ordering::SeqCst));
    wait_for("one process to be left", || {
        (gateway.program.processes().len() == 1).then_some(())
    });
}

#[test]
fn streams_go_on_to_their_end_and_then_the_old_process_ends() {
    let events = count(30, 1_200).to_string();
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", &events]);
    let keys = format!("clients: {{keepalive: 1s}}\n{}", pool(&vendors, ""));
    let mut gateway = Gateway::start(&keys);
    let streams: Vec<_> = (0..count(5, 50))
        .map(|_| {
            let mut stream = chat(true).open(gateway.address).unwrap();
            stream.event().unwrap().unwrap();
            stream
        })
        .collect();
    let mut successor = 0;
    for _ in 0..count(1, 3) {
        successor = gateway.upgrade();
        assert!(
            gateway.program.ended().is_none(),
            "it has streams to finish"
        );
        // New ones are served by the other process, with the same accounts.
        assert_eq!(gateway.get("/v1/models").status, 200);
    }
    // They are read at once, as those who do not read are let go.
    let seen: Vec<Vec<String>> = thread::scope(|scope| {
        let readers = streams.into_iter().map(|mut stream| {
            scope.spawn(move || {
                let events = stream.events().unwrap();
                let choice = |data: &str| {
                    let json = serde_json::from_str::<serde_json::Value>(data).ok();
                    json.map_or(data.to_owned(), |json| json["choices"].to_string())
                };
                events.iter().map(|event| choice(&event.data)).collect()
            })
        });
        let readers: Vec<_> = readers.collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    for stream in &seen {
        assert_eq!(stream.last().unwrap(), "[DONE]");
        assert_eq!(stream, &seen[0]);
    }
    // Their connections end with them, and the process with those.
    assert_eq!(gateway.program.wait().code(), Some(0), "{}", gateway.log());
    wait_for_only(&gateway, successor);
    assert_eq!(vendors[0].count("aborted"), 0);
}

#[test]
fn a_client_that_idles_is_served_once_more_and_told_that_this_was_the_last_time() {
    let vendors = Mock::several(1, &[]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    let mut idle = Connection::open(gateway.address).unwrap();
    let mut operator = Connection::open(gateway.admin_address).unwrap();
    let answer = idle.send(&chat(false)).unwrap();
    assert_ne!(answer.header("connection"), Some("close"));
    assert_eq!(operator.send(&get("/livez")).unwrap().status, 200);
    // One that has not said anything yet is a client, too.
    let mut silent = std::net::TcpStream::connect(gateway.address).unwrap();
    let successor = gateway.upgrade();
    let answer = idle.send(&chat(false)).unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(gateway.program.ended().is_none(), "two are still there");
    let answer = operator.send(&get("/livez")).unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent
        .write_all(&get("/livez").bytes(gateway.address))
        .unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(gateway.program.wait().code(), Some(0));
    wait_for_only(&gateway, successor);
}

#[test]
fn a_new_file_is_in_force_after_an_upgrade_with_listeners_that_come_and_go() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let (vendors, goes, comes) = (Mock::several(1, &[]), free_address(), free_address());
    let listen = |more: &str| format!("listen: [{{address: \"{{listen}}\"}}, {{{more}}}]\n");
    let configuration = format!(
        "{}clients: {{keepalive: 1s}}\n{}",
        listen(&format!("address: \"{goes}\"")),
        pool(&vendors, "")
    );
    let files = [("cert.pem", &*issued.cert), ("key.pem", &*issued.key)];
    let gateway = Gateway::start_with(&configuration, &files, &[]);
    let path = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(get("/livez").send(goes).status, 200);
    let new = format!("address: \"{comes}\", tls: {{cert: cert.pem, key: key.pem}}");
    let text = text.replace(&format!("address: \"{goes}\""), &new);
    gateway
        .program
        .write("poolgate.yaml", &text.replace("id: a0", "id: b0"));
    let first = gateway.upgrade();
    assert!(secure(comes, "localhost", authority.client(&[])).is_ok());
    assert_eq!(gateway.account("b0")["status"], "healthy");
    wait_for("the listener that is gone to refuse", || {
        get("/livez").try_send(goes).is_err().then_some(())
    });
    // And again: a successor hands over as its predecessor did.
    let second = gateway.upgrade();
    assert_ne!(first, second);
    wait_for_only(&gateway, second);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(gateway.program.command(&["stop"]).0, Some(0));
    assert!(gateway.program.processes().is_empty());
}

#[test]
fn a_successor_may_be_started_by_hand_and_sigquit_alone_ends_nothing() {
    let vendors = Mock::several(1, &[]);
    let mut gateway = Gateway::start(&format!(
        "clients: {{keepalive: 1s}}\n{}",
        pool(&vendors, "")
    ));
    gateway.program.signal(Signal::SIGQUIT);
    wait_for("the warning", || {
        gateway.log().contains("SIGQUIT is ignored").then_some(())
    });
    assert_eq!(gateway.send(&chat(false)).status, 200);
    let successor = std::process::Command::new(env!("CARGO_BIN_EXE_poolgate"))
        .args(["run", "-c", "poolgate.yaml", "--upgrade"])
        .current_dir(gateway.program.folder())
        .env_clear()
        .spawn();
    let mut successor = successor.unwrap();
    // As those do it who are used to it: it does no harm, before or after.
    gateway.program.try_signal(Signal::SIGQUIT);
    assert_eq!(gateway.program.wait().code(), Some(0), "{}", gateway.log());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(gateway.program.command(&["stop"]).0, Some(0));
    assert_eq!(successor.wait().unwrap().code(), Some(0));
}

#[test]
fn a_successor_that_could_take_no_orders_does_not_take_over() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    let folder = gateway.program.folder().to_owned();
    let text = std::fs::read_to_string(folder.join("poolgate.yaml")).unwrap();
    let elsewhere = format!("state: {{dir: data2}}\n{text}");
    gateway.program.write("poolgate.yaml", &elsewhere);
    std::fs::create_dir(folder.join("data2")).unwrap();
    std::fs::write(folder.join("data2/control"), "in the way").unwrap();
    let (code, _, complaints) = gateway.program.command(&["upgrade", "--state", "data"]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("cannot take orders"), "{complaints}");
    let (code, _, complaints) = gateway.program.command(&["reload", "--state", "data"]);
    assert_eq!(code, Some(0), "the old one does: {complaints}");
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

#[test]
fn orders_are_taken_as_soon_as_their_socket_can_be_made() {
    let vendors = [Mock::start(&[])];
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    gateway.program.stop(Signal::SIGTERM);
    let control = gateway.program.folder().join("data/control");
    std::fs::remove_dir_all(&control).unwrap();
    std::fs::write(&control, "in the way").unwrap();
    gateway.start_again();
    let said = "the command line cannot reach this gateway";
    wait_for("the log to say so", || {
        gateway.program.output().contains(said).then_some(())
    });
    std::fs::remove_file(&control).unwrap();
    gateway.wait_until_it_takes_orders();
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    assert_eq!(gateway.program.output().matches(said).count(), 1);
}
