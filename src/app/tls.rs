//! TLS on listeners: which certificate belongs to which address, and the handshake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use tokio::time::timeout;

use crate::config::{Address, Config, TlsFiles};
use crate::net::Certificate;

/// What clients may speak, the best first.
const CLIENTS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The management API has no need of more.
const OPERATORS: [&[u8]; 1] = [b"http/1.1"];

/// The certificates of all listeners; the files are read again when they change.
pub(super) struct Certificates {
    /// In the order of `listen`.
    clients: Vec<(SocketAddr, Option<Arc<Certificate>>)>,
    operators: Option<Arc<Certificate>>,
}

impl Certificates {
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn open(config: &Config) -> Result<Certificates> {
        let open = |files: &Option<TlsFiles>, key: &str| {
            let files = files.as_ref();
            let opened =
                files.map(|files| Certificate::open(&files.cert, &files.key).map(Arc::new));
            opened.transpose().with_context(|| key.to_owned())
        };
        let listens = config.listen.iter().enumerate();
        let clients = listens.map(|(n, listen)| {
            let certificate = open(&listen.tls, &format!("listen[{n}].tls"))?;
            Ok((listen.address, certificate))
        });
        Ok(Certificates {
            clients: clients.collect::<Result<_>>()?,
            operators: open(&config.admin.tls, "admin.tls")?,
        })
    }

    /// What `config` names for each certificate in use.
    fn named<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a Arc<Certificate>, &'a TlsFiles)> {
        let clients = self.clients.iter().filter_map(|(address, certificate)| {
            let mut listens = config.listen.iter();
            let listen = listens.find(|listen| listen.address == *address)?;
            certificate.as_ref().zip(listen.tls.as_ref())
        });
        clients.chain(self.operators.as_ref().zip(config.admin.tls.as_ref()))
    }

    /// What is wrong with the files that a new configuration names.
    pub(super) fn problems(&self, config: &Config) -> Vec<String> {
        let opened = self
            .named(config)
            .map(|(_, files)| Certificate::open(&files.cert, &files.key));
        opened
            .filter_map(|opened| Some(opened.err()?.to_string()))
            .collect()
    }

    /// Puts the files in force that a new configuration names.
    pub(super) fn reconfigure(&self, config: &Config) {
        for (certificate, files) in self.named(config) {
            tell(certificate.replace(&files.cert, &files.key));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let clients = self
            .clients
            .iter()
            .filter_map(|(_, certificate)| certificate.as_ref());
        clients.chain(&self.operators)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.all().flat_map(|certificate| certificate.files())
    }

    pub(super) fn file_changed(&self, path: &Path) {
        for certificate in self.all() {
            if certificate.files().iter().any(|file| file == path) {
                tell(certificate.reload());
            }
        }
    }

    /// When the first of them expires, in seconds since 1970.
    pub(super) fn first_expiry(&self) -> Option<i64> {
        self.all().map(|certificate| certificate.expires()).min()
    }

    /// The handshakes of the clients' listeners.
    ///
    /// # Errors
    /// The cryptography that is built in cannot do TLS.
    pub(super) fn clients(&self) -> Result<Handshakes> {
        let listeners = self.clients.iter().map(|(address, certificate)| {
            Ok((*address, acceptor(certificate.as_ref(), &CLIENTS)?))
        });
        let listeners = listeners.collect::<Result<_>>()?;
        Ok(Handshakes { listeners })
    }

    /// The handshake of the operators' listener.
    ///
    /// # Errors
    /// As [`Certificates::clients`].
    pub(super) fn operators(&self, config: &Config) -> Result<Handshakes> {
        let Address::Tcp(address) = config.admin.address else {
            return Ok(Handshakes { listeners: vec![] });
        };
        let acceptor = acceptor(self.operators.as_ref(), &OPERATORS)?;
        let listeners = vec![(address, acceptor)];
        Ok(Handshakes { listeners })
    }
}

fn tell(read: Result<(), crate::net::PemError>) {
    if let Err(error) = read {
        tracing::error!("the old certificate stays in use: {error}");
    }
}

fn acceptor(
    certificate: Option<&Arc<Certificate>>,
    alpn: &[&[u8]],
) -> Result<Option<Arc<Acceptor>>> {
    let config = certificate.map(|certificate| certificate.server_config(alpn));
    let config = config.transpose().context("TLS cannot be set up")?;
    Ok(config.map(|config| Arc::new(Acceptor::from_server_config(config))))
}

/// Which connections begin with a handshake.
///
/// Pingora would do it before it hands a connection over: without counting it among the open ones,
/// for up to a minute, and with a line in the log for each stranger who only knocks.
pub(super) struct Handshakes {
    listeners: Vec<(SocketAddr, Option<Arc<Acceptor>>)>,
}

impl Handshakes {
    /// The connection as it is read and written from here on. `None`: no handshake came about
    /// `within` this time.
    pub(super) async fn secure(&self, stream: Stream, within: Duration) -> Option<Stream> {
        if self
            .listeners
            .iter()
            .all(|(_, acceptor)| acceptor.is_none())
        {
            return Some(stream);
        }
        let Some(acceptor) = self.of(&stream)? else {
            return Some(stream);
        };
        let socket: Box<Socket> = stream.into_any().downcast().ok()?;
        // In a box: connections without TLS have no room to give for it.
        let handshake = Box::pin(acceptor.tls_handshake(*socket));
        match timeout(within, handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!("a client's TLS handshake failed: {error}");
                None
            }
            Err(_) => None,
        }
    }

    /// `None`: it is not known on which of the listeners it came in.
    fn of(&self, stream: &Stream) -> Option<&Option<Arc<Acceptor>>> {
        if let [(_, only)] = &*self.listeners {
            return Some(only);
        }
        let digest = stream.get_socket_digest()?;
        let mut local = *digest.local_addr()?.as_inet()?;
        local.set_ip(local.ip().to_canonical());
        let on_port = || {
            let listeners = self.listeners.iter();
            listeners.filter(|(address, _)| address.port() == local.port())
        };
        let exact = on_port().find(|(address, _)| address.ip().to_canonical() == local.ip());
        // A listener of all addresses sees connections to each of them.
        let listener =
            exact.or_else(|| on_port().find(|(address, _)| address.ip().is_unspecified()));
        listener.map(|(_, acceptor)| acceptor)
    }
}
