//! TLS as clients and upstreams of a test speak it: a certificate authority of the test's own, a client
//! that trusts nobody else, a server that says who knocked.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, SupportedProtocolVersion};

use super::PATIENCE;

/// An open connection over TLS.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Of its own name: one that is shared with what it signs would look self-signed.
        let name = format!("authority {}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server of this name, or a client.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Issued {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// The same, expired since that day.
    pub(crate) fn issue_until(&self, name: &str, year: i32, month: u8, day: u8) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        Issued {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A client that trusts this authority only and offers to speak these.
    pub(crate) fn client(&self, alpn: &[&str]) -> ClientConfig {
        self.client_of(alpn, rustls::DEFAULT_VERSIONS)
    }

    /// The same with these versions of TLS.
    pub(crate) fn client_of(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl Issued {
    /// Writes both beside each other, each in one step, as one that renews certificates does; returns
    /// where they are.
    pub(crate) fn put(&self, folder: &Path) -> [PathBuf; 2] {
        [("cert.pem", &self.cert), ("key.pem", &self.key)].map(|(name, text)| {
            let (new, path) = (folder.join("new"), folder.join(name));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
            path
        })
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (vec![cert], key)
    }
}

/// Connects and shakes hands.
pub(crate) fn secure(to: SocketAddr, name: &str, config: ClientConfig) -> io::Result<Secured> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends these bytes and reads to the end of the connection, which may come without a goodbye.
pub(crate) fn say(stream: &mut (impl Read + Write), bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
    let mut answer = vec![];
    // How it ends is not what is asked.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// What an upstream saw of a connection.
#[derive(Debug)]
pub(crate) struct Knock {
    /// The name that was asked for.
    pub(crate) name: Option<String>,
    pub(crate) has_certificate: bool,
}

/// An upstream behind TLS that answers everything with `{}`.
pub(crate) struct TlsVendor {
    pub(crate) address: SocketAddr,
    pub(crate) knocks: mpsc::Receiver<Knock>,
}

impl TlsVendor {
    /// Shows this certificate; asks clients for one of `clients`, if there is such.
    pub(crate) fn start(shown: &Issued, clients: Option<&Authority>) -> TlsVendor {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let provider = Arc::new(default_provider());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = shown.der();
        let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, knocks) = mpsc::channel();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, sender) = (config.clone(), sender.clone());
                std::thread::spawn(move || answer(socket, config, &sender));
            }
        });
        TlsVendor { address, knocks }
    }
}

fn answer(socket: TcpStream, config: Arc<ServerConfig>, knocks: &mpsc::Sender<Knock>) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
    let mut told = false;
    let mut request = vec![];
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        if !std::mem::replace(&mut told, true) {
            let name = stream.conn.server_name().map(str::to_owned);
            let has_certificate = stream.conn.peer_certificates().is_some();
            let _ = knocks.send(Knock {
                name,
                has_certificate,
            });
        }
        request.extend_from_slice(&piece[..length]);
        // The test's requests have no bodies.
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    }
}
