//! `listen[].tls` and `admin.tls`: who is let in with what, and certificates that change.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Authority, Gateway, Issued, Mock, PATIENCE, Program, chat, free_address, get, pool, say,
    secure, wait_for,
};

/// Clients of this test know the gateway by this name.
const NAME: &str = "localhost";

/// A gateway with a plain listener and one with TLS, and the latter's certificate.
struct Stage {
    gateway: Gateway,
    address: SocketAddr,
    authority: Authority,
    _vendors: Vec<Mock>,
}

fn files(issued: &Issued) -> [(&str, &str); 2] {
    [("cert.pem", &issued.cert), ("key.pem", &issued.key)]
}

fn stage(keys: &str) -> Stage {
    let authority = Authority::new();
    let (vendors, address) = (Mock::several(1, &[]), free_address());
    let configuration = format!(
        "listen:\n  - {{address: \"{{listen}}\"}}\n  \
         - {{address: \"{address}\", tls: {{cert: cert.pem, key: key.pem}}}}\n{keys}{}",
        pool(&vendors, "")
    );
    let issued = authority.issue(NAME);
    Stage {
        gateway: Gateway::start_with(&configuration, &files(&issued), &[]),
        address,
        authority,
        _vendors: vendors,
    }
}

impl Stage {
    fn folder(&self) -> &Path {
        self.gateway.program.folder()
    }

    /// The whole answer to `head` over HTTP/1.1 within TLS.
    fn say(&self, head: &str) -> String {
        let mut stream = secure(self.address, NAME, self.authority.client(&[])).unwrap();
        say(&mut stream, head.as_bytes())
    }

    /// Which authority's certificate is shown now.
    fn is_shown(&self, authority: &Authority) -> bool {
        secure(self.address, NAME, authority.client(&[])).is_ok()
    }

    #[track_caller]
    fn wait_until_shown(&self, authority: &Authority) {
        wait_for("the other certificate", || {
            self.is_shown(authority).then_some(())
        });
    }
}

const ASK: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn a_listener_with_tls_speaks_http2_and_http1_and_its_neighbour_speaks_neither_over_tls() {
    let stage = stage("");
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let spoken = |alpn: &[&str]| {
            let config = stage.authority.client_of(alpn, versions);
            let stream = secure(stage.address, NAME, config).unwrap();
            stream.conn.alpn_protocol().map(<[u8]>::to_vec)
        };
        assert_eq!(spoken(&["http/1.1", "h2"]), Some(b"h2".to_vec()));
        assert_eq!(spoken(&["http/1.1"]), Some(b"http/1.1".to_vec()));
        assert_eq!(spoken(&[]), None);
    }
    assert!(stage.say(ASK).starts_with("HTTP/1.1 200 OK\r\n"));
    let (status, body) = over_h2(stage.address, stage.authority.client(&["h2"]));
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"choices\""), "{body}");
    // In the clear nobody gets an answer there, and nobody gets TLS at the other listener.
    assert!(get("/livez").try_send(stage.address).is_err());
    assert_eq!(stage.gateway.get("/livez").status, 200);
    assert!(secure(stage.gateway.address, NAME, stage.authority.client(&[])).is_err());
}

/// A chat over HTTP/2 within TLS.
fn over_h2(to: SocketAddr, config: ClientConfig) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(to).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(NAME.try_into().unwrap(), socket);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            TokioExecutor::new(),
            TokioIo::new(stream.await.unwrap()),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("https://localhost/v1/chat/completions")
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(chat(true).body))
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request));
        let answer = answer.await.unwrap().unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    })
}

#[test]
fn curl_is_served_over_both_versions_of_http_and_refused_below_tls_1_2() {
    let stage = stage("");
    fs::write(stage.folder().join("ca.pem"), stage.authority.pem()).unwrap();
    let curl = |more: &[&str]| {
        let url = format!("https://{NAME}:{}/v1/models", stage.address.port());
        let run = Command::new("curl")
            .args([
                "-sS",
                "-o",
                "models.json",
                "-w",
                "%{http_code} %{http_version}",
            ])
            .args(["--cacert", "ca.pem", "--resolve"])
            .arg(format!("{NAME}:{}:127.0.0.1", stage.address.port()))
            .args(more)
            .arg(url)
            .current_dir(stage.folder())
            .output();
        let run = run.unwrap();
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    assert_eq!(curl(&[]), "200 2");
    assert_eq!(curl(&["--http1.1"]), "200 1.1");
    assert_eq!(curl(&["--tls-max", "1.2"]), "200 2");
    assert_eq!(curl(&["--tlsv1.0", "--tls-max", "1.1"]), "000 0");
}

#[test]
fn heads_over_tls_are_judged_as_strictly_as_in_the_clear() {
    let stage = stage("clients: {header_timeout: 500ms}\n");
    let two = "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
               Transfer-Encoding: chunked\r\n\r\n";
    assert!(stage.say(two).starts_with("HTTP/1.1 400"));
    // The end of this head never comes, and the whole of it has its deadline.
    let late = stage.say("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n");
    assert!(late.starts_with("HTTP/1.1 408"), "{late}");
    // HTTP/2 is agreed on beforehand, or not spoken.
    let preface = stage.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(preface, "");
    // A frame that never ends, where it was.
    let mut h2 = secure(stage.address, NAME, stage.authority.client(&["h2"])).unwrap();
    let unfinished = say(&mut h2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x04");
    assert!(!unfinished.contains("HTTP/1.1"), "{unfinished}");
}

#[test]
fn a_client_that_does_not_shake_hands_is_let_go_and_counted_until_then() {
    let stage = stage("clients: {header_timeout: 500ms}\n");
    let mut silent = TcpStream::connect(stage.address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    // The first bytes of a handshake, and no more.
    silent.write_all(&[22, 3, 1]).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    let mut stranger = TcpStream::connect(stage.address).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stranger.read_to_end(&mut vec![]);
    wait_for("both to be forgotten", || {
        let open = stage.gateway.metric("poolgate_connections", &[]);
        (open == 0.0).then_some(())
    });
    assert!(
        !stage.gateway.log().contains("ERROR"),
        "strangers are no errors"
    );
}

#[test]
fn certificates_change_by_rename_in_place_and_behind_a_swapped_link() {
    let stage = stage("");
    let others = [(); 3].map(|()| Authority::new());
    assert!(stage.is_shown(&stage.authority));
    // A connection from before goes on with what it began with.
    let mut before = secure(stage.address, NAME, stage.authority.client(&[])).unwrap();

    others[0].issue(NAME).put(stage.folder());
    stage.wait_until_shown(&others[0]);
    assert!(!stage.is_shown(&stage.authority));
    assert!(say(&mut before, ASK.as_bytes()).starts_with("HTTP/1.1 200"));

    let issued = others[1].issue(NAME);
    for (name, text) in files(&issued) {
        fs::write(stage.folder().join(name), text).unwrap();
    }
    stage.wait_until_shown(&others[1]);

    // As Kubernetes does it: both files behind one link to a folder.
    let volume = stage.folder().join("volume");
    fs::create_dir(&volume).unwrap();
    let issued = others[2].issue(NAME);
    for (name, text) in files(&issued) {
        fs::write(volume.join(name), text).unwrap();
        std::os::unix::fs::symlink(volume.join(name), stage.folder().join("link")).unwrap();
        fs::rename(stage.folder().join("link"), stage.folder().join(name)).unwrap();
    }
    stage.wait_until_shown(&others[2]);
    let left = stage
        .gateway
        .metric("poolgate_tls_certificate_expiry_seconds", &[]);
    assert!(left > 0.0, "{left}");
}

#[test]
fn a_bad_certificate_leaves_the_old_one_in_use_and_is_said() {
    let stage = stage("");
    let said = |what: &str| {
        wait_for(what, || stage.gateway.log().contains(what).then_some(()));
        assert!(stage.is_shown(&stage.authority), "{what}");
    };
    let stranger = Authority::new().issue(NAME);
    fs::write(stage.folder().join("key.pem"), &stranger.key).unwrap();
    said("does not go with its key");
    fs::write(stage.folder().join("cert.pem"), "-----BEGIN").unwrap();
    said("the old certificate stays in use");
    fs::remove_file(stage.folder().join("cert.pem")).unwrap();
    said("cannot be read");
    // Nothing of this has to be undone by a restart.
    let mended = Authority::new();
    mended.issue(NAME).put(stage.folder());
    stage.wait_until_shown(&mended);
}

#[test]
fn a_start_with_a_bad_certificate_says_which_and_ends() {
    let (one, other) = (Authority::new().issue(NAME), Authority::new().issue(NAME));
    let text = format!(
        "listen: [{{address: \"{}\", tls: {{cert: cert.pem, key: key.pem}}}}]\n\
         admin: {{address: \"{}\"}}\n\
         pools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}\n",
        free_address(),
        free_address()
    );
    let files = [
        ("poolgate.yaml", &*text),
        ("cert.pem", &*one.cert),
        ("key.pem", &*other.key),
    ];
    let mut program = Program::start(&["run", "-c", "poolgate.yaml"], &files, &[]);
    assert_eq!(program.wait().code(), Some(1));
    let said = program.output();
    assert!(
        said.contains("listen[0].tls") && said.contains("cert.pem"),
        "{said}"
    );
    assert!(said.contains("does not go with its key"), "{said}");
    let private = other.key.lines().nth(1).unwrap();
    assert!(!said.contains(private), "a key is never repeated");
}

#[test]
fn a_listener_of_both_families_serves_both_with_tls() {
    let authority = Authority::new();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6");
        return;
    }
    let port = free_address().port();
    let vendors = Mock::several(1, &[]);
    let configuration = format!(
        "listen:\n  - {{address: \"{{listen}}\"}}\n  \
         - {{address: \"[::]:{port}\", tls: {{cert: cert.pem, key: key.pem}}}}\n\
         clients: {{open: true}}\n{}",
        pool(&vendors, "")
    );
    let issued = authority.issue(NAME);
    let gateway = Gateway::start_with(&configuration, &files(&issued), &[]);
    for host in ["127.0.0.1", "[::1]"] {
        let to = format!("{host}:{port}").parse().unwrap();
        let mut stream = secure(to, NAME, authority.client(&[])).unwrap();
        let answer = say(&mut stream, ASK.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    drop(gateway);
}

#[test]
fn operators_and_the_command_line_reach_a_management_api_behind_tls() {
    let authority = Authority::new();
    let issued = authority.issue(NAME);
    let (address, admin) = (free_address(), free_address());
    let tls = "tls: {cert: cert.pem, key: key.pem}";
    let text = format!(
        "listen: [{{address: \"{address}\", {tls}}}]\n\
         admin: {{address: \"{admin}\", token: the-admin-token, {tls}}}\n\
         pools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}\n"
    );
    let [cert, key] = files(&issued);
    let program = Program::start(
        &["run", "-c", "poolgate.yaml"],
        &[("poolgate.yaml", &text), cert, key],
        &[],
    );
    let poolgate = |arguments: &[&str]| {
        let (code, out, complaints) = program.command(arguments);
        (code, out + &complaints)
    };
    wait_for("the health check to succeed", || {
        (poolgate(&["healthcheck"]).0 == Some(0)).then_some(())
    });
    let (code, said) = poolgate(&["status", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"accounts\""), "{said}");
    let mut stream = secure(admin, NAME, authority.client(&["h2", "http/1.1"])).unwrap();
    let ask = "GET /api/v1/accounts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
               Authorization: Bearer the-admin-token\r\n\r\n";
    let answer = say(&mut stream, ask.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Another certificate than the one that the configuration names is not talked to: a token would
    // go to whoever shows it.
    Authority::new().issue(NAME).put(program.folder());
    let (code, said) = poolgate(&["status"]);
    if code != Some(0) {
        assert!(said.contains("another certificate is shown"), "{said}");
    }
    wait_for("both to have the new certificate", || {
        (poolgate(&["status"]).0 == Some(0)).then_some(())
    });
}
