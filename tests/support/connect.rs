//! A company's proxy: tunnels (CONNECT) and plain requests, names that only it knows, a password if
//! asked for, TLS if asked for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;

/// A running proxy; it ends with the test's process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// It reaches these `host:port` at these addresses, and no others. With `authorization`, only for
    /// those who show it.
    pub(crate) fn start(known: &[(&str, SocketAddr)], authorization: Option<&str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let known: HashMap<String, SocketAddr> = known
            .iter()
            .map(|(name, at)| ((*name).to_owned(), *at))
            .collect();
        let authorization = authorization.map(|text| format!("proxy-authorization: {text}"));
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (known, authorization, log) =
                    (known.clone(), authorization.clone(), log.clone());
                thread::spawn(move || serve(client, &known, authorization.as_deref(), &log));
            }
        });
        Proxy { address, seen }
    }

    /// Where the same proxy is spoken to over TLS, as `localhost`, and the certificate to trust.
    pub(crate) fn over_tls(&self) -> (SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let plain = self.address;
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(unwrap(acceptor.clone(), client, plain));
                }
            });
        });
        (address, made.cert.pem())
    }

    /// The first lines of all requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

/// TLS off, and on to the proxy; either side may go at any time.
async fn unwrap(acceptor: TlsAcceptor, client: tokio::net::TcpStream, plain: SocketAddr) {
    let near = tokio::net::TcpStream::connect(plain).await;
    if let (Ok(mut client), Ok(mut near)) = (acceptor.accept(client).await, near) {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut near).await;
    }
}

/// One connection: a tunnel, or one plain request.
fn serve(
    mut client: TcpStream,
    known: &HashMap<String, SocketAddr>,
    authorization: Option<&str>,
    log: &Mutex<Vec<String>>,
) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let Some(head) = head(&mut client) else {
        return;
    };
    let text = String::from_utf8(head.clone()).unwrap();
    let first = text.lines().next().unwrap().to_owned();
    log.lock().push(first.clone());
    let is_allowed = authorization
        .is_none_or(|wanted| text.lines().any(|line| line.eq_ignore_ascii_case(wanted)));
    if !is_allowed {
        let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        return drop(client.write_all(refused));
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let is_tunnel = method == "CONNECT";
    let authority = target.trim_start_matches("http://");
    let authority = authority.split('/').next().unwrap();
    // The usual port need not be named.
    let authority = match authority.contains(':') {
        true => authority.to_owned(),
        false => format!("{authority}:80"),
    };
    let upstream = known.get(&authority).map(TcpStream::connect);
    let Some(Ok(mut upstream)) = upstream else {
        let unknown = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
        return drop(client.write_all(unknown));
    };
    let begun = match is_tunnel {
        true => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n"),
        false => upstream.write_all(&head),
    };
    if begun.is_err() {
        return;
    }
    client.set_read_timeout(None).unwrap();
    let (from, to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || carry(from, to));
    carry(client, upstream);
}

/// Up to the empty line, and no byte further.
fn head(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(head)
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    // Either may go at any time.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
